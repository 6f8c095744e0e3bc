"""Image grids: images side by side under titles, each row with its caption, and a legend, all in one image.

It imports neither records nor predictions: `dataset_browser.py` and `prediction_images.py` decide what is drawn.
"""

from __future__ import annotations

import functools
import math
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CELL = 240  # largest width and height of an image in a grid, in pixels, unless it is shown pixel for pixel
GAP = 8
LINE = 20  # height of a line of text
SWATCH = 14  # side of a square in the legend
_TEXT = 13  # font size
_BETWEEN_COLUMNS = 3 * GAP
_PAPER, _INK, _SOFT, _FRAME = (250, 250, 250), (30, 30, 30), (110, 110, 110), (200, 200, 200)


@dataclass(frozen=True, eq=False)
class Tile:
    """One entry of a grid: images side by side, and lines of text below them.

    Attributes:
      images: uint8 [H, W, 3], RGB; a text that says why there is none; None leaves the place empty.
      caption: lines of text; the first is printed darker.
    """

    images: Sequence[np.ndarray | str | None]
    caption: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class LegendKey:
    """An entry of the legend.

    Attributes:
      text: its text.
      swatch: its square, uint8 [SWATCH, SWATCH, 3], RGB.
    """

    text: str
    swatch: np.ndarray


