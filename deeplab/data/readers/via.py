"""VGG Image Annotator (VIA), versions 1 and 2: one JSON file for all images, exported or saved as a project.

https://www.robots.ox.ac.uk/~vgg/software/via/. A region has a shape and attributes; one attribute is the class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deeplab.config.fields import setting
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_files import (
    DrawnConfig,
    ImageFinder,
    Tally,
    checked,
    in_words,
    read_json,
    require,
    require_pairs,
    require_plain,
)
from deeplab.data.readers.shapes import Shape, ShapesMask, class_names_of, ellipse, polygon, rectangle
from deeplab.data.readers.source import Pair, Source
from deeplab.utils.errors import UserError, nearest
from deeplab.utils.paths import shorten

_NO_AREA = ("polyline", "line", "point")
_Region = tuple[str, dict]  # its place for messages, and what the file says of it


@dataclass(frozen=True)
class BuildViaConfig(DrawnConfig):
    """Where VIA's file and the images lie, and which attribute is the class."""

    annotations: str = setting("", "VIA's JSON file: annotations exported as JSON, or a saved project.", required=True)
    image_folder: str = setting("", "Folder of the images; subfolders count.", required=True)
    label_attribute: str = setting("", "Region attribute that is the class (unset: the only one there is).")
    default_class: str = setting("", "Class of regions without that attribute (unset: they are errors).")


@register_format("via", BuildViaConfig)
def read_via(config: BuildViaConfig) -> Source:
    """All images of the file, undivided; classes are the attribute's values that occur, in sorted order.

    Raises:
      UserError: the file is not VIA's, the attribute is not clear, a region cannot be drawn, or an image is not there.
    """
    images = ImageFinder(config.image_folder)
    tally = Tally(config.skip_empty)
    content = read_json(config.annotations)
    entries = _entries(content, config.annotations)
    regions = [_regions(entry, config.annotations) for entry in entries]
    attribute = _attribute(config, [region for listed in regions for region in listed])
    namer = _Namer(attribute, config.default_class, _options(content, attribute))
    names: set[str] = set()
    for entry, listed in zip(entries, regions, strict=True):
        with tally.collecting():
            names |= _take(entry, listed, namer, images, tally, config)
    tally.left_out(images.unused(), "that the file does not list")
    tally.report()
    require_pairs(tally, config.annotations, "`skip_empty=false` keeps images without a shape")
    return Source(tally.splits, class_names_of(names), drawn=True)


def _take(
    entry: dict, regions: list[_Region], namer: _Namer, images: ImageFinder, tally: Tally, config: BuildViaConfig
) -> set[str]:
    """Adds one image to the tally; the classes on it are returned."""
    stored = entry["filename"]
    where = f"{config.annotations}, image {stored[:200]!r}"
    shapes = []
    for place, region in regions:
        outline = require(region, "shape_attributes", dict, place)
        kind = require(outline, "name", str, place)
        if kind in _NO_AREA:
            tally.skipped(kind, stored)
        elif kind in _MAKERS:
            shapes.append(_MAKERS[kind](outline, namer.name(region, place), place))
        else:
            known = ", ".join((*_MAKERS, *_NO_AREA))
            raise UserError(
                "unclassified", f"its shape is called {kind[:40]!r}", f"shapes of VIA are {known}", where=place
            )
    path = images.find(stored, where)
    mask = ShapesMask(where, tuple(shapes), None, config.overlap)
    tally.add(Pair(images.name(path), path, mask), where, empty=not shapes)
    return {shape.name for shape in shapes}


# --- The file -----------------------------------------------------------------------------------------------


def _entries(content: Any, where: str) -> list[dict]:
    """The entry of each image.

    Raises:
      UserError: this is no file of VIA 1 or 2.
    """
    if isinstance(content, dict) and "_via_img_metadata" in content:
        content = require(content, "_via_img_metadata", dict, where)
    if isinstance(content, dict) and {"project", "metadata"} <= content.keys():
        raise UserError(
            "unclassified",
            "is a project of VIA 3, which is for video",
            "annotate in VIA 2, or export to COCO",
            where=where,
        )
    if not isinstance(content, dict) or not content:
        held = "holds no image" if content == {} else f"must be an object, not {in_words(content)}"
        raise UserError("unclassified", held, "in VIA: Annotation, Export Annotations (as JSON)", where=where)
    for key, entry in content.items():
        if not isinstance(entry, dict) or "regions" not in entry or "filename" not in entry:
            rule = f"{key[:80]!r} is no image of VIA: it has no `filename` or no `regions`"
            raise UserError("unclassified", rule, "in VIA: Annotation, Export Annotations (as JSON)", where=where)
        require(entry, "filename", str, f"{where}, image {key[:80]!r}")
    return list(content.values())


