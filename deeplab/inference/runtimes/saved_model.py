"""SavedModels: ours, and others whose `serving_default` takes one image and returns labels."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplab.inference.runtimes import DESCRIPTION_FILE, RUNTIMES, LoadOptions, Runtime
from deeplab.inference.tensor_names import DEFAULT_SIGNATURE, LABELS, PROBABILITIES
from deeplab.utils.errors import UserError
from deeplab.utils.paths import read_file

if TYPE_CHECKING:
    from deeplab.inference.fixed_size import FixedInput
    from deeplab.inference.predictor import Predictor

_LABELS, _PROBABILITIES = (LABELS, "labels"), (PROBABILITIES, "probabilities")  # ours, and those of others
FILE = "saved_model.pb"
_MAX_DIGITS = 19  # of a version, which TensorFlow Serving holds in 64 bits


def recognizes(path: str) -> bool:
    """Whether this is a SavedModel's folder, the `saved_model.pb` in it, or a folder of numbered versions."""
    file = path if os.path.basename(path) == FILE else os.path.join(path, FILE)
    return os.path.isfile(file) or bool(versions_in(path))


def versions_in(path: str) -> list[int]:
    """The numbers of the versions in a folder as TensorFlow Serving reads it, ascending."""
    return [int(name) for name in version_folders(path)]


def version_folders(path: str) -> list[str]:
    """The names of the versions in a folder, by number; a name may have zeros in front."""
    try:
        names = [name for name in os.listdir(path) if name.isascii() and name.isdigit() and len(name) <= _MAX_DIGITS]
    except OSError:
        return []
    return sorted((name for name in names if os.path.isfile(os.path.join(path, name, FILE))), key=int)


def load(path: str, options: LoadOptions) -> Predictor:
    """Load a SavedModel.

    Raises:
      UserError: it is damaged, unsafe, or has another signature, which the message shows.
    """
    import tensorflow as tf

    from deeplab.checkpoint.restore import require_finite
    from deeplab.inference.file_predictor import FilePredictor, bands_beside, first_line
    from deeplab.inference.fixed_size import FixedSizePredictor
    from deeplab.inference.runtimes import graph_safety

    folder = (os.path.dirname(path) or ".") if os.path.basename(path) == FILE else path
    if not os.path.isfile(os.path.join(folder, FILE)):
        folder = os.path.join(folder, version_folders(folder)[-1])  # the latest, as TensorFlow Serving chooses
    try:
        limited = graph_safety.check_saved_model(folder, options.trust_model) and not options.trust_model
        loaded = graph_safety.run_limited(lambda: tf.saved_model.load(folder), folder, limited)
    except UserError:
        raise
    except Exception as error:  # damaged bytes raise OSError, ValueError, KeyError, OpError and others
        rule = f"cannot be loaded as a SavedModel: {first_line(error)}"
        raise UserError("damaged-model", rule, "export the model again", where=folder) from error
    signature, (input_name, taken), labels, scores = _signature_of(loaded, folder)
    require_finite({each.name: each for each in signature.variables}, folder)

    def run(image: np.ndarray, probabilities: bool) -> tuple[np.ndarray, np.ndarray | None]:
        _ = loaded  # keeps the variables alive
        call = functools.partial(signature, **{input_name: tf.constant(image)})
        found = graph_safety.run_limited(call, folder, limited, image.size / 3e6)
        return found[labels].numpy(), found[scores].numpy() if scores and probabilities else None

    shape = signature.structured_outputs[scores].shape if scores else None
    num_classes = shape[-1] if shape is not None and shape.rank == 4 else None
    if fixed := _fixed_input(folder, taken):
        return FixedSizePredictor(folder, run, num_classes, fixed)
    bands = bands_beside(folder, taken.shape[-1] if taken.shape.rank == 4 else None, taken.dtype.name)
    return FilePredictor(folder, run, num_classes, bands=bands)


def _signature_of(loaded: Any, folder: str) -> tuple[Any, tuple[str, Any], str, str | None]:
    """The signature that predicts, its input (name, tensor spec), and the names of labels and probabilities.

    Raises:
      UserError: it does not take one image, or returns no labels (`not-a-deeplab-model`).
    """
    from deeplab.data.bands import DTYPES

    signature = loaded.signatures.get(DEFAULT_SIGNATURE)
    inputs = dict(signature.structured_input_signature[1]) if signature else {}
    outputs = dict(signature.structured_outputs) if signature else {}
    labels, scores = _find(outputs, _LABELS), _find(outputs, _PROBABILITIES)
    if signature is None or len(inputs) != 1 or labels is None or next(iter(inputs.values())).dtype.name not in DTYPES:
        shown = f"inputs {[(name, spec.dtype.name) for name, spec in inputs.items()]}, outputs {sorted(outputs)}"
        rule = f"its {DEFAULT_SIGNATURE} must take one image and return {LABELS}; it has {shown}"
        raise UserError("not-a-deeplab-model", rule, "export the model with export_model.py", where=folder)
    return signature, next(iter(inputs.items())), labels, scores


def _fixed_input(folder: str, taken: Any) -> FixedInput | None:
    """The description of the input of a SavedModel of one size; None for other SavedModels.

    Args:
      folder: of the SavedModel.
      taken: the tensor spec of its input.

    Raises:
      UserError: the description is damaged, or of another input (`damaged-model`).
    """
    from deeplab.inference.file_predictor import first_line
    from deeplab.inference.fixed_size import FixedInput

    description = os.path.join(folder, "assets", DESCRIPTION_FILE)
    if not os.path.isfile(description):
        return None
    try:
        fixed = FixedInput.from_json(read_file(description))
        fixed.require_input(taken.shape.as_list(), taken.dtype.name)
    except (UserError, ValueError, KeyError, TypeError, AttributeError) as error:
        rule = f"does not describe this SavedModel: {first_line(error)}"
        raise UserError("damaged-model", rule, "export the model again", where=description) from error
    return fixed


def _find(outputs: Iterable[str], names: tuple[str, ...]) -> str | None:
    by_lower = {name.lower(): name for name in outputs}
    return next((by_lower[name.lower()] for name in names if name.lower() in by_lower), None)


RUNTIMES.register("saved_model")(Runtime(recognizes, load))
