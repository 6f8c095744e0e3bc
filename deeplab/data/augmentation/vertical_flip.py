"""Turns images upside down: for images without a fixed orientation, such as microscopic and aerial ones."""

from __future__ import annotations

import numpy as np

from deeplab.data.augmentation import AUGMENTATIONS
from deeplab.data.augmentation.operation import Warp


@AUGMENTATIONS.register("vertical_flip")
class VerticalFlip(Warp):
    """The first row becomes the last one. The amount is the probability."""

    name = "vertical_flip"
    amount_is_probability = True

    def matrix(self, draw: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        return np.array([[1.0, 0.0, 0.0], [0.0, -1.0, size[0] - 1.0], [0.0, 0.0, 1.0]])
