"""LiteRT (TensorFlow Lite) files of `deeplab export`, run by ai-edge-litert where it is installed, else TensorFlow."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplab.inference.runtimes import DESCRIPTION_FILE, RUNTIMES, LoadOptions, Runtime
from deeplab.inference.tensor_names import LITERT_OUTPUTS
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import read_file, require_regular

if TYPE_CHECKING:
    from deeplab.inference.fixed_size import FixedInput
    from deeplab.inference.predictor import Predictor

_KINDS = ({"labels", "probabilities"}, {"labels"}, {"logits"})  # of files: their signatures
_CALLING = (  # they could loop or call themselves without end, and LiteRT cannot be stopped; exports have none
    "CALL", "CALL_ONCE", "IF", "WHILE", "STABLEHLO_CASE", "STABLEHLO_COMPOSITE", "STABLEHLO_CUSTOM_CALL",
    "STABLEHLO_WHILE",
)  # fmt: skip
_HINT = "copy the file again, or export the model again"


def recognizes(path: str) -> bool:
    """Whether this is a `.tflite` file."""
    return path.endswith(".tflite") and os.path.isfile(path)


def load(path: str, options: LoadOptions) -> Predictor:
    """Load a LiteRT file.

    Raises:
      UserError: it is damaged, of another program, or has operations of its own or of TensorFlow, which may do anything
        (`unsafe-operation`).
    """
    from deeplab.inference.file_predictor import first_line
    from deeplab.inference.fixed_size import FixedInput, FixedSizePredictor

    require_regular(path)
    content = read_file(path)
    try:
        operations = _operations(content)
        fixed = FixedInput.from_appended(path)
        _require_builtin(operations, path, options.trust_model)
        interpreter = _interpreter(content)
        found = interpreter.get_signature_list()
        if set(found) not in _KINDS:
            raise _another_model(path, f"the signatures {sorted(found)}")
        runners = {name: interpreter.get_signature_runner(name) for name in found}
        (image,) = next(iter(runners.values())).get_input_details()
        outputs = {name: runner.get_output_details()[LITERT_OUTPUTS[name]] for name, runner in runners.items()}
        scores = outputs.get("probabilities") or outputs.get("logits")
        num_classes = int(scores["shape"][-1]) if scores else len(fixed.class_names) or None
    except UserError:
        raise
    except zipfile.BadZipFile:
        raise _another_model(path, f"no {DESCRIPTION_FILE}, or it was cut off") from None
    except Exception as error:  # damaged bytes raise struct.error, ValueError, RuntimeError, KeyError and others
        rule = f"is a damaged LiteRT file: {first_line(error)}"
        raise UserError("damaged-model", rule, _HINT, where=path) from error
    lock = threading.Lock()  # an interpreter has one set of buffers
    quiet = [console.native_messages_off]  # the first call prints a line about the delegate that it creates

    def run(pixels: np.ndarray, probabilities: bool) -> tuple[np.ndarray, np.ndarray | None]:
        with lock, quiet.pop()() if quiet else contextlib.nullcontext():
            results = {
                name: runner(**{image: pixels})[LITERT_OUTPUTS[name]]
                for name, runner in runners.items()
                if probabilities or name != "probabilities"
            }
        if "logits" in results:
            return _from_logits(results["logits"], outputs["logits"]["quantization"], fixed, probabilities)
        return results["labels"], results.get("probabilities")

    return FixedSizePredictor(path, run, num_classes, fixed)


def _from_logits(
    logits: np.ndarray, quantization: tuple[float, int], fixed: FixedInput, probabilities: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Labels and probabilities at the size of the input from logits [1, h', w', classes], floats or integers."""
    import tensorflow as tf

    from slim import kernels

    scale, zero = quantization
    values = (logits.astype(np.float32) - zero) * (scale or 1)
    large = kernels.resize_bilinear(values, *fixed.size, fixed.align_corners)
    scores = None
    if probabilities:
        scores = (
            tf.nn.softmax(large)
            if fixed.upsample_logits
            else kernels.resize_bilinear(tf.nn.softmax(values), *fixed.size, fixed.align_corners)
        )
    if fixed.upsample_logits:
        return tf.argmax(large, -1).numpy(), None if scores is None else scores.numpy()
    labels = kernels.resize_nearest(values.argmax(-1)[..., np.newaxis].astype(np.int32), *fixed.size)[..., 0]
    return labels.numpy(), None if scores is None else scores.numpy()


def _interpreter(content: bytes) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's says that it will be removed
        return Interpreter(model_content=content)


def _operations(content: bytes) -> list[tuple[int, str]]:
    """Number and custom name of all operations. Reads the whole file, so that offsets out of bounds are found first."""
    from tensorflow.lite.python import schema_py_generated as schema

    if content[4:8] != b"TFL3":
        raise ValueError("it does not begin as such files do")
    model = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
    return [
        (max(code.builtinCode, code.deprecatedBuiltinCode), (code.customCode or b"").decode("utf-8", "replace"))
        for code in model.operatorCodes
    ]


def _require_builtin(operations: list[tuple[int, str]], path: str, trusted: bool) -> None:
    from tensorflow.lite.python import schema_py_generated as schema

    builtin = schema.BuiltinOperator
    calling = {getattr(builtin, name): name for name in _CALLING}
    for number, name in operations if not trusted else ():
        hint = "do not run files of unknown origin; if you trust this one, `trust_model=true` runs it"
        if number == builtin.CUSTOM:
            rule = f"its operation {name} is none of LiteRT's own, and may do anything"
            raise UserError("unsafe-operation", rule, hint, where=path, value=name)
        if number in calling:
            rule = f"its operation {calling[number]} calls other parts of the file, perhaps without end"
            raise UserError("unsafe-operation", rule, hint, where=path, value=calling[number])


def _another_model(path: str, found: str) -> UserError:
    rule = f"is not a LiteRT file of this program: it has {found}"
    return UserError("not-a-deeplab-model", rule, "export the model with export_model.py", where=path)


RUNTIMES.register("litert")(Runtime(recognizes, load))
