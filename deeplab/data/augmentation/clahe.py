"""Equalizes the histogram of images locally, with limited contrast (Pizer et al. 1987)."""

from __future__ import annotations

import cv2
import numpy as np

from deeplab.data.augmentation import AUGMENTATIONS
from deeplab.data.augmentation.operation import Photometric, as_bytes, by_lightness


@AUGMENTATIONS.register("clahe")
class Clahe(Photometric):
    """CLAHE of the lightness on a grid of 8x8 tiles; without RGB, of each channel. The amount is the probability."""

    name = "clahe"
    amount_is_probability = True
    TILES, MAX_CLIP = 8, 4.0

    def recolored(self, image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        clip = 1.0 + (self.MAX_CLIP - 1.0) * draw.random()
        return by_lightness(as_bytes(image), cv2.createCLAHE(clip, (self.TILES, self.TILES)).apply)
