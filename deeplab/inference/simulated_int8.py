"""Predicts what an int8 export of a model would, without exporting: fake quantization with ranges from images.

Owns the rounding copy of a model, and the pass that finds its ranges: one per channel for weights, and the smallest to
the largest value on the images for activations, as in format litert_int8. Used by `eval` with `precision=int8`. A
model trained with fake quantization needs none of this: it rounds by the ranges that it has learned.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from deeplab.inference.prediction import PredictionSettings, prepare
from deeplab.inference.predictor import ModelPredictor
from deeplab.model import build_model
from deeplab.model.head_layers import input_normalization
from deeplab.utils import console
from slim.layers import refresh_weight_ranges, variables_by_name
from slim.quantization import PER_CHANNEL, ActivationRange, is_quantized, ranges


class Int8Simulation:
    """Makes an int8 twin of a model, and keeps it up to date with the model's weights.

    Args:
      images: of the kind that the model will see, from which ranges are found: [H, W, C] as `Predictor.predict` takes.
    """

    def __init__(self, images: Sequence[np.ndarray]):
        self._images = images
        self._twin: ModelPredictor | None = None

    def twin_of(self, predictor: ModelPredictor) -> ModelPredictor:
        """The twin with the model's present weights; at every call the same object, for the same architecture.

        Raises:
          UserError: the architecture has operations for which there are no ranges (`not-supported`).
        """
        if is_quantized(predictor.model):
            return predictor
        twin = self._twin = self._twin or _built_for_int8(predictor)
        values = variables_by_name(predictor.model)
        for name, variable in variables_by_name(twin.model).items():
            if name in values:
                variable.assign(values[name])
        calibrate(twin.model, self._images, predictor.settings)
        twin.source, twin.checkpoint, twin.step = predictor.source, predictor.checkpoint, predictor.step
        return twin


def _built_for_int8(predictor: ModelPredictor) -> ModelPredictor:
    config = dataclasses.replace(predictor.config, quantize_delay_step=0, quantize_weights=PER_CHANNEL)
    model = build_model(config, predictor.num_classes, train_batch_norm=False)
    input_normalization(model).rounds = True
    settings = dataclasses.replace(predictor.settings, model=config)
    twin = ModelPredictor(model, settings, predictor.num_classes, predictor.checkpoint, predictor.step)
    if predictor.names_are_known:
        twin.set_classes(predictor.class_names, predictor.colors.tolist())
    return twin


def calibrate(model: keras.Model, images: Sequence[np.ndarray], settings: PredictionSettings) -> None:
    """Sets all ranges of a model with fake quantization: of weights, and of activations on some images.

    Args:
      model: from `build_model`.
      images: [H, W, C], as `Predictor.predict` takes them.
      settings: how they are resized and padded.
    """
    refresh_weight_ranges(model)
    activations = [one for one in ranges(model) if isinstance(one, ActivationRange)]
    for one in activations:
        one.clear()
        one.calibrates = True
    settings = dataclasses.replace(settings, may_outgrow_crop=True)

    @tf.function(autograph=False, reduce_retracing=True)
    def observe(pixels):
        model(pixels, training=False)

    try:
        for image in console.progress(images, what="finding ranges for int8", unit="image"):
            observe(prepare(tf.convert_to_tensor(image), settings).pixels[tf.newaxis])
    finally:
        for one in activations:
            one.calibrates = False
