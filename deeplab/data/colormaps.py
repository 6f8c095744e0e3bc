"""Colors of classes: tables to draw labels with, palette files, and colors turned into class indices.

A *color map* is uint8 [256, 3], RGB: one row for every value that a label can hold, so that a label with ignored
pixels (255) can be drawn as it is, and so that the map fits a palette PNG. A `ColorTable` is the opposite direction:
which color of a mask is which class.
"""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from deeplab.data import dataset as datasets
from deeplab.data.class_names import is_ignored, read_class_file
from deeplab.data.dataset import Color, Dataset
from deeplab.data.label_bits import as_label, bits_of
from deeplab.utils.errors import UserError, nearest
from deeplab.utils.paths import read_text
from deeplab.utils.text import counted

TABLE_SIZE, TABLE_SIZE_16_BIT = 256, 65536
_OUTLINE = 600  # longest side of an image per pixel of thickness of an outline
IGNORED = (224, 224, 192)  # what the Pascal rule gives 255, the usual ignore label: a light sand
IGNORE_NAME = "ignore"  # the name that a palette file gives to colors that do not count

# Colors that people with any common kind of color vision tell apart: black for the background, the seven of
# Okabe and Ito (Color Universal Design, 2008), and two of Paul Tol's muted scheme (2021).
_BASIC = "000000 e69f00 56b4e9 009e73 f0e442 0072b2 d55e00 cc79a7 882255 bbbbbb"

_CITYSCAPES = """
804080 f423e8 464646 66669c be9999 999999 faaa1e dcdc00 6b8e23 98fb98 4682b4 dc143c ff0000 00008e 000046
003c64 005064 0000e6 770b20
"""
_ADE20K = """
000000 787878 b47878 06e6e6 503232 04c803 787850 8c8c8c cc05ff e6e6e6 04fa07 e005ff ebff07 96053d 787846
08ff33 ff0652 8fff8c ccff04 ff3307 cc4603 0066c8 3de6fa ff0633 0b66ff ff0747 ff09e0 0907e6 dcdcdc ff095c
7009ff 08ffd6 07ffe0 ffb806 0aff47 ff290a 07ffff e0ff08 6608ff ff3d06 ffc207 ff7a08 00ff14 ff0829 ff0599
0633ff eb0cff a09614 00a3ff 8c8c8c fa0a0f 14ff00 1fff00 ff1f00 ffe000 99ff00 0000ff ff4700 00ebff 00adff
1f00ff 0bc8c8 ff5200 00fff5 003dff 00ff70 00ff85 ff0000 ffa300 ff6600 c2ff00 008fff 33ff00 0052ff 00ff29
00ffad 0a00ff adff00 00ff99 ff5c00 ff00ff ff00f5 ff0066 ffad00 ff0014 ffb8b8 001fff 00ff3d 0047ff ff00cc
00ffc2 00ff52 000aff 0070ff 3300ff 00c2ff 007aff 00ffa3 ff9900 00ff0a ff7000 8fff00 5200ff a3ff00 ffeb00
08b8aa 8500ff 00ff5c b800ff ff001f 00b8ff 00d6ff ff0070 5cff00 00e0ff 70e0ff 46b8a0 a300ff 9900ff 47ff00
ff00a3 ffcc00 ff008f 00ffeb 85ff00 ff00eb f500ff ff007a fff500 0abed4 d6ff00 00ccff 1400ff ffff00 0099ff
0029ff 00ffcc 2900ff 29ff00 ad00ff 00f5ff 4700ff 7a00ff 00ffb8 005cff b8ff00 0085ff ffd600 19c2c2 66ff00
5c00ff
"""
_MAPILLARY_VISTAS = """
a52a2a 00c000 c4c4c4 be9999 b4a5b4 66669c 66669c 8040ff 8c8cc8 aaaaaa faaaa0 606060 e6968c 804080 6e6e6e
f423e8 966464 464646 96785a dc143c ff0000 ff0000 ff0000 c88080 ffffff 40aa40 804040 4682b4 ffffff 98fb98
6b8e23 00aa1e ffff80 fa001e 000000 dcdcdc aaaaaa de2828 64aa1e 282828 212121 aaaaaa 00008e aaaaaa d2aa64
999999 808080 00008e faaa1e c0c0c0 dcdc00 b4a5b4 770b20 00008e 003c64 00008e 00005a 0000e6 005064 804040
00006e 000046 0000c0 202020 000000 000000
"""


