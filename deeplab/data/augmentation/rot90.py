"""Turns images by 90, 180 or 270 degrees: for images without a fixed orientation."""

from __future__ import annotations

import numpy as np

from deeplab.data.augmentation import AUGMENTATIONS
from deeplab.data.augmentation.operation import Warp, about_center


@AUGMENTATIONS.register("rot90")
class Rot90(Warp):
    """A quarter turn, a half turn or three quarters about the center. The amount is the probability."""

    name = "rot90"
    amount_is_probability = True

    def matrix(self, draw: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        cosine, sine = ((0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[draw.integers(3)]
        return about_center(np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]]), size)
