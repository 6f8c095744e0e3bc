"""ONNX files of `deeplab export`, run by ONNX Runtime on the processor, or by OpenCV where that is not installed.

Files for OpenCV 4 (`onnx_for=opencv4`) are run by OpenCV always, because ONNX Runtime refuses them.
"""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from deeplab.inference.runtimes import RUNTIMES, LoadOptions, Runtime
from deeplab.inference.tensor_names import IMAGE, LABELS, PROBABILITIES
from deeplab.utils.errors import UserError
from deeplab.utils.extras import require
from deeplab.utils.paths import read_file, require_regular
from deeplab.utils.resources import core_count

if TYPE_CHECKING:
    from deeplab.inference.predictor import Predictor

PROPERTY, TARGET = "deeplab", "deeplab_for"
OPENCV = "opencv4"
_GRAPH_FIELD, _PROPERTY_FIELD, _OUTPUT_FIELD = 7, 14, 12  # of ModelProto, ModelProto, GraphProto in onnx.proto
_FUNCTION_FIELD = 25  # of ModelProto
_NODE_FIELD, _TYPE_FIELD, _ATTRIBUTE_FIELD, _EXTERNAL_FIELD = 1, 4, 5, 13
_WEIGHT_FIELD, _SPARSE_WEIGHT_FIELD = 5, 15  # of GraphProto
_TENSOR_FIELDS, _SPARSE_FIELDS, _SUBGRAPH_FIELDS = (5, 10), (22, 23), (6, 11)  # of AttributeProto
_SPARSE_PARTS = (1, 2)  # values and indices of SparseTensorProto


def recognizes(path: str) -> bool:
    """Whether this is a `.onnx` file."""
    return path.endswith(".onnx") and os.path.isfile(path)


def load(path: str, options: LoadOptions) -> Predictor:
    """Load an ONNX file.

    Raises:
      UserError: it is damaged or of another program.
    """
    from deeplab.inference.file_predictor import first_line
    from deeplab.inference.fixed_size import FixedInput, FixedSizePredictor

    require_regular(path)
    content = read_file(path)
    try:
        properties, outputs = read_properties(content)
        if PROPERTY not in properties or LABELS not in outputs:
            rule = f"is not an ONNX file of this program: its outputs are {sorted(outputs)}"
            raise UserError("not-a-deeplab-model", rule, "export the model with export_model.py", where=path)
        if not options.trust_model:
            require_safe(content, path)
        fixed = FixedInput.from_json(properties[PROPERTY])
        names = [name for name in (LABELS, PROBABILITIES) if name in outputs]
        use_opencv = properties.get(TARGET) == OPENCV or importlib.util.find_spec("onnxruntime") is None
        session: _OpenCV | _OnnxRuntime = (_OpenCV if use_opencv else _OnnxRuntime)(content, names)
    except UserError:
        raise
    except Exception as error:  # damaged bytes raise exceptions of both programs, ValueError, KeyError, others
        rule = f"is a damaged ONNX file: {first_line(error)}"
        hint = "copy the file again, or export the model again"
        raise UserError("damaged-model", rule, hint, where=path) from error

    def run(pixels: np.ndarray, probabilities: bool) -> tuple[np.ndarray, np.ndarray | None]:
        wanted = [name for name in names if probabilities or name == LABELS]
        found = session.run(pixels, wanted)
        return found[0], found[1] if len(found) > 1 else None

    return FixedSizePredictor(path, run, len(fixed.class_names) or None, fixed)


