"""Shapes that people drew on images, and how they become labels: the same rule for all annotation formats.

Coordinates are pixels, x to the right and y down, with (0, 0) in the top left corner of the image's first pixel: the
pixel in row r and column c has its center at (c + 0.5, r + 0.5). It belongs to a polygon if that center is inside by
the even-odd rule; a center on the left or upper border is in, one on the right or lower border is out. Shapes with a
common border therefore neither overlap nor leave a gap, and a shape covers as many pixels as its area says. The
polygon functions of OpenCV and Pillow also paint the outline, which makes every shape half a pixel larger on each side.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplab.data.readers.bitmaps import Bitmap
from deeplab.data.readers.source import Painter
from deeplab.utils.errors import UserError

MAX_COORDINATE = 1e7  # pixels: anything larger is not a coordinate, and would cost rounding its precision
FRACTIONS = (1, 1)  # the stated size of shapes whose coordinates are fractions of the image's width and height
_MAX_SWITCHES = 2**22  # crossings of edges and columns that are handled at once: about 200 MB
_SAGITTA = 0.02  # pixels between an ellipse and the polygon that replaces it
_MAX_DISTORTION = 0.02  # ratio of horizontal to vertical scale, less 1, of an image that was resized


@dataclass(frozen=True, eq=False, slots=True)
class Shape:
    """An area with a class.

    Attributes:
      name: the class.
      rings: closed outlines, each float64 [N, 2] of x, y in pixels. Even-odd over all rings together, so that a ring
        inside a ring is a hole.
      union: each ring is an area of its own, and the shape is their union.
      bitmap: the pixels, for shapes without rings; parts outside the image are cut off.
      layer: shapes of a higher layer cover those of a lower one.
      beneath: every other shape covers this one, whatever its layer or area.
    """

    name: str
    rings: tuple[np.ndarray, ...] = ()
    union: bool = False
    bitmap: Bitmap | None = None
    layer: int = 0
    beneath: bool = False

    @property
    def has_area(self) -> bool:
        """Whether there is anything to paint, apart from what falls between pixel centers."""
        if self.bitmap is not None:
            return self.bitmap.area > 0
        return any((ring != ring[0]).any(axis=0).all() for ring in self.rings)

    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom end in pixels, of a shape that has an area."""
        if self.bitmap is not None:
            bitmap = self.bitmap
            return bitmap.left, bitmap.top, bitmap.left + bitmap.width, bitmap.top + bitmap.height
        points = np.concatenate(self.rings)
        (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        return left, top, right, bottom

    def scaled(self, across: float, down: float) -> Shape:
        """The shape with x multiplied by `across` and y by `down`."""
        rings = tuple(ring * (across, down) for ring in self.rings)
        bitmap = None if self.bitmap is None else self.bitmap.scaled(across, down)
        return dataclasses.replace(self, rings=rings, bitmap=bitmap)


@dataclass(frozen=True, eq=False)
class ShapesMask:
    """A label that is drawn from shapes; implements `source.Mask`.

    Attributes:
      where: file and image, for messages.
      shapes: in the order of the file; or a picklable function from the image's height and width to the shapes, for
        formats whose files are opened when the label is drawn.
      stated_size: height and width that the file states; None if it states none.
      overlap: as in `paint`.
      scale: scale the shapes from the stated size to that of the image.
    """

    where: str
    shapes: Sequence[Shape] | Callable[[int, int], Sequence[Shape]]
    stated_size: tuple[int, int] | None = None
    overlap: str = "file"
    scale: bool = False

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that the image must have; None if any size will do."""
        return None if self.scale else self.stated_size

    def draw(self, painter: Painter, height: int, width: int) -> np.ndarray:
        """Draws the label, uint8 [height, width].

        Raises:
          UserError: a file cannot be read, a bitmap is larger than the image, or a class is unknown.
        """
        is_other = self.scale and self.stated_size not in (None, FRACTIONS, (height, width))
        annotated = self.stated_size if is_other and self.stated_size else (height, width)
        shapes = self.shapes(*annotated) if callable(self.shapes) else self.shapes
        if is_other or self.stated_size == FRACTIONS:
            shapes = self._scaled(shapes, height, width)
        return paint(shapes, painter, self.where, height, width, self.overlap, painter.background)

    def _scaled(self, shapes: Sequence[Shape], height: int, width: int) -> list[Shape]:
        stated_height, stated_width = self.stated_size or FRACTIONS
        across, down = width / stated_width, height / stated_height
        rounding = 1 / width + 1 / height  # of sides to whole pixels
        if self.stated_size != FRACTIONS and abs(across / down - 1) > _MAX_DISTORTION + rounding:
            rule = f"was annotated at {stated_width}x{stated_height} pixels, the image has {width}x{height}"
            hint = "the image was cropped or turned, not only resized: annotate this image, or use the original one"
            raise UserError("size-mismatch", rule, hint, where=self.where, value=(height, width))
        return [shape.scaled(across, down) for shape in shapes]


# --- Making shapes ------------------------------------------------------------------------------------------


def polygon(name: str, points: Any, holes: Sequence[Any] = (), layer: int = 0, where: str = "") -> Shape:
    """Makes a polygon with holes.

    Args:
      name: its class.
      points: corners as [[x, y], ...] or flat [x, y, x, y, ...]; the first may be repeated at the end.
      holes: inner outlines, each as `points`.
      layer: shapes of a higher layer cover those of a lower one.
      where: file, image and number of the shape, for messages.

    Returns:
      The shape. It has no area if there are fewer than 3 corners.

    Raises:
      UserError: coordinates that are not finite numbers.
    """
    where = where or f"shape {name!r}"
    outline = to_points(points, where)
    inner = [to_points(hole, f"{where}, hole {number}") for number, hole in enumerate(holes, 1)]
    rings = (outline, *(ring for ring in inner if len(ring) > 2)) if len(outline) > 2 else ()
    return Shape(name, rings, layer=layer)


def polygons(name: str, outlines: Sequence[Any], where: str = "", beneath: bool = False) -> Shape:
    """Makes the union of several polygons without holes, each as the points of `polygon`.

    Raises:
      UserError: coordinates that are not finite numbers.
    """
    rings = [to_points(points, where or f"shape {name!r}") for points in outlines]
    return Shape(name, tuple(ring for ring in rings if len(ring) > 2), union=True, beneath=beneath)


def rectangle(
    name: str, left: float, top: float, right: float, bottom: float, layer: int = 0, where: str = ""
) -> Shape:
    """Makes a rectangle from two opposite corners, in any order.

    Raises:
      UserError: coordinates that are not finite numbers.
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
    """Makes an ellipse: a polygon of the same area that is never more than 0.05 pixels away from it.

    Args:
      name: its class.
      center_x, center_y, radius_x, radius_y: in pixels.
      degrees: rotation about the center, clockwise on the screen.
      layer: shapes of a higher layer cover those of a lower one.
      where: file, image and number of the shape, for messages.

    Raises:
      UserError: a negative radius, or numbers that are not finite.
    """
    where = where or f"shape {name!r}"
    values = _numbers([center_x, center_y, radius_x, radius_y, degrees], where)
    x, y, rx, ry, turn = values.tolist()
    if min(rx, ry) < 0:
        rule = f"a radius must not be negative, as {min(rx, ry):g} is"
        raise UserError("out-of-range", rule, "draw the shape again", where=where, value=min(rx, ry))
    number = max(16, math.ceil(math.pi / math.acos(max(0.0, 1 - _SAGITTA / max(rx, ry, _SAGITTA)))))
    step = 2 * math.pi / number
    angles = np.arange(number) * step
    outwards = math.sqrt(step / math.sin(step))  # corners slightly outside make up for the sides inside
    along, across = rx * outwards * np.cos(angles), ry * outwards * np.sin(angles)
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    points = np.stack([x + along * cosine - across * sine, y + along * sine + across * cosine], axis=1)
    return Shape(name, rings=(points,), layer=layer)


def line(name: str, points: Any, line_width: float, layer: int = 0, where: str = "") -> Shape:
    """Makes a line with rounded joints and ends; a polygon if it returns to its first point.

    Args:
      name: its class.
      points: as in `polygon`.
      line_width: in pixels; 0 makes a shape without area, unless the line is closed.
      layer: shapes of a higher layer cover those of a lower one.
      where: file, image and number of the shape, for messages.

    Raises:
      UserError: coordinates that are not finite numbers.
    """
    ends = to_points(points, where or f"shape {name!r}")
    if len(ends) > 3 and (ends[0] == ends[-1]).all():
        return Shape(name, (ends,), layer=layer)
    radius = line_width / 2
    if radius <= 0 or len(ends) < 2:
        return Shape(name, layer=layer)
    rings = [ellipse(name, x, y, radius, radius, where=where).rings[0] for x, y in ends.tolist()]
    for start, stop in itertools.pairwise(ends):
        length = math.hypot(*(stop - start))
        if length:
            aside = np.array([start[1] - stop[1], stop[0] - start[0]]) * (radius / length)
            rings.append(np.stack([start + aside, stop + aside, stop - aside, start - aside]))
    return Shape(name, tuple(rings), union=True, layer=layer)


def bitmap(name: str, pixels: Any, left: float = 0, top: float = 0, layer: int = 0, where: str = "") -> Shape:
    """Makes a shape from its pixels.

    Args:
      name: its class.
      pixels: [h, w]; values other than 0 belong to the shape.
      left, top: column and row of its top left pixel in the image.
      layer: shapes of a higher layer cover those of a lower one.
      where: file, image and number of the shape, for messages.

    Raises:
      UserError: a position that is not a finite number.
    """
    column, row = (round(place) for place in _numbers([left, top], where or f"shape {name!r}").tolist())
    return Shape(name, bitmap=Bitmap.of(np.asarray(pixels), column, row), layer=layer)


def to_points(points: Any, where: str) -> np.ndarray:
    """Returns points, as in `polygon`, as float64 [N, 2].

    Raises:
      UserError: they are not pairs of finite numbers.
    """
    ring = _numbers(points, where)
    if ring.ndim == 1 and len(ring) % 2 == 0:
        ring = ring.reshape(-1, 2)
    if ring.ndim != 2 or ring.shape[1] != 2:
        raise _not_points(where)
    return ring


def _numbers(values: Any, where: str) -> np.ndarray:
    """Returns coordinates as float64, in the array shape that they have."""
    try:
        found = np.asarray(values)
    except (ValueError, TypeError, OverflowError):
        raise _not_points(where) from None
    if found.size and found.dtype.kind not in "iuf":
        rule = "coordinates must be numbers, not text, true, false or null"
        raise UserError("wrong-type", rule, "export the annotations again, or remove the shape", where=where)
    found = found.astype(np.float64)
    fits = np.abs(found) <= MAX_COORDINATE  # False for nan
    if not fits.all():
        worst = found[~fits].flat[0]
        rule = f"coordinates are pixels, which {worst:g} cannot be"
        hint = "export the annotations again, or remove the shape"
        raise UserError("out-of-range", rule, hint, where=where, value=float(worst))
    return found


def _not_points(where: str) -> UserError:
    hint = "draw the shape again, or remove it"
    return UserError("invalid-points", "points must be pairs of x and y", hint, where=where)


def area(shape: Shape) -> float:
    """Returns the area in pixels.

    Of a ring that crosses itself, the parts count with the sign of the direction in which they are drawn.
    """
    if shape.bitmap is not None:
        return float(shape.bitmap.area)
    if shape.union:
        return sum(map(_ring_area, shape.rings))
    total = 0.0
    for index, ring in enumerate(shape.rings):
        around = sum(_holds(other, ring[0]) for i, other in enumerate(shape.rings) if i != index)
        total += -_ring_area(ring) if around % 2 else _ring_area(ring)
    return total


def _ring_area(ring: np.ndarray) -> float:
    """Applies the shoelace formula, relative to the first corner so that distant shapes lose no digits."""
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

    Shapes outside the image, and those so thin that they contain no pixel center, paint nothing.

    Args:
      shapes: in the order of the file.
      painter: label value of each class.
      where: file and image, for messages.
      height, width: of the image in pixels.
      overlap: "file": from the lowest layer to the highest, in the order of the file within a layer; "area": from the
        largest shape to the smallest, whatever their layers.
      background: label value of pixels that no shape covers.

    Returns:
      [height, width] of the type of the painter's rule, uint8 or uint16.

    Raises:
      UserError: a class that the painter does not know, or a bitmap that is larger than the image.
    """
    spec = painter.rule
    label = np.full([height, width], background, spec.dtype)
    for shape in _in_order(shapes, overlap):
        value = painter.value(shape.name, where)
        if not 0 <= value < spec.num_values:
            rule = f"class {shape.name!r} would have the label value {value}, but labels have {spec.bits} bits"
            hint = f"use at most {spec.num_values} classes"
            raise UserError("too-many-classes", rule, hint, where=where, value=value)
        if shape.bitmap is not None:
            if shape.bitmap.area:
                _paint_bitmap(label, shape.bitmap, value, where)
        elif shape.union:
            for ring in shape.rings:
                _fill(label, (ring,), value)
        elif shape.rings:
            _fill(label, shape.rings, value)
    return label


def _in_order(shapes: Sequence[Shape], overlap: str) -> list[Shape]:
    """Returns the shapes in the order of painting. Sorting is stable: equal ones stay in the order of the file."""
    if overlap == "area":
        return sorted(shapes, key=lambda shape: (not shape.beneath, -area(shape)))
    return sorted(shapes, key=lambda shape: (not shape.beneath, shape.layer))


def _paint_bitmap(label: np.ndarray, bitmap: Bitmap, value: int, where: str) -> None:
    height, width = label.shape
    if bitmap.height > height or bitmap.width > width:  # checked before the pixels are unpacked
        rule = f"a bitmap of {bitmap.width}x{bitmap.height} pixels is larger than the image, {width}x{height}"
        hint = "use the image that was annotated, in its original size"
        raise UserError("size-mismatch", rule, hint, where=where, value=(bitmap.height, bitmap.width))
    pixels, left, top = bitmap.pixels()
    cut = pixels[max(-top, 0) :, max(-left, 0) :]
    place = label[max(top, 0) :, max(left, 0) :]
    rows, columns = min(cut.shape[0], place.shape[0]), min(cut.shape[1], place.shape[1])
    np.copyto(place[:rows, :columns], label.dtype.type(value), where=cut[:rows, :columns])


def _fill(label: np.ndarray, rings: Sequence[np.ndarray], value: int) -> None:
    """Sets the pixels of `label`, uint8 or uint16 [H, W], whose centers lie inside the rings, to a value."""
    height, width = label.shape
    edges = _edges(rings)
    step = max(1, _MAX_SWITCHES // width)
    if edges.shape[1] <= step:
        top, left, inside = _inside(edges, height, width)
    else:  # part by part, so that memory stays bounded whatever the file holds
        top, left, inside = 0, 0, np.zeros(label.shape, bool)
        for start in range(0, edges.shape[1], step):
            row, column, part = _inside(edges[:, start : start + step], height, width, closed=False)
            inside[row : row + part.shape[0], column : column + part.shape[1]] ^= part
    place = label[top : top + inside.shape[0], left : left + inside.shape[1]]
    np.copyto(place, label.dtype.type(value), where=inside)


def _inside(edges: np.ndarray, height: int, width: int, closed: bool = True) -> tuple[int, int, np.ndarray]:
    """Finds the pixels with an odd number of edges, [4, N], above their centers.

    Every edge switches between outside and inside at the first pixel center below it, in each column that it crosses;
    further down the column, an odd number of switches means inside.

    Returns:
      Top row, left column and bool [h, w].
    """
    columns, rows = _switches(edges, height, width)
    if not len(columns):
        return 0, 0, np.zeros([0, 0], bool)
    left, right, top = int(columns.min()), int(columns.max()) + 1, int(rows.min())
    bottom = int(rows.max()) if closed else height  # edges of an open line leave columns open to the bottom
    return top, left, _between(columns - left, rows - top, bottom - top, right - left)


def _switches(edges: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns columns, 0..width-1, and rows, 0..height, in which edges, [4, N], switch between outside and inside."""
    first, stop = np.clip(np.ceil(edges[::2] - 0.5), 0, width).astype(np.int64)  # columns whose centers an edge spans
    numbers = stop - first
    edge = np.repeat(np.arange(len(numbers)), numbers)
    columns = np.arange(len(edge)) + (first - np.cumsum(numbers) + numbers)[edge]
    heights = _heights_at(columns + 0.5, *edges[:, edge])
    return columns, np.clip(np.ceil(heights - 0.5), 0, height).astype(np.int64)


def _between(columns: np.ndarray, rows: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns where the number of switches above or in a pixel is odd, bool [height, width]; rows may be `height`."""
    padded = -(-width // 8) * 8  # eight pixels as one number: NumPy's accumulate takes 2 ns per item of any size
    places = np.sort(rows * padded + columns)
    runs = np.concatenate([[0], np.flatnonzero(places[1:] != places[:-1]) + 1, [len(places)]])
    places = places[runs[:-1][(runs[1:] - runs[:-1]) % 2 == 1]]  # an even number of switches in one place cancels out
    inside = np.zeros([height + 1, padded], np.uint8)
    inside.reshape(-1)[places] = 1
    eights = inside.view(np.uint64)
    np.bitwise_xor.accumulate(eights, axis=0, out=eights)
    return inside[:height, :width].view(bool)


def _edges(rings: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the ends x0, y0, x1, y1 of all edges, [4, N], left end first.

    Two shapes with a common border then compute it with the same rounding.
    """
    starts = np.concatenate(rings)
    ends = np.concatenate([part for ring in rings for part in (ring[1:], ring[:1])])
    turned = starts[:, :1] > ends[:, :1]
    return np.concatenate([np.where(turned, ends, starts).T, np.where(turned, starts, ends).T])


def _heights_at(x: Any, x0: np.ndarray, y0: np.ndarray, x1: np.ndarray, y1: np.ndarray) -> np.ndarray:
    """Returns the y at which edges that are not vertical pass x."""
    return y0 + (x - x0) * (y1 - y0) / (x1 - x0)
