"""Chooses where crops are cut: around a pixel of a class, or where no class fills most of the crop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deeplab.config.augmentation_config import largest_class
from deeplab.data.augmentation.operation import random_numbers

TRIES = 10  # as in mmsegmentation


@dataclass(frozen=True)
class CropChooser:
    """Chooses the position of a crop by the label.

    Attributes:
      way: `class_centered` or `max_one_class_FRACTION`.
      ignore_label: label of pixels that do not count.
    """

    way: str
    ignore_label: int

    def choose(
        self, label: np.ndarray, scaled: np.ndarray, count: np.ndarray, start: np.ndarray, seed: Sequence[int]
    ) -> tuple[np.ndarray]:
        """The first row and column of the crop.

        Args:
          label: uint8 or uint16 [H, W], before it is scaled.
          scaled: height and width after that.
          count: rows and columns of the crop, at most as many.
          start: a random position, which is kept if it satisfies the rule.
          seed: of the training, and the position in the stream.

        Returns:
          int32 [2], 0 .. scaled - count.
        """
        draw, limit = random_numbers(f"crop {self.way}", *seed), largest_class(self.way)
        if limit is None:
            return (self._around_a_class(label, scaled, count, start, draw),)
        for _ in range(TRIES):
            if self._is_mixed(label, scaled, count, start, limit):
                break
            start = draw.integers(scaled - count + 1).astype(np.int32)
        return (start,)

    def _around_a_class(self, label, scaled, count, start, draw) -> np.ndarray:
        """A position with a random pixel of a class in the middle, as far as the image reaches."""
        classes = np.flatnonzero(np.bincount(label.ravel(), minlength=256))
        classes = classes[classes != self.ignore_label]
        if not len(classes):
            return start
        pixels = np.flatnonzero(label == draw.choice(classes))
        place = np.array(np.unravel_index(draw.choice(pixels), label.shape))
        middle = place * ((scaled - 1) / np.maximum(np.array(label.shape) - 1, 1))
        return np.clip(np.rint(middle - (count - 1) / 2), 0, scaled - count).astype(np.int32)

    def _is_mixed(self, label, scaled, count, start, limit: float) -> bool:
        """Whether no class has more than `limit` of the labeled pixels of a crop."""
        lines = []
        for first, number, old, new in zip(start, count, label.shape, scaled, strict=True):
            points = (first + np.arange(number)) * ((old - 1) / max(new - 1, 1))
            lines.append(np.floor(points + 0.5).astype(np.int64))
        pixels = np.bincount(label[lines[0]][:, lines[1]].ravel(), minlength=256)
        if 0 <= self.ignore_label < len(pixels):
            pixels[self.ignore_label] = 0
        return bool(0 < pixels.max() <= limit * pixels.sum())
