"""Turns images gray, so that models do not rely on color alone. RGB images only."""

from __future__ import annotations

import numpy as np

from deeplab.data.augmentation import AUGMENTATIONS
from deeplab.data.augmentation.operation import LUMA, ColorMatrix


@AUGMENTATIONS.register("gray")
class Gray(ColorMatrix):
    """Every channel becomes the pixel's gray. The amount is the probability."""

    name = "gray"
    amount_is_probability = True
    rgb_only = True

    def matrix(self, draw: np.random.Generator, channels: int) -> np.ndarray:
        return np.column_stack([np.tile(LUMA, (3, 1)), np.zeros(3)])