def _regions(entry: dict, where: str) -> list[_Region]:
    """Regions of an image: a list in VIA 2, an object with the keys "0", "1" ... in VIA 1."""
    place = f"{where}, image {entry['filename'][:200]!r}"
    regions = require(entry, "regions", (list, dict), place, [])
    listed = list(regions.values()) if isinstance(regions, dict) else regions
    places = [f"{place}, region {number}" for number in range(1, len(listed) + 1)]
    return [(place, checked(region, dict, "it", place)) for place, region in zip(places, listed, strict=True)]


def _attribute(config: BuildViaConfig, regions: list[_Region]) -> str:
    """The region attribute that is the class; empty where no region has any, and all are of the default class."""
    found: dict[str, None] = {}
    for place, region in regions:
        found.update(dict.fromkeys(_attributes_of(region, place)))
    wanted = config.label_attribute
    if wanted and wanted not in found and found:
        raise UserError(
            "unclassified",
            f"no region has the attribute {wanted!r}",
            nearest(wanted, list(found)),
            field="label_attribute",
        )
    if wanted or len(found) == 1:
        return wanted or next(iter(found))
    if found:
        rule = f"regions have the attributes {', '.join(map(repr, found))}: which is the class?"
        raise UserError(
            "unclassified", rule, f"`label_attribute={next(iter(found))}`, or another of them", where=config.annotations
        )
    if regions and not config.default_class:
        hint = "`default_class=NAME` if all regions are of one class"
        raise UserError(
            "unclassified", "no region has an attribute that could be its class", hint, where=config.annotations
        )
    return ""


def _attributes_of(region: dict, where: str) -> dict:
    attributes = require(region, "region_attributes", (dict, list), where, {})
    return checked(attributes or {}, dict, "`region_attributes`", where)  # some scripts write [] for none


def _options(content: Any, attribute: str) -> Mapping[str, str]:
    """What the options of the attribute are called, where a project numbers them: {"1": "hair", "2": "skin"}."""
    found = content
    for key in ("_via_attributes", "region", attribute, "options"):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict) or not all(key.isdigit() for key in found):
        return {}
    return {key: text.strip() for key, text in found.items() if isinstance(text, str) and text.strip()}


class _Namer:
    """From a region's attributes to its class."""

    def __init__(self, attribute: str, default: str, options: Mapping[str, str]):
        self.attribute, self.default, self.options = attribute, default, options

    def name(self, region: dict, where: str) -> str:
        """The class of a region.

        Raises:
          UserError: it has none, and there is no default, or several.
        """
        value = _attributes_of(region, where).get(self.attribute)
        if isinstance(value, dict):
            value = self._ticked(value, where)
        elif value is not None:
            value = str(checked(value, (str, int), f"`{self.attribute}`", where)).strip()
        if not (value or self.default):
            hint = "label it in VIA, or `default_class=NAME` for all such regions"
            raise UserError("unclassified", f"has no class: `{self.attribute}` is empty", hint, where=where)
        name = self.options.get(value, value) if value else self.default
        require_plain(name, f"`{self.attribute}`", where)
        return name

    def _ticked(self, boxes: dict, where: str) -> str:
        """A group of check boxes, {"hair": true}, of which one must be ticked."""
        ticked = [option for option, on in boxes.items() if on is True or on == "true"]
        if len(ticked) > 1:
            rule = f"has several classes: {shorten(list(map(repr, ticked)))}"
            raise UserError(
                "unclassified",
                rule,
                "a pixel has one class: leave one box ticked, or choose another attribute",
                where=where,
            )
        return ticked[0].strip() if ticked else ""


# --- Shapes -------------------------------------------------------------------------------------------------


def _polygon(outline: dict, name: str, where: str) -> Shape:
    xs = require(outline, "all_points_x", list, where)
    ys = require(outline, "all_points_y", list, where)
    if len(xs) != len(ys):
        rule = f"`all_points_x` has {len(xs)} numbers, `all_points_y` {len(ys)}"
        raise UserError("unclassified", rule, "draw the region again", where=where)
    return polygon(name, [list(pair) for pair in zip(xs, ys, strict=True)], where=where)


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
