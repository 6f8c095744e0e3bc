"""Covers a square of the crop (DeVries and Taylor 2017, arXiv:1708.04552)."""

from __future__ import annotations

import numpy as np

from deeplab.data.augmentation import AUGMENTATIONS
from deeplab.data.augmentation.operation import Cover


@AUGMENTATIONS.register("cutout")
class Cutout(Cover):
    """A square whose side is `amount` times the crop's shorter side; its center is anywhere in the crop."""

    name = "cutout"

    def covered(self, draw: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        half = self.amount * min(size) / 2
        rows, columns = (np.abs(np.arange(side) - draw.random() * (side - 1)) <= half for side in size)
        return rows[:, np.newaxis] & columns
