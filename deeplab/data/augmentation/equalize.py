"""Equalizes the histogram of images."""

from __future__ import annotations

import cv2
import numpy as np

from deeplab.data.augmentation import AUGMENTATIONS
from deeplab.data.augmentation.operation import Photometric, as_bytes, by_lightness


@AUGMENTATIONS.register("equalize")
class Equalize(Photometric):
    """All levels of lightness become equally frequent; without RGB, of each channel. The amount is the probability."""

    name = "equalize"
    amount_is_probability = True

    def recolored(self, image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        return by_lightness(as_bytes(image), cv2.equalizeHist)
