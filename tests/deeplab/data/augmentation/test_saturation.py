"""Saturation."""

import numpy as np
from support.augmentations import IMAGE, LABEL, draws

from deeplab.data.augmentation.saturation import Saturation


def test_gray_stays_and_lightness_too():
    matrix = Saturation(0.9).matrix(draws(), 3)
    np.testing.assert_allclose(matrix @ (50, 50, 50, 1), 50)
    luma = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(luma @ (matrix @ (200, 30, 90, 1)), luma @ (200, 30, 90))
    assert Saturation(0.9).changed(IMAGE, LABEL, draws())[0].shape == IMAGE.shape
