"""Contact sheets of what records hold, and of the batches that a training gets.

Records are read with the decoder of the training; batches come from whoever makes them for the training, and are
shown pixel for pixel. A record that cannot be decoded shows the reason in its place; a broken shard stops everything.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import tensorflow as tf

from deeplab.data import colormaps, records
from deeplab.data.dataset import Dataset
from deeplab.data.decoding import decode_image, decode_label, image_size, reported
from deeplab.data.labels import LabelSpec
from deeplab.utils import console
from deeplab.utils.errors import UserError, nearest
from deeplab.utils.files import write_atomically
from deeplab.visualization.image_grid import CELL, GAP, LINE, Sheet, Tile, columns_for, resized, within
from deeplab.visualization.label_rendering import Classes, percent

TITLES = ("image", "overlay", "label")
_MOST_PIXELS = 60_000_000  # of one sheet
_MOST_WARNINGS = 5
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Look:
    """How sheets look.

    Attributes:
      per_page: most images on one sheet.
      cell: width and height within which pictures are brought; None = `CELL` for records, and batches pixel for pixel.
      opacity: of the label's colors on the overlay, 0..1.
    """

    per_page: int = 24
    cell: int | None = None
    opacity: float = 0.5


@dataclass(frozen=True)
class Split:
    """A split of records.

    Attributes:
      dataset: what its labels mean.
      name: the split's name.
      shards: paths of its files, in order.
    """

    dataset: Dataset
    name: str
    shards: list[str]


@dataclass(frozen=True, eq=False)
class View:
    """One image with its label, ready to be drawn.

    Attributes:
      name, note: the lines below it.
      image: uint8 [H, W, 3], RGB; None where it cannot be decoded.
      label: integers [H, W], 0..255; None where there is none or it cannot be decoded.
      padding: bool [H, W], pixels that are no part of the image; None = none are.
      fault: why something cannot be decoded.
    """

    name: str
    note: str
    image: np.ndarray | None
    label: np.ndarray | None
    padding: np.ndarray | None = field(repr=False, default=None)
    fault: str = ""

    def counts(self) -> np.ndarray:
        """Pixels of each label value outside the padding, int64 [256]."""
        if self.label is None:
            return np.zeros(256, np.int64)
        counted = self.label if self.padding is None else self.label[~self.padding]
        return np.bincount(counted.ravel(), minlength=256)

    def tile(self, classes: Classes, look: Look) -> Tile:
        """Image, overlay and label side by side, at the size at which they are shown."""
        caption = [self.name, self.note]
        if self.image is None:
            return Tile([self.fault, None, None], caption)
        height, width = within(self.image.shape, look.cell) if look.cell else self.image.shape[:2]
        image = np.asarray(resized(self.image, height, width))
        if self.label is None:
            return Tile([image, self.fault or None, None], caption)
        padding = None if self.padding is None else _nearest(self.padding.astype(np.uint8), height, width) > 0
        drawn = classes.picture(_nearest(self.label.astype(np.uint8), height, width), padding)
        return Tile([image, colormaps.overlay(image, drawn, look.opacity), drawn], caption)


def _nearest(values: np.ndarray, height: int, width: int) -> np.ndarray:
    return cv2.resize(values, (width, height), interpolation=cv2.INTER_NEAREST)


# --- Records --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Selection:
    """Which records of a split are shown.

    Attributes:
      images: how many at most.
      classes: names or label values; a record is shown when it holds one of them; none = any record.
      seed: of a random choice; None takes the first ones.
    """

    images: int = 24
    classes: Sequence[str] = ()
    seed: int | None = None


def choose(split: Split, selection: Selection) -> list[int]:
    """Numbers of the chosen records, counted from 0 over all shards, in ascending order.

    Raises:
      UserError: an unknown class, no record that fits, a damaged shard.
    """
    if selection.classes:
        found = records_with(class_indices(selection.classes, split.dataset.class_names), split.shards)
        possible = list(found if selection.seed is not None else itertools.islice(found, selection.images))
    else:
        possible = list(range(number_of(split.shards)))
    if not possible:
        rule = f"no image of split {split.name} holds {', '.join(selection.classes)}"
        rule = rule if selection.classes else f"split {split.name} holds no image"
        raise UserError("unclassified", rule, "try another split", field="classes" if selection.classes else "split")
    if selection.seed is None:
        return possible[: selection.images]
    return sorted(random.Random(selection.seed).sample(possible, min(selection.images, len(possible))))


def number_of(shards: Sequence[str]) -> int:
    """Number of records in all shards together.

    Raises:
      UserError: a shard is damaged, or is no file.
    """
    try:
        return records.count(shards)
    except OSError as fault:  # a folder, or a link that leads nowhere
        raise UserError(
            "unclassified",
            f"cannot be read: {fault.strerror}",
            "copy the whole folder again",
            where=str(fault.filename),
        ) from None


def class_indices(wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    """Label values of classes that are given by name or number, with commas or one by one.

    Raises:
      UserError: no such class, with the nearest that there is.
    """
    found = []
    for word in (part.strip() for item in wanted for part in item.split(",")):
        if word in names:
            found.append(names.index(word))
        elif word.isdigit() and int(word) < len(names):
            found.append(int(word))
        elif word:
            raise UserError(
                "unclassified", f"{word!r} is no class of this dataset", nearest(word, list(names)), field="classes"
            )
    return found


def records_with(classes: Sequence[int], shards: Sequence[str]) -> Iterator[int]:
    """Numbers of the records whose label holds one of the classes."""
    with console.progress(total=number_of(shards), what="looking for the classes", unit="record") as bar:
        for position, record in all_records(shards):
            encoded = np.frombuffer(record.get(records.LABEL, b""), np.uint8)
            label = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED) if len(encoded) else None
            bar.update()
            if label is not None and np.isin(label, classes).any():
                yield position


def all_records(shards: Iterable[str]) -> Iterator[tuple[int, Record]]:
    """Every record with its number."""
    yield from enumerate(record for path in shards for record in records.read_shard(path))


def read_records(shards: Sequence[str], positions: Sequence[int]) -> Iterator[tuple[int, Record]]:
    """The records of ascending numbers; shards that hold none of them are not read.

    Raises:
      UserError: a shard is damaged.
    """
    first, wanted = 0, set(positions)
    for path in shards:
        count = records.count_records(path)
        here = [number for number in range(first, first + count) if number in wanted]
        if here:
            for number, record in enumerate(records.read_shard(path), start=first):
                if number in wanted:
                    yield number, record
                if number == here[-1]:
                    break
        first += count


def view_of(position: int, record: Record) -> View:
    """A record as training decodes it; what cannot be decoded becomes the view's fault."""
    example = {records.FILENAME: b"", records.LABEL: b"", **record}
    name = example[records.FILENAME].decode("utf-8", "replace")
    try:
        size, image = image_size(example), decode_image(example[records.IMAGE]).numpy()
    except tf.errors.OpError as error:
        return View(name, f"record {position}", None, None, fault=_reason(error, "the image cannot be decoded"))
    note = f"record {position}, {image.shape[1]} wide, {image.shape[0]} high"
    if not example[records.LABEL]:
        return View(name, f"{note}, no label", image, None)
    try:
        label = decode_label(example, size, LabelSpec()).numpy()
    except tf.errors.OpError as error:
        return View(name, note, image, None, fault=_reason(error, "the label cannot be decoded"))
    return View(name, note, image, label)


