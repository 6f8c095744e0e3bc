"""Rectangles of other images."""

import numpy as np

from deeplab.data.augmentation.cutmix import Cutmix

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, (3, 20, 30)).astype(np.int32)


def test_areas_are_evenly_distributed():
    areas = []
    for number in range(400):
        ((donor, place, target),) = Cutmix(1.0).pasted(LABELS, 1, np.random.default_rng(number))
        assert donor != 1 and place == target
        areas.append(LABELS[0][place].size / LABELS[0].size)
    assert abs(np.mean(areas) - 0.5) < 0.05 and min(areas) < 0.05 and max(areas) > 0.95
