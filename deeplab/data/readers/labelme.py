"""labelme: one JSON file an image, with polygons, rectangles, circles and masks.

https://github.com/wkentaro/labelme, file versions 3 to 6; tools that write the same files (X-AnyLabeling, ISAT) are
read as well.
"""

from __future__ import annotations

import math
import os
import pathlib
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplab.config.fields import setting
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_files import (
    DrawnConfig,
    ImageFinder,
    Tally,
    checked,
    class_name,
    image_size,
    read_json,
    require,
    require_pairs,
)
from deeplab.data.readers.embedded import base64_bytes, png_bitmap
from deeplab.data.readers.shapes import Shape, background_of, bitmap, class_names_of, ellipse, paint, polygon, rectangle
from deeplab.data.readers.source import Painter, Pair, Source
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import write_atomically
from deeplab.utils.paths import list_files, require_folder

_POLYGONS = ("polygon", "rotation", "oriented_rectangle", "quadrilateral")  # all but the first from X-AnyLabeling
_AREAS = (*_POLYGONS, "rectangle", "circle", "mask")
_NO_AREA = ("line", "linestrip", "point", "points")
_BYTES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png", b"BM": ".bmp"}


@dataclass(frozen=True)
class BuildLabelmeConfig(DrawnConfig):
    """Where labelme's files and the images lie."""

    annotation_folder: str = setting(
        "", "Folder of labelme's JSON files, one an image; subfolders count.", required=True
    )
    image_folder: str = setting("", "Folder of the images (unset: the annotation folder).")
    extract_images: str = setting(
        "", "Folder to write images to that lie nowhere but inside their JSON, as `imageData` (unset: they are errors)."
    )


@dataclass(frozen=True)
class LabelmeMask:
    """A mask that is drawn from one of labelme's files; see `source.Mask`.

    Attributes:
      where: the file.
      size: height and width of the image that it states.
      overlap: which shape covers which; see `shapes.paint`.
    """

    where: str
    size: tuple[int, int] | None
    overlap: str

    def draw(self, painter: Painter, height: int, width: int) -> np.ndarray:
        """The label, uint8 [height, width].

        Raises:
          UserError: the file is not what it was, or holds a shape that cannot be drawn.
        """
        entries = _areas(read_json(self.where), self.where)
        shapes = [_shape(entry, f"{self.where}, shape {number}", height, width) for number, entry in entries]
        return paint(shapes, painter, self.where, height, width, self.overlap, background_of(painter))


@register_format("labelme", BuildLabelmeConfig)
def read_labelme(config: BuildLabelmeConfig) -> Source:
    """All images that have a JSON file, undivided; classes are the labels that occur, in sorted order.

    Raises:
      UserError: no such folder or no JSON in it; files that are not labelme's; images that are not there.
    """
    reader = _Reader(config)
    for name in console.progress(reader.files(), what="reading annotations", unit="file"):
        with reader.tally.collecting():
            reader.read(name)
    # Images without a JSON file are not known to be empty.
    reader.tally.left_out(reader.images.unused(), "without a JSON file")
    reader.tally.report()
    require_pairs(reader.tally, config.annotation_folder, "`skip_empty=false` keeps images without a shape")
    return Source(reader.tally.splits, class_names_of(reader.names), drawn=True)


class _Reader:
    def __init__(self, config: BuildLabelmeConfig):
        require_folder(config.annotation_folder, "`annotation_folder`")
        self.config = config
        self.folder = pathlib.Path(config.annotation_folder)
        self.images = ImageFinder(config.image_folder or config.annotation_folder)
        self.tally = Tally(config.skip_empty)
        self.names: set[str] = set()

    def files(self) -> list[str]:
        """The JSON files, as paths within the folder."""
        found = [name for name in list_files(self.folder) if name.lower().endswith(".json")]
        if not found:
            rule = "holds no .json file, nor does a subfolder"
            raise UserError(
                "unclassified", rule, "`annotation_folder` is the folder that labelme saves to", where=self.folder
            )
        return found

    def read(self, name: str) -> None:
        """Takes one JSON file in."""
        path = str(self.folder / name)
        content = read_json(path)
        entries = _areas(content, path, self.tally)
        self.names.update(class_name(entry, "label", f"{path}, shape {number}") for number, entry in entries)
        size = image_size(content, "imageHeight", "imageWidth", path)
        pair_name, image = self._image(content, name, path)
        self.tally.add(Pair(pair_name, image, LabelmeMask(path, size, self.config.overlap)), path, empty=not entries)

    def _image(self, content: Any, name: str, path: str) -> tuple[str, str]:
        """Name and path of the image: where the JSON says, else of the JSON's own name, else from inside the JSON."""
        inside, stem = os.path.split(os.path.splitext(name)[0])
        own = f"{stem}.jpg"  # every image extension will be tried
        stored = require(content, "imagePath", str, path, "") or own
        if not self.images.look_up(stored, inside):
            if self.images.look_up(own, inside):
                self.tally.noted("images found by the name of their JSON, as `imagePath` leads nowhere", path)
                stored = own
            elif require(content, "imageData", str, path, ""):
                return self._extracted(content, os.path.splitext(name)[0], path)
            else:
                raise self._missing(stored, path)
        image = self.images.find(stored, path, inside)
        return self.images.name(image), image

    def _missing(self, stored: str, path: str) -> UserError:
        aside = posixpath.dirname(stored.replace("\\", "/"))
        meant = os.path.normpath(os.path.join(os.path.dirname(path), aside))
        hint = f"`image_folder={meant}`" if os.path.isdir(meant) and aside else "put it there, or give `image_folder`"
        return UserError("unclassified", f"its image {stored[:200]!r} is not in {self.images.folder}", hint, where=path)

    def _extracted(self, content: Any, name: str, path: str) -> tuple[str, str]:
        """Writes the image that the JSON holds into the folder for such images."""
        if not self.config.extract_images:
            rule = f"its image exists only inside the file; {content.get('imagePath')!r:.200} is not to be found"
            raise UserError("unclassified", rule, "`extract_images=FOLDER` writes such images to a folder", where=path)
        data = base64_bytes(content["imageData"], "`imageData`", path)
        extension = next((end for start, end in _BYTES.items() if data.startswith(start)), None)
        if extension is None:
            raise UserError(
                "unclassified",
                "`imageData` is neither JPEG, PNG nor BMP",
                "put the image beside the JSON file",
                where=path,
            )
        target = pathlib.Path(self.config.extract_images, name + extension)
        _write_once(target, data)
        return name, str(target)


