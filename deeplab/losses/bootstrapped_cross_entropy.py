"""Bootstrapped cross-entropy: only pixels whose class has a low probability (Wu et al. 2016, arXiv:1605.06885)."""

from __future__ import annotations

import tensorflow as tf

from deeplab import losses
from deeplab.losses.cross_entropy import cross_entropy


@losses.register("bootstrapped_cross_entropy")
def bootstrapped_cross_entropy(
    logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, *, threshold: float = 0.7, min_fraction: float = 0.0625
) -> tf.Tensor:
    """Mean cross-entropy of the pixels whose class has a probability below a threshold.

    Args:
      logits: float32 [B, H, W, C].
      labels: int32 [B, H, W], 0..C-1, or `IGNORED`.
      weights: float32 [B, H, W], 0 where a pixel is ignored.
      threshold: of that probability, 0 to 1.
      min_fraction: of the labeled pixels, the hardest, that are kept in any case.

    Returns:
      float32 scalar: the weighted sum over the number of kept pixels; 0 when no pixel is labeled.
    """
    labeled = tf.greater(labels, losses.IGNORED)
    entropy = tf.where(labeled, cross_entropy(logits, labels), 0.0)
    ranked = tf.sort(tf.reshape(tf.where(labeled, entropy, -1.0), [-1]), direction="DESCENDING")
    minimum = tf.cast(min_fraction * tf.reduce_sum(tf.cast(labeled, tf.float32)), tf.int32)
    hard_enough = tf.minimum(-tf.math.log(threshold), ranked[tf.maximum(minimum - 1, 0)])
    kept = tf.cast(tf.logical_and(labeled, tf.greater_equal(entropy, tf.stop_gradient(hard_enough))), tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(entropy * weights * kept), tf.reduce_sum(kept))
