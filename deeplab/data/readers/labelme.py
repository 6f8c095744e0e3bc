"""labelme: one JSON file per image, with polygons, rectangles, circles and masks.

https://github.com/wkentaro/labelme, file versions 3 to 6; tools that write the same files (X-AnyLabeling) are read
too.
"""

from __future__ import annotations

import math
import os
import pathlib
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deeplab.config.conversion_config import FilePerImageConfig
from deeplab.config.fields import setting
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_files import AnnotationFile, read_each
from deeplab.data.readers.annotation_values import checked, class_name, image_size, read_json, require
from deeplab.data.readers.bitmaps import base64_bytes, png_bitmap
from deeplab.data.readers.collector import Collector
from deeplab.data.readers.shapes import Shape, bitmap, ellipse, line, polygon, rectangle
from deeplab.data.readers.source import Source
from deeplab.utils.errors import UserError
from deeplab.utils.files import write_atomically

_POLYGONS = ("polygon", "rotation", "oriented_rectangle", "quadrilateral")  # all but the first from X-AnyLabeling
_AREAS = (*_POLYGONS, "rectangle", "circle", "mask")
_LINES = ("line", "linestrip")
_NO_AREA = ("point", "points")
_SIGNATURES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png", b"BM": ".bmp"}


@dataclass(frozen=True)
class BuildLabelmeConfig(FilePerImageConfig):
    """Where labelme's files and the images are."""

    extract_images: str = setting(
        "", "Folder for images that exist only inside their JSON file, as 'imageData' (unset: they are errors)."
    )


@register_format("labelme", BuildLabelmeConfig)
def read_labelme(config: BuildLabelmeConfig) -> Source:
    """Reads all images that have a JSON file; classes are the labels that occur, in sorted order.

    Raises:
      UserError: no such folder or no JSON file in it; files that are not labelme's; images that do not exist.
    """
    collector, _ = read_each(config, ".json", lambda file, collector: _LabelmeFile(file, config, collector).read())
    return Source(collector.splits, collector.class_names(), drawn=True)


class _LabelmeFile:
    """Reads one JSON file."""

    def __init__(self, file: AnnotationFile, config: BuildLabelmeConfig, collector: Collector):
        self.file, self.images = file, file.images
        self.config, self.collector = config, collector

    def read(self) -> None:
        """Adds the image and its shapes to the collector."""
        path = self.file.path
        content = read_json(path)
        size = image_size(content, "imageHeight", "imageWidth", path)
        shapes = self._shapes(content, path, size)
        pair_name, image = self._image(content, self.file.name, path)
        self.collector.add(pair_name, image, path, shapes, size, self.file.split)

    def _shapes(self, content: Any, path: str, size: tuple[int, int] | None) -> list[Shape]:
        if isinstance(content, dict) and "shapes" not in content:
            rule = "is not a file of labelme: it has no 'shapes'"
            raise UserError("wrong-format", rule, "move it out of `annotation_folder`", where=path)
        shapes = []
        for number, entry in enumerate(require(content, "shapes", list, path), 1):
            where = f"{path}, shape {number}"
            kind = require(entry, "shape_type", str, where, "polygon")
            points = require(entry, "points", list, where)
            if kind not in (*_AREAS, *_LINES, *_NO_AREA):
                hint = f"known are {', '.join((*_AREAS, *_LINES))}; {', '.join(_NO_AREA)} are left out"
                raise UserError("unknown-shape", f"'shape_type' is {kind[:40]!r}", hint, where=where, value=kind)
            if kind in _NO_AREA or not points:
                self.collector.skipped(kind if points else "shape without a point", path)
                continue
            shape = _shape(entry, kind, points, self.config.line_width, where, size)
            if kind in _LINES and not shape.has_area:
                self.collector.skipped(kind, path)
                continue
            shapes.append(shape)
        return shapes

    # --- Images

    def _image(self, content: Any, name: str, path: str) -> tuple[str, str]:
        """Returns name and path of the image: as the JSON says, else of the JSON's own name, else from inside it."""
        inside, stem = os.path.split(os.path.splitext(name)[0])
        own = f"{stem}.jpg"  # every image extension will be tried
        stored = require(content, "imagePath", str, path, "") or own
        if not self.images.look_up(stored, inside):
            if self.images.look_up(own, inside):
                self.collector.note("images found by the name of the JSON file, as its 'imagePath' is wrong", path)
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
        hint = f"`image_folder={meant}`" if os.path.isdir(meant) and aside else "put it there, or set `image_folder`"
        rule = f"its image {stored[:200]!r} is not in {self.images.folder}"
        return UserError("image-not-found", rule, hint, where=path, value=stored)

    def _extracted(self, content: Any, name: str, path: str) -> tuple[str, str]:
        """Writes the image inside the JSON file into the folder for such images."""
        if not self.config.extract_images:
            rule = f"its image exists only inside the file; {content.get('imagePath')!r:.200} does not exist"
            hint = "`extract_images=FOLDER` writes such images to a folder"
            raise UserError("image-not-found", rule, hint, where=path, value=content.get("imagePath"))
        data = base64_bytes(content["imageData"], "'imageData'", path)
        extension = next((end for start, end in _SIGNATURES.items() if data.startswith(start)), None)
        if extension is None:
            rule, hint = "'imageData' is neither JPEG, PNG nor BMP", "put the image beside the JSON file"
            raise UserError("unreadable-image", rule, hint, where=path)
        target = pathlib.Path(self.config.extract_images, name + extension)
        _write_once(target, data)
        return name, str(target)


