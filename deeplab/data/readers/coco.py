"""COCO JSON: polygons and run lengths, crowds, things and stuff.

The objects of an image are painted from the largest to the smallest; crowd regions become ignored pixels and are
painted before everything else, so that whatever is annotated in front of them keeps its label.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deeplab.config.conversion_config import DrawnConfig
from deeplab.config.fields import setting
from deeplab.data.class_names import BACKGROUND, IGNORED_NAME
from deeplab.data.dataset import Color
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_files import files_by_split
from deeplab.data.readers.annotation_values import (
    class_name,
    image_size,
    in_words,
    read_color,
    read_json,
    require,
    yes_or_no,
)
from deeplab.data.readers.bitmaps import Bitmap, checked_runs, coco_runs
from deeplab.data.readers.collector import Collector
from deeplab.data.readers.image_finder import ImageFinder, image_finders
from deeplab.data.readers.shapes import Shape, polygons
from deeplab.data.readers.source import Source
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import read_text
from deeplab.utils.text import shorten

_ALL_THINGS = (183, "other")  # the category that stands for all things in COCO's stuff files
_LARGE = 2e7  # bytes, a second or two
_FEDERATED = "not_exhaustive_category_ids"  # of images in LVIS
_HINT = "use instances_*.json; files of other tools have formats of their own here"
_AS_OBJECTS = "as CVAT marks brush strokes: they are read as objects (`crowd=ignore` ignores their pixels)"
_Id = int | str
_Settle = Callable[["_CocoImage"], list[Shape]]


@dataclass(frozen=True)
class BuildCocoConfig(DrawnConfig):
    """Where annotation files and images are."""

    annotations: str = setting(
        "",
        "JSON files or folders of them, with commas; several files about the same images, such as things and stuff, "
        "are combined. train:FILE,val:FILE names the splits; otherwise the names of files or folders tell them.",
        required=True,
    )
    image_folder: str = setting(
        "", "Folder of the images; train:FOLDER,val:FOLDER if each split has its own (unset: that of the JSON file)."
    )
    crowd: str = setting(
        "auto",
        "Crowd regions: ignored pixels, pixels of their class, or left out (auto: ignored, except where a tool such as "
        "CVAT calls every brush stroke a crowd).",
        choices=("auto", "ignore", "class", "skip"),
    )
    overlap: str = setting(
        "area",
        "Which object covers which: small ones the large ones, or later ones in the file the earlier ones.",
        choices=("file", "area"),
    )


@register_format("coco", BuildCocoConfig)
def read_coco(config: BuildCocoConfig) -> Source:
    """Reads a dataset in COCO's JSON.

    Raises:
      UserError: files that cannot be read, break the format, or name images that do not exist.
    """
    files = files_by_split(config.annotations, "annotations", ".json")
    finders = image_finders(config.image_folder, files)
    collector = Collector(config)
    reader = _CocoReader(config.crowd, collector)
    for (split, path), finder in zip(files, finders, strict=True):
        reader.read(path, split, finder)
    settle = reader.settle_crowds()
    for split, images in reader.images.items():
        for image in images.values():
            with collector.catching():
                collector.add(image.name, image.path, image.where, settle(image), image.size, split)
    unused = {name for finder in finders for name in finder.unused()}
    collector.left_out(sorted(unused), "that no annotation file lists")
    collector.report()
    collector.require_pairs(config.annotations, "check that the files contain images, and `skip_empty`")
    class_names = collector.class_names(reader.categories.names())
    return Source(collector.splits, class_names, reader.categories.colors(class_names), drawn=True)


# --- Files --------------------------------------------------------------------------------------------------


@dataclass
class _CocoImage:
    name: str
    path: str
    where: str
    size: tuple[int, int] | None
    file: str  # the annotation file that listed it last
    shapes: list[Shape] = field(default_factory=list)  # crowds among them lie beneath the others


class _CocoReader:
    """Images and their shapes, collected from one file after the other."""

    def __init__(self, crowd: str, collector: Collector):
        self.crowd, self.collector = crowd, collector
        self.categories = Categories(collector.note)
        self.images: dict[str, dict[str, _CocoImage]] = {}  # by split and path of the image
        self._packed_crowds = 0  # crowds whose run lengths are compressed, as CVAT's never are
        self._tool_crowds = 0  # crowds with 'attributes' such as 'occluded', which CVAT and Datumaro write

    def read(self, path: str, split: str, finder: ImageFinder) -> None:
        """Reads one file.

        Raises:
          UserError: it is not a COCO file of objects or stuff, or its categories contradict an earlier file's.
        """
        content = _read_packed(path)
        _require_coco(content, path)
        entries, annotations = require(content, "images", list, path), require(content, "annotations", list, path)
        _refuse_other_kinds(annotations, path)
        self.categories.add(content, path)
        images = self._listed(entries, path, self.images.setdefault(split, {}), finder)
        if entries and isinstance(entries[0], dict) and _FEDERATED in entries[0]:
            console.note(f"{path}: in each image only some classes are annotated, as in LVIS; all else is background")
        del content, entries
        what = f"reading {os.path.basename(path)}"
        bar = console.progress(_consumed(annotations), total=len(annotations), what=what, unit="annotation")
        for number, annotation in enumerate(bar, 1):
            with self.collector.catching():
                self._take(annotation, images, f"{path}, annotation {shown_id(annotation, number)}")

    def _listed(
        self, entries: Sequence[Any], path: str, images: dict[str, _CocoImage], finder: ImageFinder
    ) -> dict[_Id, _CocoImage | None]:
        """Returns the file's images by its own ids; None for those with an error, which is reported already."""
        by_id: dict[_Id, _CocoImage | None] = {}
        for number, entry in enumerate(entries, 1):
            where = f"{path}, image {shown_id(entry, number)}"
            with self.collector.catching():
                identity = id_in(entry, "id", where)
                if identity in by_id:
                    rule = f"the id {identity!r} is used twice"
                    raise UserError("duplicate-id", rule, "list each image once, with its own id", where=where)
                by_id[identity] = None
                by_id[identity] = _image(entry, where, path, images, finder)
        return by_id

    def _take(self, annotation: Any, images: Mapping[_Id, _CocoImage | None], where: str) -> None:
        identity = id_in(annotation, "image_id", where)
        if identity not in images:
            if self.collector.config.on_missing == "skip":
                self.collector.note("annotations whose image is not listed: left out", where)
                return
            rule = f"image {identity!r} is not in the list 'images'"
            hint = "add the image, remove the annotation, or leave such annotations out with `on_missing=skip`"
            raise UserError("unknown-id", rule, hint, where=where, value=identity)
        image = images[identity]
        if image is None:
            return
        shape = self._shape(annotation, image, f"{where} of {image.name}")
        if shape:
            image.shapes.append(shape)

    def _shape(self, annotation: Any, image: _CocoImage, where: str) -> Shape | None:
        name = self.categories.name(id_in(annotation, "category_id", where), where)
        is_crowd = yes_or_no(annotation, "iscrowd", where)
        if is_crowd and self.crowd == "skip":
            self.collector.note("crowd regions left out (`crowd=class` gives them their class)", image.name)
            return None
        if name is None:
            return None
        beneath = is_crowd and self.crowd != "class"
        outline = require(annotation, "segmentation", (list, dict), where, [])
        if isinstance(outline, dict):
            packed = isinstance(outline.get("counts"), str)
            self._packed_crowds += beneath and packed
            self._tool_crowds += beneath and not packed and isinstance(annotation.get("attributes"), dict)
            found = _bitmap(outline, image.size, where)
            image.size = image.size or (found.height, found.width)
            return Shape(name, bitmap=found, beneath=beneath)
        if outline and all(type(number) in (int, float) for number in outline):  # one ring, without its list
            outline = [outline]
        rings = [ring for ring in outline if not (isinstance(ring, (list, np.ndarray)) and len(ring) == 0)]
        if not rings:
            self.collector.skipped("boxes", image.name)
            return None
        return polygons(name, rings, where, beneath)

    def settle_crowds(self) -> _Settle:
        """Decides what crowd regions are, and returns what turns an image's shapes into those to be painted.

        CVAT's export calls everything that was drawn with the brush a crowd.

        Raises:
          UserError: half of the regions or more are crowds, and it is not clear what they are.
        """
        total: dict[str, int] = {}
        crowds: dict[str, int] = {}
        for image in (image for images in self.images.values() for image in images.values()):
            for shape in image.shapes:
                total[shape.name] = total.get(shape.name, 0) + 1
                if shape.beneath:
                    crowds[shape.name] = crowds.get(shape.name, 0) + 1
        number = sum(crowds.values())
        only = [name for name, count in crowds.items() if count == total[name]]
        if self.crowd == "auto" and number and not self._packed_crowds and self._tool_crowds == number:
            console.note(f"{number} regions are marked as crowds, {_AS_OBJECTS}")
            return _all_objects
        if self.crowd == "auto" and 2 * number >= sum(total.values()) > 0:
            if self._packed_crowds:
                rule = f"{number} of {sum(total.values())} regions are crowds"
                hint = (
                    "`crowd=class` if they are objects, `crowd=ignore` if each shows a crowd, whose pixels do not count"
                )
                raise UserError("unclear-crowds", rule, hint, field="crowd", value=number)
            console.note(f"{number} of {sum(total.values())} regions are marked as crowds, {_AS_OBJECTS}")
            return _all_objects
        brushed = {name for name in only if crowds[name] > 1 and self.crowd == "auto" and not self._packed_crowds}
        if brushed:
            console.note(f"all regions of class {shorten(sorted(brushed))} are marked as crowds, {_AS_OBJECTS}")
            number -= sum(crowds[name] for name in brushed)
            only = [name for name in only if name not in brushed]
        if number:
            lost = f"; all of class {shorten(only)} are" if only else ""
            regions = "1 crowd region becomes" if number == 1 else f"{number} crowd regions become"
            text = f"{regions} ignored pixels{lost} (`crowd=class` gives them their class)"
            (console.warning if only else console.note)(text)
        return lambda image: [
            dataclasses.replace(shape, beneath=False)
            if shape.name in brushed
            else dataclasses.replace(shape, name=IGNORED_NAME)
            if shape.beneath
            else shape
            for shape in image.shapes
        ]


