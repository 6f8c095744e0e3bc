"""Softmax cross-entropy, the loss of the reference."""

from __future__ import annotations

import tensorflow as tf

from deeplab.losses.pixelwise import pixel_loss

PLANAR_CLASSES = 12  # up to here class planes are faster than pixel rows (benchmarks/losses.py)
MAX_WRITTEN_OUT = 256  # beyond, half of the memory counts for more than time on a CPU


@pixel_loss("cross_entropy")
def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of each pixel: log(sum(exp(logits))) - logits[label].

    Written out because TensorFlow's fused operations take 1.4 to 2.4 times as long on a CPU, with the gradient
    (benchmarks/losses.py). Beyond 256 classes a fused one is used: with the gradient and the enlarging of the logits,
    it needs 2 times the memory of the enlarged logits instead of 4, in 1.3 times the time (measured at 1,000 classes).

    Args:
      logits: float32 [B, H, W, C].
      labels: int32 [B, H, W], 0..C-1; any negative number where a pixel is ignored.

    Returns:
      float32 [B, H, W], in nats.
    """
    classes = logits.shape[-1]
    if classes > MAX_WRITTEN_OUT:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), logits)
    rows = tf.reshape(logits, [-1, classes])
    axis = 0 if classes <= PLANAR_CLASSES else 1
    if axis == 0:
        rows = tf.transpose(rows)
    own = tf.reduce_sum(rows * tf.one_hot(tf.reshape(labels, [-1]), classes, axis=axis), axis)
    return tf.reshape(tf.reduce_logsumexp(rows, axis) - own, tf.shape(labels))