def _write_once(target: pathlib.Path, data: bytes) -> None:
    hint = "choose another `extract_images`"
    try:
        if target.exists():
            if target.read_bytes() != data:
                raise UserError("would-overwrite", "exists already, with other content", hint, where=target)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, data)
    except OSError as error:
        rule = f"cannot be written: {error.strerror}"
        raise UserError("unwritable-file", rule, hint, where=target) from None


# --- Shapes -------------------------------------------------------------------------------------------------


def _shape(entry: dict, kind: str, points: list, line_width: float, where: str, size: tuple[int, int] | None) -> Shape:
    name = class_name(entry, "label", where)
    if kind in _POLYGONS or (kind == "rectangle" and len(points) > 2):
        return polygon(name, points, where=where)
    if kind in _LINES:
        return line(name, points, line_width, where=where)
    if len(points) == 1 and kind != "mask":
        return Shape(name)  # a click without a second one
    (x0, y0), (x1, y1) = _two_points(points, kind, where)
    if kind == "rectangle":
        return rectangle(name, x0, y0, x1, y1, where=where)
    if kind == "circle":
        radius = math.hypot(x1 - x0, y1 - y0)
        return ellipse(name, x0, y0, radius, radius, where=where)
    return _mask(entry, name, (x0, y0, x1, y1), where, size)


def _mask(entry: dict, name: str, box: Sequence[float], where: str, size: tuple[int, int] | None) -> Shape:
    """Reads a bitmap and the box of its first and last pixels."""
    data = base64_bytes(require(entry, "mask", str, where), "'mask'", where)
    pixels = png_bitmap(data, where, size)
    left, top, right, bottom = (math.floor(end) for end in box)
    high, wide = bottom - top + 1, right - left + 1
    off = max(abs(high - pixels.shape[0]), abs(wide - pixels.shape[1]))
    if off > 1:  # by one, since some tools write the end of the box instead of its last pixel
        rule = f"'mask' is {pixels.shape[1]}x{pixels.shape[0]} pixels, but its 'points' span {wide}x{high}"
        raise UserError("size-mismatch", rule, "draw the shape again", where=where, value=pixels.shape)
    return bitmap(name, pixels, left, top, where=where)


def _two_points(points: list, kind: str, where: str) -> list[tuple[float, float]]:
    found = []
    for point in points:
        if not isinstance(point, list) or len(point) != 2:
            rule = "'points' must be pairs of x and y"
            raise UserError("invalid-points", rule, "draw the shape again", where=where)
        found.append(tuple(checked(end, float, "a coordinate", where) for end in point))
    if len(found) != 2:
        rule = f"a {kind} has 2 points, not {len(found)}"
        raise UserError("invalid-points", rule, "draw the shape again", where=where, value=len(found))
    return found
