"""Equalized histograms."""

import numpy as np
from support.augmentations import IMAGE, LABEL, draws

from deeplab.data.augmentation.equalize import Equalize


def test_dark_images_use_all_levels():
    image = Equalize(1.0).recolored((IMAGE / 8).astype(np.uint8), draws())
    assert image.max() > 200
    one = Equalize(1.0).recolored((IMAGE[..., :1] / 8).astype(np.uint8), draws())
    assert one.shape == (21, 21, 1) and one.max() == 255 and LABEL.shape == (21, 21)
