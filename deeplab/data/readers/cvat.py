"""CVAT for images 1.1 and CVAT for video 1.1: one XML file for all images of a task, a job or a project.

Shapes are painted in the order of their layer (`z_order`), within a layer in the order of the file; later ones cover
earlier ones.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

import numpy as np

from deeplab.config.conversion_config import DrawnConfig
from deeplab.config.fields import setting
from deeplab.data.class_names import BACKGROUND
from deeplab.data.dataset import Color
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_files import files_by_split
from deeplab.data.readers.annotation_values import read_color, require_plain
from deeplab.data.readers.bitmaps import Bitmap, checked_runs
from deeplab.data.readers.collector import Collector
from deeplab.data.readers.image_finder import ImageFinder, image_finders
from deeplab.data.readers.shapes import Shape, ellipse, line, polygon, rectangle
from deeplab.data.readers.source import UNDIVIDED, Source
from deeplab.data.split_names import usual_name
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import unreadable_file

_WITHOUT_AREA = ("points", "skeleton", "cuboid", "tag")
_EXPORT = 'export the task as "CVAT for images 1.1"'
_CORRECT = "correct it, or remove the element"
_FACTS = ("width", "height", "start_frame", "stop_frame")  # of a video
_MAX_WHOLE = 2**31 - 1
_PIECE = 1 << 20  # bytes read at once
_MAX_TEXT = 1000  # characters kept of an element


@dataclass(frozen=True)
class BuildCvatConfig(DrawnConfig):
    """Where annotation files and images are."""

    annotations: str = setting(
        "", "Files annotations.xml, with commas; train:FILE,val:FILE names the splits.", required=True
    )
    image_folder: str = setting(
        "", "Folder of the images; train:FOLDER,val:FOLDER if each split has its own (unset: that of the XML file)."
    )


@register_format("cvat", BuildCvatConfig)
def read_cvat(config: BuildCvatConfig) -> Source:
    """Reads a dataset in CVAT's XML.

    Raises:
      UserError: files that cannot be read, are not CVAT's, or name images that do not exist.
    """
    files = files_by_split(config.annotations, "annotations", ".xml")
    finders = image_finders(config.image_folder, files)
    collector = Collector(config)
    dumps = [_read(path, collector) for _, path in files]
    for dump, finder in zip(dumps, finders, strict=True):
        dump.add_frames(finder)
    images = [image for dump in dumps for image in dump.images]
    splits = [split for (split, _), dump in zip(files, dumps, strict=True) for _ in dump.images]
    if not files[0][0]:
        splits = _splits_by_subset([image.subset for image in images])
    finder_of = [finder for finder, dump in zip(finders, dumps, strict=True) for _ in dump.images]
    for image, split, finder in zip(images, splits, finder_of, strict=True):
        with collector.catching():
            path = image.path or finder.find(image.name, image.where, finder.beside(image.file))
            collector.add(finder.name(path), path, image.where, image.shapes, image.size, split)
    collector.left_out(sorted({name for finder in finders for name in finder.unused()}), "that no annotation names")
    collector.report()
    collector.require_pairs(config.annotations, _EXPORT)
    names, colors = _classes([label for dump in dumps for label in dump.labels], collector)
    return Source(collector.splits, names, colors, drawn=True)


def _splits_by_subset(subsets: Sequence[str]) -> list[str]:
    """Returns splits by subsets; undivided if there is a single subset, or if some images have none."""
    splits = [_split_name(subset) for subset in subsets]
    named = sorted(set(splits) - {UNDIVIDED})
    if UNDIVIDED in splits and named:
        console.note(f"some images are not in a subset ({', '.join(named)}): all images are divided again")
    return splits if len(named) > 1 and UNDIVIDED not in splits else [UNDIVIDED] * len(splits)


def _split_name(subset: str) -> str:
    word = re.sub(r"[^a-z0-9_-]+", "_", subset.strip().lower())
    return UNDIVIDED if word in ("", "default") else usual_name(word)


# --- Classes ------------------------------------------------------------------------------------------------


@dataclass
class _CvatLabel:
    """A label of the head, filled while its elements are parsed."""

    name: str = ""
    kind: str = ""
    parent: str = ""
    color: Color | None = None

    def take(self, element: str, text: str, where: str) -> None:
        """Takes the text of one of its elements."""
        if element == "name":
            require_plain(text, "'name'", where)
            self.name = text
        elif element == "type":
            self.kind = text
        elif element == "parent":
            self.parent = text
        elif element == "color":
            self.color = read_color(text)

    @property
    def has_area(self) -> bool:
        return not self.parent and self.kind not in (*_WITHOUT_AREA, "polyline")


def _classes(labels: Sequence[_CvatLabel], collector: Collector) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    """Returns names and colors of the labels that can have an area, in file order; no colors if one has none."""
    if not labels:
        return collector.class_names(), ()
    used = collector.used_names
    kept = [label for label in labels if label.name and (label.name in used or label.has_area)]
    names = collector.class_names(label.name for label in kept)
    colors: dict[str, Color] = {}
    for label in kept:
        if label.color:
            colors.setdefault(label.name, label.color)
    if not set(names) - {BACKGROUND} <= set(colors):
        return names, ()
    return names, tuple(colors.get(name, (0, 0, 0)) for name in names)


# --- Files --------------------------------------------------------------------------------------------------


@dataclass
class _CvatImage:
    name: str
    where: str
    file: str
    size: tuple[int, int] | None
    subset: str = ""
    shapes: list[Shape] = field(default_factory=list)
    path: str = ""  # of the image, where that is known: of a frame of a video


@dataclass(frozen=True)
class _TrackedShape:
    """A shape of a track: at its frame, and until the next one."""

    frame: int
    shape: Shape | None  # None where the object is outside of the image


def _read(path: str, collector: Collector) -> _CvatDump:
    """Reads labels and images of one file, parsed piece by piece without a tree in memory.

    Raises:
      UserError: it cannot be read, or is not a dump of CVAT.
    """
    dump = _CvatDump(path, collector)
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
    except OSError as error:
        raise unreadable_file(path, error) from None
    except (expat.ExpatError, ValueError, LookupError) as error:  # the latter two: unknown encodings
        raise UserError("invalid-xml", f"is not XML: {error}", f"{_EXPORT} again", where=path) from None
    return dump


class _CvatDump:
    """What a file contains, collected while its elements are parsed."""

    def __init__(self, path: str, collector: Collector):
        self.path, self.collector = path, collector
        self.labels: list[_CvatLabel] = []
        self.images: list[_CvatImage] = []
        self._tracks: list[list[_TrackedShape]] = []
        self._facts: dict[str, int] = {}  # of a video: width, height, first and last frame
        self._inside: list[str] = []  # the open elements, from the outermost
        self._image: _CvatImage | None = None  # the open one; None also inside one that has an error
        self._label = ""  # of the open track
        self._shapes = 0  # of the open image or track
        self._text = ""

    def refuse_doctype(self, *_: Any) -> None:
        """Refuses document types, which can define text that grows without end, or that reads other files."""
        rule, hint = "has a DOCTYPE, which no file of CVAT has", f"remove it, or {_EXPORT} again"
        raise UserError("wrong-format", rule, hint, where=self.path)

    def start(self, element: str, attributes: dict[str, str]) -> None:
        """Handles the beginning of an element."""
        self._inside.append(element)
        self._text = ""
        depth = len(self._inside)
        if depth == 1 and element != "annotations":
            rule = f"is not a file of CVAT: it begins with <{element[:40]}>"
            raise UserError("wrong-format", rule, _EXPORT, where=self.path)
        if self._inside[-2:] == ["labels", "label"]:
            self.labels.append(_CvatLabel())
        with self.collector.catching():
            if depth == 2 and element == "image":
                self._image, self._shapes = None, 0
                self._image = self._begun(attributes)
            elif depth == 2 and element == "track":
                self._tracks.append([])
                self._shapes = 0
                self._label = _attribute(attributes, "label", f"{self.path}, track {len(self._tracks)}")
            elif depth == 3 and self._inside[1] in ("image", "track"):
                self._shapes += 1
                self._take(element, attributes)

    def text(self, text: str) -> None:
        """Handles text; elements that matter contain no others and not much of it."""
        if len(self._text) < _MAX_TEXT:
            self._text += text

    def end(self, element: str) -> None:
        """Handles the end of an element."""
        text = self._text.strip()
        if self._inside[-3:-1] == ["labels", "label"]:
            self.labels[-1].take(element, text, f"{self.path}, label {len(self.labels)}")
        elif self._inside == ["annotations", "image"]:
            self._image = None
        elif self._inside[1:2] == ["meta"] and element in _FACTS and text.isdecimal() and len(text) < 10:
            self._facts[element] = int(text)
        self._inside.pop()
        self._text = ""

    def _begun(self, attributes: Mapping[str, str]) -> _CvatImage:
        where = f"{self.path}, image {len(self.images) + 1}"
        name = _attribute(attributes, "name", where)
        where = f"{self.path}, image {name[:200]}"
        size = tuple(_whole(attributes, key, where, 1) for key in ("height", "width") if key in attributes)
        stated = (size[0], size[1]) if len(size) == 2 else None
        image = _CvatImage(name, where, self.path, stated, attributes.get("subset", ""))
        self.images.append(image)
        return image

    def _take(self, element: str, attributes: Mapping[str, str]) -> None:
        """Takes a shape of an image or of a track."""
        if self._inside[1] == "image":
            if self._image:
                shape = self._shape(element, attributes, self._image.name, f"{self._image.where}, shape {self._shapes}")
                self._image.shapes += [shape] if shape else []
            return
        where = f"{self.path}, track {len(self._tracks)}, shape {self._shapes}"
        outside = attributes.get("outside") == "1"
        frame = _whole(attributes, "frame", where, 0)
        attributes = {"label": self._label, **attributes}
        shape = None if outside else self._shape(element, attributes, f"frame {frame}", where)
        self._tracks[-1].append(_TrackedShape(frame, shape))

    def _shape(self, element: str, attributes: Mapping[str, str], image: str, where: str) -> Shape | None:
        if element in _WITHOUT_AREA:
            self.collector.skipped(element, image)
            return None
        if element not in _KINDS and element != "polyline":
            rule = f"<{element[:40]}> is not a known shape"
            hint = f"shapes are {', '.join([*_KINDS, 'polyline', *_WITHOUT_AREA])}"
            raise UserError("unknown-shape", rule, hint, where=where, value=element)
        name = _attribute(attributes, "label", where)
        require_plain(name, "'label'", where)
        layer = _whole(attributes, "z_order", where, -_MAX_WHOLE) if "z_order" in attributes else 0
        if element != "polyline":
            return _KINDS[element](name, attributes, layer, where)
        shape = line(name, _points(attributes, where), self.collector.config.line_width, layer, where)
        if not shape.has_area:
            self.collector.skipped(element, image)
        return shape if shape.has_area else None

    def add_frames(self, finder: ImageFinder) -> None:
        """Adds the frames of a video, with the shapes of all tracks, to the images.

        Args:
          finder: of the frames, which CVAT names frame_000000.png, and whose names otherwise end with the frame's
            number.
        """
        if not self._tracks:
            return
        for track in self._tracks:
            track.sort(key=lambda shape: shape.frame)
        drawn = {shape.frame for track in self._tracks for shape in track}
        first, last = self._facts.get("start_frame", 0), max([self._facts.get("stop_frame", 0), *drawn])
        size = (self._facts["height"], self._facts["width"]) if {"height", "width"} <= self._facts.keys() else None
        beside = finder.beside(self.path)
        by_number = _frames_by_number(finder, beside)
        for frame in sorted(drawn | {number for number in by_number if first <= number <= last}):
            shapes = [shape for track in self._tracks if (shape := _shape_at(track, frame)) is not None]
            paths = by_number.get(frame, [])
            if not paths and not shapes:
                continue
            where = f"{self.path}, frame {frame}"
            with self.collector.catching():
                path = paths[0] if len(paths) == 1 else f"frame_{frame:06d}.png"
                found = finder.find(path, where, beside)
                self.images.append(_CvatImage(path, where, self.path, size, shapes=shapes, path=found))


def _frames_by_number(finder: ImageFinder, beside: str) -> dict[int, list[str]]:
    """Returns the images of a folder, or those below `beside` if there are any, by the number that ends their names."""
    found: dict[int, list[str]] = {}
    unused = finder.unused()
    for path in [path for path in unused if beside and path.startswith(f"{beside}/")] or unused:
        match = re.search(r"(\d{1,9})\.\w+$", path)
        if match:
            found.setdefault(int(match[1]), []).append(path)
    return found


def _shape_at(track: Sequence[_TrackedShape], frame: int) -> Shape | None:
    """Returns the shape of a track at a frame: that frame's, else one in between its neighbors; None if outside."""
    place = bisect.bisect_right(track, frame, key=lambda shape: shape.frame)
    if place == 0:
        return None
    before = track[place - 1]
    if before.frame == frame or before.shape is None:
        return before.shape
    if place == len(track):
        return None
    after = track[place]
    fraction = (frame - before.frame) / (after.frame - before.frame)
    if after.shape is None or len(before.shape.rings) != 1 or len(after.shape.rings) != 1:
        return before.shape
    start, stop = before.shape.rings[0], after.shape.rings[0]
    if len(start) != len(stop):
        return before.shape
    return dataclasses.replace(before.shape, rings=(start + (stop - start) * fraction,))


