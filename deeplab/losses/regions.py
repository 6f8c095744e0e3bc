"""Losses of overlapping regions: soft Dice, Jaccard, Tversky and focal Tversky, each 1 minus an overlap of 0 to 1.

The overlap of softmax probabilities and labels is measured per class over the whole batch. Classes without a labeled
pixel in the batch do not count. Class weights multiply the losses of the classes.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from deeplab import losses

SMOOTH = 1e-6  # keeps the divisions finite, in pixels


class Overlaps(NamedTuple):
    """Soft counts of pixels per class, float32 [C]."""

    true_positives: tf.Tensor
    false_positives: tf.Tensor
    false_negatives: tf.Tensor
    weights: tf.Tensor  # of the classes; 0 where a class has no labeled pixel


def overlaps(logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> Overlaps:
    """Counts by softmax probabilities, over the labeled pixels of a batch.

    Args:
      logits: float32 [B, H, W, C].
      labels: int32 [B, H, W], 0..C-1, or `IGNORED`.
      weights: float32 [B, H, W], 0 where a pixel is ignored.
    """
    classes = logits.shape[-1]
    labeled = tf.cast(tf.greater(labels, losses.IGNORED), tf.float32)
    one_hot = tf.reshape(tf.one_hot(labels, classes), [-1, classes])
    probabilities = tf.reshape(tf.nn.softmax(logits) * labeled[..., tf.newaxis], [-1, classes])
    hits = tf.reduce_sum(probabilities * one_hot, 0)
    pixels = tf.reduce_sum(one_hot, 0)
    class_weights = tf.math.divide_no_nan(tf.reduce_sum(one_hot * tf.reshape(weights, [-1, 1]), 0), pixels)
    return Overlaps(hits, tf.reduce_sum(probabilities, 0) - hits, pixels - hits, class_weights)


def mean_over_classes(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Weighted sum of the classes' values over the number of classes present; 0 when there is none."""
    return tf.math.divide_no_nan(tf.reduce_sum(values * weights), tf.reduce_sum(tf.cast(weights > 0, tf.float32)))


def tversky_index(found: Overlaps, alpha: float, beta: float) -> tf.Tensor:
    """TP / (TP + alpha FP + beta FN) of each class, float32 [C]."""
    union = found.true_positives + alpha * found.false_positives + beta * found.false_negatives
    return (found.true_positives + SMOOTH) / (union + SMOOTH)


@losses.register("dice")
def dice(logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Soft Dice (Milletari et al. 2016, arXiv:1606.04797, with probabilities that are not squared)."""
    return tversky(logits, labels, weights, alpha=0.5, beta=0.5)


@losses.register("jaccard")
def jaccard(logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Soft Jaccard, 1 minus intersection over union (Rahman and Wang 2016)."""
    return tversky(logits, labels, weights, alpha=1.0, beta=1.0)


@losses.register("tversky")
def tversky(
    logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, *, alpha: float = 0.3, beta: float = 0.7
) -> tf.Tensor:
    """Tversky loss (Salehi et al. 2017, arXiv:1706.05721).

    Args:
      logits, labels, weights: as in `overlaps`.
      alpha: weight of false positives.
      beta: weight of false negatives; above alpha, small regions are found more often.
    """
    found = overlaps(logits, labels, weights)
    return mean_over_classes(1.0 - tversky_index(found, alpha, beta), found.weights)


@losses.register("focal_tversky")
def focal_tversky(
    logits: tf.Tensor,
    labels: tf.Tensor,
    weights: tf.Tensor,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 0.75,
) -> tf.Tensor:
    """Focal Tversky loss, (1 - index) ** gamma (Abraham and Khan 2018, arXiv:1810.07842; 1 / gamma there).

    Args:
      logits, labels, weights: as in `overlaps`.
      alpha, beta: as in `tversky`.
      gamma: exponent, above 0; below 1, classes that are nearly right keep a larger gradient.
    """
    found = overlaps(logits, labels, weights)
    missed = tf.maximum(1.0 - tversky_index(found, alpha, beta), SMOOTH)  # at 0, a power below 1 has no finite gradient
    return mean_over_classes(missed**gamma, found.weights)
