"""Shifts."""

import numpy as np
from support.augmentations import IMAGE, LABEL, draws

from deeplab.data.augmentation.translation import Translation


def test_shifts_are_fractions_of_the_sides():
    shifts = np.array([Translation(0.25).matrix(draws(number), (40, 80))[:2, 2] for number in range(300)])
    assert 18 < np.abs(shifts[:, 0]).max() <= 20 and 9 < np.abs(shifts[:, 1]).max() <= 10
    assert set(np.unique(Translation(0.5).changed(IMAGE, LABEL, draws(1))[1])) <= {*np.unique(LABEL), 255}
