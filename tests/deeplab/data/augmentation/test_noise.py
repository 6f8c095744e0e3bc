"""Noise."""

import numpy as np
from support.augmentations import IMAGE, LABEL, draws

from deeplab.data.augmentation.noise import Noise


def test_deviation_is_up_to_the_amount():
    gray = np.full((60, 60, 3), 127.5, np.float32)
    deviations = [(Noise(10.0).recolored(gray, draws(number)) - gray).std() for number in range(60)]
    assert max(deviations) < 10.5 and np.mean(deviations) > 3.5
    assert Noise(10.0).changed(IMAGE, LABEL, draws())[0].dtype == np.float32


def test_large_images():
    large = np.full((700, 900, 2), 100, np.uint8)
    noise = Noise(10.0).recolored(large, draws(2)) - 100
    assert noise.shape == large.shape and abs(noise.mean()) < 0.1 and noise.std() > 0.5