def _read_hex(words: str) -> np.ndarray:
    """uint8 [n, 3] from n words `rrggbb`."""
    return np.frombuffer(bytes.fromhex(words), np.uint8).reshape(-1, 3)


def pascal_colors(size: int = TABLE_SIZE) -> np.ndarray:
    """uint8 [size, 3]: the table of PASCAL VOC, made by spreading the bits of the class index; all colors differ.

    Bits 0, 1, 2 of the index become the highest bits of red, green, blue, bits 3, 4, 5 the next ones, and so on.
    """
    index = np.arange(size)
    table = np.zeros([size, 3], np.int64)
    for bit in range(8):
        for channel in range(3):
            table[:, channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
    return table.astype(np.uint8)


@functools.cache
def _distinct_colors() -> np.ndarray:
    """uint8 [256, 3]: ten well-chosen colors, then always the candidate that differs most from all before it."""
    levels = np.array([0, 51, 102, 153, 204, 255, 26, 230])
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3).astype(float)
    chosen = [color.astype(float) for color in _read_hex(_BASIC)]
    distance = np.min([_difference(candidates, color) for color in [*chosen, np.array(IGNORED, float)]], axis=0)
    while len(chosen) < TABLE_SIZE - 1:
        chosen.append(candidates[np.argmax(distance)])
        distance = np.minimum(distance, _difference(candidates, chosen[-1]))
    return np.array([*chosen, IGNORED]).astype(np.uint8)


