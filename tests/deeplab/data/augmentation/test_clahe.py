"""Locally equalized histograms."""

import numpy as np
from support.augmentations import IMAGE, LABEL, draws

from deeplab.data.augmentation.clahe import Clahe


def test_contrast_rises():
    flat = (100 + IMAGE / 16).astype(np.uint8)
    assert Clahe(1.0).recolored(flat, draws()).std() > 1.2 * flat.std()
    assert Clahe(1.0).recolored(np.dstack([flat, flat]), draws()).shape == (*LABEL.shape, 6)
