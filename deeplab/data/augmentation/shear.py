"""Shears images. With `rotation`, `translation` and the random scale, this makes a general affine map."""

from __future__ import annotations

import numpy as np

from deeplab.data.augmentation import AUGMENTATIONS
from deeplab.data.augmentation.operation import Warp, about_center, centered


@AUGMENTATIONS.register("shear")
class Shear(Warp):
    """Rows and columns lean by up to `amount` degrees, each by its own angle."""

    name = "shear"

    def matrix(self, draw: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        across, down = (np.tan(np.deg2rad(centered(draw, self.amount))) for _ in range(2))
        return about_center(np.array([[1.0, across, 0.0], [down, 1.0, 0.0], [0.0, 0.0, 1.0]]), size)
