"""Models for semantic segmentation: heads and decoders on the backbones of `slim`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deeplab.model.auxiliary_head import AUXILIARY_LOGITS
    from deeplab.model.deeplab import MERGED_LOGITS, build_model, logits_stride, padding_color

__all__ = ["AUXILIARY_LOGITS", "MERGED_LOGITS", "build_model", "logits_stride", "padding_color"]


def __getattr__(name: str) -> Any:
    """Imports the model at first use, so that `deeplab.model.resize` can be imported without Keras."""
    if name in __all__:
        return getattr(importlib.import_module("deeplab.model.deeplab"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
