"""Brightness."""

import numpy as np
from support.augmentations import IMAGE, LABEL, draws

from deeplab.data.augmentation.brightness import Brightness


def test_factors_are_around_one():
    factors = [Brightness(0.3).matrix(draws(number), 4)[2, 2] for number in range(300)]
    assert 0.7 <= min(factors) < 0.72 and 1.28 < max(factors) <= 1.3
    image, label = Brightness(0.3).changed(IMAGE, LABEL, draws())
    np.testing.assert_allclose(image, np.clip(IMAGE * Brightness(0.3).matrix(draws(), 3)[0, 0], 0, 255), rtol=1e-5)
    np.testing.assert_array_equal(label, LABEL)
