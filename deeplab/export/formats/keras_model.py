"""A `.keras` file: the model of the Python API (`SegmentationModel`), as `keras.models.load_model` reads it.

    image    float32 [B, H, W, C], RGB, 0..255, any size
    logits   float32 [B, H, W, classes]

Batch norm is not folded, so that the model can be trained further. Resizing, padding, scales and mirrored images are
not part of it; they are saved with the model, and `deeplab.Segmenter` applies them. Loading needs this package, whose
layers are registered with Keras when it is imported (`import deeplab.model`).
"""

from __future__ import annotations

import json
import zipfile

import numpy as np

from deeplab.config.fields import as_dict
from deeplab.export.formats import FORMATS, ExportFormat, TensorInfo
from deeplab.export.freeze import FrozenModel
from deeplab.model.segmentation_model import SegmentationModel
from deeplab.utils.files import writing
from slim.layers import variables_by_name


def write(model: FrozenModel, path: str) -> list[TensorInfo]:
    """Writes the model as it was trained, with the settings of its predictions."""
    settings, predictor = model.settings, model.predictor
    prediction = {"crop_size": settings.crop_size, "scales": settings.scales, "flip": settings.flip}
    saved = SegmentationModel(
        settings.model,
        predictor.num_classes,
        model.class_names,
        model.colors,
        prediction={**prediction, "resize": as_dict(settings.resize)},
    )
    values = variables_by_name(predictor.model)
    for name, variable in variables_by_name(saved).items():
        variable.assign(np.asarray(values[name]))
    with writing(path):
        saved.save(path)
    channels = settings.model.input_channels
    shape = "? x ? x ? x"
    return [("image", "float32", f"{shape} {channels}"), ("logits", "float32", f"{shape} {predictor.num_classes}")]


def _is_segmentation_model(path: str) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("config.json"))["class_name"] == SegmentationModel.__name__
    except Exception:  # of a file of another program, these libraries raise nearly anything
        return False


FORMATS.register("keras")(
    ExportFormat("model.keras", ".keras", write, _is_segmentation_model, prepares_inside=False, takes_ranges=True)
)
