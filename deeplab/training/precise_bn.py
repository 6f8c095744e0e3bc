"""Batch-norm recalibration, for trainings too short for the moving averages to settle (precise BN, arXiv:2105.07576).

The reference's averages keep 99.97 % of their old value in the head at each step: after 500 steps 86 % of a
head average is still its initial value, and evaluation uses it. Where the training was that short, the averages are
computed again before the last checkpoint, over training batches and with the final weights.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deeplab.training.distribution import ALONE, Devices
from deeplab.training.randomness import StepClock
from deeplab.utils import console
from slim.layers import BatchNorm, refresh_weight_ranges
from slim.quantization import held_ranges, ranges

DEFAULT_BATCHES, MIN_BATCHES = 60, 10
SETTLED = 0.01  # fraction of the initial value that may be left in an average


def batch_norm_layers(model: keras.Model) -> list[BatchNorm]:
    """All batch norms of a model, those inside an image pyramid's model among them."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, BatchNorm)]


def batches_needed(layers: Iterable[BatchNorm], steps: int, wanted: int | None, epoch: float = math.inf) -> int:
    """Number of batches to average over.

    Args:
      layers: the model's batch norms.
      steps: length of the training so far.
      wanted: the user's number, or None for ours.
      epoch: batches in which all training images come once; for an evaluation during the training these are enough.

    Returns:
      `wanted`. Or, when some average still holds more than SETTLED of its first value, DEFAULT_BATCHES, or `epoch` if
      it is between MIN_BATCHES and that. Else 0.
    """
    trained = [layer for layer in layers if layer.norm.train_statistics]
    if not trained:
        return 0
    if wanted is not None:
        return wanted
    slowest = max(layer.norm.decay for layer in trained)
    return math.ceil(min(max(epoch, MIN_BATCHES), DEFAULT_BATCHES)) if slowest**steps > SETTLED else 0


@contextlib.contextmanager
def kept_statistics(model: keras.Model) -> Iterator[None]:
    """Gives every moving mean and variance its present value back at the end of the block, Keras' own among them."""
    statistics = model.non_trainable_weights
    values = [np.array(variable.numpy()) for variable in statistics]
    try:
        yield
    finally:
        for variable, value in zip(statistics, values, strict=True):
            variable.assign(value)


class Recalibrator:
    """Computes batch-norm statistics again, at each evaluation and at the end of a training.

    The pass that measures them takes seconds to trace, so it is traced once for each model; again only after its batch
    norms have been frozen or released, or fake quantization has begun to round.

    Args:
      clock: gives dropout its step.
      devices: of the training. Where batch norm sees their batches together, images come as the strategy gives them.
    """

    def __init__(self, clock: StepClock, devices: Devices = ALONE):
        self._clock, self._devices = clock, devices
        self._traced: dict[int, tuple[keras.Model, list[Any], Callable[..., Any]]] = {}

    def __call__(self, model: keras.Model, images: Iterator[Any], batches: int, step: int = 0) -> None:
        """Sets every moving mean and variance to its mean over training batches.

        Args:
          model: called with `training=True`, as in a training step; its weights stay as they are.
          images: float32 [B, H, W, C] batches, 0..255, as large as one device has them in training.
          batches: how many of them to use.
          step: updates done so far.
        """
        layers = [layer for layer in batch_norm_layers(model) if layer.norm.train_statistics]
        statistics = [variable for layer in layers for variable in (layer.moving_mean, layer.moving_variance)]
        sums = [np.zeros(variable.shape, np.float64) for variable in statistics]
        measure = self._measuring(model, layers)
        for index in console.progress(range(batches), what="batch-norm statistics", unit="step"):
            measure(next(images), tf.constant(step + index, tf.int64))
            for total, variable in zip(sums, statistics, strict=True):
                total += variable.numpy()
        for total, variable in zip(self._of_all_workers(sums), statistics, strict=True):
            variable.assign((total / (batches * self._devices.workers)).astype(np.float32))
        refresh_weight_ranges(model)

    def _measuring(self, model: keras.Model, layers: list[BatchNorm]) -> Callable[..., Any]:
        state = [*(layer.norm for layer in batch_norm_layers(model)), *(one.rounds for one in ranges(model))]
        traced = self._traced.get(id(model))  # the model is kept beside it, so that no other gets its number
        if traced is None or traced[1] != state:
            together = self._devices.replicas > 1 and any(layer.norm.synced for layer in layers)
            strategy = self._devices.strategy if together else None
            traced = self._traced[id(model)] = (model, state, _measuring_function(model, layers, self._clock, strategy))
        return traced[2]

    def _of_all_workers(self, sums: list[np.ndarray]) -> list[np.ndarray]:
        if self._devices.workers == 1 or not sums:
            return sums
        together = self._devices.sum(np.concatenate(sums))
        return np.split(together, np.cumsum([len(part) for part in sums])[:-1])


def _measuring_function(
    model: keras.Model, layers: list[BatchNorm], clock: StepClock, strategy: tf.distribute.Strategy | None
) -> Callable[..., Any]:
    """A forward pass after which each average holds the last batch's own statistics (decay 0 while traced).

    Moving ranges of fake quantization stay as they are.
    """

    def forward(images, step):
        originals = [layer.norm for layer in layers]
        for layer in layers:
            layer.norm = dataclasses.replace(layer.norm, decay=0.0)
        try:
            with clock.at(step), held_ranges(model):
                model(images, training=True)
        finally:
            for layer, original in zip(layers, originals, strict=True):
                layer.norm = original

    run = forward if strategy is None else lambda images, step: strategy.run(forward, args=(images, step))
    return tf.function(run, jit_compile=False, autograph=False, reduce_retracing=True)