def _difference(colors: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How different colors [n, 3] look from another [3]: the "redmean" approximation of perceived distance [n]."""
    red_mean = (colors[:, 0] + other[0]) / 2
    weights = np.stack([2 + red_mean / 256, np.full_like(red_mean, 4), 3 - red_mean / 256], -1)
    return (weights * (colors - other) ** 2).sum(-1)


_NAMED = {
    "pascal": pascal_colors,
    "cityscapes": lambda: _fill(_read_hex(_CITYSCAPES)),
    "ade20k": lambda: _fill(_read_hex(_ADE20K)),
    "mapillary_vistas": lambda: _fill(_read_hex(_MAPILLARY_VISTAS)),
    "distinct": lambda: _distinct_colors().copy(),
}
NAMES = tuple(_NAMED)
_SAME_AS = {"pascal_voc_seg": "pascal"}


def _fill(colors: np.ndarray, size: int = TABLE_SIZE) -> np.ndarray:
    """A table [256, 3], or [65536, 3] of more colors, that begins with `colors`; the rest is black."""
    table = np.zeros([size if len(colors) <= size else TABLE_SIZE_16_BIT, 3], np.uint8)
    table[: len(colors)] = colors
    return table


@functools.cache
def _extended(name: str) -> np.ndarray:
    """uint8 [65536, 3]: a named map, beyond its 256 colors that of Pascal; the last one is that of ignored pixels."""
    table = pascal_colors(TABLE_SIZE_16_BIT)
    table[:TABLE_SIZE] = _NAMED[name]()
    if name == "distinct":  # its color 255 is that of ignored pixels
        table[TABLE_SIZE - 1] = pascal_colors(TABLE_SIZE_16_BIT)[-1]
    table[-1] = IGNORED
    return table


def colors_for(
    source: str | Sequence[Sequence[int]] | np.ndarray | None, num_classes: int, ignore_label: int = 0
) -> np.ndarray:
    """The color map of a dataset.

    Args:
      source: a name from `NAMES`, or one RGB triple (0..255) per class. None or an empty sequence: the map `distinct`,
        whose first ten colors are safe for the color-blind.
      num_classes: number of classes that must have a color.
      ignore_label: another value that must have one.

    Returns:
      uint8 [256, 3], RGB; of labels of 16 bits [65536, 3]. After the classes come the named map's further colors, those
      from 256 on by Pascal's rule; after given triples black, and last a light sand for ignored pixels.

    Raises:
      UserError: unknown name (`unknown-name`), too few colors or values that are no colors (`invalid-colors`).
    """
    bits = bits_of(num_classes, ignore_label)
    if isinstance(source, str) and source:
        name = _SAME_AS.get(source, source)
        if name not in _NAMED:
            rule = f"there is no color map called {source!r}"
            raise UserError("unknown-name", rule, nearest(source, NAMES), field="colormap_type", value=source)
        return _NAMED[name]() if bits == 8 else _extended(name).copy()
    if source is None or len(source) == 0:
        return (_distinct_colors() if bits == 8 else _extended("distinct")).copy()
    return _own_table(source, num_classes, TABLE_SIZE if bits == 8 else TABLE_SIZE_16_BIT)


def _own_table(source: str | Sequence[Sequence[int]] | np.ndarray, num_classes: int, size: int) -> np.ndarray:
    colors = np.asarray(source)
    if colors.ndim != 2 or colors.shape[1] != 3 or colors.min() < 0 or colors.max() > 255:
        rule = f"must be RGB triples from 0 to 255, not {colors.tolist()}"
        raise UserError("invalid-colors", rule, where="colors", value=colors.tolist())
    if not num_classes <= len(colors) <= TABLE_SIZE_16_BIT:
        rule = f"there are {len(colors)} colors for {num_classes} classes"
        hint = "give every class of dataset.yml one color, or none of them"
        raise UserError("invalid-colors", rule, hint, where="colors", value=len(colors))
    table = _fill(colors.astype(np.uint8), size)
    if len(colors) < len(table):
        table[-1] = IGNORED
    return table


def color_label(label: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Draw a label in colors.

    Args:
      label: integers [H, W] (or any shape), each a row of `colors`.
      colors: uint8 [n, 3], RGB.

    Returns:
      uint8 [H, W, 3], RGB.

    Raises:
      UserError: a value without a color (`label-out-of-range`).
    """
    label = np.asarray(label)
    if label.size and not 0 <= label.min() <= label.max() < len(colors):
        rule = f"holds values {label.min()} to {label.max()}, but there are {len(colors)} colors"
        hint = "use a color map of colors_for(), which has a color for every value of the labels"
        raise UserError("label-out-of-range", rule, hint, where="label")
    return colors[label]


def overlay(
    image: np.ndarray, color_mask: np.ndarray, opacity: float = 0.5, label: np.ndarray | None = None
) -> np.ndarray:
    """Lay a color mask over its image.

    With the label, pixels of class 0 (the background) stay as they are, and regions of the other classes get a thin
    outline in their full color. Without it, the mask covers the whole image.

    Args:
      image: [H, W, 3], RGB, 0..255.
      color_mask: uint8 [H, W, 3], RGB, from `color_label`.
      opacity: of the mask: 0 shows the image alone, 1 the mask alone.
      label: integers [H, W], 0..65535; None: color the background, too, and draw no outlines.

    Returns:
      uint8 [H, W, 3], RGB.
    """
    mixed = np.asarray(image, np.float32) * (1 - opacity) + np.asarray(color_mask, np.float32) * opacity
    mixed = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    if label is None:
        return mixed
    label = as_label(label)
    if opacity > 0:
        mixed = np.where(outlines(label)[..., None], color_mask, mixed)
    return np.where((label == 0)[..., None], image, mixed).astype(np.uint8)


def outlines(label: np.ndarray) -> np.ndarray:
    """Edge pixels of the regions of a label, uint8 or uint16 [H, W]: bool [H, W]; thicker in large images.

    A region's outline is inside it, so two regions that touch have an outline each.
    """
    width = 2 * max(1, round(max(label.shape) / _OUTLINE)) + 1
    around = np.ones((width, width), np.uint8)
    return cv2.dilate(label, around) != cv2.erode(label, around)


# --- Palette files ------------------------------------------------------------------------------------------

_PALETTE_HINT = "write a line `R G B name` for each class, such as `255 0 0 hair`, or a CSV file with name,r,g,b"


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
        """Whether the colors of all classes are grays, so that masks may have one channel."""
        return all(red == green == blue for red, green, blue in self.class_colors())

    def class_colors(self) -> tuple[Color, ...]:
        """The first color of each class."""
        return tuple(self.colors[self.classes.index(index)] for index in range(len(self.names)))


def read_color_table(path: str | os.PathLike) -> ColorTable:
    """Read a palette file: lines `R G B name`, another list of classes and colors, or a dataset.yml with colors.

    The lines number the classes 0, 1, 2 ... in their order; `#` starts a comment. Lines with the same name are one
    class with several colors. Names such as `ignore` and `void` are no classes: their colors become the ignore label.
    CVAT's labelmap.txt and CSV files such as class_dict.csv are read, too.

    Raises:
      UserError: the file cannot be read, a line is malformed (`invalid-palette`, with its number), or a dataset.yml has
        no colors (`missing-colors`).
    """
    path = pathlib.Path(path)
    if path.suffix in (".yml", ".yaml"):
        described = datasets.load(path)
        if not described.colors:
            hint = "write '- {name: hair, color: [255, 0, 0]}' for each class"
            raise UserError("missing-colors", "its classes have no colors", hint, where=path)
        return table_of(described)
    try:
        listed = read_class_file(path)
    except UserError as error:
        if error.code != "missing-class-names":
            raise
        listed = []  # which is the error of an empty palette
    if all(entry.color for entry in listed):
        if all(entry.value is not None for entry in listed):
            listed.sort(key=lambda entry: entry.value or 0)
        return _table_of_entries(
            [(f"{path}, line {entry.line}", entry.color or (0, 0, 0), entry.name) for entry in listed], path
        )
    return _table_of_entries(_entries_of_lines(read_text(path).splitlines(), path), path)


def table_of(described: Dataset) -> ColorTable:
    """The colors of a dataset, and the color in which index masks show ignored pixels."""
    ignored = (IGNORED,) if IGNORED not in described.colors else ()
    classes = (*range(described.num_classes), *(None for _ in ignored))
    return ColorTable(described.class_names, (*described.colors, *ignored), classes)


def _entries_of_lines(lines: Sequence[str], path: pathlib.Path) -> Iterator[tuple[str, Color, str]]:
    """Where each line is, its color and its name; names may be missing."""
    for number, line in enumerate(lines, start=1):
        content = line.split("#")[0].replace(",", " ").split(maxsplit=3)
        if content:
            where = f"{path}, line {number}"
            yield where, _color_of(content[:3], where), content[3].strip() if len(content) > 3 else ""


def _table_of_entries(entries: Iterable[tuple[str, Color, str]], path: pathlib.Path) -> ColorTable:
    names: list[str] = []
    classes: dict[Color, int | None] = {}
    first: dict[Color, str] = {}
    for where, color, given in entries:
        if color in classes:
            rule = f"color {color} is already that of {first[color]}"
            hint = "remove one of the lines; several colors of one class need lines with the same name"
            raise UserError("invalid-palette", rule, hint, where=where, value=color)
        first[color] = where.removeprefix(f"{path}, ")
        name = given or f"class_{len(names)}"
        if name not in names and not is_ignored(name):
            names.append(name)
        classes[color] = None if is_ignored(name) else names.index(name)
    if not names:
        raise UserError("invalid-palette", "holds no class", _PALETTE_HINT, where=path)
    return ColorTable(tuple(names), tuple(classes), tuple(classes.values()))


def _color_of(words: Sequence[str], where: str) -> Color:
    if len(words) < 3 or not all(word.isdecimal() and len(word) < 4 and int(word) <= 255 for word in words):
        rule = f"must begin with R G B, each 0 to 255, not {' '.join(words)[:60]!r}"
        raise UserError("invalid-palette", rule, _PALETTE_HINT, where=where, value=" ".join(words))
    red, green, blue = map(int, words)
    return red, green, blue


# --- Colors to indices --------------------------------------------------------------------------------------


def snap_colors(
    pixels: np.ndarray, where: str, table: ColorTable, ignore_label: int = 255, tolerance: float = 0.0
) -> tuple[np.ndarray, int]:
    """Turn colors into class indices, and count the pixels whose color is not exactly in the table.

    Args:
      pixels: uint8 [H, W, 3], RGB.
      where: the file's name, for messages.
      table: colors and their classes.
      ignore_label: value of the table's ignored colors.
      tolerance: largest distance (Euclidean, RGB 0..255) at which a color takes its nearest in the table.

    Returns:
      uint8 [H, W], or uint16 beyond 256 classes, and the number of pixels that took the nearest color.

    Raises:
      UserError: a color that is not in the table (`unknown-color`), with its nearest class.
    """
    codes = color_codes(pixels)
    known = color_codes(np.array(table.colors, np.uint8))
    indices = np.array([ignore_label if index is None else index for index in table.classes])
    values = as_label(indices)
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known, codes, sorter=order), len(known) - 1)
    chosen = order[place]
    unknown = known[chosen] != codes
    if unknown.any():
        chosen[unknown] = _nearest_colors(codes[unknown], where, table, tolerance)
    return values[chosen], int(np.count_nonzero(unknown))


