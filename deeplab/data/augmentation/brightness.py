"""Makes images brighter or darker."""

from __future__ import annotations

import numpy as np

from deeplab.data.augmentation import AUGMENTATIONS
from deeplab.data.augmentation.operation import ColorMatrix, centered, scaled_channels


@AUGMENTATIONS.register("brightness")
class Brightness(ColorMatrix):
    """All channels times a factor between 1 - amount and 1 + amount."""

    name = "brightness"

    def matrix(self, draw: np.random.Generator, channels: int) -> np.ndarray:
        return scaled_channels(1.0 + centered(draw, self.amount), 0.0, channels)
