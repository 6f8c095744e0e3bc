"""A contact sheet: images beside their masks, with the names of the classes, in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deeplab.visualization.image_grid import CELL, GAP, ImageGrid, LegendKey, Tile, plain_swatch

__all__ = ["CELL", "GAP", "Row", "contact_sheet"]


@dataclass(frozen=True, eq=False)
class Row:
    """One image on the sheet; all pictures uint8 [H, W, 3], RGB.

    Attributes:
      name: stands under the image.
      image, prediction, overlay: the image, the prediction in colors, and one over the other.
      label: the label in colors; None = there is none.
      classes: values that occur in prediction or label, the ignore label perhaps among them.
    """

    name: str
    image: np.ndarray
    prediction: np.ndarray
    overlay: np.ndarray
    label: np.ndarray | None = None
    classes: frozenset[int] = frozenset()

    def cells(self, with_label: bool) -> list[np.ndarray | None]:
        """The pictures from left to right."""
        return [self.image, self.prediction, *([self.label] if with_label else []), self.overlay]


def contact_sheet(rows: Sequence[Row], class_names: Sequence[str], colors: np.ndarray) -> np.ndarray:
    """All rows below each other, and a legend of the classes that occur.

    Args:
      rows: at least one.
      class_names: one a class.
      colors: RGB of each class, uint8 [256, 3].

    Returns:
      uint8 [height, width, 3], RGB.
    """
    with_label = any(row.label is not None for row in rows)
    titles = ["image", "prediction", *(["label"] if with_label else []), "overlay"]
    tiles = [Tile(row.cells(with_label), [row.name]) for row in rows]
    occurring = frozenset().union(*(row.classes for row in rows))
    legend = [
        LegendKey(name, plain_swatch(colors[index])) for index, name in enumerate(class_names) if index in occurring
    ]
    return ImageGrid(titles, tiles, legend).draw()
