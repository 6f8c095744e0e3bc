"""OpenVINO folders of `deeplab export`, run on the processor. Needs the extra `openvino`."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import numpy as np

from deeplab.inference.runtimes import RUNTIMES, LoadOptions, Runtime
from deeplab.inference.tensor_names import IMAGE, LABELS, PROBABILITIES
from deeplab.utils.errors import UserError
from deeplab.utils.extras import require
from deeplab.utils.paths import require_regular

if TYPE_CHECKING:
    from deeplab.inference.predictor import Predictor

FILE = "model.xml"
PROPERTY, PRECISION = "deeplab", "deeplab_precision"


def recognizes(path: str) -> bool:
    """Whether this is a folder with `model.xml`, or that file."""
    return os.path.isfile(_file_of(path))


def _file_of(path: str) -> str:
    return path if os.path.basename(path) == FILE else os.path.join(path, FILE)


def load(path: str, options: LoadOptions) -> Predictor:
    """Load an OpenVINO model.

    Raises:
      UserError: it is damaged or of another program, or the extra `openvino` is not installed.
    """
    from deeplab.inference.file_predictor import first_line
    from deeplab.inference.fixed_size import FixedInput, FixedSizePredictor

    file = _file_of(path)
    require_regular(file)
    openvino = require("openvino", "openvino")
    try:
        core = openvino.Core()
        read = core.read_model(file)
        if not read.has_rt_info(PROPERTY):
            outputs = [output.get_any_name() for output in read.outputs]
            rule = f"is not an OpenVINO model of this program: its outputs are {outputs}"
            raise UserError("not-a-deeplab-model", rule, "export the model with export_model.py", where=path)
        fixed = FixedInput.from_json(read.get_rt_info(PROPERTY).astype(str))
        precision = read.get_rt_info(PRECISION).astype(str) if read.has_rt_info(PRECISION) else ""
        compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": precision} if precision else {})
        names = [name for name in (LABELS, PROBABILITIES) if any(name in output.names for output in compiled.outputs)]
    except UserError:
        raise
    except Exception as error:  # damaged files raise RuntimeError, ValueError, KeyError and others
        rule = f"is a damaged OpenVINO model: {first_line(error)}"
        hint = "copy the folder again, or export the model again"
        raise UserError("damaged-model", rule, hint, where=path) from error
    lock = threading.Lock()  # a compiled model has one request of its own

    def run(pixels: np.ndarray, probabilities: bool) -> tuple[np.ndarray, np.ndarray | None]:
        with lock:
            found = compiled({IMAGE: pixels})
            labels = np.array(found[LABELS])
            return labels, np.array(found[PROBABILITIES]) if probabilities and PROBABILITIES in names else None

    return FixedSizePredictor(path, run, len(fixed.class_names) or None, fixed)


RUNTIMES.register("openvino")(Runtime(recognizes, load))
