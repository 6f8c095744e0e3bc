"""Labelbox: the export as NDJSON, one line per image, and the older JSON, with polygons, boxes, lines and masks.

https://docs.labelbox.com/reference/export-image-annotations. Objects are painted in the order of the file. Masks are
addresses of PNG files in the export; nothing is downloaded, so that they must be in a folder.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import numpy as np

from deeplab.config.conversion_config import DrawnConfig
from deeplab.config.fields import setting
from deeplab.data.images import decode_rgb
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_files import files_by_split
from deeplab.data.readers.annotation_values import checked, class_name, image_size, in_words, parse_json, require
from deeplab.data.readers.bitmaps import png_bitmap
from deeplab.data.readers.collector import Collector
from deeplab.data.readers.image_finder import ImageFinder, image_finders, safe_parts
from deeplab.data.readers.shapes import Shape, bitmap, line, polygon, rectangle
from deeplab.data.readers.source import Source
from deeplab.utils.errors import UserError
from deeplab.utils.paths import read_file, read_text

_EXPORT = "in Labelbox: export the project as NDJSON (export v2)"
_OLD_KEYS = {"Label", "External ID"}


@dataclass(frozen=True)
class BuildLabelboxConfig(DrawnConfig):
    """Where exports, images and masks are."""

    annotations: str = setting(
        "", "Exports as NDJSON or JSON, with commas; train:FILE,val:FILE names the splits.", required=True
    )
    image_folder: str = setting(
        "", "Folder of the images; train:FOLDER,val:FOLDER if each split has its own (unset: that of the export)."
    )
    mask_folder: str = setting(
        "", "Folder of the masks that the export names by address, called FEATURE_ID.png or as in the address."
    )


@register_format("labelbox", BuildLabelboxConfig)
def read_labelbox(config: BuildLabelboxConfig) -> Source:
    """Reads the images of Labelbox's exports; classes are the names that occur, in sorted order.

    Raises:
      UserError: files that cannot be read or are not exports, images or masks that do not exist.
    """
    files = files_by_split(config.annotations, "annotations", ".ndjson", ".json", ".jsonl")
    collector = Collector(config)
    finders = image_finders(config.image_folder, files)
    masks = ImageFinder(config.mask_folder, "mask_folder") if config.mask_folder else None
    for (split, path), finder in zip(files, finders, strict=True):
        for number, row in enumerate(_rows(path), 1):
            with collector.catching():
                _read_row(row, path, number, split, finder, masks, collector)
    collector.left_out(sorted({name for finder in finders for name in finder.unused()}), "that no annotation names")
    collector.report()
    collector.require_pairs(config.annotations, "export a project that has labels")
    return Source(collector.splits, collector.class_names(), drawn=True)


def _rows(path: str) -> Iterator[Any]:
    """Yields what each line of NDJSON contains, or each entry of a JSON list.

    Raises:
      UserError: not JSON.
    """
    text = read_text(path)
    start = text.lstrip()[:1]
    lines = [line for line in text.splitlines() if line.strip()]
    if start == "{" and len(lines) > 1:
        with contextlib.suppress(ValueError, RecursionError):
            json.loads(lines[0])  # a line of its own; otherwise one object over several lines
            for number, line_ in enumerate(lines, 1):
                yield parse_json(line_, f"{path}, line {number}")
            return
    content = parse_json(text, path)
    if not isinstance(content, (list, dict)):
        rule = f"is not an export of Labelbox: it must be a list or lines of objects, not {in_words(content)}"
        raise UserError("wrong-format", rule, _EXPORT, where=path)
    yield from content if isinstance(content, list) else [content]


@dataclass(frozen=True)
class _LabelboxMask:
    """An object whose pixels are in a PNG; of one color in it where several objects share the file."""

    name: str
    path: str
    where: str
    color: tuple[int, ...] = ()

    def shape(self, height: int, width: int) -> Shape:
        """The shape, with the file read."""
        data = read_file(self.path)
        pixels = png_bitmap(data, self.where, (height, width))
        if self.color:
            pixels = (decode_rgb(data, self.path) == np.array(self.color)).all(axis=-1)
        return bitmap(self.name, pixels, where=self.where)


def _read_row(
    row: Any, path: str, number: int, split: str, images: ImageFinder, masks: ImageFinder | None, collector: Collector
) -> None:
    """Adds one image."""
    where = f"{path}, row {number}"
    if not isinstance(row, dict) or not ("data_row" in row or row.keys() >= _OLD_KEYS):
        rule = "is not a row of a Labelbox export: it has neither 'data_row' nor 'Label' and 'External ID'"
        raise UserError("wrong-format", rule, _EXPORT, where=where)
    stored, size, objects = (_new_row if "data_row" in row else _old_row)(row, where)
    if objects is None:
        collector.note("images without a label left out", stored)
        return
    image = images.find(stored, where, images.beside(path))
    name = images.name(image)
    parts = []
    for place, entry in enumerate(objects, 1):
        part = _part(entry, f"{where}, object {place}", masks, collector, name)
        if part is not None:
            parts.append(part)
    outlines = [part for part in parts if isinstance(part, Shape)]
    if len(outlines) < len(parts):  # files are opened when the label is drawn
        collector.used_names.update(part.name for part in parts)
        collector.add(name, image, where, functools.partial(_draw, parts), size, split, outlines=outlines)
    else:
        collector.add(name, image, where, outlines, size, split)


def _draw(parts: Sequence[Shape | _LabelboxMask], height: int, width: int) -> list[Shape]:
    return [part if isinstance(part, Shape) else part.shape(height, width) for part in parts]


_Row = tuple[str, tuple[int, int] | None, list[Any] | None]  # name, size, objects; None if the image has no label


def _new_row(row: dict[str, Any], where: str) -> _Row:
    """Reads a line of export v2. Of several labels, for consensus or reviews, the first counts."""
    data = require(row, "data_row", dict, where)
    stored = require(data, "external_id", str, where, "") or unquote(require(data, "row_data", str, where))
    size = image_size(require(row, "media_attributes", dict, where, {}), "height", "width", where)
    for project in require(row, "projects", dict, where, {}).values():
        for label in require(project, "labels", list, where, []):
            found = require(label, "annotations", dict, where, {})
            if found.get("frames") is not None:
                raise UserError("wrong-format", "is about a video", "export its frames as images", where=where)
            return stored, size, require(found, "objects", list, where, [])
    return stored, size, None


def _old_row(row: dict[str, Any], where: str) -> _Row:
    """Reads an entry of the older JSON export."""
    stored = require(row, "External ID", str, where, "") or unquote(require(row, "Labeled Data", str, where))
    label = row["Label"]
    if not isinstance(label, dict):  # "Skip", or null
        return stored, None, None
    if isinstance(label.get("objects"), list):
        return stored, None, label["objects"]
    objects = []
    for name, entries in label.items():  # the oldest: {"car": [{"geometry": [{x, y}, ...]}]}
        for entry in entries if isinstance(entries, list) else []:
            geometry = entry.get("geometry") if isinstance(entry, dict) else None
            if isinstance(geometry, list):
                objects.append({"name": name, "polygon": geometry})
    return stored, None, objects


def _part(
    entry: Any, where: str, masks: ImageFinder | None, collector: Collector, image: str
) -> Shape | _LabelboxMask | None:
    """Returns the shape of an object, or the file that contains it; None if it has no area."""
    key = next((key for key in ("name", "title", "value") if isinstance(entry, dict) and entry.get(key)), "name")
    name = class_name(entry, key, where)
    if entry.get("polygon") is not None:
        return polygon(name, _points(require(entry, "polygon", list, where), where), where=where)
    box = require(entry, "bounding_box", dict, where, None) or require(entry, "bbox", dict, where, None)
    if box is not None:
        left, top, width, height = (require(box, side, float, where) for side in ("left", "top", "width", "height"))
        return rectangle(name, left, top, left + width, top + height, where=where)
    if entry.get("line") is not None:
        points = _points(require(entry, "line", list, where), where)
        shape = line(name, points, collector.config.line_width, where=where)
        if shape.has_area:
            return shape
        collector.skipped("line", image)
        return None
    mask = entry.get("composite_mask") or entry.get("mask") or entry.get("instanceURI")
    if mask:
        return _mask(entry, mask, name, where, masks)
    collector.skipped("point" if entry.get("point") else "other kind", image)
    return None


def _mask(entry: dict[str, Any], mask: Any, name: str, where: str, masks: ImageFinder | None) -> _LabelboxMask:
    address = mask if isinstance(mask, str) else require(mask, "url", str, where, "")
    if masks is None:
        rule = "its mask is an address, and no folder of masks is set"
        hint = "download the masks, call them FEATURE_ID.png, and set `mask_folder`"
        raise UserError("file-not-found", rule, hint, where=where, value=address)
    identity = entry.get("feature_id") or entry.get("featureId")
    names = [f"{identity}.png"] if isinstance(identity, str) and identity else []
    names += safe_parts(unquote(address))[-1:]
    found = next((name for name in names if len(masks.look_up(name)) == 1), names[0] if names else "")
    color = mask.get("color_rgb") if isinstance(mask, dict) else None
    parts = tuple(checked(part, int, "'color_rgb'", where) for part in color) if isinstance(color, list) else ()
    if len(parts) not in (0, 3):
        raise UserError("invalid-colors", "'color_rgb' must be three numbers", _EXPORT, where=where, value=parts)
    return _LabelboxMask(name, masks.find(found, where), where, parts)


def _points(points: list[Any], where: str) -> list[list[float]]:
    return [[require(point, "x", float, where), require(point, "y", float, where)] for point in points]
