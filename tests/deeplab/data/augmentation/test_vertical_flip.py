"""Upside down."""

import numpy as np
from support.augmentations import IMAGE, LABEL, draws

from deeplab.data.augmentation.vertical_flip import VerticalFlip


def test_the_last_row_comes_first():
    image, label = VerticalFlip(1.0).changed(IMAGE, LABEL, draws())
    np.testing.assert_allclose(image, IMAGE[::-1], atol=1e-3)
    np.testing.assert_array_equal(label, LABEL[::-1])
