"""Shapes that people drew on images, and how they become labels: one rule for all annotation formats.

Coordinates are pixels, x to the right and y down, with (0, 0) in the top left corner of the image's first pixel: the
pixel in row r and column c has its center at (c + 0.5, r + 0.5). It belongs to a polygon when that center lies inside
by the even-odd rule; a center on the left or upper border is in, one on the right or lower border is out. Shapes with
a common border therefore neither overlap nor leave a gap, and a shape covers as many pixels as its area says. The
polygon functions of OpenCV and Pillow also paint the outline, by which every shape grows half a pixel on each side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplab.data.readers.source import BACKGROUND, Painter, with_background
from deeplab.utils.errors import UserError

FARTHEST = 1e7  # pixels: what lies farther out is no coordinate, and would cost the rounding its meaning
_MOST_SWITCHES = 2**22  # crossings of edges and columns that are worked on at once: some 200 MB
_SAGITTA = 0.02  # pixels between an ellipse and the polygon that stands for it


@dataclass(frozen=True, eq=False)
class Shape:
    """An area with a class.

    Attributes:
      name: the class.
      kind: "polygon" or "bitmap".
      rings: closed outlines, each float64 [N, 2] of x, y in pixels; even-odd over all rings together, so that a ring
        within a ring is a hole.
      bitmap: bool [h, w], whose top left pixel is that in row `top` and column `left`; parts outside the image are cut.
      left, top: place of the bitmap in pixels; may be negative.
      layer: shapes of a higher layer cover those of a lower one.
    """

    name: str
    kind: str = "polygon"
    rings: tuple[np.ndarray, ...] = ()
    bitmap: np.ndarray | None = None
    left: int = 0
    top: int = 0
    layer: int = 0


# --- Making shapes ------------------------------------------------------------------------------------------


def polygon(name: str, points: Any, holes: Sequence[Any] = (), layer: int = 0, where: str = "") -> Shape:
    """A polygon with holes.

    Args:
      name: its class.
      points: corners as [[x, y], ...] or flat [x, y, x, y, ...]; whether the first is repeated at the end is the same.
      holes: inner outlines, each as `points`.
      layer: shapes of a higher layer cover those of a lower one.
      where: file, image and number of the shape, for messages.

    Raises:
      UserError: fewer than 3 corners, or coordinates that are no finite numbers.
    """
    where = where or f"shape {name!r}"
    rings = (_ring(points, where), *(_ring(hole, f"{where}, hole {i}") for i, hole in enumerate(holes, 1)))
    return Shape(name, rings=rings, layer=layer)


def rectangle(
    name: str, left: float, top: float, right: float, bottom: float, layer: int = 0, where: str = ""
) -> Shape:
    """A rectangle by two opposite corners, in any order.

    Raises:
      UserError: coordinates that are no finite numbers.
    """
    return polygon(name, [[left, top], [right, top], [right, bottom], [left, bottom]], layer=layer, where=where)


def ellipse(
    name: str,
    center_x: float,
    center_y: float,
    radius_x: float,
    radius_y: float,
    degrees: float = 0.0,
    layer: int = 0,
    where: str = "",
) -> Shape:
    """An ellipse, as a polygon of the same area that is nowhere more than 0.05 pixels away from it.

    Args:
      name: its class.
      center_x, center_y, radius_x, radius_y: in pixels.
      degrees: turn about the center, clockwise on the screen.
      layer: shapes of a higher layer cover those of a lower one.
      where: file, image and number of the shape, for messages.

    Raises:
      UserError: a negative radius, or numbers that are not finite.
    """
    where = where or f"shape {name!r}"
    values = _numbers([center_x, center_y, radius_x, radius_y, degrees], where)
    x, y, rx, ry, turn = values.tolist()
    if min(rx, ry) < 0:
        raise UserError(
            "unclassified", f"a radius must not be negative, as {min(rx, ry):g} is", "draw the shape again", where=where
        )
    number = max(16, math.ceil(math.pi / math.acos(max(0.0, 1 - _SAGITTA / max(rx, ry, _SAGITTA)))))
    step = 2 * math.pi / number
    angles = np.arange(number) * step
    outwards = math.sqrt(step / math.sin(step))  # corners a little outside make up for the sides inside
    along, across = rx * outwards * np.cos(angles), ry * outwards * np.sin(angles)
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    points = np.stack([x + along * cosine - across * sine, y + along * sine + across * cosine], axis=1)
    return Shape(name, rings=(points,), layer=layer)


def bitmap(name: str, pixels: np.ndarray, left: int = 0, top: int = 0, layer: int = 0, where: str = "") -> Shape:
    """A shape given pixel by pixel.

    Args:
      name: its class.
      pixels: [h, w], what is not 0 belongs to the shape.
      left, top: column and row of its top left pixel in the image.
      layer: shapes of a higher layer cover those of a lower one.
      where: file, image and number of the shape, for messages.

    Raises:
      UserError: pixels that have not two dimensions, or a place that is no finite number.
    """
    where = where or f"shape {name!r}"
    pixels = np.asarray(pixels)
    if pixels.ndim != 2:
        raise UserError(
            "unclassified", f"a bitmap must have two dimensions, not the shape {list(pixels.shape)}", where=where
        )
    column, row = (round(place) for place in _numbers([left, top], where).tolist())
    return Shape(name, "bitmap", bitmap=pixels.astype(bool), left=column, top=row, layer=layer)


def _ring(points: Any, where: str) -> np.ndarray:
    """One outline, float64 [N, 2]."""
    ring = _numbers(points, where)
    if ring.ndim == 1 and len(ring) % 2 == 0:
        ring = ring.reshape(-1, 2)
    if ring.ndim != 2 or ring.shape[1] != 2:
        raise UserError(
            "unclassified", "points must be pairs of x and y", "draw the shape again, or take it out", where=where
        )
    if len(ring) < 3:
        rule = f"a polygon needs 3 points at least, not {len(ring)}"
        raise UserError("unclassified", rule, "take the shape out, or draw it again", where=where)
    return ring


def _numbers(values: Any, where: str) -> np.ndarray:
    """Coordinates as float64, of the shape that they have."""
    try:
        found = np.asarray(values)
    except (ValueError, TypeError, OverflowError):
        raise UserError(
            "unclassified", "points must be pairs of x and y", "draw the shape again, or take it out", where=where
        ) from None
    if found.size and found.dtype.kind not in "iuf":
        raise UserError(
            "unclassified", "coordinates must be numbers", "text, true, false and null are none", where=where
        )
    found = found.astype(np.float64)
    if not (np.abs(found) <= FARTHEST).all():  # not `>`: nan must not pass
        worst = found[~(np.abs(found) <= FARTHEST)].flat[0]
        rule = f"coordinates are pixels, which {worst:g} cannot be"
        raise UserError("unclassified", rule, "export the annotations again, or take the shape out", where=where)
    return found


def area(shape: Shape) -> float:
    """Area in pixels; of an outline that crosses itself, the parts count by the direction in which they run."""
    if shape.bitmap is not None:
        return float(np.count_nonzero(shape.bitmap))
    total = 0.0
    for index, ring in enumerate(shape.rings):
        around = sum(_holds(other, ring[0]) for i, other in enumerate(shape.rings) if i != index)
        total += -_ring_area(ring) if around % 2 else _ring_area(ring)
    return total


def _ring_area(ring: np.ndarray) -> float:
    """The shoelace formula, about the first corner so that far-off shapes lose no digits."""
    x, y = (ring - ring[0]).T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def _holds(ring: np.ndarray, point: np.ndarray) -> bool:
    edges = _edges((ring,))
    crossed = edges[:, (edges[0] <= point[0]) & (point[0] < edges[2])]
    heights = _heights_at(point[0], *crossed)
    return bool(np.count_nonzero(heights <= point[1]) % 2)


# --- Painting -----------------------------------------------------------------------------------------------


def paint(
    shapes: Sequence[Shape],
    painter: Painter,
    where: str,
    height: int,
    width: int,
    overlap: str = "file",
    background: int = 0,
) -> np.ndarray:
    """Paints shapes one after the other; later ones cover earlier ones.

    Shapes outside the image, and those so thin that they hold no pixel's center, paint nothing.

    Args:
      shapes: in the order of the file.
      painter: label value of each class.
      where: file and image, for messages.
      height, width: of the image in pixels.
      overlap: "file": from the lowest layer to the highest, within one in the order of the file; "area": from the
        largest shape to the smallest, whatever their layers.
      background: label value of pixels that no shape covers.

    Returns:
      uint8 [height, width].

    Raises:
      UserError: a shape's class is none of the painter's.
    """
    label = np.full([height, width], background, np.uint8)
    for shape in _in_order(shapes, overlap):
        value = painter.value(shape.name, where)
        if not 0 <= value <= 255:
            raise UserError(
                "unclassified",
                f"class {shape.name!r} would be label {value}",
                "labels have 8 bits: 256 classes",
                where=where,
            )
        if shape.bitmap is not None:
            _paint_bitmap(label, shape, value)
        else:
            _fill(label, shape.rings, value)
    return label


def _in_order(shapes: Sequence[Shape], overlap: str) -> list[Shape]:
    if overlap == "area":
        return sorted(shapes, key=area, reverse=True)  # sorting is stable: equal areas stay in the file's order
    return sorted(shapes, key=lambda shape: shape.layer)


def _paint_bitmap(label: np.ndarray, shape: Shape, value: int) -> None:
    assert shape.bitmap is not None
    top, left = max(shape.top, 0), max(shape.left, 0)
    cut = shape.bitmap[top - shape.top :, left - shape.left :]
    place = label[top:, left:]
    rows, columns = min(cut.shape[0], place.shape[0]), min(cut.shape[1], place.shape[1])
    np.copyto(place[:rows, :columns], np.uint8(value), where=cut[:rows, :columns])


def _fill(label: np.ndarray, rings: Sequence[np.ndarray], value: int) -> None:
    """Gives a value to the pixels of `label`, uint8 [H, W], whose centers the rings hold."""
    height, width = label.shape
    edges = _edges(rings)
    step = max(1, _MOST_SWITCHES // width)
    if edges.shape[1] <= step:
        top, left, inside = _inside(edges, height, width)
    else:  # part by part, so that no file, however large, takes the memory
        top, left, inside = 0, 0, np.zeros(label.shape, bool)
        for start in range(0, edges.shape[1], step):
            row, column, part = _inside(edges[:, start : start + step], height, width, closed=False)
            inside[row : row + part.shape[0], column : column + part.shape[1]] ^= part
    place = label[top : top + inside.shape[0], left : left + inside.shape[1]]
    np.copyto(place, np.uint8(value), where=inside)


def _inside(edges: np.ndarray, height: int, width: int, closed: bool = True) -> tuple[int, int, np.ndarray]:
    """Pixels with an odd number of edges, [4, N], above their centers, as top row, left column and bool [h, w].

    Every edge switches between outside and inside at the first pixel center below it, in each column that it crosses;
    running down the columns, an odd number of switches says inside.
    """
    columns, rows = _switches(edges, height, width)
    if not len(columns):
        return 0, 0, np.zeros([0, 0], bool)
    left, right, top = int(columns.min()), int(columns.max()) + 1, int(rows.min())
    bottom = int(rows.max()) if closed else height  # edges of an open line leave columns open to the bottom
    return top, left, _between(columns - left, rows - top, bottom - top, right - left)


def _switches(edges: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns, 0..width-1, and rows, 0..height, in which edges, [4, N], switch the inside on or off."""
    first, stop = np.clip(np.ceil(edges[::2] - 0.5), 0, width).astype(np.int64)  # columns whose centers an edge spans
    numbers = stop - first
    edge = np.repeat(np.arange(len(numbers)), numbers)
    columns = np.arange(len(edge)) + (first - np.cumsum(numbers) + numbers)[edge]
    heights = _heights_at(columns + 0.5, *edges[:, edge])
    return columns, np.clip(np.ceil(heights - 0.5), 0, height).astype(np.int64)


