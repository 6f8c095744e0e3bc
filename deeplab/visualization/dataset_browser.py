"""Image grids of records, and of the batches that a training gets.

Records are read with the decoder of the training; batches come from the pipeline of the training, and are shown pixel
for pixel. A record that cannot be decoded shows the reason in its place; a damaged shard is an error.
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
from deeplab.data.bands import RGB, ImageBands
from deeplab.data.class_names import class_numbers
from deeplab.data.dataset import Dataset
from deeplab.data.decoding import decode_image, decode_label, image_size, reported
from deeplab.data.label_bits import as_label
from deeplab.data.labels import LabelSpec, add_counts
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import write_atomically
from deeplab.visualization.image_grid import CELL, GAP, LINE, ImageGrid, Tile, columns_for, resized, within
from deeplab.visualization.label_rendering import LabelColors, percent

TITLES = ("image", "overlay", "label")
_MAX_PIXELS = 60_000_000  # of one grid
_MAX_WARNINGS = 5
Record = Mapping[str, Any]


@dataclass(frozen=True)
class GridStyle:
    """How grids look.

    Attributes:
      max_images: maximum number of images in one grid.
      cell: width and height to which images are fitted; None = `CELL` for records, and batches pixel for pixel.
      opacity: of the label's colors on the overlay, 0..1.
      background: color class 0 in overlays as well, and draw no outlines.
    """

    max_images: int = 24
    cell: int | None = None
    opacity: float = 0.5
    background: bool = False


@dataclass(frozen=True)
class RecordSplit:
    """A split of records.

    Attributes:
      dataset: its classes.
      name: the split's name.
      shards: paths of its files, in order.
    """

    dataset: Dataset
    name: str
    shards: list[str]


@dataclass(frozen=True, eq=False)
class BrowsedImage:
    """One image with its label, ready to be drawn.

    Attributes:
      name, note: the lines below it.
      image: uint8 [H, W, 3], RGB; None where it cannot be decoded.
      label: integers [H, W], 0..65535; None where there is none or it cannot be decoded.
      padding: bool [H, W], pixels that are not part of the image; None = there are none.
      error: why something cannot be decoded.
    """

    name: str
    note: str
    image: np.ndarray | None
    label: np.ndarray | None
    padding: np.ndarray | None = field(repr=False, default=None)
    error: str = ""

    def counts(self) -> np.ndarray:
        """Pixels of each label value outside the padding, int64 [256 or more]."""
        if self.label is None:
            return np.zeros(256, np.int64)
        counted = self.label if self.padding is None else self.label[~self.padding]
        return np.bincount(counted.ravel(), minlength=256)

    def tile(self, colors: LabelColors, style: GridStyle) -> Tile:
        """Image, overlay and label side by side, at the size at which they are shown."""
        caption = [self.name, self.note]
        if self.image is None:
            return Tile([self.error, None, None], caption)
        height, width = within(self.image.shape, style.cell) if style.cell else self.image.shape[:2]
        image = np.asarray(resized(self.image, height, width))
        if self.label is None:
            return Tile([image, self.error or None, None], caption)
        padding = None if self.padding is None else _nearest(self.padding.astype(np.uint8), height, width) > 0
        label = _nearest(as_label(self.label), height, width)
        drawn = colors.draw(label, padding)
        overlay = colormaps.overlay(image, drawn, style.opacity, None if style.background else label)
        return Tile([image, overlay, drawn], caption)


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


def choose(split: RecordSplit, selection: Selection) -> list[int]:
    """Numbers of the chosen records, counted from 0 over all shards, in ascending order.

    Raises:
      UserError: an unknown class (`unknown-name`), no such record (`no-images`), a damaged shard.
    """
    if selection.classes:
        found = records_with(class_numbers(selection.classes, split.dataset.class_names, "classes"), split.shards)
        possible = list(found if selection.seed is not None else itertools.islice(found, selection.images))
    else:
        possible = list(range(records.count(split.shards)))
    if not possible:
        rule = f"no image of split {split.name} holds {', '.join(selection.classes)}"
        rule = rule if selection.classes else f"split {split.name} holds no image"
        raise UserError("no-images", rule, "try another split", field="classes" if selection.classes else "split")
    if selection.seed is None:
        return possible[: selection.images]
    chance = random.Random(selection.seed)  # nosec B311  # draws images, no secrets
    return sorted(chance.sample(possible, min(selection.images, len(possible))))


def records_with(classes: Sequence[int], shards: Sequence[str]) -> Iterator[int]:
    """Numbers of the records whose label holds one of the classes."""
    with console.progress(total=records.count(shards), what="looking for the classes", unit="record") as bar:
        for position, record in all_records(shards):
            encoded = np.frombuffer(records.label_of(record), np.uint8)
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


def browsed(position: int, record: Record, bands: ImageBands = RGB) -> BrowsedImage:
    """A record as training decodes it; why something cannot be decoded becomes the `error`.

    Args:
      position: its place in the split.
      record: as `records.parse_example` gives it.
      bands: what the images are, as dataset.yml says; other images than RGB are shown as `ImageBands.quick_look`.
    """
    example = {records.FILENAME: b"", records.LABEL: b"", **record}
    name = example[records.FILENAME].decode("utf-8", "replace")
    try:
        if bands.is_rgb:
            size, image = image_size(example), decode_image(example[records.IMAGE]).numpy()
        else:
            pixels = records.decode_values(example)
            bands.require(pixels, name)
            size, image = tf.constant(pixels.shape[:2]), bands.quick_look(pixels)
    except (UserError, ValueError) as error:
        return BrowsedImage(name, f"record {position}", None, None, error=str(error))
    except tf.errors.OpError as error:
        return BrowsedImage(name, f"record {position}", None, None, error=_reason(error, "the image cannot be decoded"))
    note = f"record {position}, {image.shape[1]} wide, {image.shape[0]} high"
    if not records.label_of(example):
        return BrowsedImage(name, f"{note}, no label", image, None)
    try:
        label = decode_label(example, size, LabelSpec(wide=not example[records.LABEL])).numpy()
    except tf.errors.OpError as error:
        return BrowsedImage(name, note, image, None, error=_reason(error, "the label cannot be decoded"))
    return BrowsedImage(name, note, image, label)


def _reason(error: Exception, otherwise: str) -> str:
    report = reported(error)
    return f"{report.rule}; {report.hint}" if report else f"{otherwise}: replace the file, build the records again"


def browsed_records(split: RecordSplit, positions: Sequence[int]) -> Iterator[BrowsedImage]:
    """The chosen records, with progress and a warning for each of the first that cannot be decoded.

    Raises:
      UserError: a shard is damaged.
    """
    errors, chosen = 0, read_records(split.shards, positions)
    bar = console.progress(chosen, total=len(positions), what=f"drawing {split.name}", unit="image")
    for position, record in bar:
        image = browsed(position, record, split.dataset.image_bands)
        if image.error:
            errors += 1
            if errors <= _MAX_WARNINGS:
                console.warning(f"{image.name} (record {position} of split {split.name}): {image.error}")
        yield image
    if errors > _MAX_WARNINGS:
        console.warning(f"{errors} records of split {split.name} cannot be decoded")


def record_grids(split: RecordSplit, positions: Sequence[int], style: GridStyle) -> Iterator[ImageGrid]:
    """The chosen records in as many grids as they need.

    Raises:
      UserError: a shard is damaged.
    """
    style = dataclasses.replace(style, cell=style.cell or CELL)
    heading = f"{split.dataset.name}, split {split.name}: {len(positions):,} of {records.count(split.shards):,} images"
    number, images = -(-len(positions) // style.max_images), browsed_records(split, positions)
    for index in range(1, number + 1):
        builder = _GridBuilder(LabelColors.of(split.dataset), style)
        for image in itertools.islice(images, style.max_images):
            builder.add(image)
        yield builder.grid(heading, f"grid {index} of {number}")


class _GridBuilder:
    """Collects the tiles of a grid and what their labels hold; the images at full size are not kept."""

    def __init__(self, colors: LabelColors, style: GridStyle):
        self._colors, self._style = colors, style
        self._tiles: list[Tile] = []
        self._counts, self._padding = np.zeros(256, np.int64), 0

    def add(self, image: BrowsedImage) -> None:
        """Adds one image."""
        self._tiles.append(image.tile(self._colors, self._style))
        self._counts = add_counts(self._counts, image.counts())
        self._padding += int(image.padding.sum()) if image.padding is not None else 0

    def grid(self, *heading: str) -> ImageGrid:
        """All of them in one grid; the last line of its heading also says how many classes occur."""
        names = self._colors.names
        occurring = np.count_nonzero(self._counts[: len(names)])
        lines = (*heading[:-1], f"{heading[-1]}, {occurring} of {len(names)} classes occur here")
        legend = self._colors.legend(self._counts, self._padding)
        return ImageGrid(TITLES, self._tiles, legend, lines, self._columns(), self._style.cell)

    def _columns(self) -> int:
        shapes = [p.shape for tile in self._tiles for p in tile.images if isinstance(p, np.ndarray)]
        tall = max((shape[0] for shape in shapes), default=CELL)
        wide = self._style.cell or max(shape[1] for shape in shapes)
        return columns_for(len(self._tiles), len(TITLES) * (wide + GAP), tall + 2 * LINE + GAP)


# --- Batches --------------------------------------------------------------------------------------------------


def browsed_batch(batch: Mapping[str, Any], mean_pixel: Sequence[float], ignore_label: int) -> list[BrowsedImage]:
    """The images of a training batch, rounded to whole numbers and otherwise as they are.

    Args:
      batch: as from `pipeline.train_batches`: image float32 [B, H, W, C], 0..255; label int32 [B, H, W]; image_name
        string [B]; height and width int32 [B].
      mean_pixel: of the padding, one number per channel.
      ignore_label: label of the padding.
    """
    arrays = {key: np.asarray(value) for key, value in batch.items()}
    found = []
    for index, name in enumerate(arrays["image_name"]):
        image, label = arrays["image"][index], arrays["label"][index]
        padding = find_padding(image, label, mean_pixel, ignore_label)
        stored = f"stored {arrays['width'][index]} wide, {arrays['height'][index]} high"
        parts = [("ignored", (label == ignore_label) & ~padding), ("padding", padding)]
        note = ", ".join([stored, *(f"{percent(where.mean())} {what}" for what, where in parts if where.any())])
        rounded = ImageBands(image.shape[-1]).quick_look(np.clip(np.rint(image), 0, 255))
        found.append(BrowsedImage(name.decode("utf-8", "replace"), note, rounded, label, padding))
    return found


def find_padding(image: np.ndarray, label: np.ndarray, mean_pixel: Sequence[float], ignore_label: int) -> np.ndarray:
    """Where a training crop is padding: whole rows at the bottom, and columns at the right or (mirrored) the left.

    Args:
      image: float32 [H, W, C], 0..255.
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


