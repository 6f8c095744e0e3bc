"""The confusion matrix as SVG for HTML reports: colored cells with their numbers, readable at 150 classes.

Cells without pixels are not drawn, so that the page stays small. Up to 30 classes, cells hold numbers; beyond, the
pointer shows them, and the classes are named on all four sides. Of more than 160 classes, those with the most wrong
pixels are drawn, and the sums over the others (`metrics.condensed`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from deeplab.evaluation import metrics

MAX_NUMBERED = 30
_CHARACTER = 6.2  # width of a character of a class name, in pixels
_MAX_NAME = 22


@dataclass(frozen=True)
class ConfusionCell:
    """A cell with pixels.

    Attributes:
      row, column: label and prediction.
      fraction: of the label's pixels, 0..1.
      pixels: their number.
    """

    row: int
    column: int
    fraction: float
    pixels: int

    @property
    def opacity(self) -> float:
        """Strength of the color: a square root, so that confusions of a few percent are visible."""
        return round(max(0.06, self.fraction**0.5), 3)

    @property
    def percent(self) -> str:
        """The fraction in percent; 0 and 100 only if they are exact."""
        number = 100 * self.fraction
        if number < 0.5:
            return "<1"
        return ">99" if self.fraction < 1 and round(number) == 100 else f"{number:.0f}"

    @property
    def short(self) -> str:
        """The number of pixels with a unit: `345`, `12k`, `3.4M`."""
        for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if self.pixels >= limit:
                value = self.pixels / limit
                return f"{value:.1f}{unit}" if value < 9.95 else f"{value:.0f}{unit}"
        return str(self.pixels)


@dataclass(frozen=True)
class ConfusionChart:
    """The drawing of a confusion matrix.

    Attributes:
      counts: integers [classes, classes], rows = label, columns = prediction.
      class_names: one per class.
      numbers: the classes' numbers; None = their places; -1 = the sum over several classes.
    """

    counts: np.ndarray
    class_names: Sequence[str]
    numbers: Sequence[int] | np.ndarray | None = None

    @property
    def numbered(self) -> bool:
        """Whether cells hold numbers."""
        return len(self.class_names) <= MAX_NUMBERED

    @property
    def cell(self) -> int:
        """Side of a cell in pixels."""
        return 40 if len(self.class_names) <= 12 else 31 if self.numbered else 13

    @property
    def margin(self) -> int:
        """Room for the names at the left and the top."""
        longest = max(len(self.name(index)) for index in range(len(self.class_names)))
        return round(_CHARACTER * longest) + 14

    @property
    def side(self) -> int:
        """Width and height of the cells together."""
        return self.cell * len(self.class_names)

    @property
    def size(self) -> int:
        """Width and height of the drawing."""
        return self.side + self.margin * (1 if self.numbered else 2) + 8

    def name(self, index: int) -> str:
        """A class's name with its number, cut if it is long."""
        name = self.class_names[index]
        number = index if self.numbers is None else int(self.numbers[index])
        short = name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…"
        return f"{short} {number}" if number >= 0 else short

    def cells(self) -> Iterator[ConfusionCell]:
        """All cells with pixels."""
        fractions = metrics.row_fractions(self.counts)
        for row, column in np.argwhere(self.counts > 0).tolist():
            yield ConfusionCell(row, column, float(fractions[row, column]), int(self.counts[row, column]))