def _reason(error: Exception, otherwise: str) -> str:
    report = reported(error)
    return f"{report.rule}; {report.hint}" if report else f"{otherwise}: replace the file, build the records anew"


def record_views(split: Split, positions: Sequence[int]) -> Iterator[View]:
    """The chosen records, with progress and a warning for each of the first that cannot be decoded.

    Raises:
      UserError: a shard is damaged.
    """
    faults, chosen = 0, read_records(split.shards, positions)
    bar = console.progress(chosen, total=len(positions), what=f"drawing {split.name}", unit="image")
    for position, record in bar:
        view = view_of(position, record)
        if view.fault:
            faults += 1
            if faults <= _MOST_WARNINGS:
                console.warning(f"{view.name} (record {position} of split {split.name}): {view.fault}")
        yield view
    if faults > _MOST_WARNINGS:
        console.warning(f"{faults} records of split {split.name} cannot be decoded")


def record_sheets(split: Split, positions: Sequence[int], look: Look) -> Iterator[Sheet]:
    """The chosen records on as many sheets as they need.

    Raises:
      UserError: a shard is damaged.
    """
    look = dataclasses.replace(look, cell=look.cell or CELL)
    heading = f"{split.dataset.name}, split {split.name}: {len(positions):,} of {number_of(split.shards):,} images"
    pages, views = -(-len(positions) // look.per_page), record_views(split, positions)
    for number in range(1, pages + 1):
        page = _Page(Classes.of(split.dataset), look)
        for view in itertools.islice(views, look.per_page):
            page.add(view)
        yield page.sheet(heading, f"sheet {number} of {pages}")


class _Page:
    """Tiles of a sheet on their way, and what their labels hold; the images themselves are let go."""

    def __init__(self, classes: Classes, look: Look):
        self._classes, self._look = classes, look
        self._tiles: list[Tile] = []
        self._counts, self._padding = np.zeros(256, np.int64), 0

    def add(self, view: View) -> None:
        """One more image."""
        self._tiles.append(view.tile(self._classes, self._look))
        self._counts += view.counts()
        self._padding += int(view.padding.sum()) if view.padding is not None else 0

    def sheet(self, *heading: str) -> Sheet:
        """All of them on one sheet; to the last line of its heading is added how many classes occur."""
        names = self._classes.names
        occurring = np.count_nonzero(self._counts[: len(names)])
        lines = (*heading[:-1], f"{heading[-1]}, {occurring} of {len(names)} classes occur here")
        legend = self._classes.legend(self._counts, self._padding)
        return Sheet(TITLES, self._tiles, legend, lines, self._columns(), self._look.cell)

    def _columns(self) -> int:
        shapes = [p.shape for tile in self._tiles for p in tile.pictures if isinstance(p, np.ndarray)]
        tall = max((shape[0] for shape in shapes), default=CELL)
        wide = self._look.cell or max(shape[1] for shape in shapes)
        return columns_for(len(self._tiles), len(TITLES) * (wide + GAP), tall + 2 * LINE + GAP)


# --- Batches --------------------------------------------------------------------------------------------------


def batch_views(batch: Mapping[str, Any], mean_pixel: Sequence[float], ignore_label: int) -> list[View]:
    """The images of a training batch, rounded to whole numbers and otherwise as they are.

    Args:
      batch: as from `input.train_batches`: image float32 [B, H, W, 3], 0..255; label int32 [B, H, W]; image_name
        string [B]; height and width int32 [B].
      mean_pixel: RGB of the padding.
      ignore_label: label of the padding.
    """
    arrays = {key: np.asarray(value) for key, value in batch.items()}
    views = []
    for index, name in enumerate(arrays["image_name"]):
        image, label = arrays["image"][index][..., :3], arrays["label"][index]
        padding = find_padding(image, label, mean_pixel, ignore_label)
        stored = f"stored {arrays['width'][index]} wide, {arrays['height'][index]} high"
        shares = [("ignored", (label == ignore_label) & ~padding), ("padding", padding)]
        note = ", ".join([stored, *(f"{percent(where.mean())} {what}" for what, where in shares if where.any())])
        rounded = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        views.append(View(name.decode("utf-8", "replace"), note, rounded, label, padding))
    return views


def find_padding(image: np.ndarray, label: np.ndarray, mean_pixel: Sequence[float], ignore_label: int) -> np.ndarray:
    """Where a training crop is padding: whole rows at the bottom, and columns at the right or (mirrored) the left.

    Args:
      image: float32 [H, W, 3], 0..255.
      label: integers [H, W].
      mean_pixel, ignore_label: what padding holds.

    Returns:
      bool [H, W].
    """
    empty = (image == np.array(mean_pixel, np.float32)).all(-1) & (label == ignore_label)
    rows = _leading(empty.all(1)[::-1])
    above = empty[: len(empty) - rows].all(0)
    padding = np.zeros_like(empty)
    padding[len(empty) - rows :] = True
    padding[:, : _leading(above)] = True
    padding[:, len(above) - _leading(above[::-1]) :] = True
    return padding


def _leading(flags: np.ndarray) -> int:
    """Number of true values before the first false one."""
    return len(flags) if flags.all() else int(np.argmin(flags))


def batch_sheets(
    split: Split, batch: Mapping[str, Any], mean_pixel: Sequence[float], heading: Sequence[str], look: Look
) -> Iterator[Sheet]:
    """A batch, as `batch_views` takes it, on one sheet, or on several where it is too large for one."""
    views = batch_views(batch, mean_pixel, split.dataset.ignore_label)
    size = np.shape(batch["image"])[1:3]
    height, width = within(size, look.cell) if look.cell else size
    at_once = max(1, min(look.per_page, _MOST_PIXELS // (len(TITLES) * height * width)))
    for first in range(0, len(views), at_once):
        page = _Page(Classes.of(split.dataset), look)
        for view in views[first : first + at_once]:
            page.add(view)
        yield page.sheet(*heading)


# --- Writing --------------------------------------------------------------------------------------------------


class Pages:
    """The sheets of one call in their folder, numbered; those of an earlier call are replaced or left alone whole.

    Args:
      folder: it must exist.
      stem: what their names begin with; numbers follow.
      overwrite: sheets of that stem may be replaced.

    Raises:
      UserError: there are some, and they may not.
    """

    def __init__(self, folder: str | os.PathLike, stem: str, overwrite: bool):
        self._folder, self._stem = pathlib.Path(folder), stem
        pattern = re.compile(re.escape(stem) + r"-\d+(-\d+)?\.png")
        self._earlier = {path.name for path in self._folder.iterdir() if pattern.fullmatch(path.name)}
        self.written: list[str] = []
        if self._earlier and not overwrite:
            rule = f"holds {len(self._earlier)} sheets already ({min(self._earlier)} ...)"
            raise UserError(
                "unclassified", rule, "`overwrite=true` replaces them, or give another `output_dir`", where=folder
            )

    def write(self, number: str, sheet: Sheet) -> None:
        """Draws a sheet into its file, which appears whole or not at all."""
        name = f"{self._stem}-{number}.png"
        encoded = cv2.imencode(".png", np.ascontiguousarray(sheet.draw()[..., ::-1]))[1]
        write_atomically(self._folder / name, encoded.tobytes())
        self.written.append(name)

    def finish(self) -> list[str]:
        """Removes sheets of an earlier call that none of this call replaced; paths of those that are there now."""
        for name in self._earlier.difference(self.written):
            (self._folder / name).unlink(missing_ok=True)
        return [str(self._folder / name) for name in self.written]
