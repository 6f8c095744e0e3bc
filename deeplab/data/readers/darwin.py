"""V7 Darwin: one JSON file per image, versions 1.0 and 2.0, with polygons, boxes, ellipses and raster layers.

https://docs.v7labs.com/reference/darwin-json. Objects are painted in the order of the file; the paths of a polygon are
one shape by the even-odd rule, so a path inside another is a hole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from deeplab.config.conversion_config import FilePerImageConfig
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_files import AnnotationFile, find_named, read_each
from deeplab.data.readers.annotation_values import checked, class_name, image_size, read_json, require
from deeplab.data.readers.bitmaps import Bitmap, checked_runs
from deeplab.data.readers.collector import Collector
from deeplab.data.readers.shapes import Shape, ellipse, line, polygon, rectangle
from deeplab.data.readers.source import Source
from deeplab.utils.errors import UserError

_EXPORT = "in V7: export the dataset as Darwin JSON 2.0"
_WITHOUT_AREA = ("keypoint", "skeleton", "cuboid", "tag", "eye", "string", "graph", "simple_table")


@register_format("darwin", FilePerImageConfig)
def read_darwin(config: FilePerImageConfig) -> Source:
    """Reads all images that have a JSON file; classes are the names that occur, in sorted order.

    Raises:
      UserError: no such folder or no JSON file in it; files that are not V7's; images that do not exist.
    """
    collector, _ = read_each(config, ".json", _read_file)
    return Source(collector.splits, collector.class_names(), drawn=True)


def _read_file(file: AnnotationFile, collector: Collector) -> None:
    path, images = file.path, file.images
    content = read_json(path)
    if not isinstance(content, dict) or "annotations" not in content or not {"item", "image"} & content.keys():
        rule = "is not a file of V7: it has no 'annotations', or neither 'item' nor 'image'"
        raise UserError("wrong-format", rule, _EXPORT, where=path)
    stored, size = _image(content, path)
    image = find_named(images, stored, path, file.inside, collector)
    name = images.name(image)
    entries = require(content, "annotations", list, path)
    names = {entry["id"]: entry.get("name") for entry in entries if isinstance(entry, dict) and _is_id(entry.get("id"))}
    shapes: list[Shape] = []
    for number, entry in enumerate(entries, 1):
        where = f"{path}, annotation {number}"
        if require(entry, "raster_layer", dict, where, None) is not None:
            shapes += _raster(entry["raster_layer"], names, size, where)
            continue
        shape = _shape(entry, collector.config.line_width, where)
        if shape is None:
            if "mask" not in entry:  # its pixels are in the raster layer
                collector.skipped(next((kind for kind in _WITHOUT_AREA if kind in entry), "other kinds"), name)
        elif "line" in entry and not shape.has_area:
            collector.skipped("line", name)
        else:
            shapes.append(shape)
    collector.add(name, image, path, shapes, size, file.split)


def _is_id(value: Any) -> bool:
    return isinstance(value, str)


def _image(content: Mapping[str, Any], path: str) -> tuple[str, tuple[int, int] | None]:
    """Returns name and size of the image: version 2.0 has slots, version 1.0 an object 'image'."""
    if content.get("item") is None:
        image = require(content, "image", dict, path)
        return require(image, "filename", str, path), image_size(image, "height", "width", path)
    item = require(content, "item", dict, path)
    slots = require(item, "slots", list, path, [])
    if len(slots) > 1:
        rule, hint = f"has {len(slots)} slots, which are several images", "export one image per item"
        raise UserError("wrong-format", rule, hint, where=path, value=len(slots))
    slot = checked(slots[0], dict, "a slot", path) if slots else {}
    if slot.get("frame_count") is not None or slot.get("type") in ("video", "dicom"):
        rule = "is about a video or a DICOM series"
        raise UserError("wrong-format", rule, "export its frames as images", where=path)
    folder = require(item, "path", str, path, "").strip("/")
    name = require(item, "name", str, path)
    return f"{folder}/{name}" if folder else name, image_size(slot, "height", "width", path)


def _shape(entry: dict[str, Any], line_width: float, where: str) -> Shape | None:
    """Makes the shape of an annotation; None if it has no area. A polygon has a box as well, so that comes last."""
    if entry.get("polygon") is not None:
        rings = _paths(require(entry, "polygon", dict, where), where)
        return polygon(_name(entry, where), rings[0], rings[1:], where=where) if rings else Shape(_name(entry, where))
    if entry.get("ellipse") is not None:
        round_ = require(entry, "ellipse", dict, where)
        (x, y), (radius_x, radius_y) = (_pair(require(round_, key, dict, where), where) for key in ("center", "radius"))
        turn = math.degrees(require(round_, "angle", float, where, 0.0))
        return ellipse(_name(entry, where), x, y, radius_x, radius_y, turn, where=where)
    if entry.get("line") is not None:
        points = _points(require(require(entry, "line", dict, where), "path", list, where), where)
        return line(_name(entry, where), points, line_width, where=where)
    if entry.get("bounding_box") is not None and not any(key in entry for key in ("mask", *_WITHOUT_AREA)):
        box = require(entry, "bounding_box", dict, where)
        x, y, width, height = (require(box, key, float, where) for key in ("x", "y", "w", "h"))
        return rectangle(_name(entry, where), x, y, x + width, y + height, where=where)
    return None


def _name(entry: dict[str, Any], where: str) -> str:
    return class_name(entry, "name", where)


def _paths(outline: dict[str, Any], where: str) -> list[list[list[float]]]:
    """Returns the rings of a polygon: 'paths' in version 2.0, 'path' and 'additional_paths' in version 1.0."""
    paths = require(outline, "paths", list, where, None)
    if paths is None:
        paths = [require(outline, "path", list, where), *require(outline, "additional_paths", list, where, [])]
    return [_points(checked(path, list, "a path", where), where) for path in paths]


def _points(path: list[Any], where: str) -> list[list[float]]:
    return [list(_pair(point, where)) for point in path]


def _pair(point: Any, where: str) -> tuple[float, float]:
    return require(point, "x", float, where), require(point, "y", float, where)


def _raster(layer: dict[str, Any], names: Mapping[str, Any], size: tuple[int, int] | None, where: str) -> list[Shape]:
    """Returns the masks of an image: runs of values, row by row, each value being one mask."""
    if size is None:
        rule, hint = "is a raster layer, but the file does not state the size of the image", _EXPORT
        raise UserError("missing-key", rule, hint, where=where)
    runs = require(layer, "dense_rle", list, where)
    if len(runs) % 2:
        raise UserError("invalid-rle", "'dense_rle' must be pairs of value and length", _EXPORT, where=where)
    values = [checked(value, int, "a value of 'dense_rle'", where) for value in runs[::2]]
    lengths = checked_runs(runs[1::2], size[0] * size[1], where)
    shapes = []
    for identity, value in require(layer, "mask_annotation_ids_mapping", dict, where).items():
        number = checked(value, int, "a value of 'mask_annotation_ids_mapping'", where)
        if not isinstance(names.get(identity), str):
            rule = f"has a mask {identity[:60]!r}, which no annotation of the file names"
            raise UserError("unknown-id", rule, _EXPORT, where=where, value=identity)
        name = class_name({"name": names[identity]}, "name", where)
        shapes.append(Shape(name, bitmap=Bitmap(_runs_of(number, values, lengths), *size)))
    return shapes


def _runs_of(number: int, values: list[int], lengths: np.ndarray) -> np.ndarray:
    """Returns the run lengths of one value among runs of many, int32 [n], beginning with pixels that are not of it."""
    belongs = np.array([value == number for value in values], bool)
    changes = np.flatnonzero(belongs[1:] != belongs[:-1]) + 1
    starts = np.concatenate([[0], changes]) if len(belongs) else np.zeros(0, np.int64)
    runs = np.add.reduceat(lengths, starts) if len(belongs) else np.zeros(0, np.int32)
    return np.concatenate([[0] if len(belongs) and belongs[0] else [], runs]).astype(np.int32)
