"""Parts of four images."""

import numpy as np

from deeplab.data.augmentation.mosaic import Mosaic

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, (3, 20, 30)).astype(np.int32)


def test_three_quarters_come_from_others():
    labels = np.arange(4)[:, np.newaxis, np.newaxis] * np.ones((4, 20, 30), np.int32)
    _, mixed = Mosaic(1.0).mixed(np.zeros((4, 20, 30, 3), np.float32), labels, (1, 0))
    for index, label in enumerate(mixed):
        corners = label[0, 0], label[0, -1], label[-1, 0], label[-1, -1]
        assert corners == tuple((index + number) % 4 for number in range(4))
        assert 5 <= (label[0] == corners[0]).sum() <= 23 and LABELS.ndim == 3
