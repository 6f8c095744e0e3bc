"""Supervisely: a project's folder with meta.json and one subfolder a dataset, each with img/ and ann/.

https://docs.supervisely.com. Whole-numbered points are pixels there, not corners between pixels: the polygon's corner
(3, 2) is the center of the pixel in column 3 and row 2, and a rectangle holds its last column and row.
"""

from __future__ import annotations

import math
import os
import pathlib
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplab.config.fields import setting
from deeplab.data.dataset import Color
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_files import (
    DrawnConfig,
    ImageFinder,
    Tally,
    checked,
    class_name,
    image_size,
    read_json,
    require,
    require_pairs,
)
from deeplab.data.readers.embedded import base64_bytes, png_bitmap
from deeplab.data.readers.shapes import Shape, background_of, bitmap, paint, polygon, rectangle
from deeplab.data.readers.source import BACKGROUND, UNDIVIDED, Painter, Pair, Source, with_background
from deeplab.utils import console
from deeplab.utils.errors import UserError, nearest
from deeplab.utils.paths import require_folder, shorten

_BITMAPS = ("bitmap", "alpha_mask")
_OUTLINES = ("polygon", "multipolygon")
_AREAS = (*_BITMAPS, *_OUTLINES, "rectangle")
_SPLITS = {"train": "train", "val": "val", "test": "test"}  # a dataset's name begins with it
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class BuildSuperviselyConfig(DrawnConfig):
    """Where the project lies."""

    project_folder: str = setting("", "Folder of the project: meta.json, and a subfolder a dataset.", required=True)


@dataclass(frozen=True)
class SuperviselyMask:
    """A mask that is drawn from one of Supervisely's annotation files; see `source.Mask`.

    Attributes:
      where: the file.
      size: height and width of the image that it states.
      overlap: which shape covers which; see `shapes.paint`.
      kinds: geometry of each class, for files that do not repeat it.
    """

    where: str
    size: tuple[int, int] | None
    overlap: str
    kinds: Mapping[str, str]

    def draw(self, painter: Painter, height: int, width: int) -> np.ndarray:
        """The label, uint8 [height, width].

        Raises:
          UserError: the file is not what it was, or holds a figure that cannot be drawn.
        """
        figures = _areas(read_json(self.where), self.where, self.kinds)
        shapes = [_shape(figure, kind, place, height, width) for figure, kind, place in figures]
        return paint(shapes, painter, self.where, height, width, self.overlap, background_of(painter))


@register_format("supervisely", BuildSuperviselyConfig)
def read_supervisely(config: BuildSuperviselyConfig) -> Source:
    """All images of a project; datasets called train..., val..., test... are the splits.

    Raises:
      UserError: no project there; classes or annotations that cannot be read; images that are not there.
    """
    require_folder(config.project_folder, "`project_folder`")
    project = pathlib.Path(config.project_folder)
    classes = _read_meta(project / "meta.json")
    datasets = _find_datasets(project)
    splits = _splits_of(list(datasets))
    tally = Tally(config.skip_empty)
    files = [(name, path) for name, folder in datasets.items() for path in sorted((folder / "ann").glob("[!.]*.json"))]
    images = {name: ImageFinder(folder / "img", "`project_folder`") for name, folder in datasets.items()}
    for name, path in console.progress(files, what="reading annotations", unit="file"):
        with tally.collecting():
            _take(path, name, splits[name], images[name], classes, tally, config)
    others = [f"{name}/img/{path}" for name, finder in images.items() for path in finder.unused()]
    tally.left_out(others, "without an annotation file")
    tally.report()
    require_pairs(tally, config.project_folder, "export the project with images and annotations")
    return Source(tally.splits, tuple(classes.colors), tuple(classes.colors.values()), drawn=True)


def _take(
    path: pathlib.Path,
    dataset: str,
    split: str,
    images: ImageFinder,
    classes: _Classes,
    tally: Tally,
    config: BuildSuperviselyConfig,
) -> None:
    """Adds one annotation file to the tally."""
    where = str(path)
    content = read_json(path)
    figures = _areas(content, where, classes.kinds, tally)
    for figure, _, place in figures:
        title = class_name(figure, "classTitle", place)
        if title not in classes.kinds:
            raise UserError(
                "unclassified", f"class {title!r} is not in meta.json", nearest(title, list(classes.kinds)), where=place
            )
    size = image_size(require(content, "size", dict, where, {}), "height", "width", where)
    image = images.find(path.name.removesuffix(".json"), where)
    name = f"{dataset}/{images.name(image)}"
    mask = SuperviselyMask(where, size, config.overlap, classes.kinds)
    tally.add(Pair(name, image, mask), where, split, empty=not figures)


# --- The project --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Classes:
    """Classes of meta.json.

    Attributes:
      colors: color of each class in the order of the label values.
      kinds: geometry of each title in meta.json, those for ignored pixels among them.
    """

    colors: Mapping[str, Color]
    kinds: Mapping[str, str]


def _read_meta(path: pathlib.Path) -> _Classes:
    if not path.is_file():
        above = path.absolute().parents[1]
        hint = "`project_folder` is the folder that holds meta.json"
        raise UserError(
            "unclassified",
            "is not there",
            f"`project_folder={above}`" if (above / path.name).is_file() else hint,
            where=path,
        )
    where = str(path)
    kinds: dict[str, str] = {}
    colors: dict[str, Color] = {BACKGROUND: (0, 0, 0)}
    for number, entry in enumerate(require(read_json(path), "classes", list, where), 1):
        place = f"{where}, class {number}"
        title = class_name(entry, "title", place)
        kinds[title] = require(entry, "shape", str, place, "")
        colors[title] = _color(require(entry, "color", str, place, "#000000"), place)
    names = with_background(kinds)
    if BACKGROUND in kinds:  # a class of its own there keeps its place
        names = tuple(title for title in kinds if title in names)
    return _Classes({name: colors[name] for name in names}, kinds)