def _all_objects(image: _CocoImage) -> list[Shape]:
    return [dataclasses.replace(shape, beneath=False) for shape in image.shapes]


def _read_packed(path: str) -> Any:
    """Reads a JSON file, with outlines as arrays from the moment they are parsed, which halves the memory."""
    if os.path.isfile(path) and os.path.getsize(path) > _LARGE:
        console.note(f"{path}: parsing {os.path.getsize(path) / 1e6:.0f} MB")
    text = read_text(path)
    if "\\ud" not in text and "\\uD" not in text:  # these may be broken characters, which read_json looks for
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(text, object_hook=_packed)
    return read_json(path)  # says what is wrong


def _packed(holder: dict[str, Any]) -> dict[str, Any]:
    outline = holder.get("segmentation")
    if isinstance(outline, list):
        with contextlib.suppress(ValueError, TypeError, OverflowError):  # `polygons` will say why
            holder["segmentation"] = [np.asarray(ring) if isinstance(ring, list) else ring for ring in outline]
    return holder


def _require_coco(content: Any, path: str) -> None:
    keys = ("images", "annotations", "categories")
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        held = shorten([str(key)[:40] for key in content]) if isinstance(content, dict) else in_words(content)
        rule = f"is not a COCO file: it has no {', '.join(map(repr, missing))}, but contains {held or 'nothing'}"
        raise UserError("wrong-format", rule, _HINT, where=path)


