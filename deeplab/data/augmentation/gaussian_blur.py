"""Blurs images."""

from __future__ import annotations

import cv2
import numpy as np

from deeplab.data.augmentation import AUGMENTATIONS
from deeplab.data.augmentation.operation import Photometric


@AUGMENTATIONS.register("gaussian_blur")
class GaussianBlur(Photometric):
    """A Gaussian filter with a standard deviation of up to `amount` pixels of the stored image."""

    name = "gaussian_blur"

    def recolored(self, image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        sigma = max(0.01, self.amount * draw.random())
        return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE).reshape(image.shape)