def _color(text: str, where: str) -> Color:
    if not _COLOR.fullmatch(text.strip()):
        raise UserError(
            "unclassified", f"`color` must be like #FF8000, not {text[:40]!r}", "mend it in meta.json", where=where
        )
    red, green, blue = bytes.fromhex(text.strip()[1:])
    return red, green, blue


def _find_datasets(project: pathlib.Path) -> dict[str, pathlib.Path]:
    """Folders with img/ and ann/, by their names; nested datasets lie in a folder `datasets` of the outer one."""
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
        raise UserError(
            "unclassified", rule, "export the project with its images, or put them into img/", where=project
        )
    if not found:
        raise UserError(
            "unclassified",
            "holds no dataset, a folder with img/ and ann/",
            "`project_folder` is the one above",
            where=project,
        )
    return found


def _splits_of(datasets: list[str]) -> dict[str, str]:
    """The split of each dataset: by their names if all say so and not all say the same, else undivided."""
    said = {
        name: next((_SPLITS[start] for start in _SPLITS if name.lower().startswith(start)), "") for name in datasets
    }
    if all(said.values()) and len(set(said.values())) > 1:
        return said
    return dict.fromkeys(datasets, UNDIVIDED)


# --- Figures ------------------------------------------------------------------------------------------------


def _areas(
    content: Any, where: str, kinds: Mapping[str, str], tally: Tally | None = None
) -> list[tuple[dict, str, str]]:
    """Figures that have an area, each with its kind and its place for messages; the others are counted."""
    found = []
    for number, figure in enumerate(require(content, "objects", list, where), 1):
        place = f"{where}, object {number}"
        kind = _kind(checked(figure, dict, "it", place), place, kinds)
        if kind in _AREAS:
            found.append((figure, kind, place))
        elif tally:
            tally.skipped(kind, where)
    return found


def _kind(figure: dict, where: str, kinds: Mapping[str, str]) -> str:
    """The geometry of a figure. Files of before 2019 do not state it: there a filled `bitmap` or the class says it."""
    kind = require(figure, "geometryType", str, where, "")
    if not kind and figure.get("bitmap") is not None:
        return "bitmap"
    return kind or kinds.get(class_name(figure, "classTitle", where), "") or "polygon"


def _shape(figure: dict, kind: str, where: str, height: int, width: int) -> Shape:
    name = class_name(figure, "classTitle", where)
    if kind in _BITMAPS:
        return _bitmap(figure, name, where, height, width)
    parts = (
        require(figure, "parts", list, where) if kind == "multipolygon" else [require(figure, "points", dict, where)]
    )
    if kind == "rectangle":
        return _rectangle(parts[0], name, where)
    rings = []
    for part in parts:
        rings += [require(part, "exterior", list, where), *require(part, "interior", list, where, [])]
    if not rings:
        raise UserError("unclassified", "has no outline", "draw it again", where=where)
    shape = polygon(name, rings[0], rings[1:], where=where)
    if all((ring == np.floor(ring)).all() for ring in shape.rings):
        shape = Shape(name, rings=tuple(ring + 0.5 for ring in shape.rings))
    return shape


def _rectangle(points: dict, name: str, where: str) -> Shape:
    corners = require(points, "exterior", list, where)
    ends = [
        checked(end, float, "a coordinate", where)
        for corner in corners
        for end in checked(corner, list, "a corner", where)
    ]
    if len(ends) != 4:
        raise UserError(
            "unclassified",
            f"a rectangle has 2 corners of x and y, not {len(ends)} numbers",
            "draw it again",
            where=where,
        )
    (left, right), (top, bottom) = sorted(ends[::2]), sorted(ends[1::2])
    last = 1 if all(end == int(end) for end in ends) else 0
    return rectangle(name, left, top, right + last, bottom + last, where=where)


def _bitmap(figure: dict, name: str, where: str, height: int, width: int) -> Shape:
    """A PNG, compressed once more, and the column and row of its first pixel."""
    held = require(figure, "bitmap", dict, where)
    origin = require(held, "origin", list, where)
    if len(origin) != 2:
        raise UserError(
            "unclassified", f"`origin` must be x and y, not {len(origin)} numbers", "export it again", where=where
        )
    left, top = (math.floor(checked(end, float, "`origin`", where)) for end in origin)
    packed = base64_bytes(require(held, "data", str, where), "`data`", where)
    data = _unpacked(packed, where, 16 * height * width + 2**16)  # no PNG of the image's size is larger
    return bitmap(name, png_bitmap(data, where, height, width), left, top, where=where)


def _unpacked(packed: bytes, where: str, most: int) -> bytes:
    """Undoes zlib, up to a number of bytes.

    Raises:
      UserError: damaged, or larger than any bitmap of that image.
    """
    work = zlib.decompressobj()
    try:
        data = work.decompress(packed, most)
    except zlib.error as fault:
        raise UserError("unclassified", f"`data` cannot be unpacked: {fault}", "export it again", where=where) from None
    if work.unconsumed_tail:
        raise UserError(
            "unclassified", "`data` unpacks to more than the image has pixels", "take the object out", where=where
        )
    if not work.eof:
        raise UserError("unclassified", "`data` breaks off", "export it again", where=where)
    return data
