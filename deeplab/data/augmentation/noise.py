"""Adds noise to images."""

from __future__ import annotations

import functools

import numpy as np

from deeplab.data.augmentation import AUGMENTATIONS
from deeplab.data.augmentation.operation import Photometric


@AUGMENTATIONS.register("noise")
class Noise(Photometric):
    """Gaussian noise with a standard deviation of up to `amount` levels of 255, in each channel by itself."""

    name = "noise"

    def recolored(self, image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        deviation = np.float32(self.amount * draw.random())
        numbers = _normal()
        if image.size > NUMBERS // 2:
            numbers = np.resize(numbers, image.size + NUMBERS // 2)
        start = draw.integers(len(numbers) - image.size + 1)
        values = numbers[start : start + image.size].reshape(image.shape) * deviation
        values += image
        return np.clip(values, 0.0, 255.0, out=values)


NUMBERS = 1 << 20


@functools.cache
def _normal() -> np.ndarray:
    """float32 [NUMBERS], normally distributed; images get stretches of it, as drawing takes 20 times as long."""
    return np.random.default_rng(0).standard_normal(NUMBERS, np.float32)
