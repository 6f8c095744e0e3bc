"""CVAT for images 1.1: one XML for all images of a task, a job or a project.

Shapes are painted in the order of their layer (`z_order`), within one in the order of the file; later ones cover
earlier ones.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

import numpy as np

from deeplab.config.fields import setting
from deeplab.data.dataset import Color
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_files import DrawnConfig, ImageFinder, Tally, require_pairs, require_plain
from deeplab.data.readers.rle import checked_runs, pixels_of
from deeplab.data.readers.shapes import Shape, background_of, bitmap, class_names_of, ellipse, paint, polygon, rectangle
from deeplab.data.readers.source import BACKGROUND, UNDIVIDED, Painter, Pair, Source, with_background
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import split_paths, unreadable_file

_WITHOUT_AREA = ("polyline", "points", "skeleton", "cuboid", "tag")
_SPLITS = {"training": "train", "validation": "val", "valid": "val", "testing": "test"}
_COLOR = re.compile(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")
_EXPORT = 'export the task as "CVAT for images 1.1"'
_LARGEST = 2**31 - 1
_PIECE = 1 << 20  # bytes read at once
_MOST_TEXT = 1000  # characters kept of an element


@dataclass(frozen=True)
class BuildCvatConfig(DrawnConfig):
    """Where annotation files and images lie."""

    annotations: str = setting("", "Files `annotations.xml`, with commas.", required=True)
    image_folder: str = setting("", "Folder of the images.", required=True)


@dataclass(frozen=True, eq=False, slots=True)
class Runs:
    """A mask of CVAT: run lengths of a rectangle of the image, row after row.

    Attributes:
      name: its class.
      runs: int32 [n], pixels in turn that are not in the mask and that are.
      left, top, width, height: the rectangle, in pixels.
      layer: its `z_order`.
    """

    name: str
    runs: np.ndarray
    left: int
    top: int
    width: int
    height: int
    layer: int

    def shape(self) -> Shape:
        """The mask as it is painted."""
        pixels = pixels_of(self.runs).reshape(self.height, self.width)
        return bitmap(self.name, pixels, self.left, self.top, self.layer)


@dataclass(frozen=True, eq=False)
class CvatMask:
    """The label of one image; see `source.Mask`.

    Attributes:
      where: file and image, for messages.
      size: height and width that the file states; None where it states none.
      shapes: in the order of the file.
      overlap: "file" or "area".
    """

    where: str
    size: tuple[int, int] | None
    shapes: tuple[Shape | Runs, ...]
    overlap: str = "file"

    def draw(self, painter: Painter, height: int, width: int) -> np.ndarray:
        """The label, uint8 [height, width].

        Raises:
          UserError: a mask larger than the image, or a class that is not there.
        """
        for shape in self.shapes:
            if isinstance(shape, Runs) and (shape.height > height or shape.width > width):
                rule = f"a mask has {shape.width}x{shape.height} pixels, its image {width}x{height}"
                raise UserError(
                    "unclassified", rule, "take the image that was annotated, in its own size", where=self.where
                )
        shapes = [shape.shape() if isinstance(shape, Runs) else shape for shape in self.shapes]
        return paint(shapes, painter, self.where, height, width, self.overlap, background_of(painter))


@register_format("cvat", BuildCvatConfig)
def read_cvat(config: BuildCvatConfig) -> Source:
    """A dataset in CVAT's XML.

    Raises:
      UserError: files that cannot be read, are not CVAT's, or name images that are not there.
    """
    finder = ImageFinder(config.image_folder, "`image_folder`")
    tally = Tally(config.skip_empty)
    dumps = [_read(path, tally) for path in split_paths(config.annotations)]
    images = [image for dump in dumps for image in dump.images]
    for image, split in zip(images, _splits([image.subset for image in images]), strict=True):
        with tally.collecting():
            _add(tally, finder, image, split, config)
    tally.left_out(finder.unused(), "that no annotation names")
    tally.report()
    require_pairs(tally, config.annotations or "`annotations`", _EXPORT)
    names, colors = _classes([label for dump in dumps for label in dump.labels], images)
    return Source(tally.splits, names, colors, drawn=True)


def _add(tally: Tally, finder: ImageFinder, image: _Image, split: str, config: BuildCvatConfig) -> None:
    path = finder.find(image.name, image.where)
    mask = CvatMask(image.where, image.size, tuple(image.shapes), config.overlap)
    tally.add(Pair(finder.name(path), path, mask), image.where, split, empty=not image.shapes)


def _splits(subsets: Sequence[str]) -> list[str]:
    """Splits of images by their subsets; a single subset says nothing, nor do several where some images have none."""
    splits = [_split_name(subset) for subset in subsets]
    named = sorted(set(splits) - {UNDIVIDED})
    if UNDIVIDED in splits and named:
        console.note(f"some images are in no subset of {', '.join(named)}: all are divided anew")
    return splits if len(named) > 1 and UNDIVIDED not in splits else [UNDIVIDED] * len(splits)


def _split_name(subset: str) -> str:
    word = re.sub(r"[^a-z0-9_-]+", "_", subset.strip().lower())
    return UNDIVIDED if word in ("", "default") else _SPLITS.get(word, word)


# --- Classes ------------------------------------------------------------------------------------------------


def _classes(labels: Sequence[_Label], images: Iterable[_Image]) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    """Names and colors of the labels that can have an area, in the order of the file; no colors if one has none."""
    used = {shape.name for image in images for shape in image.shapes}
    if not labels:
        return class_names_of(used), ()
    kept = [label for label in labels if label.name and (label.name in used or label.has_area)]
    names = with_background(label.name for label in kept)
    colors: dict[str, Color] = {}
    for label in kept:
        if label.color:
            colors.setdefault(label.name, label.color)
    if not set(names) - {BACKGROUND} <= set(colors):
        return names, ()
    return names, tuple(colors.get(name, (0, 0, 0)) for name in names)


@dataclass
class _Label:
    """A label of the head, as its elements are met."""

    name: str = ""
    kind: str = ""
    parent: str = ""
    color: Color | None = None

    @property
    def has_area(self) -> bool:
        return not self.parent and self.kind not in _WITHOUT_AREA

    def take(self, element: str, text: str, where: str) -> None:
        """Takes in the text of one of its elements."""
        if element == "name":
            require_plain(text, "`name`", where)
            self.name = text
        elif element == "type":
            self.kind = text
        elif element == "parent":
            self.parent = text
        elif element == "color" and text:
            match = _COLOR.fullmatch(text)
            if match is None:
                raise UserError(
                    "unclassified", f"{text[:40]!r} is no color", "colors are written as #rrggbb", where=where
                )
            red, green, blue = (int(part, 16) for part in match.groups())
            self.color = red, green, blue


# --- Files --------------------------------------------------------------------------------------------------


@dataclass
class _Image:
    name: str
    where: str
    size: tuple[int, int] | None
    subset: str
    shapes: list[Shape | Runs] = field(default_factory=list)


def _read(path: str, tally: Tally) -> _Dump:
    """Labels and images of one file, parsed piece by piece: no tree of it is ever made.

    Raises:
      UserError: it cannot be read, or is no dump of CVAT for images.
    """
    dump = _Dump(path, tally)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = dump.start, dump.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = dump.text, dump.refuse_doctype
    try:
        with open(path, "rb") as file:
            total = os.fstat(file.fileno()).st_size
            with console.progress(total=total, what=f"reading {os.path.basename(path)}", unit="B") as bar:
                while piece := file.read(_PIECE):
                    parser.Parse(piece)
                    bar.update(len(piece))
                parser.Parse(b"", True)
    except OSError as fault:
        raise unreadable_file(path, fault) from None
    except (expat.ExpatError, ValueError, LookupError) as fault:  # the latter two: unknown encodings
        raise UserError(
            "unclassified", f"is not XML: {fault}", f"{_EXPORT} again, or copy it anew", where=path
        ) from None
    return dump


class _Dump:
    """What a file holds, gathered as its elements come by."""

    def __init__(self, path: str, tally: Tally):
        self.path, self.tally = path, tally
        self.labels: list[_Label] = []
        self.images: list[_Image] = []
        self._inside: list[str] = []  # the open elements, from the outermost
        self._image: _Image | None = None  # the open one; None also within one that has a fault
        self._shapes = 0  # of the open image
        self._text = ""

    def refuse_doctype(self, *_: Any) -> None:
        """Document types can define text that grows without end, or that reads other files."""
        raise UserError(
            "unclassified",
            "has a DOCTYPE, which no file of CVAT has",
            f"take it out, or {_EXPORT} again",
            where=self.path,
        )

    def start(self, element: str, attributes: dict[str, str]) -> None:
        """Takes in the beginning of an element."""
        self._inside.append(element)
        self._text = ""
        depth = len(self._inside)
        if depth == 1 and element != "annotations":
            raise UserError(
                "unclassified", f"is no file of CVAT: it begins with <{element[:40]}>", _EXPORT, where=self.path
            )
        if depth == 2 and element == "track":
            raise UserError("unclassified", 'is a dump of "CVAT for video", which has tracks', _EXPORT, where=self.path)
        if self._inside[-2:] == ["labels", "label"]:
            self.labels.append(_Label())
        with self.tally.collecting():
            if depth == 2 and element == "image":
                self._image, self._shapes = None, 0
                self._image = self._begun(attributes)
            elif depth == 3 and self._image:
                self._shapes += 1
                self._take(element, attributes, self._image, f"{self._image.where}, shape {self._shapes}")

    def text(self, text: str) -> None:
        """Takes in text; of the elements that matter none has others inside, or holds much of it."""
        if len(self._text) < _MOST_TEXT:
            self._text += text

    def end(self, element: str) -> None:
        """Takes in the end of an element."""
        if self._inside[-3:-1] == ["labels", "label"]:
            self.labels[-1].take(element, self._text.strip(), f"{self.path}, label {len(self.labels)}")
        elif self._inside == ["annotations", "image"]:
            self._image = None
        self._inside.pop()
        self._text = ""

    def _begun(self, attributes: Mapping[str, str]) -> _Image:
        where = f"{self.path}, image {len(self.images) + 1}"
        name = _attribute(attributes, "name", where)
        where = f"{self.path}, image {name[:200]}"
        size = tuple(_whole(attributes, key, where, 1) for key in ("height", "width") if key in attributes)
        image = _Image(name, where, (size[0], size[1]) if len(size) == 2 else None, attributes.get("subset", ""))
        self.images.append(image)
        return image

    def _take(self, element: str, attributes: Mapping[str, str], image: _Image, where: str) -> None:
        if element in _WITHOUT_AREA:
            self.tally.skipped(element, image.name)
        elif element in _KINDS:
            name = _attribute(attributes, "label", where)
            require_plain(name, "`label`", where)
            layer = _whole(attributes, "z_order", where, -_LARGEST) if "z_order" in attributes else 0
            image.shapes.append(_KINDS[element](name, attributes, layer, where))
        else:
            rule = f"<{element[:40]}> is no shape that is known"
            raise UserError("unclassified", rule, f"shapes are {', '.join([*_KINDS, *_WITHOUT_AREA])}", where=where)


# --- Shapes -------------------------------------------------------------------------------------------------


def _polygon(name: str, attributes: Mapping[str, str], layer: int, where: str) -> Shape:
    points = [point.split(",") for point in _attribute(attributes, "points", where).split(";")]
    try:
        corners = [[float(part) for part in point] for point in points]
    except ValueError:
        raise UserError(
            "unclassified", "`points` must be x,y;x,y;... in numbers", "mend it, or take the shape out", where=where
        ) from None
    return polygon(name, corners, layer=layer, where=where)


def _box(name: str, attributes: Mapping[str, str], layer: int, where: str) -> Shape:
    left, top, right, bottom = (_number(attributes, key, where) for key in ("xtl", "ytl", "xbr", "ybr"))
    shape = rectangle(name, left, top, right, bottom, layer, where)
    turn = math.radians(_number(attributes, "rotation", where, "0"))  # clockwise on the screen, about the middle
    if not turn:
        return shape
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    toward = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    return polygon(name, (shape.rings[0] - middle) @ toward + middle, layer=layer, where=where)


def _ellipse(name: str, attributes: Mapping[str, str], layer: int, where: str) -> Shape:
    x, y, radius_x, radius_y = (_number(attributes, key, where) for key in ("cx", "cy", "rx", "ry"))
    return ellipse(name, x, y, radius_x, radius_y, _number(attributes, "rotation", where, "0"), layer, where)


def _mask(name: str, attributes: Mapping[str, str], layer: int, where: str) -> Runs:
    left, top = (_whole(attributes, key, where, -_LARGEST) for key in ("left", "top"))
    width, height = (_whole(attributes, key, where, 1) for key in ("width", "height"))
    try:
        runs = [int(run) for run in _attribute(attributes, "rle", where).split(",")]
    except ValueError:
        raise UserError(
            "unclassified", "`rle` must be whole numbers with commas", "mend it, or take the shape out", where=where
        ) from None
    return Runs(name, checked_runs(runs, height * width, where), left, top, width, height, layer)


_KINDS: Mapping[str, Callable[[str, Mapping[str, str], int, str], Shape | Runs]] = {
    "polygon": _polygon,
    "box": _box,
    "ellipse": _ellipse,
    "mask": _mask,
}


def _attribute(attributes: Mapping[str, str], key: str, where: str) -> str:
    if not attributes.get(key, "").strip():
        raise UserError("unclassified", f"`{key}` is missing", f"{_EXPORT} again, or write it in by hand", where=where)
    return attributes[key].strip()


def _number(attributes: Mapping[str, str], key: str, where: str, default: str = "") -> float:
    text = attributes.get(key) or default or _attribute(attributes, key, where)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(
            "unclassified",
            f"`{key}` must be a number, not {text[:40]!r}",
            "mend it, or take the element out",
            where=where,
        )
    return number


def _whole(attributes: Mapping[str, str], key: str, where: str, least: int) -> int:
    number = _number(attributes, key, where)
    if number != int(number) or not least <= number <= _LARGEST:
        rule = f"`{key}` must be a whole number of {least} or more, not {attributes[key][:40]!r}"
        raise UserError("unclassified", rule, "mend it, or take the element out", where=where)
    return int(number)
