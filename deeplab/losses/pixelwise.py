"""Losses of single pixels, and their mean over the labeled ones."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from deeplab import losses

Reduction = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # weighted losses [B, H, W], labels [B, H, W] -> scalar


def mean_over_labeled(values: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Sum over the number of labeled pixels; 0 when no pixel is labeled.

    That number does not depend on class weights, as in the reference: weights above 1 make the loss larger.

    Args:
      values: float32 [B, H, W], 0 where a pixel is ignored.
      labels: int32 [B, H, W], `IGNORED` where a pixel is ignored.
    """
    labeled = tf.reduce_sum(tf.cast(tf.greater(labels, losses.IGNORED), tf.float32))
    return tf.math.divide_no_nan(tf.reduce_sum(values), labeled)


class PixelLoss:
    """A registered loss made of a loss of single pixels.

    Args:
      values: (logits, labels, **options) -> float32 [B, H, W], at least 0; what it gives at ignored pixels is not used.
    """

    def __init__(self, values: Callable[..., tf.Tensor]):
        self.values = values
        functools.update_wrapper(self, values)

    def __call__(
        self,
        logits: tf.Tensor,
        labels: tf.Tensor,
        weights: tf.Tensor,
        *,
        reduce: Reduction = mean_over_labeled,
        **options: Any,
    ) -> tf.Tensor:
        return reduce(self.values(logits, labels, **options) * weights, labels)


def pixel_loss(name: str) -> Callable[[Callable[..., tf.Tensor]], Callable[..., tf.Tensor]]:
    """A decorator that registers a loss of single pixels, see `PixelLoss`, and returns it unchanged."""

    def add(values: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
        losses.register(name)(PixelLoss(values))
        return values

    return add