@dataclass(frozen=True)
class ImagePlace:
    """Where an image is in a grid, in pixels from the top left."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class ImageGrid:
    """A grid of images.

    Attributes:
      titles: above each image of a tile.
      tiles: at least one; each has an image for each title.
      legend: what the colors mean.
      heading: lines above everything.
      columns: tiles beside each other.
      cell: width and height to which whole images are fitted; None shows them pixel for pixel.
    """

    titles: Sequence[str]
    tiles: Sequence[Tile]
    legend: Sequence[LegendKey] = ()
    heading: Sequence[str] = ()
    columns: int = 1
    cell: int | None = CELL

    @property
    def cell_width(self) -> int:
        """Width of the place of an image."""
        return self.cell or max(image.shape[1] for image in _drawn(self.tiles))

    @property
    def tile_width(self) -> int:
        """Width of a tile, without the gap after it."""
        return len(self.titles) * (self.cell_width + GAP) - GAP

    @property
    def width(self) -> int:
        """Width of the grid."""
        between = (self.columns - 1) * (_BETWEEN_COLUMNS - GAP)
        return self.columns * (self.tile_width + GAP) + between + GAP

    def places(self) -> list[list[ImagePlace]]:
        """Where each image of each tile is; texts and missing images have the height of their row."""
        found, top = [], GAP + LINE * (len(self.heading) + 1)
        for first in range(0, len(self.tiles), self.columns):
            row = self.tiles[first : first + self.columns]
            sizes = [[self._size(image) for image in tile.images] for tile in row]
            height = max((size[0] for tile in sizes for size in tile if size), default=self.cell_width // 2)
            for column, tile in enumerate(sizes):
                found.append(self._tile_places(tile, column, top, height))
            top += height + LINE * max(len(tile.caption) for tile in row) + GAP
        return found

    def _tile_places(
        self, sizes: Sequence[tuple[int, int] | None], column: int, top: int, height: int
    ) -> list[ImagePlace]:
        places = []
        for index, size in enumerate(sizes):
            left = self.left_of(column, index)
            tall, wide = size or (height, self.cell_width)
            places.append(ImagePlace(left + (self.cell_width - wide) // 2, top, wide, tall))
        return places

    def left_of(self, column: int, index: int = 0) -> int:
        """Left end of the place of an image of a tile."""
        return GAP + column * (self.tile_width + _BETWEEN_COLUMNS) + index * (self.cell_width + GAP)

    def _size(self, image: np.ndarray | str | None) -> tuple[int, int] | None:
        if not isinstance(image, np.ndarray):
            return None
        return within(image.shape[:2], self.cell) if self.cell else (image.shape[0], image.shape[1])

    def draw(self) -> np.ndarray:
        """The grid as an image, uint8 [height, width, 3], RGB."""
        places = self.places()
        bottoms = [
            max(place.top + place.height for place in row) + LINE * len(tile.caption)
            for row, tile in zip(places, self.tiles, strict=True)
        ]
        legend_top = max(bottoms) + GAP
        keys = legend_places(self.legend, self.width)
        height = legend_top + (keys[-1][1] + LINE if keys else 0) + GAP
        paper = Image.new("RGB", (self.width, height), _PAPER)
        pen = ImageDraw.Draw(paper)
        self._write_titles(pen)
        for tile, row in zip(self.tiles, places, strict=True):
            self._paste(paper, pen, tile, row)
        for key, (left, down) in zip(self.legend, keys, strict=True):
            _draw_key(paper, pen, key, left, legend_top + down)
        return np.asarray(paper)

    def _write_titles(self, pen: ImageDraw.ImageDraw) -> None:
        for number, line in enumerate(self.heading):
            pen.text((GAP, GAP // 2 + LINE * number), _fitted(line, self.width - 2 * GAP), _INK, font(bold=not number))
        for column in range(min(self.columns, len(self.tiles))):
            for index, title in enumerate(self.titles):
                place = (self.left_of(column, index), GAP // 2 + LINE * len(self.heading))
                pen.text(place, title, _SOFT, font())

    def _paste(self, paper: Image.Image, pen: ImageDraw.ImageDraw, tile: Tile, places: Sequence[ImagePlace]) -> None:
        for image, place in zip(tile.images, places, strict=True):
            if isinstance(image, np.ndarray):
                paper.paste(resized(image, place.height, place.width), (place.left, place.top))
            elif image:
                _write_in(pen, image, place)
        left, top = places[0].left, max(place.top + place.height for place in places)
        left -= (self.cell_width - places[0].width) // 2
        for number, line in enumerate(tile.caption):
            ink = _SOFT if number else _INK
            pen.text((left, top + 2 + LINE * number), _fitted(line, self.tile_width), ink, font())


def _drawn(tiles: Sequence[Tile]) -> list[np.ndarray]:
    return [image for tile in tiles for image in tile.images if isinstance(image, np.ndarray)]


def within(size: Sequence[int], cell: int) -> tuple[int, int]:
    """Height and width of an image of `size` (height, width), as large as a square of side `cell` allows."""
    height, width = size[0], size[1]
    scale = cell / max(height, width, 1)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resized(image: np.ndarray, height: int, width: int) -> Image.Image:
    """An image, uint8 [H, W, 3], at another size; the same pixels where the size is the same."""
    shown = Image.fromarray(image)
    return shown if shown.size == (width, height) else shown.resize((width, height), Image.Resampling.BILINEAR)


def columns_for(tiles: int, tile_width: float, tile_height: float) -> int:
    """Number of tiles beside each other with which a grid is about as wide as it is high."""
    return min(tiles, max(1, round(math.sqrt(tiles * tile_height / tile_width))))


# --- Legend ---------------------------------------------------------------------------------------------------


def plain_swatch(color: Sequence[int]) -> np.ndarray:
    """A square of one color, uint8 [SWATCH, SWATCH, 3]."""
    return np.full([SWATCH, SWATCH, 3], color, np.uint8)


def legend_places(legend: Sequence[LegendKey], width: int) -> list[tuple[int, int]]:
    """Left end and distance from the first line of each entry, in lines that fit the width."""
    places, left, down = [], GAP, 0
    for key in legend:
        length = SWATCH + 5 + math.ceil(font().getlength(key.text)) + 2 * GAP
        if left + length > width and left > GAP:
            left, down = GAP, down + LINE
        places.append((left, down))
        left += length
    return places


def with_legend(image: np.ndarray, legend: Sequence[LegendKey]) -> np.ndarray:
    """An image with a legend below it, both uint8 [height, width, 3], RGB; its pixels stay as they are."""
    if not legend:
        return image
    width = image.shape[1]
    room = width - 2 * GAP - SWATCH - 5
    keys = [LegendKey(_fitted(key.text, room), key.swatch) for key in legend]
    places = legend_places(keys, width)
    paper = Image.new("RGB", (width, GAP + places[-1][1] + LINE), _PAPER)
    pen = ImageDraw.Draw(paper)
    for key, (left, down) in zip(keys, places, strict=True):
        _draw_key(paper, pen, key, left, GAP // 2 + down)
    return np.concatenate([image, np.asarray(paper)])


def _draw_key(paper: Image.Image, pen: ImageDraw.ImageDraw, key: LegendKey, left: int, top: int) -> None:
    paper.paste(Image.fromarray(key.swatch), (left, top + 3))
    pen.rectangle((left, top + 3, left + SWATCH - 1, top + 2 + SWATCH), None, _SOFT)
    pen.text((left + SWATCH + 5, top + 1), key.text, _INK, font())


# --- Text -----------------------------------------------------------------------------------------------------


@functools.cache
def font(bold: bool = False) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font for most scripts that are written from left to right; Pillow's own has Latin letters only."""
    try:
        import matplotlib

        name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
        return ImageFont.truetype(str(pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf", name)), _TEXT)
    except (ImportError, OSError):
        return ImageFont.load_default(_TEXT)


def _fitted(text: str, width: int) -> str:
    """A text on one line; the middle of a long one is left out, as the ends of names say more."""
    text = " ".join(text.split())
    if font().getlength(text) <= width:
        return text
    kept = len(text)
    while kept > 2 and font().getlength(_without_middle(text, kept)) > width:
        kept -= 1
    return _without_middle(text, kept)


def _without_middle(text: str, kept: int) -> str:
    return text[: (kept + 1) // 2] + "…" + text[len(text) - kept // 2 :]


def _write_in(pen: ImageDraw.ImageDraw, text: str, place: ImagePlace) -> None:
    """A text in the place of an image, in as many lines as it takes."""
    box = (place.left, place.top, place.left + place.width - 1, place.top + place.height - 1)
    pen.rectangle(box, (255, 240, 238), _FRAME)
    lines = max(1, (place.height - GAP) // LINE)
    for number, line in enumerate(_wrapped(text, place.width - 2 * GAP)[:lines]):
        pen.text((place.left + GAP, place.top + GAP // 2 + LINE * number), line, (170, 30, 20), font())


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font().getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return [_fitted(line, width) for line in lines]
