"""Changes the gamma of images: dark parts become brighter, or darker, than bright ones."""

from __future__ import annotations

import cv2
import numpy as np

from deeplab.data.augmentation import AUGMENTATIONS
from deeplab.data.augmentation.operation import Photometric, centered


@AUGMENTATIONS.register("gamma")
class Gamma(Photometric):
    """(value / 255) ** gamma, gamma between 1 / (1 + amount) and 1 + amount, evenly by its logarithm."""

    name = "gamma"

    def recolored(self, image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        gamma = np.exp(centered(draw, np.log1p(self.amount)))
        if image.dtype == np.uint8:
            table = (255.0 * np.linspace(0.0, 1.0, 256) ** gamma).astype(np.float32)
            return cv2.LUT(image, table).reshape(image.shape)
        return (255.0 * (np.clip(image, 0, 255) / 255.0) ** gamma).astype(np.float32)
