"""ONNX files, for ONNX Runtime, OpenCV and other programs. Needs the extra `onnx`.

| format | size | numbers |
|---|---|---|
| onnx | the crop size | float32 |
| onnx_dynamic | any of k * stride + 1 pixels | float32 |
| onnx_int8 | the crop size | int8 with scales per channel, between QuantizeLinear and DequantizeLinear |

    image                    float32 [1, h, w, C], RGB, 0..255, or raw values of the model's bands; resized and padded
    SemanticPredictions      int32 [1, h, w]
    SemanticProbabilities    float32 [1, h, w, classes], 0..1; unless `export_probabilities` is off

Atrous convolutions have native dilation, so that there is no SpaceToDepth in the file. The property `deeplab` tells
the size and the padding color. Files for OpenCV 4 have the bounds of Clip as attributes, the only form that it reads.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab.export.formats import FORMATS, ExportFormat, TensorInfo
from deeplab.export.formats.frozen_graph import shape_text
from deeplab.export.formats.litert import graph_definition
from deeplab.export.freeze import FrozenModel, describe
from deeplab.export.graph_optimizer import speed_up_for_others
from deeplab.inference.fixed_size import FixedInput
from deeplab.inference.runtimes.onnx import PROPERTY, TARGET
from deeplab.inference.tensor_names import IMAGE, LABELS, PROBABILITIES
from deeplab.model.resize import size_stride
from deeplab.utils import console
from deeplab.utils.extras import require
from deeplab.utils.files import write_atomically

OPSET = 17
_COPIED_ROW = 8  # time of copying a row of a map, in products of a row with a number
Proto = Any  # onnx.ModelProto


def write(model: FrozenModel, path: str) -> list[TensorInfo]:
    """Writes a file of one size with float32 weights.

    Raises:
      UserError: the extra `onnx` is not installed.
    """
    proto = converted(model, fixed=True)
    if model.config.onnx_for == "onnxruntime":
        _enlarge_by_products(proto, require("onnx", "onnx"))
    return _finish(model, path, proto, describe(model))


def write_dynamic(model: FrozenModel, path: str) -> list[TensorInfo]:
    """Writes a file for images of many sizes with float32 weights."""
    description = dataclasses.replace(describe(model), stride=size_stride(model.settings.model))
    return _finish(model, path, converted(model, fixed=False), description)


def write_int8(model: FrozenModel, path: str) -> list[TensorInfo]:
    """Writes a file of one size whose convolutions are integers, with ranges from the calibration images."""
    quantization = require("onnxruntime.quantization", "onnx")
    onnx = require("onnx", "onnx")
    description, config = describe(model), model.config
    unsigned, signed = quantization.QuantType.QUInt8, quantization.QuantType.QInt8

    class Reader(quantization.CalibrationDataReader):  # type: ignore[name-defined]
        def __init__(self) -> None:
            self.images: Iterator[np.ndarray] = iter(model.calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.images, None)
            return None if image is None else {IMAGE: description.prepare(image)[0][np.newaxis]}

    with tempfile.TemporaryDirectory() as folder:
        before, after = os.path.join(folder, "float.onnx"), os.path.join(folder, "int8.onnx")
        proto = converted(model, fixed=True, for_integers=True)
        onnx.save(onnx.shape_inference.infer_shapes(proto), before)
        with console.library_messages_off():  # it advises steps that were taken
            quantization.quantize_static(
                before,
                after,
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                reduce_range=config.onnx_int8 == "u8s8_reduced",
                activation_type=unsigned,
                weight_type=unsigned if config.onnx_int8 == "u8u8" else signed,
            )
        proto = onnx.load_from_string(pathlib.Path(after).read_bytes())
    return _finish(model, path, proto, description)


def converted(model: FrozenModel, fixed: bool, for_integers: bool = False) -> Proto:
    """The model in memory, for other formats that are made of it.

    Args:
      model: what to convert.
      fixed: whether the image has the crop size; else any of k * stride + 1 pixels.
      for_integers: whether it will be quantized.

    Raises:
      UserError: the extra `onnx` is not installed.
    """
    tf2onnx = require("tf2onnx", "onnx")
    onnx = require("onnx", "onnx")
    names = [LABELS, *([PROBABILITIES] if model.config.export_probabilities else [])]
    definition = graph_definition(model, fixed)
    if model.folded:
        speed_up_for_others(definition, splits=not for_integers)
    outputs = [f"{name}:0" for name in names]
    with console.library_messages_off():  # it calls what TensorFlow says is deprecated
        proto, _ = tf2onnx.convert.from_graph_def(
            definition, input_names=[f"{IMAGE}:0"], output_names=outputs, opset=OPSET
        )
    for value in (*proto.graph.input, *proto.graph.output):
        _rename(proto, value.name, value.name.removesuffix(":0"))
    _keep_sizes(proto, onnx)
    return proto


def _rename(proto: Proto, old: str, new: str) -> None:
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        value.name = new if value.name == old else value.name
    for node in proto.graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]


def _finish(model: FrozenModel, path: str, proto: Proto, description: FixedInput) -> list[TensorInfo]:
    onnx = require("onnx", "onnx")
    target = model.config.onnx_for
    if target == "opencv4":
        _bounds_as_attributes(proto, onnx)
    else:
        onnx.checker.check_model(proto)
    onnx.helper.set_model_props(proto, {PROPERTY: description.to_json(), TARGET: target})
    write_atomically(path, proto.SerializeToString(deterministic=True))
    return tensors(proto)


def tensors(proto: Proto) -> list[TensorInfo]:
    """Inputs and outputs of a model in memory."""
    onnx = require("onnx", "onnx")
    return [_tensor(value, onnx) for value in (*proto.graph.input, *proto.graph.output)]


def _tensor(value: Any, onnx: Any) -> TensorInfo:
    kind = value.type.tensor_type
    shape = [one.dim_value or None for one in kind.shape.dim]
    name = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    return value.name, name, shape_text(tf.TensorShape(shape))


def _keep_sizes(proto: Proto, onnx: Any) -> None:
    """Gives resizes by constant scales the resulting sizes instead: 7 * float32(25 / 7) would be rounded down to 24."""
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in proto.graph.initializer}
    nodes = [one for one in proto.graph.node if one.op_type == "Resize" and len(one.input) == 3]
    for node in (one for one in nodes if one.input[2] in constants):
        shapes = {
            value.name: [one.dim_value for one in value.type.tensor_type.shape.dim]
            for value in onnx.shape_inference.infer_shapes(proto).graph.value_info
        }
        scales = map(float, constants[node.input[2]])
        lengths = [round(length * scale) for length, scale in zip(shapes[node.input[0]], scales, strict=True)]
        name = f"{node.name}/sizes"
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(lengths, np.int64), name))
        node.input[:] = [node.input[0], "", "", name]
    used = {name for node in proto.graph.node for name in node.input}
    for constant in [one for one in proto.graph.initializer if one.name not in used]:
        proto.graph.initializer.remove(constant)


def _enlarge_by_products(proto: Proto, onnx: Any) -> None:
    """Computes the resize before the argmax as two matrix products with the classes last, where sizes are constant.

    ONNX Runtime's Resize and ArgMax take twice as long with the classes before height and width, as converters leave
    them. A bilinear resize is a product with a matrix along each axis; with the width first, the second is one large
    product, or several of the few rows of the map that each needs. OpenCV runs it as well.
    """
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in proto.graph.initializer}
    shapes = {
        value.name: [one.dim_value for one in value.type.tensor_type.shape.dim]
        for value in onnx.shape_inference.infer_shapes(proto).graph.value_info
    }
    readers: dict[str, list[Any]] = {}
    for node in proto.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in [one for one in proto.graph.node if one.op_type == "Resize" and len(one.input) == 4]:
        given = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        is_aligned = (given.get("mode"), given.get("coordinate_transformation_mode")) == (b"linear", b"align_corners")
        small, sizes = shapes.get(node.input[0], []), constants.get(node.input[3])
        axes = _axes_of_classes(node.output[0], readers)
        if axes and is_aligned and sizes is not None and len(small) == 4 and small[1] and min(small[2:]) > 1:
            for attribute, value in axes:
                attribute.CopyFrom(onnx.helper.make_attribute(attribute.name, value))
            _replace_by_products(proto, node, small, [int(length) for length in sizes], onnx)


def _axes_of_classes(name: str, readers: Mapping[str, Sequence[Any]]) -> list[tuple[Any, Any]]:
    """The attributes of what reads a map [1, classes, h, w], and their values for [1, h, w, classes].

    Empty where something else than argmax, and softmax with the classes moved behind it, reads the map.
    """
    changes: list[tuple[Any, Any]] = []
    for node in readers.get(name, ()):
        axes = [one for one in node.attribute if one.name == "axis" and one.i == 1]
        if node.op_type not in ("ArgMax", "Softmax") or not axes:
            return []
        changes.append((axes[0], 3))
        for after in readers.get(node.output[0], ()) if node.op_type == "Softmax" else ():
            orders = [one for one in after.attribute if one.name == "perm" and list(one.ints) == [0, 2, 3, 1]]
            if after.op_type != "Transpose" or not orders:
                return []
            changes.append((orders[0], [0, 1, 2, 3]))
    return changes


def _replace_by_products(proto: Proto, node: Proto, small: Sequence[int], large: Sequence[int], onnx: Any) -> None:
    """Puts matrix products in the place of a resize from `small` to `large`, both [1, classes, h, w]."""
    (_, classes, height, width), (new_height, new_width) = small, large[2:]
    graph, make, name = proto.graph, onnx.helper.make_node, node.name
    rows, lines = _band(height, new_height)

    def constant(values: Any, what: str) -> str:
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values), f"{name}/{what}"))
        return f"{name}/{what}"

    def reshaped(source: str, shape: Sequence[int], result: str) -> Any:
        return make("Reshape", [source, constant(np.array(shape, np.int64), f"{result}/shape")], [f"{name}/{result}"])

    nodes = [
        make("Transpose", [node.input[0]], [f"{name}/last"], perm=[0, 2, 3, 1]),
        reshaped(f"{name}/last", [height, width, classes], "rows"),
        make("MatMul", [constant(_interpolation(width, new_width), "columns"), f"{name}/rows"], [f"{name}/wide"]),
        reshaped(f"{name}/wide", [height, new_width * classes], "flat"),
        make("Gather", [f"{name}/flat", constant(rows, "bands")], [f"{name}/near"], axis=0),
        make("MatMul", [constant(lines, "lines"), f"{name}/near"], [f"{name}/high"]),
    ]
    shape = constant(np.array([1, new_height, new_width, classes], np.int64), "shape")
    nodes.append(make("Reshape", [f"{name}/high", shape], [node.output[0]]))
    place = list(graph.node).index(node)
    graph.node.remove(node)
    for number, one in enumerate(nodes):
        graph.node.insert(place + number, one)
    stale = [value for value in graph.value_info if value.name == node.output[0]]
    for value in stale:
        graph.value_info.remove(value)


def _interpolation(old: int, new: int) -> np.ndarray:
    """The matrix float32 [new, old] of a bilinear resize of one axis with aligned corners; `old` at least 2."""
    places = np.arange(new) * (old - 1) / max(1, new - 1)
    return np.maximum(0, 1 - np.abs(places[:, np.newaxis] - np.arange(old))).astype(np.float32)


def _band(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Cuts the matrix of `_interpolation`, in which each row has two values, into blocks with few columns.

    Returns:
      The columns of each block, int64 [blocks, k], and the blocks, float32 [blocks, new / blocks, k]; as many blocks as
      take the least time.
    """
    matrix = _interpolation(old, new)
    best: tuple[float, np.ndarray, int] | None = None
    for blocks in (number for number in range(1, new + 1) if new % number == 0):
        parts = np.any(matrix.reshape(blocks, new // blocks, old), axis=1)
        first = parts.argmax(axis=1)
        width = int((old - parts[:, ::-1].argmax(axis=1) - first).max())
        seconds = width * (new + _COPIED_ROW * blocks)  # products of all rows, and copies of those that they need
        if best is None or seconds < best[0]:
            best = seconds, np.minimum(first, old - width)[:, np.newaxis] + np.arange(width), blocks
    assert best is not None
    _, columns, blocks = best
    parts = matrix.reshape(blocks, new // blocks, old)
    return columns.astype(np.int64), np.take_along_axis(parts, columns[:, np.newaxis], axis=2)


def _bounds_as_attributes(proto: Proto, onnx: Any) -> None:
    """Moves the bounds of Clip from inputs, where they are since operation set 11, to attributes."""
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Clip" and len(node.input) > 1:
            for name, bound in zip(("min", "max"), node.input[1:], strict=False):
                if bound:
                    node.attribute.append(onnx.helper.make_attribute(name, float(constants[bound])))
            del node.input[1:]


NEEDS = dict.fromkeys(("tf2onnx", "onnx", "onnxruntime"), "onnx")


FORMATS.register("onnx")(ExportFormat("model.onnx", ".onnx", write, prepares_inside=False, needs=NEEDS))
FORMATS.register("onnx_dynamic")(
    ExportFormat("model_dynamic.onnx", "_dynamic.onnx", write_dynamic, prepares_inside=False, needs=NEEDS)
)
FORMATS.register("onnx_int8")(
    ExportFormat(
        "model_int8.onnx",
        "_int8.onnx",
        write_int8,
        is_exact=False,
        is_calibrated=True,
        prepares_inside=False,
        needs=NEEDS,
    )
)
