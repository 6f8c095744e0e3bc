"""Shifts images."""

from __future__ import annotations

import numpy as np

from deeplab.data.augmentation import AUGMENTATIONS
from deeplab.data.augmentation.operation import Warp, centered


@AUGMENTATIONS.register("translation")
class Translation(Warp):
    """A shift by up to `amount` times the crop's height and width."""

    name = "translation"

    def matrix(self, draw: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        down, across = (centered(draw, self.amount) * side for side in size)
        return np.array([[1.0, 0.0, across], [0.0, 1.0, down], [0.0, 0.0, 1.0]])
