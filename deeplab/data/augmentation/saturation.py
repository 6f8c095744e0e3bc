"""Makes colors stronger or paler. RGB images only."""

from __future__ import annotations

import numpy as np

from deeplab.data.augmentation import AUGMENTATIONS
from deeplab.data.augmentation.operation import LUMA, ColorMatrix, centered


@AUGMENTATIONS.register("saturation")
class Saturation(ColorMatrix):
    """Distances to the pixel's gray times a factor between 1 - amount and 1 + amount."""

    name = "saturation"
    rgb_only = True

    def matrix(self, draw: np.random.Generator, channels: int) -> np.ndarray:
        factor = 1.0 + centered(draw, self.amount)
        gray = np.tile(LUMA, (3, 1))
        return np.column_stack([factor * np.eye(3) + (1.0 - factor) * gray, np.zeros(3)])
