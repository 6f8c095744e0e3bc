"""The subject of a check: the pairs of a dataset, in files or in records, and what is known about their classes.

A pair is small until it is loaded. `load` is called in worker threads, so only a few pairs are in memory at a time.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from deeplab.data import dataset as datasets
from deeplab.data import records
from deeplab.data.bands import RGB, ImageBands, stretched
from deeplab.data.containers import expanded, read_content
from deeplab.data.dataset import Dataset
from deeplab.data.images import encode_png, read_raster
from deeplab.data.label_bits import usual_ignore_label
from deeplab.data.labels import LabelSpec
from deeplab.data.mask_files import read_mask
from deeplab.data.readers.classes import DatasetClasses
from deeplab.data.readers.source import Mask, Pair, Source
from deeplab.data.split_names import in_order
from deeplab.data.validation.check_report import Finding
from deeplab.data.validation.rules import finding, from_error
from deeplab.utils.errors import UserError
from deeplab.utils.text import counted

_HEADER_BYTES = 12  # of a record: its length and the checksum of the length
_FOOTER_BYTES = 4  # the checksum of its content


@dataclass(frozen=True)
class Subject:
    """A dataset to check.

    Attributes:
      checked: what it is, as the user called it.
      numbers: pairs of each split, in order.
      pairs: gives all pairs in that order, and findings in place of those that cannot be read.
      classes: what labels should hold; without a number of classes, the highest label decides.
      exif: what is done with photos that have an EXIF rotation; see `LabelConfig.exif`.
      described: dataset.yml of records; None where there is none.
      findings: problems that were found while listing.
      stored: the pairs are in records.
    """

    checked: str
    numbers: Mapping[str, int]
    pairs: Callable[[], Iterator[UnreadPair | Finding]]
    classes: DatasetClasses
    exif: str = "auto"
    described: Dataset | None = None
    findings: Sequence[Finding] = ()
    stored: bool = False

    @property
    def total(self) -> int:
        """Number of pairs."""
        return sum(self.numbers.values())


@dataclass(frozen=True)
class StatedFields:
    """What a record states about its image; it need not be true."""

    format: str
    height: int
    width: int


@dataclass(frozen=True)
class LoadedPair:
    """A pair in memory.

    Attributes:
      name: the image's name without extension.
      split: its split.
      where: the image, for messages.
      mask_where: the mask, for messages.
      image: the encoded image; None where it cannot be read.
      mask: the encoded mask, or what draws it; None where it cannot be read.
      fields: of a record; None for files.
      findings: why something is None.
      kind: what the image is, if it is not 8-bit RGB; `image` is then a PNG of what it looks like.
    """

    name: str
    split: str
    where: str
    mask_where: str
    image: bytes | None
    mask: bytes | Mask | None
    fields: StatedFields | None = None
    findings: Sequence[Finding] = ()
    kind: str = ""


class UnreadPair(Protocol):
    """A pair that has not been read yet."""

    @property
    def split(self) -> str:
        """Its split."""

    def load(self) -> LoadedPair:
        """The pair in memory; what is wrong with it is among its findings."""

    def kept(self) -> UnreadPair:
        """The same without its content, to be loaded again later."""


# --- Files --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FilePair:
    """A pair of a `Source`."""

    split: str
    pair: Pair
    bands: tuple[int, ...] | None = None

    def load(self) -> LoadedPair:
        """Read image and mask; a mask that is drawn stays as it is."""
        pair = self.pair
        met: list[Finding] = []
        if self.bands is not None:
            return self._load_bands(self.bands)
        image = self._read(pair.image, "image-unreadable", met)
        mask = self._read(pair.mask, "mask-unreadable", met) if isinstance(pair.mask, str) else pair.mask
        return LoadedPair(pair.name, self.split, pair.image, pair.mask_file, image, mask, findings=met)

    def _load_bands(self, numbers: tuple[int, ...]) -> LoadedPair:
        pair = self.pair
        met: list[Finding] = []
        mask = self._read(pair.mask, "mask-unreadable", met) if isinstance(pair.mask, str) else pair.mask
        image, kind = None, ""
        try:
            pixels = read_raster(pair.image, numbers).pixels
            image, kind = _look_of(pixels, stretched(pixels)), _kind_of_values(pixels)
        except UserError as error:
            met.append(from_error("image-unreadable", error, self.split))
        return LoadedPair(pair.name, self.split, pair.image, pair.mask_file, image, mask, findings=met, kind=kind)

    def _read(self, path: str, rule: str, met: list[Finding]) -> bytes | None:
        try:
            return read_mask(path) if rule == "mask-unreadable" else read_content(path)
        except UserError as error:
            met.append(from_error(rule, error, self.split))
            return None

    def kept(self) -> FilePair:
        """Itself: it holds two paths."""
        return self


def _look_of(pixels: np.ndarray, bands: ImageBands) -> bytes:
    return encode_png(bands.quick_look(pixels)).data


def _kind_of_values(pixels: np.ndarray) -> str:
    return f"{records.VALUES}, {counted(pixels.shape[2], 'band')} of {pixels.dtype}"


def of_source(
    source: Source,
    classes: DatasetClasses,
    checked: str,
    *,
    exif: str = "auto",
    bands: tuple[int, ...] | None = None,
    splits: Sequence[str] = (),
    findings: Sequence[Finding] = (),
) -> Subject:
    """The pairs of a dataset before it becomes records.

    Args:
      source: the dataset, divided into splits.
      classes: as `classes_from` gives them.
      checked: what to call it.
      exif: as `LabelConfig.exif`.
      bands: of the images, that records shall hold with their own values; empty = all; None = 8-bit RGB.
      splits: those to check; empty = all.
      findings: what was found while listing.

    Raises:
      UserError: there is no such split (`unknown-name`).
    """
    wanted = _wanted(splits, list(source.splits), checked)
    source = dataclasses.replace(source, splits={split: expanded(source.splits[split]) for split in wanted})
    numbers = {split: len(source.splits[split]) for split in wanted}

    def pairs() -> Iterator[UnreadPair | Finding]:
        return (FilePair(split, pair, bands) for split in wanted for pair in source.splits[split])

    return Subject(checked, numbers, pairs, classes, exif, None, [*findings, *_empty(numbers, checked)])


def of_nothing(checked: str, findings: Sequence[Finding]) -> Subject:
    """A dataset that could not be listed: nothing but findings."""
    return Subject(checked, {}, lambda: iter(()), DatasetClasses(None, (), (), LabelSpec()), findings=findings)


def _wanted(asked: Sequence[str], present: Sequence[str], checked: str) -> list[str]:
    for split in asked:
        if split not in present:
            hint = f"its splits are {', '.join(present)}" if present else "it has no splits"
            raise UserError("unknown-name", f"{checked} has no split {split!r}", hint, field="split", value=split)
    return [split for split in in_order(present) if not asked or split in asked]


def _empty(numbers: Mapping[str, int], checked: str) -> list[Finding]:
    empty = [split for split, number in numbers.items() if not number]
    if len(empty) == len(numbers):
        return [finding("nothing-to-check", checked, "holds no pair of image and label")]
    return [finding("split-empty", split, "holds no image", split=split) for split in empty]


# --- Records ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecordPair:
    """A record of a shard.

    Attributes:
      split: its split.
      path: the shard.
      index: its number in the shard, from 0.
      offset: where it begins in the file, in bytes.
      length: of its content, in bytes.
      content: the serialized example; None: it is read from the file when it is needed.
      bands: what the images are, as dataset.yml says.
    """

    split: str
    path: str
    index: int
    offset: int
    length: int
    content: bytes | None = field(default=None, repr=False)
    bands: ImageBands = RGB

    def load(self) -> LoadedPair:
        """Parse the record."""
        place = f"{os.path.basename(self.path)}, record {self.index}"
        kind = ""
        try:
            values = records.parse_example(self.content if self.content is not None else self._read())
            if _text(values, records.IMAGE_FORMAT) == records.VALUES or not self.bands.is_rgb:
                values, kind = _as_looked_at(values, self.bands)
        except ValueError as error:
            unusable = finding("record-unusable", place, str(error), split=self.split)
            return LoadedPair("", self.split, place, place, None, None, findings=[unusable])
        name = _text(values, records.FILENAME)
        where = f"{name} ({place})" if name else place
        label = records.label_of(values)
        met = [] if label else [finding("record-without-label", where, "has no label", split=self.split)]
        bits = 8 if values.get(records.LABEL) else 16
        if label.startswith(b"\x89PNG") and len(label) > 24 and (label[24] == 16) != (bits == 16):
            text = f"its label has {label[24]} bits under the key of labels of {bits} bits"
            met, label = [finding("label-not-gray-png", where, text, split=self.split)], b""
        fields = StatedFields(
            _text(values, records.IMAGE_FORMAT), _number(values, records.HEIGHT), _number(values, records.WIDTH)
        )
        return LoadedPair(name, self.split, where, where, values[records.IMAGE], label or None, fields, met, kind)

    def _read(self) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.offset + _HEADER_BYTES)
            return file.read(self.length)

    def kept(self) -> RecordPair:
        """The same without its content."""
        return dataclasses.replace(self, content=None)


def _as_looked_at(values: dict[str, Any], bands: ImageBands) -> tuple[dict[str, Any], str]:
    """A record with a PNG of what its image looks like, and what kind of image it is.

    Raises:
      ValueError: it is not as dataset.yml says; the text completes "the record ...".
    """
    if _text(values, records.IMAGE_FORMAT) != records.VALUES:
        raise ValueError("holds an ordinary image, but dataset.yml describes `image_bands`")
    pixels = records.decode_values(values)
    found, described = ((one.channels, one.dtype) for one in (stretched(pixels), bands))
    if bands.is_rgb:
        bands = stretched(pixels)
    elif found != described:
        texts = [f"{channels} channels of {dtype}" for channels, dtype in (found, described)]
        raise ValueError(f"has {texts[0]}, where dataset.yml describes {texts[1]}")
    return {**values, records.IMAGE: _look_of(pixels, bands), records.IMAGE_FORMAT: b"png"}, _kind_of_values(pixels)


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key, b"")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _number(values: Mapping[str, Any], key: str) -> int:
    value = values.get(key, 0)
    return int(value) if isinstance(value, (int, float)) else 0


def records_of(path: str, split: str, bands: ImageBands = RGB) -> Iterator[RecordPair | Finding]:
    """The records of a shard with their content; a finding in place of the first that cannot be read."""
    offset = 0
    try:
        for index, content in enumerate(records.raw_records(path)):
            yield RecordPair(split, path, index, offset, len(content), content, bands)
            offset += _HEADER_BYTES + len(content) + _FOOTER_BYTES
    except UserError as error:
        yield finding("shard-damaged", path, error.rule, split=split, hint=error.hint)


def of_records(
    folder: str | os.PathLike, *, dataset: str = "", num_classes: int | None = None, splits: Sequence[str] = ()
) -> Subject:
    """The records of a folder.

    Args:
      folder: of the shards.
      dataset: known name or dataset.yml that describes the classes; empty: the dataset.yml in the folder.
      num_classes: number of classes to check for; None: as described.
      splits: those to check; empty = all.

    Raises:
      UserError: there is no such folder (`folder-not-found`) or no such split (`unknown-name`).
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        hint = "`dataset_dir` names the folder of the .tfrecord files"
        raise UserError("folder-not-found", "no such folder of records", hint, where=folder)
    by_split = records.shards_by_split(folder)
    described, met = _described(folder, dataset)
    wanted = _wanted(splits, list(by_split), str(folder))
    shards = {split: [str(folder / name) for name in by_split[split]] for split in wanted}
    numbers = {split: sum(map(_count, paths)) for split, paths in shards.items()}
    met += [item for split in wanted or ["train"] for item in _listing_problem(folder, split, bool(by_split))]
    met += _empty(numbers, str(folder)) if by_split else []

    bands = described.image_bands if described else RGB

    def pairs() -> Iterator[UnreadPair | Finding]:
        return (pair for split, paths in shards.items() for path in paths for pair in records_of(path, split, bands))

    classes = _classes(described, num_classes)
    return Subject(str(folder), numbers, pairs, classes, "ignore", described, met, stored=True)


