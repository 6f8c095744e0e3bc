"""Export formats: one module per format, known by name.

To add one: write `formats/NAME.py`, which registers an `ExportFormat`; name it in `_MODULES`; write
`inference/runtimes/NAME.py`, which loads it, because every export is checked against the model; and test it with
`tests/support/export_battery.py`. Modules are imported when a format is asked for, so each may need libraries of its
own.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deeplab.inference.tensor_names import LABELS
from deeplab.utils.registry import Registry

if TYPE_CHECKING:
    from deeplab.export.freeze import FrozenModel
    from deeplab.inference.prediction import PredictionSettings

USUAL_STEM = "frozen_inference_graph"
TensorInfo = tuple[str, str, str]  # name, type, shape: ("ArgMax:0", "int64", "1 x 513 x 513")


def mentions_predictions(path: str | os.PathLike) -> bool:
    """Whether a file mentions `SemanticPredictions`, as all exports do that hold tensor names as plain text."""
    if os.path.isdir(path):
        return False
    with open(path, "rb") as file:
        return LABELS.encode() in file.read()


@dataclass(frozen=True)
class ExportFormat:
    """One format.

    Attributes:
      usual_name: file or folder to write where the user names none ("saved_model").
      suffix: what follows the export's own name where it has one: ".pb", "_saved_model".
      write: (frozen model, path) -> the inputs and outputs that it wrote. The path is new and in a folder that only
        holds this export; a format may write further files beside it.
      is_export: whether an existing file or folder is of this format and may be replaced.
      is_exact: whether its labels must be the model's; a format with reduced precision is judged by its mean IoU.
      is_calibrated: whether it needs images to find the ranges of its integers.
      takes_ranges: whether it takes models trained with fake quantization; one that is calibrated then needs no images.
      prepares_inside: whether it takes images of any size, which it resizes and pads itself.
      takes_fixed_size: whether `fixed_size` makes it a format of one size, which takes prepared images.
      has_runtime: whether this project can run it, so that it is checked.
      needs: module -> the extra of this package that installs it.
      unfit: (settings, number of classes) -> why it cannot hold such a model; empty if it can. `formats=all` leaves it
        out where it cannot, and naming it is an error.
    """

    usual_name: str
    suffix: str
    write: Callable[[FrozenModel, str], list[TensorInfo]]
    is_export: Callable[[str], bool] = mentions_predictions
    is_exact: bool = True
    is_calibrated: bool = False
    prepares_inside: bool = True
    needs: Mapping[str, str] = field(default_factory=dict)
    has_runtime: bool = True
    takes_ranges: bool = False
    takes_fixed_size: bool = False
    unfit: Callable[[PredictionSettings, int], str] = lambda settings, num_classes: ""

    @property
    def extension(self) -> str:
        """The extension of its files, ".tflite"; empty for folders."""
        return f".{self.suffix.rpartition('.')[2]}" if "." in self.suffix else ""

    def missing(self) -> dict[str, str]:
        """Those of `needs` that are not installed."""
        return {module: extra for module, extra in self.needs.items() if importlib.util.find_spec(module) is None}

    def file_name(self, stem: str) -> str:
        """The name of the file or folder in an export called `stem`."""
        return self.usual_name if stem == USUAL_STEM else f"{stem}{self.suffix}"


FORMATS: Registry[ExportFormat] = Registry("export format", field="formats")
_MODULES = {
    "frozen_graph": "frozen_graph",
    "saved_model": "saved_model",
    "keras": "keras_model",
    "litert": "litert",
    "litert_float16": "litert",
    "litert_dynamic": "litert",
    "litert_int8": "litert",
    "mediapipe": "mediapipe",
    "onnx": "onnx",
    "onnx_dynamic": "onnx",
    "onnx_int8": "onnx",
    "openvino": "openvino",
    "openvino_float16": "openvino",
    "openvino_int8": "openvino",
    "coreml": "coreml",
    "coreml_int8": "coreml",
    "mnn": "mnn",
    "mnn_float16": "mnn",
    "mnn_int8": "mnn",
    "web_page": "web_page",
}
for _name, _module in _MODULES.items():
    FORMATS.register_lazily(_name, f"{__name__}.{_module}")