def _nearest_colors(codes: np.ndarray, where: str, table: ColorTable, tolerance: float) -> np.ndarray:
    """For each code the index of the nearest color in the table, if it is near enough."""
    unique, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    rgb = np.stack([unique >> 16, unique >> 8 & 255, unique & 255], -1).astype(np.float64)
    distance = np.linalg.norm(rgb[:, None] - np.array(table.colors, np.float64)[None], axis=-1)
    closest = distance.argmin(1)
    far = distance.min(1) > tolerance
    if far.any():
        raise _unknown_colors(where, table, unique, counts * far, distance)
    return closest[inverse]


def _unknown_colors(
    where: str, table: ColorTable, codes: np.ndarray, counts: np.ndarray, distance: np.ndarray
) -> UserError:
    """The error for colors that no class has; `counts` is 0 for those near enough, `distance` is [code, color]."""
    shown = []
    for place in np.argsort(-counts)[: min(4, np.count_nonzero(counts))]:
        near = int(distance[place].argmin())
        color = f"{rgb_text(codes[place])} {on_pixels(counts[place])}"
        shown.append(f"{color}, nearest {class_name(table, near)} {table.colors[near]}")
    enough = int(np.ceil(distance.min(1).max()))
    hint = f"add them to the palette, or take the nearest colors with `color_tolerance={enough}`"
    rule = f"colors that are not in the palette ({np.count_nonzero(counts)} in all): " + "; ".join(shown)
    return UserError("unknown-color", rule, hint, where=where)


def class_name(table: ColorTable, place: int) -> str:
    """Name of the class of the table's color at a place."""
    index = table.classes[place]
    return IGNORE_NAME if index is None else table.names[index]


def color_codes(pixels: np.ndarray) -> np.ndarray:
    """RGB, uint8 [..., 3], as one int32 per pixel: 0xRRGGBB."""
    wide = pixels.astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def color_counts(pixels: np.ndarray) -> list[tuple[int, int]]:
    """Colors of an image, uint8 [H, W, 3], as pairs of code and number of pixels, most frequent first."""
    unique, counts = np.unique(color_codes(pixels), return_counts=True)
    return sorted(zip(unique.tolist(), counts.tolist(), strict=True), key=lambda pair: -pair[1])


def rgb_text(code: int) -> str:
    """A color code in decimal: `(255, 0, 0)`."""
    return f"({code >> 16}, {code >> 8 & 255}, {code & 255})"


def on_pixels(number: int) -> str:
    """`on 3 pixels`."""
    return f"on {counted(number, 'pixel')}"
