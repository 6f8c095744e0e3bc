"""Cross-entropy with more weight near class borders (after Ronneberger et al. 2015, arXiv:1505.04597, equation 2)."""

from __future__ import annotations

import tensorflow as tf

from deeplab import losses
from deeplab.losses.cross_entropy import cross_entropy
from deeplab.losses.pixelwise import pixel_loss


@pixel_loss("boundary_cross_entropy")
def boundary_cross_entropy(logits: tf.Tensor, labels: tf.Tensor, *, strength: float = 4.0, width: int = 5) -> tf.Tensor:
    """Cross-entropy times 1 + strength * exp(-d ** 2 / (2 sigma ** 2)), sigma = width / 2, for d below `width`.

    d is the Chebyshev distance in pixels to the nearest pixel with a neighbor of another class. (In the paper it is
    the sum of the distances to the two nearest cells.)

    Args:
      logits: float32 [B, H, W, C].
      labels: int32 [B, H, W], 0..C-1, or `IGNORED`; borders to ignored pixels do not count.
      strength: additional weight of a pixel at a border.
      width: distance in pixels at which the additional weight ends.

    Returns:
      float32 [B, H, W], in nats times the weight.
    """
    sigma, near = width / 2.0, borders(labels)
    extra = near
    for distance in range(1, width):
        near = _grown(near)
        extra = tf.maximum(extra, near * tf.exp(-(distance**2) / (2.0 * sigma**2)))
    return cross_entropy(logits, labels) * (1.0 + strength * extra)


def borders(labels: tf.Tensor) -> tf.Tensor:
    """1 at pixels with a neighbor, also a diagonal one, of another class, else 0: float32 [B, H, W]."""
    values = tf.cast(labels, tf.float32)[..., tf.newaxis]
    counted = tf.greater(labels, losses.IGNORED)[..., tf.newaxis]
    infinity = tf.constant(1e9, tf.float32)
    largest = tf.nn.max_pool2d(tf.where(counted, values, -infinity), 3, 1, "SAME")
    smallest = -tf.nn.max_pool2d(tf.where(counted, -values, -infinity), 3, 1, "SAME")
    differs = tf.logical_and(counted, tf.greater(largest, smallest))
    return tf.cast(differs, tf.float32)[..., 0]


def _grown(near: tf.Tensor) -> tf.Tensor:
    return tf.nn.max_pool2d(near[..., tf.newaxis], 3, 1, "SAME")[..., 0]