class _OnnxRuntime:
    """A session of ONNX Runtime; it may be run by several threads."""

    def __init__(self, content: bytes, names: Sequence[str]):
        runtime = require("onnxruntime", "onnx")
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = core_count()  # by itself it counts all cores of the machine
        self.session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(self, pixels: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
        return self.session.run(list(names), {IMAGE: pixels})


class _OpenCV:
    """The file as `cv2.dnn` reads it; threads take turns."""

    def __init__(self, content: bytes, names: Sequence[str]):
        import cv2

        self.net, self.names = cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8)), list(names)
        self.lock = threading.Lock()

    def run(self, pixels: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
        with self.lock:
            self.net.setInput(pixels, IMAGE)
            found = dict(zip(self.names, map(np.array, self.net.forward(self.names)), strict=True))  # it wants all
        return [found[name].astype(np.int32) if name == LABELS else found[name] for name in names]


# ---- the file without the library onnx -----------------------------------------------------------------------


def read_properties(content: bytes) -> tuple[dict[str, str], list[str]]:
    """The properties of an ONNX file, and the names of its outputs.

    Raises:
      ValueError: the bytes are no protocol buffer.
    """
    properties, outputs = {}, []
    for number, value in _fields(memoryview(content)):
        if number == _PROPERTY_FIELD:
            pair = {key: bytes(text).decode() for key, text in _fields(value)}
            properties[pair.get(1, "")] = pair.get(2, "")
        elif number == _GRAPH_FIELD:
            for inner, graph_value in _fields(value):
                if inner == _OUTPUT_FIELD:
                    outputs += [bytes(text).decode() for key, text in _fields(graph_value) if key == 1]
    return properties, outputs


def require_safe(content: bytes, path: str) -> None:
    """Stop at a file that may run without end or read other files; our exports do neither.

    Args:
      content: the file.
      path: its path, for messages.

    Raises:
      UserError: it has loops, conditions or functions, which neither runtime limits, or weights in other files
        (`unsafe-operation`).
      ValueError: the bytes are no protocol buffer.
    """
    for number, value in _fields(memoryview(content)):
        if number == _FUNCTION_FIELD:
            raise _unsafe("it has functions of its own, which may call each other without end", path, "function")
        for inner, part in _fields(value) if number == _GRAPH_FIELD else ():
            if inner == _WEIGHT_FIELD:
                _require_inside(part, path)
            elif inner == _SPARSE_WEIGHT_FIELD:
                _require_sparse_inside(part, path)
            elif inner == _NODE_FIELD:
                _require_plain(part, path)


def _require_plain(node: memoryview, path: str) -> None:
    fields = list(_fields(node))
    kind = next((bytes(value).decode("utf-8", "replace") for number, value in fields if number == _TYPE_FIELD), "")
    for number, attribute in fields:
        for inner, value in _fields(attribute) if number == _ATTRIBUTE_FIELD else ():
            if inner in _SUBGRAPH_FIELDS:
                raise _unsafe(f"its operation {kind} runs a part of the file, perhaps without end", path, kind)
            if inner in _TENSOR_FIELDS:
                _require_inside(value, path)
            elif inner in _SPARSE_FIELDS:
                _require_sparse_inside(value, path)


def _require_inside(tensor: memoryview, path: str) -> None:
    if any(number == _EXTERNAL_FIELD for number, _ in _fields(tensor)):
        raise _unsafe("its weights are in another file, which may be any file of this machine", path, "external_data")


def _require_sparse_inside(tensor: memoryview, path: str) -> None:
    for number, part in _fields(tensor):
        if number in _SPARSE_PARTS:
            _require_inside(part, path)


def _unsafe(rule: str, path: str, value: str) -> UserError:
    hint = "do not run files of unknown origin; if you trust this one, `trust_model=true` runs it"
    return UserError("unsafe-operation", rule, hint, where=path, value=value)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of the length-delimited fields of a message; others are passed over."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == 0:
            _, position = _varint(data, position)
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"a field of unknown kind {kind}")
        length = {1: 8, 5: 4}.get(kind)
        if length is None:
            length, position = _varint(data, position)
        if position + length > len(data):
            raise ValueError("the file ends within a field")
        if kind == 2:
            yield tag >> 3, data[position : position + length]
        position += length


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ValueError("the file ends within a number, or it has too many digits")
        byte = data[position]
        value, shift, position = value | (byte & 127) << shift, shift + 7, position + 1
        if byte < 128:
            return value, position


RUNTIMES.register("onnx")(Runtime(recognizes, load))
