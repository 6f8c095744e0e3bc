"""Covered squares."""

import numpy as np
from support.augmentations import IMAGE, LABEL, draws

from deeplab.data.augmentation.cutout import Cutout


def test_a_square_is_covered_and_ignored():
    sizes = []
    for number in range(50):
        operation = Cutout(0.4, padding_color=(1.0, 2.0, 3.0), ignore_label=9)
        image, label = operation.changed(IMAGE, LABEL, draws(number))
        where = label == 9
        assert np.all(image[where] == (1.0, 2.0, 3.0)) and np.array_equal(image[~where], IMAGE[~where])
        rows, columns = where.any(1), where.any(0)
        assert np.array_equal(where, rows[:, np.newaxis] & columns)
        sizes += [rows.sum(), columns.sum()]
    assert max(sizes) <= 9 and min(sizes) >= 4
