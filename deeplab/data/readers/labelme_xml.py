"""LabelMe 3 (MIT): one XML file per image, with polygons and masks; CVAT and Datumaro export it, too.

http://labelme.csail.mit.edu. Objects are painted in the order of the file. An object may have a mask instead of a
polygon: a PNG beside the XML file, or in a folder `Masks` there or beside the folder of annotations.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from deeplab.config.conversion_config import FilePerImageConfig
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_files import AnnotationFile, find_named, read_each
from deeplab.data.readers.annotation_values import require_plain
from deeplab.data.readers.bitmaps import png_bitmap
from deeplab.data.readers.collector import Collector
from deeplab.data.readers.image_finder import safe_parts
from deeplab.data.readers.name_lists import existing_file
from deeplab.data.readers.shapes import Shape, bitmap, polygon
from deeplab.data.readers.source import Source
from deeplab.utils.errors import UserError
from deeplab.utils.paths import read_file

_EXPORT = "export it again as LabelMe 3"
_MAX_DEPTH = 50  # of elements; LabelMe has six
_MASK_FOLDER = "Masks"
_WHOLE = re.compile(r"\d{1,9}")


@register_format("labelme_xml", FilePerImageConfig)
def read_labelme_xml(config: FilePerImageConfig) -> Source:
    """Reads all images that have an XML file; classes are the names that occur, in sorted order.

    Raises:
      UserError: no such folder or no XML file in it; files that are not LabelMe's; images or masks that do not exist.
    """
    collector, _ = read_each(config, ".xml", _read_file, lambda path: _MASK_FOLDER not in path.split("/"))
    return Source(collector.splits, collector.class_names(), drawn=True)


@dataclass(frozen=True)
class _LabelmeMask:
    """An object whose pixels are in a PNG."""

    name: str
    path: str
    where: str


def _read_file(file: AnnotationFile, collector: Collector) -> None:
    path, images = file.path, file.images
    root = _parsed(path)
    size = tuple(_whole(root.text_of("imagesize", key)) for key in ("nrows", "ncols"))
    image = find_named(images, root.text_of("filename"), path, file.inside, collector)
    parts: list[Shape | _LabelmeMask] = []
    for number, entry in enumerate(root.all("object"), 1):
        if entry.text_of("deleted") == "1":
            continue
        where = f"{path}, object {number}"
        name = entry.text_of("name")
        if not name:
            raise UserError("empty-name", "it has no name", "give the object a class", where=where)
        require_plain(name, "'name'", where)
        outline, segment = entry.first("polygon"), entry.first("segm")
        if outline:
            parts.append(polygon(name, _points(outline, where), where=where))
        elif segment:
            parts.append(_LabelmeMask(name, _mask_of(segment, path, where), where))
        else:
            collector.skipped("object without an outline", images.name(image))
    stated = (size[0], size[1]) if all(size) else None
    outlines = [part for part in parts if isinstance(part, Shape)]
    if len(outlines) < len(parts):  # files are opened when the label is drawn
        collector.used_names.update(part.name for part in parts)
        shapes: Any = functools.partial(_draw, parts)
        collector.add(images.name(image), image, path, shapes, stated, file.split, outlines=outlines)
    else:
        collector.add(images.name(image), image, path, outlines, stated, file.split)


def _draw(parts: Sequence[Shape | _LabelmeMask], height: int, width: int) -> list[Shape]:
    """Returns the shapes in the order of the file, with masks read from their PNG files."""
    return [
        part
        if isinstance(part, Shape)
        else bitmap(part.name, png_bitmap(read_file(part.path), part.where, (height, width)), where=part.where)
        for part in parts
    ]


def _mask_of(segment: _Node, path: str, where: str) -> str:
    """Returns the path of the PNG that an object names."""
    name = "/".join(safe_parts(segment.text_of("mask"))[-1:])
    folder = os.path.dirname(os.path.abspath(path))
    above, own = os.path.split(folder)
    places = [folder, os.path.join(folder, _MASK_FOLDER), os.path.join(above, _MASK_FOLDER)]
    places.append(os.path.join(os.path.dirname(above), _MASK_FOLDER, own))  # beside Annotations/own
    found = next((file for place in places if (file := existing_file(os.path.join(place, name)))), "") if name else ""
    if not found:
        hint = f"put it into {os.path.join(folder, _MASK_FOLDER)}"
        raise UserError("file-not-found", f"its mask {name!r} does not exist", hint, where=where, value=name)
    return found


def _points(outline: _Node, where: str) -> list[list[float]]:
    try:
        return [[float(point.text_of("x")), float(point.text_of("y"))] for point in outline.all("pt")]
    except ValueError:
        hint = "correct it, or remove the object"
        raise UserError("invalid-points", "'x' and 'y' must be numbers", hint, where=where) from None


def _whole(text: str) -> int:
    return int(text) if _WHOLE.fullmatch(text) else 0


# --- XML ----------------------------------------------------------------------------------------------------


@dataclass
class _Node:
    """An element with what it contains."""

    kind: str
    parts: list[str] = field(default_factory=list)
    children: list[_Node] = field(default_factory=list)

    def all(self, kind: str) -> list[_Node]:
        """Its children of a kind."""
        return [child for child in self.children if child.kind == kind]

    def first(self, kind: str) -> _Node | None:
        """The first child of a kind; None without one."""
        return next((child for child in self.children if child.kind == kind), None)

    def text_of(self, *kinds: str) -> str:
        """The text in a child, or in a child of a child; empty without one."""
        node: _Node | None = self
        for kind in kinds:
            node = node.first(kind) if node else None
        return "".join(node.parts).strip() if node else ""


def _parsed(path: str) -> _Node:
    """Parses a file.

    Raises:
      UserError: it is not XML, or not of LabelMe.
    """
    top = _Node("")
    open_nodes = [top]

    def start(kind: str, _: dict[str, str]) -> None:
        if len(open_nodes) > _MAX_DEPTH:
            raise UserError("invalid-xml", "is nested too deeply", _EXPORT, where=path)
        node = _Node(kind)
        open_nodes[-1].children.append(node)
        open_nodes.append(node)

    def refuse_doctype(*_: Any) -> None:
        raise UserError("wrong-format", "has a DOCTYPE, which no file of LabelMe has", "remove it", where=path)

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: open_nodes.pop()
    parser.CharacterDataHandler = lambda text: open_nodes[-1].parts.append(text)
    parser.StartDoctypeDeclHandler = refuse_doctype
    try:
        parser.Parse(read_file(path), True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the latter two: unknown encodings
        raise UserError("invalid-xml", f"is not XML: {error}", _EXPORT, where=path) from None
    root = top.children[0]
    if root.kind != "annotation":
        rule = f"is not a file of LabelMe: it begins with <{root.kind[:40]}>"
        raise UserError("wrong-format", rule, _EXPORT, where=path)
    if any(entry.first("bndbox") for entry in root.all("object")):
        rule = "is a file of PASCAL VOC's boxes, which have no outlines"
        raise UserError("wrong-format", rule, "its masks are in SegmentationClass: use format 'voc'", where=path)
    return root
