"""A contact sheet: images beside their masks, with the names of the classes, in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CELL = 240  # width and greatest height of a picture on the sheet, in pixels
GAP = 8
LINE = 20  # height of a line of text
_PAPER, _INK = (250, 250, 250), (30, 30, 30)


@dataclass(frozen=True, eq=False)
class Row:
    """One image on the sheet; all pictures uint8 [H, W, 3], RGB.

    Attributes:
      name: stands under the image.
      image, prediction, overlay: the image, the prediction in colours, and one over the other.
      label: the label in colours; None = there is none.
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


def contact_sheet(rows: Sequence[Row], class_names: Sequence[str], colours: np.ndarray) -> np.ndarray:
    """All rows below each other, and a legend of the classes that occur.

    Args:
      rows: at least one.
      class_names: one a class.
      colours: RGB of each class, uint8 [256, 3].

    Returns:
      uint8 [height, width, 3], RGB.
    """
    with_label = any(row.label is not None for row in rows)
    titles = ["image", "prediction", *(["label"] if with_label else []), "overlay"]
    heights = [_height(row.image) for row in rows]
    width = len(titles) * (CELL + GAP) + GAP
    legend = _legend_places(rows, class_names, width)
    legend_height = (legend[-1][1] + LINE if legend else 0) + GAP
    total = LINE + GAP + sum(height + LINE + GAP for height in heights) + legend_height
    sheet = Image.new("RGB", (width, total), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, title in enumerate(titles):
        pen.text((GAP + column * (CELL + GAP), GAP // 2), title, _INK, font)
    top = LINE + GAP
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row.cells(with_label)):
            if picture is not None:
                shown = Image.fromarray(picture).resize((CELL, height), Image.Resampling.BILINEAR)
                sheet.paste(shown, (GAP + column * (CELL + GAP), top))
        pen.text((GAP, top + height + 2), row.name, _INK, font)
        top += height + LINE + GAP
    for left, down, index, name in legend:
        pen.rectangle((left, top + down + 3, left + 14, top + down + 15), tuple(colours[index].tolist()), _INK)
        pen.text((left + 19, top + down + 1), name, _INK, font)
    return np.asarray(sheet)


def _height(image: np.ndarray) -> int:
    return max(1, min(CELL, round(CELL * image.shape[0] / image.shape[1])))


def _legend_places(rows: Sequence[Row], class_names: Sequence[str], width: int) -> list[tuple[int, int, int, str]]:
    """(left, top, class, name) of every class that occurs, in lines that fit the width."""
    font = ImageFont.load_default(13)
    places, left, top = [], GAP, 0
    occurring = frozenset().union(*(row.classes for row in rows))
    for index, name in enumerate(class_names):
        if index not in occurring:
            continue
        length = 19 + int(font.getlength(name)) + 2 * GAP
        if left + length > width and left > GAP:
            left, top = GAP, top + LINE
        places.append((left, top, index, name))
        left += length
    return places
