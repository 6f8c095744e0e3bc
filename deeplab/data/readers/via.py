"""VGG Image Annotator (VIA), versions 1 and 2: a JSON or CSV file for all images, exported or saved as a project.

https://www.robots.ox.ac.uk/~vgg/software/via/. A region has a shape and attributes; one attribute is the class.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deeplab.config.conversion_config import DrawnConfig
from deeplab.config.fields import setting
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_files import files_by_split
from deeplab.data.readers.annotation_values import checked, in_words, read_csv, read_json, require, require_plain
from deeplab.data.readers.collector import Collector
from deeplab.data.readers.image_finder import ImageFinder, image_finders
from deeplab.data.readers.shapes import Shape, ellipse, line, polygon, rectangle
from deeplab.data.readers.source import Source
from deeplab.utils.errors import UserError, nearest
from deeplab.utils.text import shorten

_NO_AREA = ("point",)
_LINES = ("polyline", "line")
_EXPORT = "in VIA: Annotation, Export Annotations (as JSON)"
_Region = tuple[str, dict]  # its place for messages, and what the file says about it


@dataclass(frozen=True)
class BuildViaConfig(DrawnConfig):
    """Where VIA's files and the images are, and which attribute is the class."""

    annotations: str = setting(
        "",
        "VIA's files: annotations exported as JSON or CSV, or saved projects, with commas. train:FILE,val:FILE names "
        "the splits; otherwise the names of files or folders tell them.",
        required=True,
    )
    image_folder: str = setting(
        "", "Folder of the images; train:FOLDER,val:FOLDER if each split has its own (unset: that of VIA's file)."
    )
    label_attribute: str = setting("", "Region attribute that is the class (unset: the only one there is).")
    default_class: str = setting("", "Class of regions without that attribute (unset: they are errors).")


@register_format("via", BuildViaConfig)
def read_via(config: BuildViaConfig) -> Source:
    """Reads the images of VIA's files; classes are the attribute's values that occur, in sorted order.

    Raises:
      UserError: a file is not VIA's, the attribute is not clear, a region cannot be drawn, or an image does not exist.
    """
    files = files_by_split(config.annotations, "annotations", ".json", ".csv")
    finders = image_finders(config.image_folder, files)
    collector = Collector(config)
    byte_sizes: list[tuple[str, bool]] = []
    contents = [_read_file(path) for _, path in files]
    entries = [_entries(content, path) for content, (_, path) in zip(contents, files, strict=True)]
    regions = [[_regions(entry, path) for entry in listed] for listed, (_, path) in zip(entries, files, strict=True)]
    attribute = _attribute(config, [region for file in regions for image in file for region in image])
    for (split, path), finder, content, listed, regions_of in zip(
        files, finders, contents, entries, regions, strict=True
    ):
        namer = _ClassNamer(attribute, config.default_class, _options(content, attribute))
        for entry, members in zip(listed, regions_of, strict=True):
            with collector.catching():
                _add(entry, members, path, split, namer, finder, collector, byte_sizes)
    _note_other_files(byte_sizes, collector)
    collector.left_out(sorted({name for finder in finders for name in finder.unused()}), "that no file lists")
    collector.report()
    collector.require_pairs(config.annotations, "`skip_empty=false` keeps images without a shape")
    return Source(collector.splits, collector.class_names(), drawn=True)


def _add(
    entry: dict,
    regions: list[_Region],
    file: str,
    split: str,
    namer: _ClassNamer,
    images: ImageFinder,
    collector: Collector,
    byte_sizes: list[tuple[str, bool]],
) -> None:
    """Adds one image, and to `byte_sizes` its name and whether its file is as large as VIA noted."""
    stored = entry["filename"]
    where = f"{file}, image {stored[:200]!r}"
    path = images.find(stored, where, images.beside(file))
    name = images.name(path)
    shapes = []
    for place, region in regions:
        outline = require(region, "shape_attributes", dict, place)
        kind = require(outline, "name", str, place)
        if kind in _NO_AREA:
            collector.skipped(kind, name)
        elif kind in _LINES:
            points = _points(outline, place)
            shape = line(namer.name(region, place), points, collector.config.line_width, where=place)
            if shape.has_area:
                shapes.append(shape)
            else:
                collector.skipped(kind, name)
        elif kind in _MAKERS:
            shapes.append(_MAKERS[kind](outline, namer.name(region, place), place))
        else:
            hint = f"shapes of VIA are {', '.join((*_MAKERS, *_LINES, *_NO_AREA))}"
            raise UserError("unknown-shape", f"its shape is called {kind[:40]!r}", hint, where=place, value=kind)
    collector.add(name, path, where, shapes, split=split)
    stated = entry.get("size")
    if type(stated) is int and stated > 0:
        byte_sizes.append((name, stated == os.path.getsize(path)))


