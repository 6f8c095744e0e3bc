"""Covered grids."""

import numpy as np
from support.augmentations import IMAGE, LABEL, draws

from deeplab.data.augmentation.grid_mask import GridMask


def test_about_a_sixth_is_covered_and_ignored():
    covered = [GridMask(1.0).covered(draws(number), (200, 300)).mean() for number in range(60)]
    assert abs(np.mean(covered) - 0.16) < 0.02
    image, label = GridMask(1.0, ignore_label=9).changed(IMAGE, LABEL, draws())
    assert (label == 9).any() and np.all(image[label == 9] == 127.5) and np.all(image[label != 9] == IMAGE[label != 9])
