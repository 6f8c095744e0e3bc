"""Kaggle's CSV of run lengths: a row per object or image, with pairs of first pixel and length.

Most competitions (Airbus, DSB 2018, TGS, Severstal, Understanding Clouds, HuBMAP) count pixels column after column from
1; Carvana and Sartorius count row after row. Which of the two is meant is told by the runs: those of one object are
about one column, or one row, apart.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from deeplab.config.conversion_config import DrawnConfig
from deeplab.config.fields import setting
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_files import files_by_split
from deeplab.data.readers.annotation_values import read_csv, require_plain
from deeplab.data.readers.bitmaps import Bitmap
from deeplab.data.readers.collector import Collector
from deeplab.data.readers.image_finder import ImageFinder, image_finders, shown_size
from deeplab.data.readers.shapes import Shape
from deeplab.data.readers.source import Source
from deeplab.utils import console
from deeplab.utils.errors import UserError, nearest
from deeplab.utils.text import shorten

_COLUMNS = {
    "image_column": ("imageid", "image", "img", "id", "imageid_classid", "image_label", "file_name", "filename"),
    "run_column": ("encodedpixels", "rle_mask", "rle", "encoding", "segmentation", "annotation", "mask", "runs"),
    "class_column": ("classid", "class", "label", "class_name", "cell_type", "category"),
}
_CLASS_IN_NAME = re.compile(r"(.+\.(?:jpe?g|png|tiff?|bmp|webp))_(.+)", re.IGNORECASE)
_EMPTY = ("", "-1", "nan", "none", "null")  # an image without an object
_RUNS = re.compile(r"[\d\s]+")
_MIN_RUNS = 5  # of an object, from which their distance says something
_MAX_VOTES = 200
_MAX_PIXEL = 2**31 - 1


@dataclass(frozen=True)
class BuildRleCsvConfig(DrawnConfig):
    """Where the CSV file and the images are, and how pixels are counted."""

    annotations: str = setting("", "CSV files, with commas; train:FILE,val:FILE names the splits.", required=True)
    image_folder: str = setting(
        "", "Folder of the images; train:FOLDER,val:FOLDER if each split has its own (unset: that of the CSV file)."
    )
    image_column: str = setting("", "Column of the images' names (unset: ImageId, img, id ..., whichever there is).")
    run_column: str = setting("", "Column of the run lengths (unset: EncodedPixels, rle_mask ..., whichever there is).")
    class_column: str = setting(
        "", "Column of the classes (unset: ClassId, class ..., or the end of names such as 0001.jpg_Fish)."
    )
    default_class: str = setting("object", "Class where no column gives one.")
    run_order: str = setting(
        "auto",
        "Pixels are counted column after column, or row after row (auto: as the distance of the runs tells).",
        choices=("auto", "columns", "rows"),
    )
    first_pixel: int = setting(1, "Number of the first pixel.", choices=(0, 1))

    def validate(self) -> None:
        if self.annotation_scale != 1 or self.scale_annotations:
            field = "scale_annotations" if self.scale_annotations else "annotation_scale"
            rule = "has no meaning for run lengths, which count the pixels of images of one size"
            raise UserError("conflicting-settings", rule, "use the images that were annotated", field=field)


@register_format("rle_csv", BuildRleCsvConfig)
def read_rle_csv(config: BuildRleCsvConfig) -> Source:
    """Reads images with their run lengths; classes are those that occur, in sorted order.

    Raises:
      UserError: files that cannot be read, columns that are missing, or images that do not exist.
    """
    files = files_by_split(config.annotations, "annotations", ".csv")
    finders = image_finders(config.image_folder, files)
    collector = Collector(config)
    found: list[tuple[str, ImageFinder, dict[str, _RleImage]]] = []
    for (split, path), finder in zip(files, finders, strict=True):
        images: dict[str, _RleImage] = {}
        for row in _rows(path, config):
            with collector.catching():
                _take(row, images, finder, finder.beside(path), config)
        found.append((split, finder, images))
    order = config.run_order
    if order == "auto":
        order = _told_order([image for _, _, images in found for image in images.values()])
    for split, finder, images in found:
        for path, image in images.items():
            collector.used_names.update(name for name, _ in image.objects)
            shapes = functools.partial(_draw, tuple(image.objects), order == "columns", image.where)
            with collector.catching():
                collector.add(finder.name(path), path, image.where, shapes, split=split, empty=not image.objects)
    collector.left_out(sorted({name for finder in finders for name in finder.unused()}), "that no row names")
    collector.report()
    collector.require_pairs(config.annotations, "`skip_empty=false` keeps images without an object")
    return Source(collector.splits, collector.class_names(), drawn=True)


@dataclass
class _RleImage:
    path: str
    where: str
    objects: list[tuple[str, np.ndarray]]  # class, and int64 [n, 2] of first pixel, from 0, and length


@dataclass(frozen=True)
class _RleRow:
    where: str
    image: str
    name: str
    runs: str


def _rows(path: str, config: BuildRleCsvConfig) -> Iterator[_RleRow]:
    """Yields the rows of a file.

    Raises:
      UserError: it cannot be read, or a column is missing.
    """
    columns: dict[str, str] | None = None
    for number, row in read_csv(path):
        columns = columns or _columns_of(list(row), path, config)
        image, name = row[columns["image_column"]].strip(), config.default_class
        if columns["class_column"]:
            name = row[columns["class_column"]].strip() or name
        elif match := _CLASS_IN_NAME.fullmatch(image):
            image, name = match[1], match[2]
        yield _RleRow(f"{path}, line {number}", image, name, row[columns["run_column"]].strip())
    if columns is None:
        raise UserError("no-pairs", "contains no row", "use the file that lists the masks of training", where=path)


def _columns_of(held: Sequence[str], path: str, config: BuildRleCsvConfig) -> dict[str, str]:
    found: dict[str, str] = {}
    for field, usual in _COLUMNS.items():
        wanted = getattr(config, field)
        if wanted and wanted not in held:
            raise UserError("unknown-name", f"{path} has no column {wanted!r}", nearest(wanted, held), field=field)
        likely = [column for word in usual for column in held if column.strip().lower() == word]
        found[field] = wanted or next((column for column in likely if column not in found.values()), "")
    for field in ("image_column", "run_column"):
        if not found[field]:
            rule = f"{path} has the columns {shorten(list(map(repr, held)), 8)}: which has the "
            rule += "images' names?" if field == "image_column" else "run lengths?"
            raise UserError(
                "unclear-column", rule, f"`{field}={next(iter(held), 'NAME')}`, or another of them", field=field
            )
    return found


def _take(
    row: _RleRow, images: dict[str, _RleImage], finder: ImageFinder, beside: str, config: BuildRleCsvConfig
) -> None:
    if not row.image:
        raise UserError("empty-name", "names no image", "remove the row", where=row.where)
    path = finder.find(row.image, row.where, beside)
    image = images.setdefault(path, _RleImage(path, row.where, []))
    if row.runs.lower() not in _EMPTY:
        require_plain(row.name, "a class", row.where)
        image.objects.append((row.name, _parsed(row.runs, row.where, config.first_pixel)))


def _parsed(text: str, where: str, first: int) -> np.ndarray:
    """Returns pairs of first pixel, from 0, and length, int64 [n, 2]."""
    words = text.split()
    if not _RUNS.fullmatch(text) or len(words) % 2 or max(map(len, words)) > 10:
        rule = "run lengths must be pairs of first pixel and length"
        raise UserError("invalid-rle", rule, "correct the row, or choose `run_column`", where=where, value=text[:40])
    runs = np.array(list(map(int, words)), np.int64).reshape(-1, 2) - [first, 0]
    if runs[:, 0].min() < 0:
        rule, hint = "a run begins at pixel 0, but the first pixel is 1", "`first_pixel=0` if they are counted from 0"
        raise UserError("invalid-rle", rule, hint, where=where, value=0)
    if runs.max() > _MAX_PIXEL:
        rule = f"a run of {runs.max()} is in no image"
        raise UserError("out-of-range", rule, "correct the row", where=where, value=int(runs.max()))
    return runs


def _told_order(images: Sequence[_RleImage]) -> str:
    """Returns "columns" or "rows": whether the runs of objects are about a height or a width apart."""
    votes = {"columns": 0, "rows": 0}
    for image in images:
        steps = [np.median(np.diff(runs[:, 0])) for _, runs in image.objects if len(runs) >= _MIN_RUNS]
        size = shown_size(image.path) if steps else None
        if size and size[0] != size[1]:
            off = np.abs(np.array(steps)[:, None] - size)
            votes["columns"] += int(np.count_nonzero(off[:, 0] < off[:, 1]))
            votes["rows"] += int(np.count_nonzero(off[:, 1] < off[:, 0]))
        if sum(votes.values()) >= _MAX_VOTES:
            break
    if votes["rows"] == votes["columns"]:
        console.note("run lengths are read column after column; `run_order=rows` if the masks look transposed")
        return "columns"
    order = max(votes, key=lambda name: votes[name])
    other = "rows" if order == "columns" else "columns"
    console.note(
        f"run lengths go along {order}, as the runs of {votes[order]} objects tell (`run_order={other}` if not)"
    )
    return order


def _draw(
    objects: Sequence[tuple[str, np.ndarray]], by_columns: bool, where: str, height: int, width: int
) -> list[Shape]:
    """Returns the shapes on an image of that size.

    Raises:
      UserError: runs that end beyond the image.
    """
    shapes = []
    for name, runs in objects:
        last = int(runs.sum(axis=1).max(initial=0))
        if last > height * width:
            rule = f"its run lengths end at pixel {last}, but the image has {width}x{height} = {height * width}"
            hint = "use the image that was annotated, in its original size"
            raise UserError("size-mismatch", rule, hint, where=where, value=last)
        shapes.append(Shape(name, bitmap=Bitmap(_runs_of(runs, height * width), height, width, by_columns=by_columns)))
    return shapes


def _runs_of(runs: np.ndarray, total: int) -> np.ndarray:
    """Returns run lengths, int32 [n], from pixels outside on, of pairs of first pixel and length in any order."""
    runs = runs[runs[:, 1] > 0]
    if not len(runs):
        return np.array([total], np.int32)
    runs = runs[np.argsort(runs[:, 0], kind="stable")]
    ends = np.maximum.accumulate(runs.sum(axis=1))
    begins = np.concatenate([[True], runs[1:, 0] > ends[:-1]])  # of runs that neither overlap nor touch
    starts = runs[begins, 0]
    stops = ends[np.concatenate([np.flatnonzero(begins)[1:] - 1, [len(runs) - 1]])]
    return np.diff(np.stack([starts, stops], axis=1).ravel(), prepend=0, append=total).astype(np.int32)
