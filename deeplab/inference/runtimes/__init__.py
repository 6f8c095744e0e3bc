"""Runtimes: one module per kind of model file, known by name.

To add one: write `runtimes/NAME.py`, which registers a `Runtime` under its name, list it in `_MODULES`, and test it
with `tests/support/runtime_battery.py`. A module must import quickly: it is asked whether it recognizes a path, and
imports what it needs to run in `load`. What files may do when they run is stated in docs/security.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deeplab.config.fields import Size
from deeplab.utils.registry import Registry

if TYPE_CHECKING:
    from deeplab.inference.predictor import Predictor

DESCRIPTION_FILE = "deeplab.json"  # `FixedInput` inside files that take prepared images


@dataclass(frozen=True)
class LoadOptions:
    """What a caller may set when a model is loaded.

    Attributes:
      settings: settings of the model, resizing and inference by name that differ from those of the training. A file
        has them built in and takes none.
      crop_size: height, width in pixels to which images are padded; None = each its own size.
      crop_field: the setting that `crop_size` comes from, for messages.
      trust_model: run operations that read or write files, run Python, open sockets or load libraries, and set no time
        limit.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    crop_size: Size | None = None
    crop_field: str = "crop_size"
    trust_model: bool = False


@dataclass(frozen=True)
class Runtime:
    """One kind of model file.

    Attributes:
      recognizes: whether a path (a file or a folder) is of this kind, told from its name and the files in it.
      load: makes the Predictor; raises UserError for a file that is damaged, unsafe or of another model.
      is_program: whether native code runs what the file says, which is tried in a process of its own first.
      takes_settings: whether `LoadOptions.settings` and `crop_size` may be set.
    """

    recognizes: Callable[[str], bool]
    load: Callable[[str, LoadOptions], Predictor]
    is_program: bool = True
    takes_settings: bool = False


RUNTIMES: Registry[Runtime] = Registry("kind of model file", field="model")
_MODULES = {  # in a folder of several, files of the first are preferred
    "frozen_graph": "frozen_graph",
    "saved_model": "saved_model",
    "keras": "keras_model",
    "litert": "litert",
    "onnx": "onnx",
    "openvino": "openvino",
    "mnn": "mnn",
    "web_page": "web_page",
    "checkpoint": "checkpoint",
}
for _name, _module in _MODULES.items():
    RUNTIMES.register_lazily(_name, f"{__name__}.{_module}")
RUNTIMES.register_lazily("server", "deeplab.serving.client")  # an address in place of a path
