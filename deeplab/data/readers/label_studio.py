"""Label Studio: the exports JSON and JSON-MIN, with polygons, rectangles, ellipses and brush masks.

Regions are painted in the order of the file; later ones cover earlier ones. All measures except those of brush masks
are percentages of the image's sides, and become pixels when the label is drawn.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import numpy as np

from deeplab.config.conversion_config import DrawnConfig
from deeplab.config.fields import setting
from deeplab.data.image_files import IMAGE_EXTENSIONS
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_files import files_by_split
from deeplab.data.readers.annotation_values import checked, image_size, read_json, require, require_plain, yes_or_no
from deeplab.data.readers.bitmaps import brush_pixels
from deeplab.data.readers.collector import Collector
from deeplab.data.readers.image_finder import ImageFinder, image_finders, safe_parts, shown_size
from deeplab.data.readers.shapes import Shape, bitmap, ellipse, polygon
from deeplab.data.readers.source import Source
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.text import counted

_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-(?=.)")  # what Label Studio writes before the names of uploaded files
_LOCAL_FILE = "?d="  # /data/local-files/?d=folder/photo.jpg
_RECTANGLE = ("x", "y", "width", "height")
_ELLIPSE = ("x", "y", "radiusX", "radiusY")
_HINT = "export the project again, as JSON or JSON-MIN"


@dataclass(frozen=True)
class BuildLabelStudioConfig(DrawnConfig):
    """Where exports and images are."""

    annotations: str = setting(
        "",
        "Files exported as JSON or JSON-MIN, with commas; train:FILE,val:FILE names the splits.",
        required=True,
    )
    image_folder: str = setting(
        "", "Folder of the images; train:FOLDER,val:FOLDER if each split has its own (unset: that of the export)."
    )
    image_key: str = setting(
        "", "Key of a task's data that names the image (unset: the only one that looks like an image)."
    )


@register_format("label_studio", BuildLabelStudioConfig)
def read_label_studio(config: BuildLabelStudioConfig) -> Source:
    """Reads a dataset in one of Label Studio's exports; classes are the labels that occur, in sorted order.

    Raises:
      UserError: files that cannot be read, are not exports, or name images that do not exist.
    """
    files = files_by_split(config.annotations, "annotations", ".json")
    collector = Collector(config)
    finders = image_finders(config.image_folder, files)
    several = 0
    for (split, path), finder in zip(files, finders, strict=True):
        export = _StudioExport(config, collector, finder, split, finder.beside(path))
        export.read(path)
        several += export.several
    if several:
        console.note(f"{counted(several, 'task')} with several annotations: the last one that was not canceled counts")
    collector.left_out(sorted({name for finder in finders for name in finder.unused()}), "that no annotation names")
    collector.report()
    collector.require_pairs(config.annotations, "export a project that has annotations")
    return Source(collector.splits, collector.class_names(), drawn=True)


# --- Regions --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, slots=True)
class _StudioRegion:
    """A region that a person drew.

    Attributes:
      name: its class.
      kind: "polygon", "rectangle", "ellipse" or "brush".
      numbers: float64, percentages of the image's width and height: [N, 2] of x, y; [4] of x, y, width, height from the
        corner that the rectangle is rotated about; [4] of x, y, radius_x, radius_y from the ellipse's center.
      degrees: rotation, clockwise on the screen.
      code: the brush mask, as Label Studio packs it.
    """

    name: str
    kind: str
    numbers: np.ndarray
    degrees: float = 0.0
    code: bytes = b""

    def shape(self, height: int, width: int, where: str) -> Shape:
        """Returns the region in pixels of an image of that size.

        Raises:
          UserError: a brush mask for another size, or one that is damaged.
        """
        if self.kind == "brush":
            return bitmap(self.name, brush_pixels(self.code, height, width, where), where=where)
        pixels = (self.numbers.reshape(-1, 2) * [width / 100, height / 100]).reshape(self.numbers.shape)
        if self.kind == "ellipse":
            x, y, radius_x, radius_y = pixels.tolist()
            return ellipse(self.name, x, y, radius_x, radius_y, self.degrees, where=where)
        if self.kind == "rectangle":
            pixels = _rotated_rectangle(pixels, self.degrees)
        return polygon(self.name, pixels, where=where)


def _rotated_rectangle(numbers: np.ndarray, degrees: float) -> np.ndarray:
    """Returns the corners [4, 2] of a rectangle [4] of x, y, width, height, rotated about (x, y), clockwise."""
    x, y, width, height = numbers.tolist()
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    along, down = np.array([width * cosine, width * sine]), np.array([-height * sine, height * cosine])
    corner = np.array([x, y])
    return np.stack([corner, corner + along, corner + along + down, corner + down])


def _draw(regions: Sequence[_StudioRegion], where: str, height: int, width: int) -> list[Shape]:
    return [region.shape(height, width, f"{where}, region {number}") for number, region in enumerate(regions, 1)]


# --- Tasks --------------------------------------------------------------------------------------------------


@dataclass
class _StudioTask:
    """What an export says about one image.

    Attributes:
      where: file and task, for messages.
      data: what the task was made from, including the image's name.
      results: the regions of the annotation that counts; None if there is none.
    """

    where: str
    data: dict[str, Any]
    results: list[Any] | None = field(default_factory=list)


class _StudioExport:
    """Reads one exported file."""

    def __init__(
        self, config: BuildLabelStudioConfig, collector: Collector, finder: ImageFinder, split: str, beside: str
    ):
        self.config, self.collector, self.finder, self.split = config, collector, finder, split
        self.beside = beside
        self.several = 0  # tasks with more than one annotation

    def read(self, path: str) -> None:
        """Reads the file.

        Raises:
          UserError: it is not an export.
        """
        content = read_json(path)
        if not isinstance(content, list):
            rule = "must contain a list of tasks, as Label Studio exports it"
            raise UserError("wrong-format", rule, _HINT, where=path)
        tasks: dict[str, _StudioTask] = {}
        for number, entry in enumerate(content, 1):
            with self.collector.catching():
                task = self._task(entry, number, path)
                # JSON-MIN has a row for each annotation of a task, JSON one entry for all of them.
                key = str(number) if "data" in entry else f"{task.where}\n{self._stored_name(task)}"
                self.several += key in tasks
                tasks[key] = task
        del content
        for task in console.progress(tasks.values(), what=f"reading {os.path.basename(path)}", unit="task"):
            with self.collector.catching():
                self._take(task)

    def _task(self, entry: Any, number: int, path: str) -> _StudioTask:
        """Returns a task of the export JSON, or a row of JSON-MIN, which has no 'data'."""
        identity = require(entry, "id", (int, str), f"{path}, task number {number}", f"number {number}")
        where = f"{path}, task {str(identity)[:40]}"
        if "data" not in entry:
            return _StudioTask(where, entry, list(_minimal_results(entry)))
        data = require(entry, "data", dict, where)
        key = "annotations" if "annotations" in entry else "completions"  # its name before version 1.0
        kept = [
            annotation
            for annotation in require(entry, key, list, where, [])
            if not any(yes_or_no(annotation, word, where) for word in ("was_cancelled", "skipped"))
        ]
        self.several += len(kept) > 1
        return _StudioTask(where, data, require(kept[-1], "result", list, where) if kept else None)

    def _take(self, task: _StudioTask) -> None:
        stored = self._stored_name(task)
        if task.results is None:
            self.collector.note("tasks without an annotation left out", stored[:200])
            with contextlib.suppress(UserError):
                self._find(stored, task.where)
            return
        image = self._find(stored, task.where)
        name = self.finder.name(image)
        sizes: set[tuple[int, int]] = set()
        regions = tuple(self._regions(task, name, sizes))
        if len(sizes) > 1:
            shown = " and ".join(f"{width}x{height}" for height, width in sorted(sizes))
            rule = f"its regions were drawn on images of {shown} pixels"
            raise UserError("size-mismatch", rule, _HINT, where=task.where, value=tuple(sorted(sizes)))
        shapes = functools.partial(_draw, regions, task.where)
        size = next(iter(sizes), None)
        outlines = self._outlines(regions, image, size, task.where)
        self.collector.add(name, image, task.where, shapes, size, self.split, empty=not regions, outlines=outlines)

    def _outlines(
        self, regions: Sequence[_StudioRegion], image: str, size: tuple[int, int] | None, where: str
    ) -> list[Shape]:
        """Returns the regions with outlines in pixels, which tell whether they reach outside the image."""
        drawn = [region for region in regions if region.kind != "brush"]
        shown = size or (shown_size(image) if drawn else None)
        if shown is None:
            return []
        factor = 1.0 if size else self.config.annotation_scale  # the collector scales all outlines by it
        return [region.shape(round(shown[0] / factor), round(shown[1] / factor), where) for region in drawn]

    def _stored_name(self, task: _StudioTask) -> str:
        if self.config.image_key:
            return require(task.data, self.config.image_key, str, task.where)
        found = [key for key, value in task.data.items() if isinstance(value, str) and _is_image(value)]
        if len(found) != 1:
            rule = f"{len(found)} of its data look like the name of an image"
            keys = found or [key for key, value in task.data.items() if isinstance(value, str)]
            hint = f"set `image_key` to one of {', '.join(keys)[:200]}"
            raise UserError("unclear-image", rule, hint, where=task.where, value=tuple(keys))
        return task.data[found[0]]

    def _find(self, stored: str, where: str) -> str:
        """Returns the path of an image, with and without what Label Studio puts before its name."""
        names = _possible_names(stored)
        name = next((name for name in names if self.finder.look_up(name, self.beside)), names[0])
        return self.finder.find(name, where, self.beside)

    # --- Regions

    def _regions(self, task: _StudioTask, name: str, sizes: set[tuple[int, int]]) -> Iterator[_StudioRegion]:
        results = task.results or []
        labeled = {_region_id(result) for result in results if _label_key(result)}
        for number, result in enumerate(results, 1):
            where = f"{task.where}, region {number} of {name}"
            if require(result, "type", str, where, "") == "relation":
                continue
            value = require(result, "value", dict, where)
            key = _label_key(result)
            if key is None:
                if _kind(value, where) and _region_id(result) not in labeled:  # else its twin has the label
                    self.collector.note("regions without a label left out", name)
                continue
            kind = _kind(value, where)
            if not kind:
                self.collector.skipped(key.removesuffix("labels") or "other", name)
                continue
            label = self._label(value, key, where, name)
            if label:
                _require_upright(result, where)
                region = _region(label, kind, value, where)
                if kind == "polygon" and len(region.numbers) < 3:
                    self.collector.skipped("too small", name)
                    continue
                sizes.update(filter(None, [image_size(result, "original_height", "original_width", where)]))
                self.collector.used_names.add(label)
                yield region

    def _label(self, value: Mapping[str, Any], key: str, where: str, name: str) -> str:
        """Returns the region's class; empty if it has none."""
        labels = [str(checked(label, str, f"'{key}'", where)).strip() for label in require(value, key, list, where)]
        if not any(labels):
            self.collector.note("regions without a label left out", name)
            return ""
        if len(labels) > 1:
            self.collector.note("regions with several labels, of which the first counts", name)
        label = next(filter(None, labels))
        require_plain(label, f"'{key}'", where)
        return label