def _listing_problem(folder: pathlib.Path, split: str, has_shards: bool) -> list[Finding]:
    try:
        records.list_shards(folder, split)
        return []
    except UserError as error:
        return [from_error("shards-incomplete" if has_shards else "nothing-to-check", error, split * has_shards)]


def _count(path: str) -> int:
    """Records of a shard, for the progress bar; those of a damaged one are counted when they are met."""
    try:
        return records.count_records(path)
    except (UserError, OSError):  # a folder, or a dangling link
        return 0


def _described(folder: pathlib.Path, dataset: str) -> tuple[Dataset | None, list[Finding]]:
    path = folder / datasets.FILE_NAME
    if dataset:
        return datasets.find(dataset, folder), []
    if not path.is_file():
        return None, [finding("description-missing", path, f"there is no {datasets.FILE_NAME} in {folder}")]
    try:
        return datasets.load(path), []
    except UserError as error:
        return None, [from_error("description-unusable", error)]


def _classes(described: Dataset | None, num_classes: int | None) -> DatasetClasses:
    ignore = described.ignore_label if described else usual_ignore_label(num_classes)
    if described and num_classes in (None, described.num_classes):
        spec = LabelSpec(described.num_classes, ignore)
        drawn = bool(described.splits) and all(described.drawn.get(split) for split in described.splits)
        return DatasetClasses(described.num_classes, described.class_names, described.colors, spec, drawn)
    wide = described is not None and described.label_bits == 16
    return DatasetClasses(num_classes, (), (), LabelSpec(num_classes, ignore, wide=wide))
