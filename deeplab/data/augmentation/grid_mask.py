"""Covers a grid of squares (Chen et al. 2020, arXiv:2001.04086)."""

from __future__ import annotations

import numpy as np

from deeplab.data.augmentation import AUGMENTATIONS
from deeplab.data.augmentation.operation import Cover


@AUGMENTATIONS.register("grid_mask")
class GridMask(Cover):
    """Squares at equal distances of an eighth to half of the crop's shorter side. The amount is the probability.

    Each is 0.4 of the distance long (r = 0.6 in the paper), so that 0.16 of the crop are covered.
    """

    name = "grid_mask"
    amount_is_probability = True
    COVERED = 0.4  # of each side of a cell

    def covered(self, draw: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        distance = max(2.0, min(size) * (0.125 + 0.375 * draw.random()))
        rows, columns = (
            np.mod(np.arange(side) + draw.random() * distance, distance) < self.COVERED * distance for side in size
        )
        return rows[:, np.newaxis] & columns
