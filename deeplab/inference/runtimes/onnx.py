"""ONNX files of `deeplab export`, run by ONNX Runtime on the processor. Needs the extra `onnx`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from deeplab.inference.runtimes import RUNTIMES, LoadOptions, Runtime
from deeplab.utils.errors import UserError
from deeplab.utils.extras import require
from deeplab.utils.paths import read_file, require_regular

if TYPE_CHECKING:
    from deeplab.inference.predictor import Predictor

PROPERTY = "deeplab"
LABELS, PROBABILITIES = "SemanticPredictions", "SemanticProbabilities"


def recognizes(path: str) -> bool:
    """Whether this is a `.onnx` file."""
    return path.endswith(".onnx") and os.path.isfile(path)


def load(path: str, options: LoadOptions) -> Predictor:
    """Load an ONNX file.

    Raises:
      UserError: it is damaged or of another program, or the extra `onnx` is not installed.
    """
    from deeplab.inference.file_predictor import first_line
    from deeplab.inference.fixed_size import FixedInput, FixedSizePredictor

    require_regular(path)
    onnxruntime = require("onnxruntime", "onnx")
    try:
        session = onnxruntime.InferenceSession(read_file(path), providers=["CPUExecutionProvider"])
        description = session.get_modelmeta().custom_metadata_map.get(PROPERTY)
        outputs = {output.name: output.shape for output in session.get_outputs()}
        if description is None or not {LABELS, PROBABILITIES} <= set(outputs):
            rule = f"is not an ONNX file of this program: its outputs are {sorted(outputs)}"
            raise UserError("not-a-deeplab-model", rule, "export the model with export_model.py", where=path)
        fixed = FixedInput.from_json(description)
        (image,) = (each.name for each in session.get_inputs())
    except UserError:
        raise
    except Exception as error:  # damaged bytes raise exceptions of ONNX Runtime, ValueError, KeyError and others
        rule = f"is a damaged ONNX file: {first_line(error)}"
        hint = "copy the file again, or export the model again"
        raise UserError("damaged-model", rule, hint, where=path) from error

    def run(pixels: np.ndarray, probabilities: bool) -> tuple[np.ndarray, np.ndarray | None]:
        names = [LABELS, PROBABILITIES] if probabilities else [LABELS]
        found = session.run(names, {image: pixels})
        return found[0], found[1] if probabilities else None

    return FixedSizePredictor(path, run, int(outputs[PROBABILITIES][-1]), fixed)


RUNTIMES.register("onnx")(Runtime(recognizes, load))