def _refuse_other_kinds(annotations: Sequence[Any], path: str) -> None:
    keys = set(annotations[0]) if annotations and isinstance(annotations[0], dict) else set()
    hint = "use instances_*.json, and stuff_*.json too if stuff is wanted"
    if "segments_info" in keys:
        rule, other = "is a panoptic file, whose regions are in PNG files", "the format `coco_panoptic` reads it"
        raise UserError("wrong-format", rule, other, where=path)
    if "caption" in keys:
        raise UserError("wrong-format", "contains captions, no regions", hint, where=path)


def _consumed(items: list[Any]) -> Iterator[Any]:
    """Yields the items in order and forgets each one, so that large files leave memory while they are read."""
    items.reverse()
    while items:
        yield items.pop()


def shown_id(entry: Any, number: int) -> _Id:
    """Returns an id for messages: the entry's own, else its place in the list."""
    identity = entry.get("id") if isinstance(entry, dict) else None
    return identity if isinstance(identity, int) and abs(identity) < 1e18 else f"number {number}"


def id_in(entry: Any, key: str, where: str) -> _Id:
    """Returns an id. Some tools write numbers as text in one place and as numbers in another."""
    identity = require(entry, key, (int, str), where)
    is_number = isinstance(identity, str) and identity.isdecimal() and len(identity) < 19
    return int(identity) if is_number else identity


def _image(entry: Any, where: str, path: str, images: dict[str, _CocoImage], finder: ImageFinder) -> _CocoImage:
    found = finder.find(_file_name(entry, where), where, finder.beside(path))
    size = image_size(entry, "height", "width", where)
    image = images.get(found)
    if image is None:
        name = finder.name(found)
        image = images[found] = _CocoImage(name, found, f"{path}, image {name}", size, path)
        return image
    if image.file == path:
        rule = f"{image.name} was listed before"
        raise UserError("duplicate-image", rule, "list each image once, with one id", where=where, value=image.name)
    if size and image.size and size != image.size:
        rule = f"{image.name} has {size[1]}x{size[0]} pixels, in {image.file} {image.size[1]}x{image.size[0]}"
        hint = "the files are not about the same images: build them one by one"
        raise UserError("size-mismatch", rule, hint, where=where, value=size)
    image.file, image.size = path, image.size or size
    return image


