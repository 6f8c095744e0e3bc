"""Keras models: `.keras` files of `SegmentationModel`, and live ones."""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from typing import TYPE_CHECKING, Any

from deeplab.config.data_config import ResizeConfig
from deeplab.config.fields import make
from deeplab.config.model_config import ModelConfig
from deeplab.config.prediction_config import InferenceConfig
from deeplab.inference.runtimes import RUNTIMES, LoadOptions, Runtime
from deeplab.utils.errors import UserError
from deeplab.utils.paths import require_regular

if TYPE_CHECKING:
    import keras

    from deeplab.inference.prediction import PredictionSettings
    from deeplab.inference.predictor import ModelPredictor
    from deeplab.model.segmentation_model import SegmentationModel

_CLASS = "SegmentationModel"


def recognizes(path: str) -> bool:
    """Whether this is a `.keras` file."""
    return path.endswith(".keras") and os.path.isfile(path)


def load(path: str, options: LoadOptions) -> ModelPredictor:
    """Load a `.keras` file.

    Its description is read as data and its weights as arrays; Keras makes no other objects of it, so that it cannot run
    code.

    Raises:
      UserError: it is damaged, or of another model.
    """
    from deeplab.inference.file_predictor import first_line
    from deeplab.model.segmentation_model import SegmentationModel

    require_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            description: dict[str, Any] = json.loads(archive.read("config.json"))
        if description["class_name"] != _CLASS:
            raise _another_model(description["class_name"], path)
        model = SegmentationModel.from_config(description["config"])
        model.load_weights(path)
    except UserError:
        raise
    except Exception as error:  # damaged bytes raise BadZipFile, KeyError, ValueError, OSError and others
        rule = f"is a damaged Keras file: {first_line(error)}"
        hint = "copy the file again, or export the model again"
        raise UserError("damaged-model", rule, hint, where=path) from error
    return of_model(model, options, path)


def of_model(model: keras.Model, options: LoadOptions, source: str = "") -> ModelPredictor:
    """A Predictor that follows the weights of a `SegmentationModel`.

    Raises:
      UserError: it is another model, a weight is not finite, or `options` set its architecture.
    """
    from deeplab.checkpoint.restore import require_finite
    from deeplab.inference.predictor import ModelPredictor
    from deeplab.model.segmentation_model import SegmentationModel
    from slim.layers import variables_by_name

    if not isinstance(model, SegmentationModel):
        raise _another_model(type(model).__name__, model.name)
    fixed = [field.name for field in dataclasses.fields(ModelConfig) if field.name in options.settings]
    if fixed:
        rule = f"{' '.join(f'`{name}`' for name in fixed)} cannot be set: the model has its architecture already"
        hint = "leave them out, or create another model"
        raise UserError("settings-built-in", rule, hint, where=source or model.name, value=fixed)
    require_finite(variables_by_name(model), source or model.name)
    settings = _settings(model, options)
    predictor = ModelPredictor(model.core, settings, model.num_classes, source or model.name)
    predictor.set_classes(model.class_names, model.colors)
    return predictor


def _settings(model: SegmentationModel, options: LoadOptions) -> PredictionSettings:
    """How images become masks: as the options say, else as saved with the model, else the defaults."""
    from deeplab.inference.prediction import PredictionSettings

    saved, given = model.prediction, dict(options.settings)
    resize = {**(saved.get("resize") or {}), **given}
    passes = {"eval_scales": saved.get("scales", (1.0,)), "add_flipped_images": saved.get("flip", False), **given}
    inference = make(InferenceConfig, passes)
    crop = options.crop_size or saved.get("crop_size")
    return PredictionSettings(
        model.config,
        make(ResizeConfig, resize),
        (int(crop[0]), int(crop[1])) if crop else None,
        inference.eval_scales,
        inference.add_flipped_images,
        may_outgrow_crop=options.crop_size is None,
        crop_field=options.crop_field,
    )


def _another_model(kind: str, where: str) -> UserError:
    rule = f"is a {kind}, not a model of deeplab.create_model"
    return UserError("not-a-deeplab-model", rule, "create it with deeplab.create_model", where=where, value=kind)


RUNTIMES.register("keras")(Runtime(recognizes, load, is_program=False, takes_settings=True))
