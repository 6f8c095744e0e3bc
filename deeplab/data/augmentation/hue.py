"""Changes the hue of images. RGB images only."""

from __future__ import annotations

import numpy as np

from deeplab.data.augmentation import AUGMENTATIONS
from deeplab.data.augmentation.operation import ColorMatrix, centered


@AUGMENTATIONS.register("hue")
class Hue(ColorMatrix):
    """Colors turn about the gray axis by up to `amount` degrees, which a matrix does (YIQ, as in NTSC)."""

    name = "hue"
    rgb_only = True
    TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])

    def matrix(self, draw: np.random.Generator, channels: int) -> np.ndarray:
        angle = np.deg2rad(centered(draw, self.amount))
        cosine, sine = np.cos(angle), np.sin(angle)
        turn = np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]])
        return np.column_stack([np.linalg.inv(self.TO_YIQ) @ turn @ self.TO_YIQ, np.zeros(3)])
