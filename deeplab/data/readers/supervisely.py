"""Supervisely: a project's folder with meta.json and one subfolder per dataset, each with img/ and ann/.

https://docs.supervisely.com. Whole-numbered points are pixels there, not corners between pixels: the polygon's corner
(3, 2) is the center of the pixel in column 3 and row 2, and a rectangle includes its last column and row.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deeplab.config.conversion_config import DrawnConfig
from deeplab.config.fields import setting, split_words
from deeplab.data.class_names import BACKGROUND, is_background
from deeplab.data.dataset import Color
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_values import checked, class_name, image_size, read_color, read_json, require
from deeplab.data.readers.bitmaps import base64_bytes, png_bitmap
from deeplab.data.readers.collector import Collector
from deeplab.data.readers.image_finder import ImageFinder
from deeplab.data.readers.shapes import Shape, bitmap, line, polygon, rectangle, to_points
from deeplab.data.readers.source import UNDIVIDED, Source
from deeplab.data.split_names import split_in
from deeplab.utils import console
from deeplab.utils.errors import UserError, nearest
from deeplab.utils.paths import require_folder
from deeplab.utils.text import shorten

_BITMAPS = ("bitmap", "alpha_mask")
_OUTLINES = ("polygon", "multipolygon")
_AREAS = (*_BITMAPS, *_OUTLINES, "rectangle", "line")
_MAX_BITMAP = 2**28  # bytes of a PNG where the image's size is not known


@dataclass(frozen=True)
class BuildSuperviselyConfig(DrawnConfig):
    """Where the project is."""

    project_folder: str = setting("", "Folder of the project: meta.json, and a subfolder per dataset.", required=True)
    datasets: str = setting("", "Names of the datasets to read, with commas (unset: all).")


@register_format("supervisely", BuildSuperviselyConfig)
def read_supervisely(config: BuildSuperviselyConfig) -> Source:
    """Reads the images of a project; datasets that are all named after splits are the splits.

    Raises:
      UserError: no project there; classes or annotations that cannot be read; images that do not exist.
    """
    require_folder(config.project_folder, "project_folder")
    project = pathlib.Path(config.project_folder)
    classes = _read_meta(project / "meta.json")
    datasets = _chosen(_find_datasets(project), config.datasets)
    splits = _splits_of(list(datasets))
    collector = Collector(config)
    files = [(name, path) for name, folder in datasets.items() for path in sorted((folder / "ann").glob("[!.]*.json"))]
    images = {name: ImageFinder(folder / "img", "project_folder") for name, folder in datasets.items()}
    for name, path in console.progress(files, what="reading annotations", unit="file"):
        with collector.catching():
            _read_file(path, name, splits[name], images[name], classes, collector)
    others = [f"{name}/img/{path}" for name, finder in images.items() for path in finder.unused()]
    collector.left_out(others, "without an annotation file")
    collector.report()
    collector.require_pairs(config.project_folder, "export the project with images and annotations")
    names = collector.class_names(classes.kinds)
    own = [name for name in classes.kinds if is_background(name)]
    if own:  # a background class of its own keeps its place
        kept = {*names, own[0]}
        names = tuple(BACKGROUND if name == own[0] else name for name in classes.kinds if name in kept)
    colors = {BACKGROUND: classes.colors[own[0]] if own else (0, 0, 0)}
    return Source(
        collector.splits, names, tuple(colors.get(name) or classes.colors[name] for name in names), drawn=True
    )


def _read_file(
    path: pathlib.Path, dataset: str, split: str, images: ImageFinder, classes: _ProjectClasses, collector: Collector
) -> None:
    """Reads one annotation file."""
    where = str(path)
    content = read_json(path)
    size = image_size(require(content, "size", dict, where, {}), "height", "width", where)
    image = images.find(path.name.removesuffix(".json"), where)
    name = f"{dataset}/{images.name(image)}"
    shapes = []
    for number, figure in enumerate(require(content, "objects", list, where), 1):
        place = f"{where}, object {number}"
        kind = _kind(checked(figure, dict, "it", place), place, classes.kinds)
        if kind not in _AREAS:
            collector.skipped(kind, name)
            continue
        title = class_name(figure, "classTitle", place)
        if title not in classes.kinds:
            rule, hint = f"class {title!r} is not in meta.json", nearest(title, list(classes.kinds))
            raise UserError("unknown-class", rule, hint, where=place, value=title)
        shape = _shape(figure, title, kind, place, size, collector.config.line_width)
        if kind == "line" and not shape.has_area:
            collector.skipped(kind, name)
        else:
            shapes.append(shape)
    collector.add(name, image, where, shapes, size, split)


# --- The project --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _ProjectClasses:
    """Classes of meta.json, including those for ignored pixels.

    Attributes:
      kinds: geometry of each class, in the order of the file.
      colors: color of each class.
    """

    kinds: Mapping[str, str]
    colors: Mapping[str, Color]


def _read_meta(path: pathlib.Path) -> _ProjectClasses:
    if not path.is_file():
        above = path.absolute().parents[1]
        hint = "`project_folder` is the folder that contains meta.json"
        if (above / path.name).is_file():
            hint = f"`project_folder={above}`"
        raise UserError("file-not-found", "does not exist", hint, where=path)
    where = str(path)
    kinds: dict[str, str] = {}
    colors: dict[str, Color] = {}
    for number, entry in enumerate(require(read_json(path), "classes", list, where), 1):
        place = f"{where}, class {number}"
        title = class_name(entry, "title", place)
        kinds[title] = require(entry, "shape", str, place, "")
        colors[title] = read_color(entry.get("color")) or (0, 0, 0)
    return _ProjectClasses(kinds, colors)


def _find_datasets(project: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns folders with img/ and ann/ by name; nested datasets are in a folder `datasets` of the outer one."""
    found, without_images = {}, []
    for place, inner, _ in os.walk(project):
        folder = pathlib.Path(place)
        if "ann" in inner and "img" in inner:
            parts = [part for part in folder.relative_to(project).parts if part != "datasets"]
            name = "/".join(parts) or folder.name
            found[name if name not in found else folder.relative_to(project).as_posix()] = folder
        elif "ann" in inner:
            without_images.append(str(folder))
        inner[:] = sorted(name for name in inner if name not in ("ann", "img") and not name.startswith("."))
    if without_images:
        rule = f"{shorten(without_images)}: there is ann/, but no img/"
        hint = "export the project with its images, or put them into img/"
        raise UserError("wrong-layout", rule, hint, where=project)
    if not found:
        rule = "contains no dataset, a folder with img/ and ann/"
        raise UserError("wrong-layout", rule, "`project_folder` is the folder above it", where=project)
    return found


