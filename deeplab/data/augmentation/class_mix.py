"""Pastes half of the classes of another image (Olsson et al. 2021, arXiv:2007.07936)."""

from __future__ import annotations

import numpy as np

from deeplab.data.augmentation import MIXTURES
from deeplab.data.augmentation.mixture import Mixture, other_image

EVERYWHERE = (slice(None), slice(None))


@MIXTURES.register("class_mix")
class ClassMix(Mixture):
    """All pixels of half of the classes of another image, at the same place; ignored pixels are not pasted."""

    name = "class_mix"

    def pasted(self, labels: np.ndarray, index: int, draw: np.random.Generator):
        donor = other_image(len(labels), index, draw)
        classes = np.unique(labels[donor])
        classes = classes[classes != self.ignore_label]
        chosen = draw.permutation(classes)[: (len(classes) + 1) // 2]
        return [(donor, EVERYWHERE, np.isin(labels[donor], chosen))]
