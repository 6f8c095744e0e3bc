"""Smooth distortion."""

import numpy as np
from support.augmentations import IMAGE, LABEL, draws

from deeplab.data.augmentation.elastic import Elastic


def test_shifts_are_smooth_and_limited():
    shifts = Elastic(3.0).shifts(draws(), (80, 100))
    assert shifts.shape == (80, 100, 2) and 1.5 < np.abs(shifts).max() <= 3.0
    assert max(np.abs(np.diff(shifts, axis=axis)).max() for axis in (0, 1)) < 1.5
    assert Elastic(1.0).changed(IMAGE, LABEL, draws())[1].dtype == np.uint8
