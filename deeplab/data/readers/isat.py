"""ISAT (image segmentation annotation tool with SAM): one JSON file per image, with polygons in layers.

https://github.com/yatengLG/ISAT_with_segment_anything. Objects of a higher layer cover those of a lower one; a hole is
an object of the class `__background__` in a higher layer. `isat.yaml` beside the files lists classes and their colors.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from deeplab.config.conversion_config import FilePerImageConfig
from deeplab.data.class_names import BACKGROUND, IGNORED_NAME, is_background
from deeplab.data.dataset import Color
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_files import AnnotationFile, find_named, read_each
from deeplab.data.readers.annotation_values import class_name, image_size, read_color, read_json, require, yes_or_no
from deeplab.data.readers.collector import Collector
from deeplab.data.readers.shapes import Shape, polygon, polygons
from deeplab.data.readers.source import Source
from deeplab.utils.errors import UserError
from deeplab.utils.yaml_files import load_mapping

_CLASS_FILE = "isat.yaml"


@register_format("isat", FilePerImageConfig)
def read_isat(config: FilePerImageConfig) -> Source:
    """Reads all images that have a JSON file; classes are those of isat.yaml, else those that occur, sorted.

    Raises:
      UserError: no such folder or no JSON file in it; files that are not ISAT's; images that do not exist.
    """
    collector, folders = read_each(config, ".json", _read_file)
    listed = _listed_classes(folders)
    names = collector.class_names([*listed, *sorted(collector.used_names - listed.keys())] if listed else None)
    colors = {BACKGROUND: (0, 0, 0), **listed}
    kept = tuple(color for name in names if (color := colors.get(name)) is not None)
    return Source(collector.splits, names, kept if len(kept) == len(names) else (), drawn=True)


def _read_file(file: AnnotationFile, collector: Collector) -> None:
    path, images = file.path, file.images
    content = read_json(path)
    if not isinstance(content, dict) or not {"info", "objects"} <= content.keys():
        rule = "is not a file of ISAT: it has no 'info' or no 'objects'"
        raise UserError("wrong-format", rule, "move it out of `annotation_folder`", where=path)
    info = require(content, "info", dict, path)
    size = image_size(info, "height", "width", path)
    image = find_named(images, require(info, "name", str, path, ""), path, file.inside, collector)
    shapes = []
    entries = require(content, "objects", list, path)
    layers = _ranks([require(entry, "layer", float, f"{path}, object {n}", 0.0) for n, entry in enumerate(entries, 1)])
    for number, (entry, layer) in enumerate(zip(entries, layers, strict=True), 1):
        where = f"{path}, object {number}"
        name, beneath = class_name(entry, "category", where), False
        if yes_or_no(entry, "iscrowd", where):
            collector.note("crowd regions turned into ignored pixels", images.name(image))
            name, beneath = IGNORED_NAME, True
        shapes.append(_shape(require(entry, "segmentation", list, where), name, layer, beneath, where))
    collector.add(images.name(image), image, path, shapes, size, file.split)


def _ranks(layers: Sequence[float]) -> list[int]:
    """Returns the place of each layer among all, from 0: layers are fractions in the file."""
    order = {layer: place for place, layer in enumerate(sorted(set(layers)))}
    return [order[layer] for layer in layers]


def _shape(points: list[Any], name: str, layer: int, beneath: bool, where: str) -> Shape:
    """Makes the shape of an object: one polygon, or a list of them."""
    nested = bool(points) and isinstance(points[0], list) and bool(points[0]) and isinstance(points[0][0], list)
    shape = polygons(name, points, where) if nested else polygon(name, points, where=where)
    return Shape(name, shape.rings, nested, layer=layer, beneath=beneath)


def _listed_classes(folders: Sequence[str]) -> dict[str, Color | None]:
    """Returns the classes of the first isat.yaml with their colors; nothing if there is none."""
    path = next(filter(os.path.isfile, (os.path.join(folder, _CLASS_FILE) for folder in folders)), "")
    found: dict[str, Color | None] = {}
    for number, entry in enumerate(require(load_mapping(path), "label", list, path, []) if path else [], 1):
        name = class_name(entry, "name", f"{path}, label {number}")
        if not is_background(name):
            found[name] = read_color(entry.get("color"))
    return found
