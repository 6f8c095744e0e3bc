"""Gamma."""

import numpy as np
from support.augmentations import IMAGE, LABEL, draws

from deeplab.data.augmentation.gamma import Gamma


def test_whole_levels_and_floats_change_alike():
    levels = IMAGE.astype(np.uint8)
    for number in range(5):
        found = Gamma(0.8).recolored(levels, draws(number))
        np.testing.assert_allclose(found, Gamma(0.8).recolored(levels.astype(np.float32), draws(number)), atol=1e-3)


def test_black_and_white_stay_and_gamma_is_limited():
    image, _ = Gamma(1.0).changed(np.float32([[[0, 127.5, 255]]]), LABEL[:1, :1], draws(4))
    assert image[0, 0, 0] == 0 and abs(image[0, 0, 2] - 255) < 1e-3
    middles = [Gamma(1.0).recolored(np.full_like(IMAGE, 127.5), draws(n))[0, 0, 0] / 255 for n in range(200)]
    assert 0.25 <= min(middles) < 0.27 and 0.69 < max(middles) <= 0.5**0.5 + 1e-6
