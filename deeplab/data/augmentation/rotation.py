"""Rotates images by a random angle up to a maximum."""

from __future__ import annotations

import numpy as np

from deeplab.data.augmentation import AUGMENTATIONS
from deeplab.data.augmentation.operation import Warp, about_center, centered


@AUGMENTATIONS.register("rotation")
class Rotation(Warp):
    """Rotation about the center of the crop, by up to `amount` degrees in either direction."""

    name = "rotation"

    def matrix(self, draw: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        angle = np.deg2rad(centered(draw, self.amount))
        cosine, sine = np.cos(angle), np.sin(angle)
        return about_center(np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]]), size)