def _minimal_results(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the regions of a row of JSON-MIN, in the form that they have in JSON."""
    for entries in row.values():
        for value in entries if isinstance(entries, list) else []:
            result = {"value": value}
            if _label_key(result):
                yield {**value, **result, "type": ""}


def _label_key(result: Any) -> str | None:
    """Returns the key of a region's labels: `polygonlabels`, `brushlabels`, or `labels` for all kinds."""
    value = result.get("value") if isinstance(result, dict) else None
    return next((key for key in value if key.endswith("labels")), None) if isinstance(value, dict) else None


def _region_id(result: Any) -> str:
    identity = result.get("id") if isinstance(result, dict) else None
    return identity if isinstance(identity, str) else ""


def _kind(value: dict[str, Any], where: str) -> str:
    """Returns what a region is by the measures that it has; empty if they make no area."""
    if "points" in value:
        return "polygon" if yes_or_no(value, "closed", where, True) else ""
    if "rle" in value:
        return "brush"
    if all(key in value for key in _ELLIPSE):
        return "ellipse"
    return "rectangle" if all(key in value for key in _RECTANGLE) else ""


def _region(name: str, kind: str, value: dict[str, Any], where: str) -> _StudioRegion:
    if kind == "brush":
        return _StudioRegion(name, kind, np.empty(0), code=_brush_code(value, where))
    if kind == "polygon":
        shape = polygon(name, require(value, "points", list, where), where=where)
        return _StudioRegion(name, kind, shape.rings[0] if shape.rings else np.empty((0, 2)))
    keys: Sequence[str] = _ELLIPSE if kind == "ellipse" else _RECTANGLE
    numbers = np.array([float(require(value, key, float, where)) for key in keys])
    if numbers[2:].min() < 0:
        rule = f"'{keys[2]}' and '{keys[3]}' must not be negative"
        raise UserError("out-of-range", rule, "draw the region again", where=where, value=numbers[2:].min())
    return _StudioRegion(name, kind, numbers, float(require(value, "rotation", float, where, 0.0)))


def _brush_code(value: dict[str, Any], where: str) -> bytes:
    form = require(value, "format", str, where, "rle")
    if form != "rle":
        rule = f"a brush mask must have the format rle, not {form[:40]!r}"
        raise UserError("wrong-format", rule, _HINT, where=where, value=form)
    try:
        return bytes(require(value, "rle", list, where))
    except (TypeError, ValueError):
        raise UserError("invalid-rle", "'rle' must be whole numbers from 0 to 255", _HINT, where=where) from None


def _require_upright(result: dict[str, Any], where: str) -> None:
    turn = require(result, "image_rotation", float, where, 0)
    if turn % 360:
        rule = f"was drawn while the image was rotated by {turn:g} degrees"
        hint = "rotate the image back in Label Studio, or save it rotated and annotate that"
        raise UserError("rotated-image", rule, hint, where=where, value=turn)


# --- Names of images ----------------------------------------------------------------------------------------


def _is_image(stored: str) -> bool:
    base = (safe_parts(_path_in(stored)) or [""])[-1].split("?")[0]
    return os.path.splitext(base)[1].lower() in IMAGE_EXTENSIONS


def _possible_names(stored: str) -> list[str]:
    """Returns what the file may be called: as stored, without %20 and its like, without the prefix of uploads."""
    path = _path_in(stored)
    whole = ["/".join(safe_parts(name)) for name in (path, unquote(path))]
    bases = [_UPLOAD_PREFIX.sub("", name.rsplit("/", 1)[-1]) for name in whole]
    return list(dict.fromkeys([*whole, *bases]))


def _path_in(stored: str) -> str:
    """Returns the path that the address of a local file contains; anything else as it is."""
    before, local, path = stored.partition(_LOCAL_FILE)
    return path.split("&")[0] if local else before
