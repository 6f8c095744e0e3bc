"""Exchanges red, green and blue. RGB images only."""

from __future__ import annotations

import numpy as np

from deeplab.data.augmentation import AUGMENTATIONS
from deeplab.data.augmentation.operation import ColorMatrix


@AUGMENTATIONS.register("channel_shuffle")
class ChannelShuffle(ColorMatrix):
    """A random order of the channels. The amount is the probability."""

    name = "channel_shuffle"
    amount_is_probability = True
    rgb_only = True

    def matrix(self, draw: np.random.Generator, channels: int) -> np.ndarray:
        return np.column_stack([np.eye(3)[draw.permutation(3)], np.zeros(3)])
