"""Views images at an angle."""

from __future__ import annotations

import cv2
import numpy as np

from deeplab.data.augmentation import AUGMENTATIONS
from deeplab.data.augmentation.operation import Warp


@AUGMENTATIONS.register("perspective")
class Perspective(Warp):
    """Each corner of the crop moves by up to `amount` times the crop's height and width."""

    name = "perspective"

    def matrix(self, draw: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        height, width = size[0] - 1.0, size[1] - 1.0
        corners = np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
        shifts = self.amount * (2.0 * draw.random((4, 2)) - 1.0) * [max(width, 1.0), max(height, 1.0)]
        if not (width and height):
            return np.eye(3)
        return cv2.getPerspectiveTransform(corners.astype(np.float32), (corners + shifts).astype(np.float32))
