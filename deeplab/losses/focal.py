"""Focal loss: easy pixels count less (Lin et al. 2017, arXiv:1708.02002)."""

from __future__ import annotations

import tensorflow as tf

from deeplab.losses.cross_entropy import cross_entropy
from deeplab.losses.pixelwise import pixel_loss


@pixel_loss("focal")
def focal(logits: tf.Tensor, labels: tf.Tensor, *, gamma: float = 2.0) -> tf.Tensor:
    """(1 - p) ** gamma * -log(p) of each pixel, p being the probability of its class; gamma 0 is cross-entropy.

    Args:
      logits: float32 [B, H, W, C].
      labels: int32 [B, H, W], 0..C-1; any negative number where a pixel is ignored.
      gamma: how much easy pixels are discounted, at least 0.

    Returns:
      float32 [B, H, W].
    """
    entropy = cross_entropy(logits, labels)
    # 1 - p, kept above 0 so that a power below 1 has a finite gradient.
    wrong = tf.maximum(-tf.math.expm1(-tf.maximum(entropy, 0.0)), 1e-12)
    return wrong**gamma * entropy
