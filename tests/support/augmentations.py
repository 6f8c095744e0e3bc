"""An image, its label, and random numbers, for tests of single operations; their battery is in test_augmentation.py."""

import numpy as np

RNG = np.random.default_rng(0)
IMAGE = RNG.uniform(0, 255, (21, 21, 3)).astype(np.float32)
LABEL = RNG.integers(0, 4, (21, 21), np.uint8)


def draws(number=0):
    """The random numbers of an image."""
    return np.random.default_rng(number)