def _note_other_files(byte_sizes: Sequence[tuple[str, bool]], collector: Collector) -> None:
    """Counts images whose files are not those that were annotated: VIA notes no other size than that of the file."""
    others = [name for name, same in byte_sizes if not same]
    text = "images with another file size than VIA noted"
    if len(others) > len(byte_sizes) / 2:
        text = (
            f"of {len(byte_sizes)} {text}, so the shapes were probably drawn on other files: look at some masks; if "
            "the images were resized since, set `annotation_scale`"
        )
    for name in others:
        collector.note(text, name)


# --- The file -----------------------------------------------------------------------------------------------


def _read_file(path: str) -> Any:
    """Returns the content of a JSON file; that of a CSV file in the same form.

    Raises:
      UserError: it is neither.
    """
    if not path.lower().endswith(".csv"):
        return read_json(path)
    entries: dict[str, Any] = {}
    for number, row in read_csv(path):
        place = f"{path}, line {number}"
        name, size = row.get("filename", ""), row.get("file_size", "")
        if not name or "region_shape_attributes" not in row:
            rule = "is not a CSV file of VIA: it has no column 'filename' or 'region_shape_attributes'"
            raise UserError("wrong-format", rule, "in VIA: Annotation, Export Annotations (as CSV)", where=path)
        number_of_bytes = int(size) if size.isdecimal() and len(size) < 16 else -1
        entry = entries.setdefault(f"{name}{size}", {"filename": name, "size": number_of_bytes, "regions": []})
        shape = _cell(row["region_shape_attributes"], place)
        if shape:
            attributes = _cell(row.get("region_attributes", ""), place)
            entry["regions"].append({"shape_attributes": shape, "region_attributes": attributes})
    return entries


def _cell(text: str, where: str) -> Any:
    try:
        return json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        raise UserError("invalid-json", f"contains {text[:60]!r}, which is not JSON", _EXPORT, where=where) from None


def _entries(content: Any, where: str) -> list[dict]:
    """Returns the entry of each image.

    Raises:
      UserError: this is not a file of VIA 1 or 2.
    """
    if isinstance(content, dict) and "_via_img_metadata" in content:
        content = require(content, "_via_img_metadata", dict, where)
    if isinstance(content, dict) and {"project", "metadata"} <= content.keys():
        rule = "is a project of VIA 3, which is for video"
        raise UserError("wrong-format", rule, "annotate in VIA 2, or export to COCO", where=where)
    if not isinstance(content, dict) or not content:
        held = "contains no image" if content == {} else f"must be an object, not {in_words(content)}"
        raise UserError("wrong-format", held, _EXPORT, where=where)
    for key, entry in content.items():
        if not isinstance(entry, dict) or "regions" not in entry or "filename" not in entry:
            rule = f"{key[:80]!r} is not an image of VIA: it has no 'filename' or no 'regions'"
            raise UserError("wrong-format", rule, _EXPORT, where=where)
        require(entry, "filename", str, f"{where}, image {key[:80]!r}")
    return list(content.values())


def _regions(entry: dict, where: str) -> list[_Region]:
    """Returns the regions of an image: a list in VIA 2, an object with the keys "0", "1" ... in VIA 1."""
    place = f"{where}, image {entry['filename'][:200]!r}"
    regions = require(entry, "regions", (list, dict), place, [])
    listed = list(regions.values()) if isinstance(regions, dict) else regions
    places = [f"{place}, region {number}" for number in range(1, len(listed) + 1)]
    return [(place, checked(region, dict, "it", place)) for place, region in zip(places, listed, strict=True)]


def _attribute(config: BuildViaConfig, regions: list[_Region]) -> str:
    """Returns the region attribute that is the class; empty if no region has any, and all are of the default class."""
    found: dict[str, None] = {}
    for place, region in regions:
        found.update(dict.fromkeys(_attributes_of(region, place)))
    wanted = config.label_attribute
    if wanted and wanted not in found and found:
        rule = f"no region has the attribute {wanted!r}"
        raise UserError("unknown-name", rule, nearest(wanted, list(found)), field="label_attribute", value=wanted)
    if wanted or len(found) == 1:
        return wanted or next(iter(found))
    if found:
        rule = f"regions have the attributes {', '.join(map(repr, found))}: which is the class?"
        hint = f"`label_attribute={next(iter(found))}`, or another of them"
        raise UserError("unclear-attribute", rule, hint, where=config.annotations, value=tuple(found))
    if regions and not config.default_class:
        rule, hint = (
            "no region has an attribute that could be its class",
            "`default_class=NAME` if all are of one class",
        )
        raise UserError("missing-class", rule, hint, where=config.annotations)
    return ""


