"""Label Studio: the exports JSON and JSON-MIN, with polygons, rectangles, ellipses and brush masks.

Regions are painted in the order of the file; later ones cover earlier ones. All measures but those of brush masks are
percentages of the image's sides, and become pixels when the label is drawn.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import numpy as np

from deeplab.config.fields import setting
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_files import (
    DrawnConfig,
    ImageFinder,
    Tally,
    checked,
    image_size,
    read_json,
    require,
    require_pairs,
    require_plain,
    safe_parts,
)
from deeplab.data.readers.pairs import IMAGE_EXTENSIONS
from deeplab.data.readers.rle import brush_pixels
from deeplab.data.readers.shapes import Shape, background_of, bitmap, class_names_of, ellipse, paint, polygon
from deeplab.data.readers.source import Painter, Pair, Source
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import split_paths

_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-(?=.)")  # what Label Studio writes before the names of uploaded files
_LOCAL_FILE = "?d="  # /data/local-files/?d=folder/photo.jpg
_RECTANGLE = ("x", "y", "width", "height")
_ELLIPSE = ("x", "y", "radiusX", "radiusY")
_HINT = "export the project again, as JSON or JSON-MIN"


@dataclass(frozen=True)
class BuildLabelStudioConfig(DrawnConfig):
    """Where exports and images lie."""

    annotations: str = setting("", "Files exported as JSON or JSON-MIN, with commas.", required=True)
    image_folder: str = setting("", "Folder of the images.", required=True)
    image_key: str = setting("", "Key of a task's data that names the image (unset: the only one that looks like it).")


@dataclass(frozen=True, eq=False, slots=True)
class Region:
    """One region that somebody drew.

    Attributes:
      name: its class.
      kind: "polygon", "rectangle", "ellipse" or "brush".
      numbers: float64, percentages of the image's width and height: [N, 2] of x, y; [4] of x, y, width, height from the
        corner that the rectangle is turned about; [4] of x, y, radius_x, radius_y from the ellipse's center.
      degrees: turn, clockwise on the screen.
      code: the brush mask, as Label Studio packs it.
    """

    name: str
    kind: str
    numbers: np.ndarray
    degrees: float = 0.0
    code: bytes = b""

    def shape(self, height: int, width: int, where: str) -> Shape:
        """The region in pixels of an image of that size.

        Raises:
          UserError: a brush mask of another size, or one that is damaged.
        """
        if self.kind == "brush":
            return bitmap(self.name, brush_pixels(self.code, height, width, where), where=where)
        pixels = (self.numbers.reshape(-1, 2) * [width / 100, height / 100]).reshape(self.numbers.shape)
        if self.kind == "ellipse":
            x, y, radius_x, radius_y = pixels.tolist()
            return ellipse(self.name, x, y, radius_x, radius_y, self.degrees, where=where)
        if self.kind == "rectangle":
            pixels = _turned_rectangle(pixels, self.degrees)
        return polygon(self.name, pixels, where=where)


def _turned_rectangle(numbers: np.ndarray, degrees: float) -> np.ndarray:
    """Corners [4, 2] of a rectangle [4] of x, y, width, height, turned about (x, y), clockwise on the screen."""
    x, y, width, height = numbers.tolist()
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    along, down = np.array([width * cosine, width * sine]), np.array([-height * sine, height * cosine])
    corner = np.array([x, y])
    return np.stack([corner, corner + along, corner + along + down, corner + down])


@dataclass(frozen=True, eq=False)
class LabelStudioMask:
    """The label of one image; see `source.Mask`.

    Attributes:
      where: file and task, for messages.
      size: height and width of the image that was annotated; None where the export does not state it.
      regions: in the order of the file.
      overlap: "file" or "area".
    """

    where: str
    size: tuple[int, int] | None
    regions: tuple[Region, ...]
    overlap: str = "file"

    def draw(self, painter: Painter, height: int, width: int) -> np.ndarray:
        """The label, uint8 [height, width].

        Raises:
          UserError: a brush mask of another size or damaged, or a class that is not there.
        """
        shapes = [
            region.shape(height, width, f"{self.where}, region {number}")
            for number, region in enumerate(self.regions, 1)
        ]
        return paint(shapes, painter, self.where, height, width, self.overlap, background_of(painter))


@register_format("label_studio", BuildLabelStudioConfig)
def read_label_studio(config: BuildLabelStudioConfig) -> Source:
    """A dataset in one of Label Studio's exports, undivided; classes are the labels that occur, in sorted order.

    Raises:
      UserError: files that cannot be read, are no exports, or name images that are not there.
    """
    reader = _Reader(config)
    for path in split_paths(config.annotations):
        reader.read(path)
    reader.tell()
    require_pairs(reader.tally, config.annotations or "`annotations`", "export a project that has annotations")
    return Source(reader.tally.splits, class_names_of(reader.names), drawn=True)


# --- Tasks --------------------------------------------------------------------------------------------------


@dataclass
class _Task:
    """What an export says of one image.

    Attributes:
      where: file and task, for messages.
      data: what the task was made of, the image's name among it.
      results: the regions of the annotation that counts; None where there is none.
    """

    where: str
    data: dict[str, Any]
    results: list[Any] | None = field(default_factory=list)


class _Reader:
    def __init__(self, config: BuildLabelStudioConfig):
        self.config = config
        self.finder = ImageFinder(config.image_folder, "`image_folder`")
        self.tally = Tally(config.skip_empty)
        self.names: set[str] = set()
        self._several = 0  # tasks with more than one annotation

    def read(self, path: str) -> None:
        """Takes in one file."""
        content = read_json(path)
        if not isinstance(content, list):
            raise UserError("unclassified", "must hold a list of tasks, as Label Studio exports it", _HINT, where=path)
        tasks: dict[str, _Task] = {}
        for number, entry in enumerate(content, 1):
            with self.tally.collecting():
                task = self._task(entry, number, path)
                # JSON-MIN has a row for each annotation of a task, JSON one entry for all of them.
                key = str(number) if "data" in entry else f"{task.where}\n{self._stored_name(task)}"
                self._several += key in tasks
                tasks[key] = task
        del content
        for task in console.progress(tasks.values(), what=f"reading {os.path.basename(path)}", unit="task"):
            with self.tally.collecting():
                self._take(task)

    def tell(self) -> None:
        """Says what was left out.

        Raises:
          UserError: tasks had faults.
        """
        if self._several:
            console.note(f"{self._several} tasks have several annotations: the last that was not canceled counts")
        self.tally.left_out(self.finder.unused(), "that no annotation names")
        self.tally.report()

    def _task(self, entry: Any, number: int, path: str) -> _Task:
        """A task of the export JSON, or a row of JSON-MIN, which knows no `data`."""
        identity = require(entry, "id", (int, str), f"{path}, task number {number}", f"number {number}")
        where = f"{path}, task {str(identity)[:40]}"
        if "data" not in entry:
            return _Task(where, entry, list(_minimal_results(entry)))
        data = require(entry, "data", dict, where)
        key = "annotations" if "annotations" in entry else "completions"  # its name before version 1.0
        kept = [
            annotation
            for annotation in require(entry, key, list, where, [])
            if not any(require(annotation, word, bool, where, False) for word in ("was_cancelled", "skipped"))
        ]
        self._several += len(kept) > 1
        return _Task(where, data, require(kept[-1], "result", list, where) if kept else None)

    def _take(self, task: _Task) -> None:
        stored = self._stored_name(task)
        if task.results is None:
            self.tally.noted("tasks without an annotation left out", f"{stored[:200]}")
            with contextlib.suppress(UserError):
                self._find(stored, task.where)
            return
        image = self._find(stored, task.where)
        name = self.finder.name(image)
        sizes: set[tuple[int, int]] = set()
        regions = tuple(self._regions(task, name, sizes))
        if len(sizes) > 1:
            shown = " and ".join(f"{width}x{height}" for height, width in sorted(sizes))
            raise UserError("unclassified", f"its regions are of images of {shown} pixels", _HINT, where=task.where)
        mask = LabelStudioMask(task.where, next(iter(sizes), None), regions, self.config.overlap)
        self.tally.add(Pair(name, image, mask), task.where, empty=not regions)

    def _stored_name(self, task: _Task) -> str:
        if self.config.image_key:
            return require(task.data, self.config.image_key, str, task.where)
        found = [key for key, value in task.data.items() if isinstance(value, str) and _is_image(value)]
        if len(found) != 1:
            rule = f"{len(found)} of its data look like the name of an image"
            keys = found or [key for key, value in task.data.items() if isinstance(value, str)]
            raise UserError("unclassified", rule, f"`image_key=` one of {', '.join(keys)[:200]}", where=task.where)
        return task.data[found[0]]

    def _find(self, stored: str, where: str) -> str:
        """Path of an image, with and without what Label Studio puts before its name."""
        names = _possible_names(stored)
        name = next(filter(self.finder.look_up, names), names[0])
        return self.finder.find(name, where)

    # --- Regions

    def _regions(self, task: _Task, name: str, sizes: set[tuple[int, int]]) -> Iterator[Region]:
        results = task.results or []
        labeled = {_identity(result) for result in results if _label_key(result)}
        for number, result in enumerate(results, 1):
            where = f"{task.where}, region {number} of {name}"
            if require(result, "type", str, where, "") == "relation":
                continue
            value = require(result, "value", dict, where)
            key = _label_key(result)
            if key is None:
                if _kind(value) and _identity(result) not in labeled:  # else its twin has the label
                    self.tally.noted("regions without a label left out", name)
                continue
            kind = _kind(value)
            if not kind:
                self.tally.skipped(key.removesuffix("labels") or "other", name)
                continue
            label = self._label(value, key, where, name)
            if label:
                _require_upright(result, where)
                sizes.update(filter(None, [image_size(result, "original_height", "original_width", where)]))
                self.names.add(label)
                yield _region(label, kind, value, where)

    def _label(self, value: Mapping[str, Any], key: str, where: str, name: str) -> str:
        """The region's class; empty where it has none."""
        labels = [str(checked(label, str, f"`{key}`", where)).strip() for label in require(value, key, list, where)]
        if not any(labels):
            self.tally.noted("regions without a label left out", name)
            return ""
        if len(labels) > 1:
            self.tally.noted("regions with several labels, of which the first counts", name)
        label = next(filter(None, labels))
        require_plain(label, f"`{key}`", where)
        return label


