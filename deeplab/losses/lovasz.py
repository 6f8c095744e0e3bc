"""Lovasz-softmax, a convex surrogate of the mean intersection over union (Berman et al. 2018, arXiv:1705.08790)."""

from __future__ import annotations

import tensorflow as tf

from deeplab import losses


@losses.register("lovasz")
def lovasz(logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, *, per_image: bool = False) -> tf.Tensor:
    """Lovasz-softmax over the labeled pixels of a batch, averaged over the classes present.

    Args:
      logits: float32 [B, H, W, C].
      labels: int32 [B, H, W], 0..C-1, or `IGNORED`.
      weights: float32 [B, H, W], 0 where a pixel is ignored; the mean over the pixels of a class is the class's weight.
      per_image: compute the loss of each image separately, and average over the images that have a labeled pixel.

    Returns:
      float32 scalar; 0 when no pixel is labeled.
    """
    if not per_image:
        return _of_pixels(logits, labels, weights)
    values = tf.map_fn(lambda image: _of_pixels(*image), (logits, labels, weights), fn_output_signature=tf.float32)
    labeled = tf.reduce_any(tf.greater(labels, losses.IGNORED), [1, 2])
    return tf.math.divide_no_nan(tf.reduce_sum(values), tf.reduce_sum(tf.cast(labeled, tf.float32)))


def _of_pixels(logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Lovasz-softmax of pixels of any arrangement: logits [..., C], labels and weights [...]."""
    classes = logits.shape[-1]
    labeled = tf.reshape(tf.cast(tf.greater(labels, losses.IGNORED), tf.float32), [-1, 1])
    one_hot = tf.reshape(tf.one_hot(labels, classes), [-1, classes])
    probabilities = tf.reshape(tf.nn.softmax(logits), [-1, classes])
    errors = tf.abs(one_hot - probabilities) * labeled  # ignored pixels come last, with error 0
    ranks = tf.argsort(tf.transpose(errors), direction="DESCENDING", stable=True)  # [C, N]
    sorted_errors = tf.gather(tf.transpose(errors), ranks, batch_dims=1)
    sorted_truth = tf.gather(tf.transpose(one_hot), ranks, batch_dims=1)
    values = tf.reduce_sum(sorted_errors * tf.stop_gradient(_jaccard_gradient(sorted_truth)), 1)
    pixels = tf.reduce_sum(one_hot, 0)
    class_weights = tf.math.divide_no_nan(tf.reduce_sum(one_hot * tf.reshape(weights, [-1, 1]), 0), pixels)
    present = tf.reduce_sum(tf.cast(pixels > 0, tf.float32))
    return tf.math.divide_no_nan(tf.reduce_sum(values * class_weights), present)


def _jaccard_gradient(truth: tf.Tensor) -> tf.Tensor:
    """Gradient of the Lovasz extension of the Jaccard loss with respect to the errors, algorithm 1 of the paper.

    Args:
      truth: float32 [C, N], 1 where a pixel is of the class, else 0; sorted by decreasing error.

    Returns:
      float32 [C, N].
    """
    total = tf.reduce_sum(truth, 1, keepdims=True)
    intersection = total - tf.cumsum(truth, 1)
    union = total + tf.cumsum(1.0 - truth, 1)
    jaccard = 1.0 - intersection / tf.maximum(union, 1.0)
    return tf.concat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], 1)