def _file_name(entry: Any, where: str) -> str:
    """The image's file. LVIS tells only its address, which ends in folder and name: val2017/000000397133.jpg."""
    if not require(entry, "file_name", str, where, "") and (address := require(entry, "coco_url", str, where, "")):
        return "/".join(address.split("/")[-2:])
    return require(entry, "file_name", str, where)


def _bitmap(outline: dict[str, Any], image_size: tuple[int, int] | None, where: str) -> Bitmap:
    """Reads run lengths, and checks that they fit the image."""
    size = require(outline, "size", list, where)
    counts = require(outline, "counts", (str, list), where)
    if len(size) != 2 or not all(type(side) is int and 0 < side < 2**31 for side in size):
        rule = "'size' must be the height and the width in pixels"
        raise UserError("wrong-type", rule, "export it again", where=where)
    height, width = size
    if image_size and image_size != (height, width):
        rule = f"run lengths are for {width}x{height} pixels, the image has {image_size[1]}x{image_size[0]}"
        hint = "'size' is [height, width]; export it again"
        raise UserError("size-mismatch", rule, hint, where=where, value=(height, width))
    runs = coco_runs(counts, where) if isinstance(counts, str) else counts
    return Bitmap(checked_runs(runs, height * width, where), height, width, by_columns=True)


class Categories:
    """Class names by id; the label value is the place in the order of ids, after the background if there is one.

    Args:
      note: is called with a text and a class name about what is odd in a file, and does not stop the reading.
    """

    def __init__(self, note: Callable[[str, str], None]) -> None:
        self._note = note
        self._names: dict[_Id, str] = {}
        self._colors: dict[str, Color] = {}
        self._used: set[_Id] = set()

    def add(self, content: Any, path: str) -> None:
        """Reads the categories of one file.

        Raises:
          UserError: there are none, or an id has another name than before.
        """
        entries = require(content, "categories", list, path)
        if not entries:
            raise UserError("missing-class-names", "'categories' is empty", "export it with its classes", where=path)
        for number, entry in enumerate(entries, 1):
            where = f"{path}, category {shown_id(entry, number)}"
            identity, name = id_in(entry, "id", where), class_name(entry, "name", where)
            if self._names.setdefault(identity, name) != name:
                rule = f"is {name!r}, but was {self._names[identity]!r} before"
                hint = "files that are built together must have the same categories"
                raise UserError("class-mismatch", rule, hint, where=where, value=name)
            color = read_color(entry.get("color"))
            if color:
                self._colors.setdefault(name, color)
            elif entry.get("color") is not None:
                self._note("class colors that cannot be read, left out", name)

    def name(self, identity: _Id, where: str) -> str | None:
        """Returns the name of a category; None for COCO's stand-in for all things, of which nothing is painted.

        Raises:
          UserError: there is no such category.
        """
        if identity not in self._names:
            rule = f"category {identity!r} is not in the list 'categories'"
            hint = f"its ids are {shorten([str(known) for known, _ in self._in_order()], 8)}"
            raise UserError("unknown-id", rule, hint, where=where, value=identity)
        self._used.add(identity)
        name = self._names[identity]
        return None if (identity, name) == _ALL_THINGS else name

    def names(self) -> list[str]:
        """Returns the names of the classes in the order of ids."""
        kept = [(identity, name) for identity, name in self._in_order() if (identity, name) != _ALL_THINGS]
        if len(kept) > 1 and kept[0][0] == 0 and 0 not in self._used and self._used:
            console.note(
                f"category 0, {kept[0][1]!r}, is used by no annotation, and is not a class (`class_names` keeps it)"
            )
            kept = kept[1:]
        return [name for _, name in kept]

    def _in_order(self) -> list[tuple[_Id, str]]:
        return sorted(self._names.items(), key=lambda item: (isinstance(item[0], str), item[0]))

    def colors(self, names: Sequence[str]) -> tuple[Color, ...]:
        """Returns their colors, or none if the files do not give every class one."""
        colors = {BACKGROUND: (0, 0, 0), **self._colors}
        if not self._colors or not all(name in colors for name in names):
            return ()
        return tuple(colors[name] for name in names)
