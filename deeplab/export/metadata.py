"""The description of an export: its class names, its input and output, and how it was made."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from deeplab import __version__
from deeplab.config.fields import as_dict
from deeplab.data.bands import ImageBands, bands_of
from deeplab.inference.prediction import PredictionSettings
from deeplab.inference.predictor import ModelPredictor
from deeplab.inference.tensor_names import LABELS, PROBABILITIES
from deeplab.model import padding_color
from deeplab.utils import processor

METADATA_FILE = "metadata.json"
_FIXED_SIZE = "frozen_graph and saved_model take one image of float32, of the size 'padded_to'; see their deeplab.json"


@dataclass(frozen=True)
class NamedClasses:
    """One name per class, the background first, and RGB colors where they are known."""

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...] = ()


def labels_text(names: Sequence[str]) -> str:
    """Return the content of `labels.txt`: one name per line, the line's number from 0 being the class."""
    return "".join(f"{' '.join(name.split())}\n" for name in names)


def metadata_text(
    predictor: ModelPredictor,
    settings: PredictionSettings,
    classes: NamedClasses,
    folded: bool,
    files: Mapping[str, Mapping[str, Any]] | None = None,
    fixed_size: bool = False,
) -> str:
    """Return the description of an export as JSON.

    Args:
      predictor, settings, classes: what is exported.
      folded: whether batch norm is folded.
      files: by name, what was measured of each file; None inside a file, where nothing is measured yet.
      fixed_size: whether frozen graph and SavedModel take one prepared image.
    """
    height, width = settings.crop_size or (None, None)
    bands = bands_of(settings.model)
    content: dict[str, Any] = {
        "written_by": f"deeplab {__version__}",
        "made_with": {"tensorflow": tf.__version__, "keras": keras.__version__, "python": platform.python_version()},
        "checked_on": {"machine": platform.machine(), "instructions": list(processor.instructions())},
        "checkpoint": predictor.checkpoint,
        "step": predictor.step,
        "input": {
            "dtype": bands.dtype,
            "shape": [None, None, None, bands.channels],
            "layout": "NHWC",
            **_channels(bands),
            "resize": _without_nones(as_dict(settings.resize)),
            "padded_to": {"height": height, "width": width},
            "padding_color": list(padding_color(settings.model)),
            **({"fixed_size": _FIXED_SIZE} if fixed_size else {}),
            "remark": "Normalizing is part of every file. Resizing and padding are in files with 'prepared_inside'. "
            "For others the caller resizes, pads at the bottom and the right, and cuts the mask.",
        },
        "output": {
            LABELS: "int32 [B, H, W], the class of every pixel, at the image's size",
            PROBABILITIES: "float32 [B, H, W, classes], 0..1, at the image's size",
        },
        "classes": list(classes.names),
        "colors": [list(color) for color in classes.colors],
        "scales": list(settings.scales),
        "mirrored_too": settings.flip,
        "batch_norm_folded": folded,
        "model": _without_nones(as_dict(settings.model)),
    }
    if files is not None:
        content["files"] = files
    return "{\n" + ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in content.items()) + "\n}\n"


def _channels(bands: ImageBands) -> dict[str, Any]:
    """What the channels are, and which of their values the graph maps to 0 and 255 before it pads and normalizes."""
    if bands.channels == 3 and not bands.bands and not bands.low:
        return {"channels": "RGB", "range": [0, 255]}
    ends = [list(pair) for pair in zip(bands.low, bands.high, strict=True)]
    return {"channels": list(bands.bands) or "as trained", "range": ends or [0, 255]}


def _without_nones(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
