"""MNN files of `deeplab export`. Needs the extra `mnn`."""

from __future__ import annotations

import os
import threading
import zipfile
from typing import TYPE_CHECKING

import numpy as np

from deeplab.inference.runtimes import DESCRIPTION_FILE, RUNTIMES, LoadOptions, Runtime
from deeplab.inference.tensor_names import IMAGE, LABELS, PROBABILITIES
from deeplab.utils.errors import UserError
from deeplab.utils.extras import require
from deeplab.utils.paths import read_file, require_regular

if TYPE_CHECKING:
    from deeplab.inference.predictor import Predictor

_HINT = "copy the file again, or export the model again"


def recognizes(path: str) -> bool:
    """Whether this is a `.mnn` file."""
    return path.endswith(".mnn") and os.path.isfile(path)


def load(path: str, options: LoadOptions) -> Predictor:
    """Load an MNN file.

    Raises:
      UserError: it is damaged or of another program, or the extra `mnn` is not installed.
    """
    from deeplab.inference.file_predictor import first_line
    from deeplab.inference.fixed_size import FixedInput, FixedSizePredictor

    require_regular(path)
    try:
        fixed = FixedInput.from_appended(path)  # a file that was cut off has none
        names = [name for name in (LABELS, PROBABILITIES) if name.encode() in read_file(path)]
        library = require("MNN", "mnn")
        network = library.nn.load_module_from_file(path, [IMAGE], names)
    except UserError:
        raise
    except zipfile.BadZipFile:
        rule = f"is not an MNN file of this program: it has no {DESCRIPTION_FILE}, or it was cut off"
        raise UserError("not-a-deeplab-model", rule, "export the model with export_model.py", where=path) from None
    except Exception as error:
        rule = f"is a damaged MNN file: {first_line(error)}"
        raise UserError("damaged-model", rule, _HINT, where=path) from error
    lock = threading.Lock()

    def run(pixels: np.ndarray, probabilities: bool) -> tuple[np.ndarray, np.ndarray | None]:
        # MNN keeps the shape of an ONNX input as it is, whatever it means, if the layout is called NCHW.
        layout = library.expr.data_format.NCHW
        with lock:
            found = network.forward([library.expr.const(pixels, list(pixels.shape), layout)])
            results = [np.array(one.read()).reshape(one.shape) for one in found]
        return results[0], results[1] if probabilities and len(results) > 1 else None

    return FixedSizePredictor(path, run, len(fixed.class_names) or None, fixed)


RUNTIMES.register("mnn")(Runtime(recognizes, load))