def _attributes_of(region: dict, where: str) -> dict:
    attributes = require(region, "region_attributes", (dict, list), where, {})
    return checked(attributes or {}, dict, "'region_attributes'", where)  # some scripts write [] for none


def _options(content: Any, attribute: str) -> Mapping[str, str]:
    """Returns the names of the attribute's options, if a project numbers them: {"1": "hair", "2": "skin"}."""
    found = content
    for key in ("_via_attributes", "region", attribute, "options"):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict) or not all(key.isdigit() for key in found):
        return {}
    return {key: text.strip() for key, text in found.items() if isinstance(text, str) and text.strip()}


class _ClassNamer:
    """Finds the class of a region in its attributes."""

    def __init__(self, attribute: str, default: str, options: Mapping[str, str]):
        self.attribute, self.default, self.options = attribute, default, options

    def name(self, region: dict, where: str) -> str:
        """Returns the class of a region.

        Raises:
          UserError: it has none, and there is no default, or several.
        """
        value = _attributes_of(region, where).get(self.attribute)
        if isinstance(value, dict):
            value = self._ticked(value, where)
        elif value is not None:
            value = str(checked(value, (str, int), f"'{self.attribute}'", where)).strip()
        if not (value or self.default):
            hint = "label it in VIA, or set `default_class=NAME` for all such regions"
            raise UserError("missing-class", f"has no class: '{self.attribute}' is empty", hint, where=where)
        name = self.options.get(value, value) if value else self.default
        require_plain(name, f"'{self.attribute}'", where)
        return name

    def _ticked(self, boxes: dict, where: str) -> str:
        """Returns the ticked one of a group of check boxes, {"hair": true}."""
        ticked = [option for option, on in boxes.items() if on is True or on == "true"]
        if len(ticked) > 1:
            rule = f"has several classes: {shorten(list(map(repr, ticked)))}"
            hint = "a pixel has one class: leave one box ticked, or choose another attribute"
            raise UserError("several-classes", rule, hint, where=where, value=tuple(ticked))
        return ticked[0].strip() if ticked else ""


# --- Shapes -------------------------------------------------------------------------------------------------


def _points(outline: dict, where: str) -> list[list]:
    if "all_points_x" not in outline and {"x1", "y1", "x2", "y2"} <= outline.keys():  # a line
        return [[outline["x1"], outline["y1"]], [outline["x2"], outline["y2"]]]
    xs = require(outline, "all_points_x", list, where)
    ys = require(outline, "all_points_y", list, where)
    if len(xs) != len(ys):
        rule = f"'all_points_x' has {len(xs)} numbers, 'all_points_y' {len(ys)}"
        raise UserError("invalid-points", rule, "draw the region again", where=where)
    return [list(pair) for pair in zip(xs, ys, strict=True)]


def _polygon(outline: dict, name: str, where: str) -> Shape:
    return polygon(name, _points(outline, where), where=where)


def _rectangle(outline: dict, name: str, where: str) -> Shape:
    x, y, width, height = (require(outline, key, float, where) for key in ("x", "y", "width", "height"))
    return rectangle(name, x, y, x + width, y + height, where=where)


def _circle(outline: dict, name: str, where: str) -> Shape:
    x, y, radius = (require(outline, key, float, where) for key in ("cx", "cy", "r"))
    return ellipse(name, x, y, radius, radius, where=where)


def _ellipse(outline: dict, name: str, where: str) -> Shape:
    x, y, radius_x, radius_y = (require(outline, key, float, where) for key in ("cx", "cy", "rx", "ry"))
    theta = require(outline, "theta", float, where, 0.0)  # radians, clockwise on the screen; VIA 1 has none
    return ellipse(name, x, y, radius_x, radius_y, math.degrees(theta), where=where)


_MAKERS: Mapping[str, Callable[[dict, str, str], Shape]] = {
    "polygon": _polygon,
    "rect": _rectangle,
    "circle": _circle,
    "ellipse": _ellipse,
}
