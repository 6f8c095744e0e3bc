"""Joins parts of four images around a point (Bochkovskiy et al. 2020, arXiv:2004.10934)."""

from __future__ import annotations

import numpy as np

from deeplab.data.augmentation import MIXTURES
from deeplab.data.augmentation.mixture import Mixture


@MIXTURES.register("mosaic")
class Mosaic(Mixture):
    """Four quarters around a point in the middle half of the crop; three of them are cut anywhere out of others.

    The images are the next ones of the batch; in one of fewer than four, images come twice.
    """

    name = "mosaic"

    def pasted(self, labels: np.ndarray, index: int, draw: np.random.Generator):
        count, height, width = labels.shape
        row, column = (int(side * (0.25 + 0.5 * draw.random())) for side in (height, width))
        parts = []
        for number, (rows, columns) in enumerate(
            [
                (slice(0, row), slice(column, width)),
                (slice(row, height), slice(0, column)),
                (slice(row, height), slice(column, width)),
            ],
            start=1,
        ):
            high, wide = rows.stop - rows.start, columns.stop - columns.start
            top, left = int(draw.integers(height - high + 1)), int(draw.integers(width - wide + 1))
            place = (slice(top, top + high), slice(left, left + wide))
            parts.append(((index + number) % count, place, (rows, columns)))
        return parts
