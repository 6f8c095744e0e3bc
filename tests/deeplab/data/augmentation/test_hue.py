"""Hue."""

import numpy as np
from support.augmentations import IMAGE, LABEL, draws

from deeplab.data.augmentation.hue import Hue


def test_gray_stays_and_full_turns_change_nothing():
    matrix = Hue(40.0).matrix(draws(), 3)
    np.testing.assert_allclose(matrix @ (50, 50, 50, 1), 50, atol=1e-1)
    assert np.abs(matrix @ (200, 30, 90, 1) - (200, 30, 90)).max() > 5
    np.testing.assert_allclose(Hue(0.0).changed(IMAGE, LABEL, draws())[0], IMAGE, atol=1e-2)
