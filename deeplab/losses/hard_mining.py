"""Hard-pixel mining: only the pixels with the largest loss count (Shrivastava et al. 2016, arXiv:1604.03540)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from deeplab.losses.pixelwise import Reduction


def hardest(final_fraction: float, mining_step: int, global_step: Any) -> Reduction:
    """The reduction that keeps a fraction of the pixels, which shrinks while training; arguments as below."""
    fraction = kept_fraction(final_fraction, mining_step, global_step)
    return lambda values, labels: mean_of_hardest(values, fraction)


def kept_fraction(final_fraction: float, mining_step: int, global_step: Any) -> tf.Tensor:
    """Fraction of the pixels that are kept: from 1 to `final_fraction` over `mining_step` steps.

    Args:
      final_fraction: fraction from `mining_step` on, 0 to 1.
      mining_step: number of steps; 0 = `final_fraction` at once.
      global_step: updates done so far, int or integer scalar tensor; None = all.

    Returns:
      float32 scalar, `final_fraction` to 1.
    """
    if mining_step == 0 or global_step is None:
        return tf.constant(final_fraction, tf.float32)
    progress = tf.minimum(1.0, tf.cast(global_step, tf.float32) / float(mining_step))
    return progress * final_fraction + (1.0 - progress)


def mean_of_hardest(values: tf.Tensor, fraction: tf.Tensor) -> tf.Tensor:
    """Mean of the largest losses, leaving out those that are 0.

    Args:
      values: float32 of any shape, >= 0, 0 where a pixel is ignored; ignored pixels count in the total.
      fraction: float32 scalar, 0 to 1; int(fraction * number of pixels) losses are kept.

    Returns:
      float32 scalar; 0 when all kept losses are 0.
    """
    values = tf.reshape(values, [-1])
    kept = tf.cast(fraction * tf.cast(tf.size(values), tf.float32), tf.int32)
    largest = tf.math.top_k(values, kept, sorted=False).values
    return tf.math.divide_no_nan(tf.reduce_sum(largest), tf.reduce_sum(tf.cast(largest != 0.0, tf.float32)))
