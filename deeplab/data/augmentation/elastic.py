"""Distorts images smoothly (Simard et al. 2003), as in microscopy."""

from __future__ import annotations

import cv2
import numpy as np

from deeplab.data import remapping
from deeplab.data.augmentation import AUGMENTATIONS
from deeplab.data.augmentation.operation import Warp


@AUGMENTATIONS.register("elastic")
class Elastic(Warp):
    """Pixels move by up to `amount` pixels in each direction; the motion varies over an eighth of the crop."""

    name = "elastic"
    CELLS = 8  # along each side

    def matrix(self, draw: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        return np.eye(3)

    def shifts(self, draw: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        """float32 [H, W, 2]: how far to the right and down of a pixel its value comes from, in pixels."""
        coarse = self.amount * (2.0 * draw.random((self.CELLS, self.CELLS, 2), np.float32) - 1.0)
        return np.clip(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC), -self.amount, self.amount)

    def changed(self, image: np.ndarray, label: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        motion = remapping.Motion(np.eye(3), self.shifts(draw, label.shape))
        return remapping.moved(image, label, motion, label.shape, self.padding_color, self.ignore_label)
