"""Cross-entropy with smoothed labels (Szegedy et al. 2016, arXiv:1512.00567, section 7)."""

from __future__ import annotations

import tensorflow as tf

from deeplab.losses.cross_entropy import cross_entropy
from deeplab.losses.pixelwise import pixel_loss


@pixel_loss("label_smoothing")
def label_smoothing(logits: tf.Tensor, labels: tf.Tensor, *, smoothing: float = 0.1) -> tf.Tensor:
    """Cross-entropy to labels of which a fraction is spread evenly over all classes.

    Args:
      logits: float32 [B, H, W, C].
      labels: int32 [B, H, W], 0..C-1; any negative number where a pixel is ignored.
      smoothing: that fraction, 0 to 1.

    Returns:
      float32 [B, H, W], in nats; not 0 for a perfect prediction.
    """
    to_all = tf.reduce_logsumexp(logits, -1) - tf.reduce_mean(logits, -1)
    return (1.0 - smoothing) * cross_entropy(logits, labels) + smoothing * to_all
