"""Labels as images: classes in their colors, pixels that do not count in patterns.

A plain color could be mistaken for a class. Patterns are drawn at the size at which an image is shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deeplab.data import colormaps
from deeplab.data.dataset import Color, Dataset
from deeplab.visualization.image_grid import SWATCH, LegendKey, plain_swatch

MAX_LISTED = 60  # classes in a legend; those of most datasets are fewer
MAX_KEYS = 24  # up to so many classes, a legend lists those that do not occur, too


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
        """An image of the pattern, uint8 [height, width, 3], RGB."""
        rows, columns = np.ogrid[:height, :width]
        on_line = (rows + columns) % self.STEP < self.THICKNESS
        if self.crossed:
            on_line = on_line | ((rows - columns) % self.STEP < self.THICKNESS)
        return np.where(on_line[..., None], self.lines, self.ground).astype(np.uint8)


IGNORED = Pattern(colormaps.IGNORED, (140, 140, 112))
PADDING = Pattern((120, 126, 138), (72, 78, 92), crossed=True)
NO_CLASS = Pattern((255, 0, 200), (0, 0, 0), crossed=True)


@dataclass(frozen=True, eq=False)
class LabelColors:
    """How label values are drawn.

    Attributes:
      names: one per class.
      colors: RGB of each class, uint8 [256 or 65536, 3].
      ignore_label: the value of ignored pixels.
    """

    names: Sequence[str]
    colors: np.ndarray
    ignore_label: int

    @classmethod
    def of(cls, dataset: Dataset) -> LabelColors:
        """Those of a dataset."""
        colors = colormaps.colors_for(dataset.colors, dataset.num_classes, dataset.ignore_label)
        return cls(dataset.class_names, colors, dataset.ignore_label)

    def draw(self, label: np.ndarray, padding: np.ndarray | None = None) -> np.ndarray:
        """A label as an image.

        Args:
          label: integers [H, W], 0..255, or 0..65535.
          padding: bool [H, W], pixels that are not part of the image; None = there are none.

        Returns:
          uint8 [H, W, 3], RGB: classes in their colors, everything else in the patterns of this module.
        """
        drawn = colormaps.color_label(label, self.colors)
        ignored = label == self.ignore_label
        unknown = (label >= len(self.names)) & ~ignored
        for where, pattern in ((unknown, NO_CLASS), (ignored, IGNORED), (padding, PADDING)):
            if where is not None and where.any():
                drawn = np.where(where[..., None], pattern.drawn(*label.shape), drawn)
        return drawn

    def legend(self, counts: np.ndarray, padding: int = 0) -> list[LegendKey]:
        """Classes with their label values, names and fractions, and whatever else occurs.

        Args:
          counts: pixels of each label value, int64 [256 or 65536], without padding.
          padding: pixels of padding.

        Returns:
          Keys in the order of the label values: fractions of classes are of the labeled pixels, the others of all. Of
          very many classes, the most frequent ones have keys, and the others one together.
        """
        counts = np.pad(counts, (0, max(0, 1 + max(self.ignore_label, len(self.names)) - len(counts))))
        numbers = [0 if index == self.ignore_label else int(counts[index]) for index in range(len(self.names))]
        labeled, everything = max(1, sum(numbers)), max(1, int(counts.sum()) + padding)
        listed = [
            index
            for index in range(len(self.names))
            if index != self.ignore_label and (numbers[index] or len(self.names) <= MAX_KEYS)
        ]
        frequent, rest = most_frequent(listed, numbers)
        keys = [
            LegendKey(
                f"{index} {self.names[index]} {percent(numbers[index] / labeled)}", plain_swatch(self.colors[index])
            )
            for index in frequent
        ]
        if rest:
            fraction = percent(sum(numbers[index] for index in rest) / labeled)
            keys.append(LegendKey(f"{len(rest)} other classes {fraction}", plain_swatch((255, 255, 255))))
        ignored = int(counts[self.ignore_label])
        unknown = [int(value) for value in np.flatnonzero(counts) if value >= len(self.names)]
        unknown = [value for value in unknown if value != self.ignore_label]
        if ignored:
            keys.append(pattern_key(f"{self.ignore_label} ignored {percent(ignored / everything)}", IGNORED))
        if padding:
            keys.append(pattern_key(f"padding {percent(padding / everything)}", PADDING))
        if unknown:
            fraction = percent(int(counts[unknown].sum()) / everything)
            keys.append(pattern_key(f"no class: {', '.join(map(str, unknown[:8]))} {fraction}", NO_CLASS))
        return keys


def most_frequent(
    classes: Sequence[int], numbers: Sequence[int] | Mapping[int, int], count: int = MAX_LISTED
) -> tuple[list[int], list[int]]:
    """Classes that have room in a legend, and the others.

    Args:
      classes: label values, ascending.
      numbers: pixels by label value.
      count: classes that have room.

    Returns:
      The `count` classes with the most pixels, ascending, and the rest; all of them if they are not more.
    """
    kept = set(sorted(classes, key=lambda index: (-numbers[index], index))[:count])
    return [index for index in classes if index in kept], [index for index in classes if index not in kept]


def pattern_key(text: str, pattern: Pattern) -> LegendKey:
    """An entry of a legend for a pattern."""
    return LegendKey(text, pattern.drawn(SWATCH, SWATCH))


def percent(fraction: float) -> str:
    """A fraction in percent: `12.3 %`, `0.012 %`, `0`."""
    number = 100 * fraction
    if number <= 0:
        return "0"
    if number < 1e-4:
        return "< 0.0001 %"
    digits = 1 if number >= 10 else 2 if number >= 1 else min(4, 1 - math.floor(math.log10(number)))
    return f"{number:.{digits}f} %"
