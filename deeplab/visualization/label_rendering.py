"""Labels as pictures that say everything: classes in their colors, pixels that do not count in patterns.

A color alone could be a class; hatched pixels are none. Patterns are drawn at the size at which a picture is shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deeplab.data import colormaps
from deeplab.data.dataset import Color, Dataset
from deeplab.visualization.image_grid import SWATCH, Key, plain_swatch

MOST_KEYS = 24  # up to so many classes a legend names those that do not occur, too


@dataclass(frozen=True)
class Pattern:
    """Diagonal lines on a ground.

    Attributes:
      ground, lines: RGB, each 0..255.
      crossed: lines in both directions.
    """

    ground: Color
    lines: Color
    crossed: bool = False

    STEP, THICKNESS = 9, 2  # pixels

    def drawn(self, height: int, width: int) -> np.ndarray:
        """A picture of the pattern, uint8 [height, width, 3], RGB."""
        rows, columns = np.ogrid[:height, :width]
        on_line = (rows + columns) % self.STEP < self.THICKNESS
        if self.crossed:
            on_line = on_line | ((rows - columns) % self.STEP < self.THICKNESS)
        return np.where(on_line[..., None], self.lines, self.ground).astype(np.uint8)


IGNORED = Pattern(colormaps.IGNORED, (140, 140, 112))
PADDING = Pattern((120, 126, 138), (72, 78, 92), crossed=True)
NO_CLASS = Pattern((255, 0, 200), (0, 0, 0), crossed=True)


@dataclass(frozen=True, eq=False)
class Classes:
    """What label values mean, and how they look.

    Attributes:
      names: one a class.
      colors: RGB of each class, uint8 [256, 3].
      ignore_label: the value of ignored pixels.
    """

    names: Sequence[str]
    colors: np.ndarray
    ignore_label: int

    @classmethod
    def of(cls, dataset: Dataset) -> Classes:
        """Those of a dataset."""
        return cls(dataset.class_names, colormaps.colors_for(dataset.colors, dataset.num_classes), dataset.ignore_label)

    def picture(self, label: np.ndarray, padding: np.ndarray | None = None) -> np.ndarray:
        """A label as a picture.

        Args:
          label: integers [H, W], 0..255.
          padding: bool [H, W], pixels that are no part of the image; None = there are none.

        Returns:
          uint8 [H, W, 3], RGB: classes in their colors, the others in the patterns of this module.
        """
        drawn = colormaps.color_label(label, self.colors)
        ignored = label == self.ignore_label
        strange = (label >= len(self.names)) & ~ignored
        for where, pattern in ((strange, NO_CLASS), (ignored, IGNORED), (padding, PADDING)):
            if where is not None and where.any():
                drawn = np.where(where[..., None], pattern.drawn(*label.shape), drawn)
        return drawn

    def legend(self, counts: np.ndarray, padding: int = 0) -> list[Key]:
        """Classes with their label values, names and shares, and whatever else occurs.

        Args:
          counts: pixels of each label value, int64 [256]; padding not among them.
          padding: pixels of padding.

        Returns:
          Entries in the order of the label values: shares of classes are of the pixels that count, the others of all.
        """
        numbers = [0 if index == self.ignore_label else int(counts[index]) for index in range(len(self.names))]
        labeled, everything = max(1, sum(numbers)), max(1, int(counts.sum()) + padding)
        keys = [
            Key(f"{index} {name} {percent(numbers[index] / labeled)}", plain_swatch(self.colors[index]))
            for index, name in enumerate(self.names)
            if index != self.ignore_label and (numbers[index] or len(self.names) <= MOST_KEYS)
        ]
        ignored = int(counts[self.ignore_label])
        strange = [int(value) for value in np.flatnonzero(counts) if value >= len(self.names)]
        strange = [value for value in strange if value != self.ignore_label]
        if ignored:
            keys.append(pattern_key(f"{self.ignore_label} ignored {percent(ignored / everything)}", IGNORED))
        if padding:
            keys.append(pattern_key(f"padding {percent(padding / everything)}", PADDING))
        if strange:
            share = percent(int(counts[strange].sum()) / everything)
            keys.append(pattern_key(f"no class: {', '.join(map(str, strange[:8]))} {share}", NO_CLASS))
        return keys


def pattern_key(text: str, pattern: Pattern) -> Key:
    """An entry of a legend for a pattern."""
    return Key(text, pattern.drawn(SWATCH, SWATCH))


def percent(share: float) -> str:
    """A share as people read it: `12.3 %`, `0.012 %`, `0`."""
    number = 100 * share
    if number <= 0:
        return "0"
    if number < 1e-4:
        return "< 0.0001 %"
    digits = 1 if number >= 10 else 2 if number >= 1 else min(4, 1 - math.floor(math.log10(number)))
    return f"{number:.{digits}f} %"
