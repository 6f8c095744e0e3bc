"""Channels in another order."""

import numpy as np
from support.augmentations import IMAGE, LABEL, draws

from deeplab.data.augmentation.channel_shuffle import ChannelShuffle


def test_all_orders_occur():
    found = set()
    for number in range(60):
        image, _ = ChannelShuffle(1.0).changed(IMAGE, LABEL, draws(number))
        found.add(tuple(int(np.abs(IMAGE - image[..., i : i + 1]).max((0, 1)).argmin()) for i in range(3)))
    assert len(found) == 6
