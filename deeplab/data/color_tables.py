"""Which color is which class: palette files, and pictures in their colors turned into class indices."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deeplab.data import dataset as datasets
from deeplab.data.colormaps import IGNORED
from deeplab.data.dataset import Color, Dataset
from deeplab.utils.errors import UserError

IGNORE_NAME = "ignore"  # the name that a palette file gives to colors that do not count


@dataclass(frozen=True)
class ColorTable:
    """Which color is which class.

    Attributes:
      names: class names by index.
      colors: all colors, several of which may belong to one class.
      classes: for each color its class index, or None where the color is ignored.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...]
    classes: tuple[int | None, ...]

    def is_gray(self) -> bool:
        """Whether all classes have grays for colors: masks in them may well be of one channel."""
        return all(red == green == blue for red, green, blue in self.class_colors())

    def class_colors(self) -> tuple[Color, ...]:
        """The first color of each class."""
        return tuple(self.colors[self.classes.index(index)] for index in range(len(self.names)))


def read_color_table(path: str | os.PathLike) -> ColorTable:
    """A palette file: lines `R G B name`, or a dataset.yml with colors.

    The lines number the classes 0, 1, 2 ... in their order; `#` begins a remark. Lines with the same name are one
    class of several colors; the name `ignore` is no class: its colors become the ignore label.

    Raises:
      UserError: no such file, or a line that cannot be read, with its number.
    """
    path = pathlib.Path(path)
    if path.suffix in (".yml", ".yaml"):
        described = datasets.load(path)
        if not described.colors:
            raise UserError(
                "unclassified", "classes have no colors", "write `- {name: hair, color: [255, 0, 0]}`", where=path
            )
        return table_of(described)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise UserError("unclassified", f"cannot be read as a palette: {fault}", where=path) from None
    return _table_from_lines(lines, path)


def table_of(described: Dataset) -> ColorTable:
    """The colors of a dataset, and the color in which index masks show ignored pixels."""
    ignored = (IGNORED,) if IGNORED not in described.colors else ()
    classes = (*range(described.num_classes), *(None for _ in ignored))
    return ColorTable(described.class_names, (*described.colors, *ignored), classes)


def _table_from_lines(lines: Sequence[str], path: pathlib.Path) -> ColorTable:
    names: list[str] = []
    entries: dict[Color, int | None] = {}
    for number, line in enumerate(lines, start=1):
        content = line.split("#")[0].replace(",", " ").split(maxsplit=3)
        if not content:
            continue
        color = _color_of(content[:3], f"{path}, line {number}")
        if color in entries:
            raise UserError("unclassified", f"color {color} stands there twice", where=f"{path}, line {number}")
        name = content[3].strip() if len(content) > 3 else f"class_{len(names)}"
        if name not in names and name != IGNORE_NAME:
            names.append(name)
        entries[color] = None if name == IGNORE_NAME else names.index(name)
    if not names:
        raise UserError("unclassified", "holds no class", "write a line `R G B name` for each class", where=path)
    return ColorTable(tuple(names), tuple(entries), tuple(entries.values()))


def _color_of(words: Sequence[str], where: str) -> Color:
    if len(words) < 3 or not all(word.isdigit() and int(word) <= 255 for word in words):
        raise UserError("unclassified", f"must begin with R G B, each 0 to 255, not {' '.join(words)!r}", where=where)
    red, green, blue = map(int, words)
    return red, green, blue


# --- Colors to indices --------------------------------------------------------------------------------------


def snap_colors(
    pixels: np.ndarray, where: str, table: ColorTable, ignore_label: int = 255, tolerance: float = 0.0
) -> tuple[np.ndarray, int]:
    """Class indices of a picture's colors, and how many pixels were not exactly of a color in the table.

    Args:
      pixels: uint8 [H, W, 3], RGB.
      where: the file's name, for messages.
      table: colors and their classes.
      ignore_label: value of the table's ignored colors.
      tolerance: largest distance (Euclidean, RGB 0..255) at which a color takes its nearest in the table.

    Returns:
      uint8 [H, W], and the number of pixels that took the nearest color.

    Raises:
      UserError: a color that is not in the table, with its nearest class.
    """
    codes = color_codes(pixels)
    known = color_codes(np.array(table.colors, np.uint8))
    values = np.array([ignore_label if index is None else index for index in table.classes], np.uint8)
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known, codes, sorter=order), len(known) - 1)
    nearest = order[place]
    strange = known[nearest] != codes
    if strange.any():
        nearest[strange] = _nearest_colors(codes[strange], where, table, tolerance)
    return values[nearest], int(np.count_nonzero(strange))


def _nearest_colors(codes: np.ndarray, where: str, table: ColorTable, tolerance: float) -> np.ndarray:
    """For each code the index of the nearest color in the table, if it is near enough."""
    unique, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    rgb = np.stack([unique >> 16, unique >> 8 & 255, unique & 255], -1).astype(np.float64)
    distance = np.linalg.norm(rgb[:, None] - np.array(table.colors, np.float64)[None], axis=-1)
    nearest = distance.argmin(1)
    far = distance.min(1) > tolerance
    if far.any():
        raise _strange_colors(where, table, unique, counts * far, distance)
    return nearest[inverse]


def _strange_colors(
    where: str, table: ColorTable, codes: np.ndarray, counts: np.ndarray, distance: np.ndarray
) -> UserError:
    """The most frequent colors that no class has; `counts` is 0 for those near enough, `distance` [code, color]."""
    shown = []
    for place in np.argsort(-counts)[: min(4, np.count_nonzero(counts))]:
        near = int(distance[place].argmin())
        color = f"{rgb_text(codes[place])} {on_pixels(counts[place])}"
        shown.append(f"{color}, nearest {class_name(table, near)} {table.colors[near]}")
    enough = int(np.ceil(distance.min(1).max()))
    hint = f"add them to the palette, or take the nearest with `color_tolerance={enough}`"
    rule = f"colors that are not in the palette ({np.count_nonzero(counts)} in all): " + "; ".join(shown)
    return UserError("unclassified", rule, hint, where=where)


def class_name(table: ColorTable, place: int) -> str:
    """Name of the class of the table's color at a place."""
    index = table.classes[place]
    return IGNORE_NAME if index is None else table.names[index]


def color_codes(pixels: np.ndarray) -> np.ndarray:
    """RGB, uint8 [..., 3], as one int32 a pixel: 0xRRGGBB."""
    wide = pixels.astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def color_counts(pixels: np.ndarray) -> list[tuple[int, int]]:
    """Colors of a picture, uint8 [H, W, 3], as pairs of code and number of pixels, most frequent first."""
    unique, counts = np.unique(color_codes(pixels), return_counts=True)
    return sorted(zip(unique.tolist(), counts.tolist(), strict=True), key=lambda pair: -pair[1])


def rgb_text(code: int) -> str:
    """A color code as one reads it: `(255, 0, 0)`."""
    return f"({code >> 16}, {code >> 8 & 255}, {code & 255})"


def on_pixels(number: int) -> str:
    """`on 3 pixels`."""
    return f"on {number} pixels" if number != 1 else "on 1 pixel"
