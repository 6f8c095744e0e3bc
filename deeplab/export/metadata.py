"""The description of an export: its class names, its input and output, and how it was made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import slim
from deeplab import __version__
from deeplab.config.fields import as_dict
from deeplab.inference.prediction import PredictionSettings
from deeplab.inference.predictor import ModelPredictor

LABELS_FILE, METADATA_FILE = "labels.txt", "contract.json"


@dataclass(frozen=True)
class NamedClasses:
    """One name per class, the background first, and RGB colors where they are known."""

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...] = ()


def labels_text(names: Sequence[str]) -> str:
    """Return the content of `labels.txt`: one name per line, the line's number from 0 being the class."""
    return "".join(f"{' '.join(name.split())}\n" for name in names)


def metadata_text(predictor: ModelPredictor, settings: PredictionSettings, classes: NamedClasses, folded: bool) -> str:
    """Return the description of an export as JSON."""
    height, width = settings.crop_size or (None, None)
    content: dict[str, Any] = {
        "written_by": f"deeplab {__version__}",
        "checkpoint": predictor.checkpoint,
        "step": predictor.step,
        "input": {
            "dtype": "uint8",
            "shape": [None, None, None, settings.model.input_channels],
            "channels": "RGB" if settings.model.input_channels == 3 else "as trained",
            "range": [0, 255],
            "resized_inside": _without_nones(as_dict(settings.resize)),
            "padded_inside_to": {"height": height, "width": width},
            "padding_color": list(slim.find(settings.model.model_variant).padding_color),
            "remark": "Pass the image as it is: resizing, padding and normalizing are part of the graph.",
        },
        "output": {
            "SemanticPredictions": "int32 [B, H, W], the class of every pixel, at the image's size",
            "SemanticProbabilities": "float32 [B, H, W, classes], 0..1, at the image's size",
        },
        "classes": list(classes.names),
        "colors": [list(color) for color in classes.colors],
        "scales": list(settings.scales),
        "mirrored_too": settings.flip,
        "batch_norm_folded": folded,
        "model": _without_nones(as_dict(settings.model)),
    }
    return "{\n" + ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in content.items()) + "\n}\n"


def _without_nones(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
