"""Contrast."""

import numpy as np
from support.augmentations import IMAGE, LABEL, draws

from deeplab.data.augmentation.contrast import Contrast


def test_mid_gray_stays():
    matrix = Contrast(0.5).matrix(draws(), 3)
    np.testing.assert_allclose(matrix @ (127.5, 127.5, 127.5, 1), 127.5)
    expected = np.clip(127.5 + (IMAGE - 127.5) * matrix[0, 0], 0, 255)
    np.testing.assert_allclose(Contrast(0.5).changed(IMAGE, LABEL, draws())[0], expected, atol=1e-3)