def _minimal_results(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The regions of a row of JSON-MIN, in the form that they have in JSON."""
    for entries in row.values():
        for value in entries if isinstance(entries, list) else []:
            result = {"value": value}
            if _label_key(result):
                yield {**value, **result, "type": ""}


def _label_key(result: Any) -> str | None:
    """The key of a region's labels: `polygonlabels`, `brushlabels`, or `labels` for all kinds."""
    value = result.get("value") if isinstance(result, dict) else None
    return next((key for key in value if key.endswith("labels")), None) if isinstance(value, dict) else None


def _identity(result: Any) -> str:
    identity = result.get("id") if isinstance(result, dict) else None
    return identity if isinstance(identity, str) else ""


def _kind(value: Mapping[str, Any]) -> str:
    """What a region is by the measures that it has; empty where they make no area."""
    if "points" in value:
        return "polygon" if value.get("closed", True) else ""
    if "rle" in value:
        return "brush"
    if all(key in value for key in _ELLIPSE):
        return "ellipse"
    return "rectangle" if all(key in value for key in _RECTANGLE) else ""


def _region(name: str, kind: str, value: dict[str, Any], where: str) -> Region:
    if kind == "brush":
        return Region(name, kind, np.empty(0), code=_brush_code(value, where))
    if kind == "polygon":
        return Region(name, kind, polygon(name, require(value, "points", list, where), where=where).rings[0])
    keys: Sequence[str] = _ELLIPSE if kind == "ellipse" else _RECTANGLE
    numbers = np.array([float(require(value, key, float, where)) for key in keys])
    if numbers[2:].min() < 0:
        raise UserError(
            "unclassified", f"`{keys[2]}` and `{keys[3]}` must not be negative", "draw the region again", where=where
        )
    return Region(name, kind, numbers, float(require(value, "rotation", float, where, 0.0)))


def _brush_code(value: dict[str, Any], where: str) -> bytes:
    form = require(value, "format", str, where, "rle")
    if form != "rle":
        raise UserError("unclassified", f"a brush mask must have the format rle, not {form[:40]!r}", _HINT, where=where)
    try:
        return bytes(require(value, "rle", list, where))
    except (TypeError, ValueError):
        raise UserError("unclassified", "`rle` must be whole numbers from 0 to 255", _HINT, where=where) from None


def _require_upright(result: dict[str, Any], where: str) -> None:
    turn = require(result, "image_rotation", float, where, 0)
    if turn % 360:
        rule = f"was drawn while the image was turned by {turn:g} degrees"
        raise UserError(
            "unclassified",
            rule,
            "turn the image back in Label Studio, or save it turned and annotate that",
            where=where,
        )


# --- Names of images ----------------------------------------------------------------------------------------


def _is_image(stored: str) -> bool:
    base = (safe_parts(_path_in(stored)) or [""])[-1].split("?")[0]
    return os.path.splitext(base)[1].lower() in IMAGE_EXTENSIONS


def _possible_names(stored: str) -> list[str]:
    """What the file may be called: as stored, without %20 and its like, without the prefix of uploads."""
    path = _path_in(stored)
    whole = ["/".join(safe_parts(name)) for name in (path, unquote(path))]
    bases = [_UPLOAD_PREFIX.sub("", name.rsplit("/", 1)[-1]) for name in whole]
    return list(dict.fromkeys([*whole, *bases]))


def _path_in(stored: str) -> str:
    """The path that an address of a local file carries; anything else as it is."""
    before, local, path = stored.partition(_LOCAL_FILE)
    return path.split("&")[0] if local else before
