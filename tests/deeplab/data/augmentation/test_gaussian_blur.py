"""Blur."""

import numpy as np
from support.augmentations import IMAGE, LABEL, draws

from deeplab.data.augmentation.gaussian_blur import GaussianBlur


def test_detail_goes_and_the_mean_stays():
    image, label = GaussianBlur(3.0).changed(IMAGE, LABEL, draws(1))
    assert image.std() < 0.7 * IMAGE.std() and abs(image.mean() - IMAGE.mean()) < 8
    np.testing.assert_array_equal(label, LABEL)
    assert GaussianBlur(3.0).recolored(IMAGE[..., :1], draws(1)).shape == (21, 21, 1)
