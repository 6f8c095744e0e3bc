"""Pastes the rare classes of another image, so that they are seen more often (after Ghiasi et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deeplab.data.augmentation import MIXTURES
from deeplab.data.augmentation.class_mix import EVERYWHERE
from deeplab.data.augmentation.mixture import Mixture


@MIXTURES.register("copy_paste")
@dataclass(frozen=True)
class CopyPaste(Mixture):
    """All pixels of the rare classes of another image that holds one of them, at the same place.

    Attributes:
      rare_classes: these classes.
    """

    rare_classes: Sequence[int] = ()

    name = "copy_paste"

    def pasted(self, labels: np.ndarray, index: int, draw: np.random.Generator):
        rare = [np.isin(label, self.rare_classes) for label in labels]
        donors = [number for number, where in enumerate(rare) if number != index and where.any()]
        if not donors:
            return []
        donor = donors[draw.integers(len(donors))]
        return [(donor, EVERYWHERE, rare[donor])]


def rare_classes(pixels: Sequence[int]) -> tuple[int, ...]:
    """Classes that have less than a quarter of the pixels that they would have if all had as many.

    Args:
      pixels: pixels of each class in the training split; classes without any do not count.
    """
    present = [count for count in pixels if count]
    limit = sum(present) / (4 * max(len(present), 1))
    return tuple(label for label, count in enumerate(pixels) if 0 < count < limit)