def _write_once(target: pathlib.Path, data: bytes) -> None:
    try:
        if target.exists():
            if target.read_bytes() != data:
                raise UserError(
                    "unclassified",
                    "is there already, with other content",
                    "give another `extract_images`",
                    where=target,
                )
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, data)
    except OSError as fault:
        raise UserError(
            "unclassified", f"cannot be written: {fault.strerror}", "give another `extract_images`", where=target
        ) from None


# --- Shapes -------------------------------------------------------------------------------------------------


def _areas(content: Any, where: str, tally: Tally | None = None) -> list[tuple[int, dict]]:
    """The entries that have an area, with their numbers from 1; the others are counted.

    Raises:
      UserError: the file is not labelme's, or holds a kind of shape that is not known.
    """
    if isinstance(content, dict) and "shapes" not in content:
        raise UserError(
            "unclassified",
            "is no file of labelme: it has no `shapes`",
            "move it out of `annotation_folder`",
            where=where,
        )
    found = []
    for number, entry in enumerate(require(content, "shapes", list, where), 1):
        place = f"{where}, shape {number}"
        kind = require(entry, "shape_type", str, place, "polygon")
        if kind in _AREAS and require(entry, "points", list, place):
            found.append((number, entry))
        elif kind in _AREAS or kind in _NO_AREA:
            if tally:
                tally.skipped(kind if kind in _NO_AREA else "shape without a point", where)
        else:
            hint = f"known are {', '.join(_AREAS)}; {', '.join(_NO_AREA)} are left out"
            raise UserError("unclassified", f"`shape_type` is {kind[:40]!r}", hint, where=place)
    return found


def _shape(entry: dict, where: str, height: int, width: int) -> Shape:
    name, points = class_name(entry, "label", where), entry["points"]
    kind = require(entry, "shape_type", str, where, "polygon")
    if kind in _POLYGONS or (kind == "rectangle" and len(points) > 2):
        return polygon(name, points, where=where)
    (x0, y0), (x1, y1) = _two_points(points, kind, where)
    if kind == "rectangle":
        return rectangle(name, x0, y0, x1, y1, where=where)
    if kind == "circle":
        radius = math.hypot(x1 - x0, y1 - y0)
        return ellipse(name, x0, y0, radius, radius, where=where)
    return _mask(entry, name, (x0, y0, x1, y1), where, height, width)


def _mask(entry: dict, name: str, box: Sequence[float], where: str, height: int, width: int) -> Shape:
    """A bitmap and the box of its first and last pixels."""
    data = base64_bytes(require(entry, "mask", str, where), "`mask`", where)
    pixels = png_bitmap(data, where, height, width)
    left, top, right, bottom = (math.floor(end) for end in box)
    high, wide = bottom - top + 1, right - left + 1
    off = max(abs(high - pixels.shape[0]), abs(wide - pixels.shape[1]))
    if off > 1:  # by one, since some tools write the end of the box instead of its last pixel
        rule = f"`mask` is {pixels.shape[1]}x{pixels.shape[0]} pixels, but its `points` span {wide}x{high}"
        raise UserError("unclassified", rule, "draw the shape again", where=where)
    return bitmap(name, pixels, left, top, where=where)


def _two_points(points: list, kind: str, where: str) -> list[tuple[float, float]]:
    found = []
    for point in points:
        if not isinstance(point, list) or len(point) != 2:
            raise UserError("unclassified", "`points` must be pairs of x and y", "draw the shape again", where=where)
        found.append(tuple(checked(end, float, "a coordinate", where) for end in point))
    if len(found) != 2:
        raise UserError("unclassified", f"a {kind} has 2 points, not {len(found)}", "draw the shape again", where=where)
    return found
