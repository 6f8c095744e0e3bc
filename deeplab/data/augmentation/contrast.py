"""Changes the contrast of images."""

from __future__ import annotations

import numpy as np

from deeplab.data.augmentation import AUGMENTATIONS
from deeplab.data.augmentation.operation import ColorMatrix, centered, scaled_channels


@AUGMENTATIONS.register("contrast")
class Contrast(ColorMatrix):
    """Distances to mid-gray, 127.5, times a factor between 1 - amount and 1 + amount."""

    name = "contrast"

    def matrix(self, draw: np.random.Generator, channels: int) -> np.ndarray:
        factor = 1.0 + centered(draw, self.amount)
        return scaled_channels(factor, 127.5 * (1.0 - factor), channels)
