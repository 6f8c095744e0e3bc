"""Objects that consist of several parts, of which outlines or run lengths are kept until their label is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deeplab.data.readers.rle import pixels_of
from deeplab.data.readers.shapes import Shape, area, background_of, bitmap, paint
from deeplab.data.readers.source import Painter
from deeplab.utils.errors import UserError

IGNORED = "ignore"  # a name that painters know to mean pixels that do not count


@dataclass(frozen=True, eq=False, slots=True)
class Region:
    """An object, or a part of the scene behind the objects.

    Attributes:
      name: its class; IGNORED for pixels that do not count.
      rings: outlines, each float64 [N, 2] of x, y in pixels; the region is their union.
      runs: int32 [n], run lengths column after column; None where there are rings.
      size: height and width of the picture that the run lengths tell of.
      first: painted before all that are not.
    """

    name: str
    rings: tuple[np.ndarray, ...] = ()
    runs: np.ndarray | None = None
    size: tuple[int, int] = (0, 0)
    first: bool = False

    def shapes(self) -> list[Shape]:
        """What is to be painted: rings one by one, since together they would cut holes where they overlap."""
        if self.runs is None:
            return [Shape(self.name, rings=(ring,)) for ring in self.rings]
        height, width = self.size
        pixels = pixels_of(self.runs).reshape(width, height)
        columns, rows = _filled(pixels, axis=1), _filled(pixels, axis=0)
        return [bitmap(self.name, pixels[columns, rows].T, columns.start, rows.start)]


def _filled(pixels: np.ndarray, axis: int) -> slice:
    """The part of bool [w, h] that holds a True, along the axis that is not `axis`."""
    found = np.flatnonzero(np.any(pixels, axis=axis))
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)


@dataclass(frozen=True, eq=False)
class RegionsMask:
    """The label of one image; see `source.Mask`.

    Attributes:
      where: file and image, for messages.
      size: height and width that the file states; None where it states none.
      regions: in the order of the files.
      overlap: "area" or "file".
    """

    where: str
    size: tuple[int, int] | None
    regions: tuple[Region, ...]
    overlap: str = "area"

    def draw(self, painter: Painter, height: int, width: int) -> np.ndarray:
        """The label, uint8 [height, width].

        Raises:
          UserError: run lengths of a picture of another size, or a class that is not there.
        """
        for region in self.regions:
            if region.runs is not None and region.size != (height, width):
                rule = f"run lengths are of {region.size[1]}x{region.size[0]} pixels, the image has {width}x{height}"
                raise UserError(
                    "unclassified", rule, "take the image that was annotated, in its own size", where=self.where
                )
        objects = [[region.shapes() for region in self.regions if region.first is first] for first in (True, False)]
        shapes = [shape for some in objects for shape in in_order(some, self.overlap)]
        return paint(shapes, painter, self.where, height, width, background=background_of(painter))


def in_order(objects: Sequence[Sequence[Shape]], overlap: str) -> list[Shape]:
    """Shapes of objects that have several: "area" sorts the objects from the largest to the smallest."""
    if overlap == "area":
        objects = sorted(objects, key=lambda parts: sum(map(area, parts)), reverse=True)
    return [shape for parts in objects for shape in parts]