# --- Shapes -------------------------------------------------------------------------------------------------


def _points(attributes: Mapping[str, str], where: str) -> list[list[float]]:
    points = [point.split(",") for point in _attribute(attributes, "points", where).split(";")]
    try:
        return [[float(part) for part in point] for point in points]
    except ValueError:
        raise UserError("invalid-points", "'points' must be x,y;x,y;... in numbers", _CORRECT, where=where) from None


def _polygon(name: str, attributes: Mapping[str, str], layer: int, where: str) -> Shape:
    return polygon(name, _points(attributes, where), layer=layer, where=where)


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


def _mask(name: str, attributes: Mapping[str, str], layer: int, where: str) -> Shape:
    left, top = (_whole(attributes, key, where, -_MAX_WHOLE) for key in ("left", "top"))
    width, height = (_whole(attributes, key, where, 1) for key in ("width", "height"))
    try:
        runs = [int(run) for run in _attribute(attributes, "rle", where).split(",")]
    except ValueError:
        rule = "'rle' must be whole numbers with commas"
        raise UserError("invalid-rle", rule, _CORRECT, where=where) from None
    return Shape(name, bitmap=Bitmap(checked_runs(runs, height * width, where), height, width, left, top), layer=layer)


_KINDS: Mapping[str, Callable[[str, Mapping[str, str], int, str], Shape]] = {
    "polygon": _polygon,
    "box": _box,
    "ellipse": _ellipse,
    "mask": _mask,
}


def _attribute(attributes: Mapping[str, str], key: str, where: str) -> str:
    if not attributes.get(key, "").strip():
        raise UserError("missing-key", f"'{key}' is missing", f"{_EXPORT} again, or add it by hand", where=where)
    return attributes[key].strip()


def _number(attributes: Mapping[str, str], key: str, where: str, default: str = "") -> float:
    text = attributes.get(key) or default or _attribute(attributes, key, where)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        rule = f"'{key}' must be a number, not {text[:40]!r}"
        raise UserError("wrong-type", rule, _CORRECT, where=where, value=text)
    return number


def _whole(attributes: Mapping[str, str], key: str, where: str, minimum: int) -> int:
    number = _number(attributes, key, where)
    if number != int(number) or not minimum <= number <= _MAX_WHOLE:
        rule = f"'{key}' must be a whole number of {minimum} or more, not {attributes[key][:40]!r}"
        raise UserError("out-of-range", rule, _CORRECT, where=where, value=number)
    return int(number)