def _chosen(datasets: dict[str, pathlib.Path], wanted: str) -> dict[str, pathlib.Path]:
    names = split_words(wanted)
    for name in names:
        if name not in datasets:
            rule = f"the project has no dataset {name!r}"
            raise UserError("unknown-name", rule, nearest(name, datasets), field="datasets", value=name)
    return {name: datasets[name] for name in names or datasets}


def _splits_of(datasets: list[str]) -> dict[str, str]:
    """Returns the split of each dataset: by its name if all tell it and not all the same, else undivided."""
    told = {name: split_in(name) for name in datasets}
    if all(told.values()) and len(set(told.values())) > 1:
        return told
    return dict.fromkeys(datasets, UNDIVIDED)


# --- Figures ------------------------------------------------------------------------------------------------


def _kind(figure: dict, where: str, kinds: Mapping[str, str]) -> str:
    """Returns the geometry of a figure. Files from before 2019 do not state it: a filled `bitmap` or the class does."""
    kind = require(figure, "geometryType", str, where, "")
    if not kind and figure.get("bitmap") is not None:
        return "bitmap"
    return kind or kinds.get(class_name(figure, "classTitle", where), "") or "polygon"


def _shape(figure: dict, name: str, kind: str, where: str, size: tuple[int, int] | None, line_width: float) -> Shape:
    if kind in _BITMAPS:
        return _bitmap(figure, name, where, size)
    parts = (
        require(figure, "parts", list, where) if kind == "multipolygon" else [require(figure, "points", dict, where)]
    )
    if kind == "rectangle":
        return _rectangle(parts[0], name, where)
    if kind == "line":
        points = to_points(require(parts[0], "exterior", list, where), where)
        return line(name, points + 0.5 * (points == np.floor(points)).all(), line_width, where=where)
    rings = []
    for part in parts:
        rings += [require(part, "exterior", list, where), *require(part, "interior", list, where, [])]
    return _centered(polygon(name, rings[0], rings[1:], where=where)) if rings else Shape(name)


def _centered(shape: Shape) -> Shape:
    """Returns a shape whose whole-numbered points are the centers of pixels."""
    if all((ring == np.floor(ring)).all() for ring in shape.rings):
        return dataclasses.replace(shape, rings=tuple(ring + 0.5 for ring in shape.rings))
    return shape


def _rectangle(points: dict, name: str, where: str) -> Shape:
    corners = require(points, "exterior", list, where)
    ends = [
        checked(end, float, "a coordinate", where)
        for corner in corners
        for end in checked(corner, list, "a corner", where)
    ]
    if len(ends) != 4:
        rule = f"a rectangle has 2 corners of x and y, not {len(ends)} numbers"
        raise UserError("invalid-points", rule, "draw it again", where=where, value=len(ends))
    (left, right), (top, bottom) = sorted(ends[::2]), sorted(ends[1::2])
    last = 1 if all(end == int(end) for end in ends) else 0
    return rectangle(name, left, top, right + last, bottom + last, where=where)


def _bitmap(figure: dict, name: str, where: str, size: tuple[int, int] | None) -> Shape:
    """Reads a PNG that is compressed once more, and the column and row of its first pixel."""
    held = require(figure, "bitmap", dict, where)
    origin = require(held, "origin", list, where)
    if len(origin) != 2:
        rule = f"'origin' must be x and y, not {len(origin)} numbers"
        raise UserError("invalid-points", rule, "export it again", where=where, value=len(origin))
    left, top = (math.floor(checked(end, float, "'origin'", where)) for end in origin)
    packed = base64_bytes(require(held, "data", str, where), "'data'", where)
    limit = 16 * size[0] * size[1] + 2**16 if size else _MAX_BITMAP  # no PNG of the image's size is larger
    return bitmap(name, png_bitmap(_unpacked(packed, where, limit), where, size), left, top, where=where)


def _unpacked(packed: bytes, where: str, limit: int) -> bytes:
    """Undoes zlib, up to a number of bytes.

    Raises:
      UserError: damaged, or larger than any bitmap of that image.
    """
    work = zlib.decompressobj()
    try:
        data = work.decompress(packed, limit)
    except zlib.error as error:
        rule = f"'data' cannot be unpacked: {error}"
        raise UserError("invalid-bitmap", rule, "export it again", where=where) from None
    if work.unconsumed_tail:
        rule = "'data' unpacks to more than the image has pixels"
        raise UserError("invalid-bitmap", rule, "remove the object", where=where)
    if not work.eof:
        raise UserError("invalid-bitmap", "'data' ends too early", "export it again", where=where)
    return data
