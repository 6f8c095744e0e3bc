"""Replaces a rectangle of an image by that of another one (Yun et al. 2019, arXiv:1905.04899; French et al. 2020)."""

from __future__ import annotations

import numpy as np

from deeplab.data.augmentation import MIXTURES
from deeplab.data.augmentation.mixture import Mixture, other_image


@MIXTURES.register("cutmix")
class Cutmix(Mixture):
    """A rectangle at the same place of another image; its area is evenly distributed between none and all."""

    name = "cutmix"

    def pasted(self, labels: np.ndarray, index: int, draw: np.random.Generator):
        donor, side = other_image(len(labels), index, draw), np.sqrt(draw.random())
        place = []
        for length in labels.shape[1:]:
            count = int(np.rint(side * length))
            first = int(draw.integers(length - count + 1))
            place.append(slice(first, first + count))
        return [(donor, tuple(place), tuple(place))]