def batch_grids(
    split: RecordSplit, batch: Mapping[str, Any], mean_pixel: Sequence[float], heading: Sequence[str], style: GridStyle
) -> Iterator[ImageGrid]:
    """A batch, as `browsed_batch` takes it, in one grid, or in several where it is too large for one."""
    images = browsed_batch(batch, mean_pixel, split.dataset.ignore_label)
    size = np.shape(batch["image"])[1:3]
    height, width = within(size, style.cell) if style.cell else size
    at_once = max(1, min(style.max_images, _MAX_PIXELS // (len(TITLES) * height * width)))
    for first in range(0, len(images), at_once):
        builder = _GridBuilder(LabelColors.of(split.dataset), style)
        for image in images[first : first + at_once]:
            builder.add(image)
        yield builder.grid(*heading)


# --- Writing --------------------------------------------------------------------------------------------------


class GridFiles:
    """The grids of one call as numbered files in a folder; those of an earlier call are replaced, or refused.

    Args:
      folder: it must exist.
      stem: what their names begin with; numbers follow.
      overwrite: grids of that stem may be replaced.

    Raises:
      UserError: there are some, and they may not be replaced (`would-overwrite`).
    """

    def __init__(self, folder: str | os.PathLike, stem: str, overwrite: bool):
        self._folder, self._stem = pathlib.Path(folder), stem
        pattern = re.compile(re.escape(stem) + r"-\d+(-\d+)?\.png")
        self._earlier = {path.name for path in self._folder.iterdir() if pattern.fullmatch(path.name)}
        self.written: list[str] = []
        if self._earlier and not overwrite:
            rule = f"holds {len(self._earlier)} image grids already ({min(self._earlier)} ...)"
            hint = "`overwrite=true` replaces them, or give another `output_dir`"
            raise UserError("would-overwrite", rule, hint, where=folder)

    def write(self, number: str, grid: ImageGrid) -> None:
        """Draws a grid into its file, which appears whole or not at all."""
        name = f"{self._stem}-{number}.png"
        encoded = cv2.imencode(".png", np.ascontiguousarray(grid.draw()[..., ::-1]))[1]
        write_atomically(self._folder / name, encoded.tobytes())
        self.written.append(name)

    def finish(self) -> list[str]:
        """Removes grids of an earlier call that this call did not replace; returns the paths of its own."""
        for name in self._earlier.difference(self.written):
            (self._folder / name).unlink(missing_ok=True)
        return [str(self._folder / name) for name in self.written]