def _between(columns: np.ndarray, rows: np.ndarray, height: int, width: int) -> np.ndarray:
    """Where an odd number of switches lies above or in a pixel, bool [height, width]; rows may be `height`."""
    padded = -(-width // 8) * 8  # eight pixels at once, as one number: NumPy's accumulate takes 2 ns whatever it adds
    places = np.sort(rows * padded + columns)
    runs = np.concatenate([[0], np.flatnonzero(places[1:] != places[:-1]) + 1, [len(places)]])
    places = places[runs[:-1][(runs[1:] - runs[:-1]) % 2 == 1]]  # an even number of switches in one place does nothing
    inside = np.zeros([height + 1, padded], np.uint8)
    inside.reshape(-1)[places] = 1
    eights = inside.view(np.uint64)
    np.bitwise_xor.accumulate(eights, axis=0, out=eights)
    return inside[:height, :width].view(bool)


def _edges(rings: Sequence[np.ndarray]) -> np.ndarray:
    """Ends x0, y0, x1, y1 of all edges, [4, N], from left to right: neighbors then compute a common border alike."""
    starts = np.concatenate(rings)
    ends = np.concatenate([part for ring in rings for part in (ring[1:], ring[:1])])
    turned = starts[:, :1] > ends[:, :1]
    return np.concatenate([np.where(turned, ends, starts).T, np.where(turned, starts, ends).T])


def _heights_at(x: Any, x0: np.ndarray, y0: np.ndarray, x1: np.ndarray, y1: np.ndarray) -> np.ndarray:
    """The y at which edges that are not upright pass x."""
    return y0 + (x - x0) * (y1 - y0) / (x1 - x0)


# --- For formats with one file for all images ---------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ShapesMask:
    """A mask of shapes that were read already; see `source.Mask`.

    Attributes:
      where: file and image, for messages.
      shapes: in the order of the file.
      size: height and width that the file states; None where it states none.
      overlap: as in `paint`.
    """

    where: str
    shapes: tuple[Shape, ...]
    size: tuple[int, int] | None = None
    overlap: str = "file"

    def draw(self, painter: Painter, height: int, width: int) -> np.ndarray:
        """The label, uint8 [height, width]."""
        return paint(self.shapes, painter, self.where, height, width, self.overlap, background_of(painter))


def background_of(painter: Painter) -> int:
    """Label value of what no shape covers: the background's; where no class is the background, the ignore label."""
    return painter.indices.get(BACKGROUND, painter.ignore_label)


def class_names_of(shape_names: Iterable[str]) -> tuple[str, ...]:
    """Classes of a format that declares none: the names of the shapes in sorted order, after the background."""
    return with_background(sorted(set(shape_names)))
