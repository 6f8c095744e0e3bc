"""The pairs of a dataset, one after the other, wherever they lie: files before they become records, or records.

An item is small until it is loaded; `load` is called in worker threads, so only a few pairs lie in memory at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from deeplab.data import records
from deeplab.data.readers.source import Mask, Pair
from deeplab.data.validation.check_report import Finding
from deeplab.data.validation.rules import finding
from deeplab.utils.errors import UserError
from deeplab.utils.paths import read_file

_HEADER_BYTES = 12  # of a record: its length and the checksum of that
_GZIP = b"\x1f\x8b"
_FOOTER_BYTES = 4  # the checksum of its content


@dataclass(frozen=True)
class Fields:
    """What a record says of its image; it need not be true."""

    format: str
    height: int
    width: int
    label_format: str


@dataclass(frozen=True)
class Loaded:
    """A pair in memory.

    Attributes:
      name: the image's name without extension.
      split: its split.
      where: the image, for messages.
      mask_where: the mask, for messages.
      image: the encoded image; None where it cannot be had.
      mask: the encoded mask, or what draws it; None where it cannot be had.
      fields: of a record; None for files.
      findings: why something is None.
    """

    name: str
    split: str
    where: str
    mask_where: str
    image: bytes | None
    mask: bytes | Mask | None
    fields: Fields | None = None
    findings: Sequence[Finding] = ()


class Item(Protocol):
    """A pair that has not been read yet."""

    @property
    def split(self) -> str:
        """Its split."""

    def load(self) -> Loaded:
        """The pair in memory; faults are among its findings."""

    def kept(self) -> Item:
        """The same without anything large, to be loaded again later."""


# --- Files --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileItem:
    """A pair of a `Source`."""

    split: str
    pair: Pair

    def load(self) -> Loaded:
        """Image and mask file; a mask that is drawn comes as it is."""
        pair = self.pair
        met: list[Finding] = []
        image = self._read(pair.image, "image-unreadable", met)
        mask = self._read(pair.mask, "mask-unreadable", met) if isinstance(pair.mask, str) else pair.mask
        return Loaded(pair.name, self.split, pair.image, pair.mask_file, image, mask, findings=met)

    def _read(self, path: str, rule: str, met: list[Finding]) -> bytes | None:
        try:
            return read_file(path)
        except UserError as fault:
            met.append(finding(rule, fault.where, fault.rule, split=self.split, hint=fault.hint))
            return None

    def kept(self) -> FileItem:
        """Itself: it holds two paths."""
        return self


# --- Records ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RecordItem:
    """A record of a shard.

    Attributes:
      split: its split.
      path: the shard.
      index: its place in the shard, from 0.
      offset: its place in the file, in bytes.
      length: of its content, in bytes.
      content: the serialized example; None: it is read from the file when it is needed.
    """

    split: str
    path: str
    index: int
    offset: int
    length: int
    content: bytes | None = field(default=None, repr=False)

    def load(self) -> Loaded:
        """The image and the label that the record holds."""
        place = f"{os.path.basename(self.path)}, record {self.index}"
        try:
            values = records.parse_example(self.content if self.content is not None else self._read())
        except ValueError as fault:
            broken = finding("record-unusable", place, str(fault), split=self.split)
            return Loaded("", self.split, place, place, None, None, findings=[broken])
        name = _text(values, records.FILENAME)
        where = f"{name} ({place})" if name else place
        label = values.get(records.LABEL, b"")
        met = [] if label else [finding("record-without-label", where, "has no label", split=self.split)]
        return Loaded(
            name, self.split, where, where, values[records.IMAGE], label or None, _fields(values), findings=met
        )

    def _read(self) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.offset + _HEADER_BYTES)
            return file.read(self.length)

    def kept(self) -> RecordItem:
        """The same without its content."""
        return RecordItem(self.split, self.path, self.index, self.offset, self.length)


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key, b"")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _fields(values: Mapping[str, Any]) -> Fields:
    def number(key: str) -> int:
        value = values.get(key, 0)
        return int(value) if isinstance(value, (int, float)) else 0

    formats = _text(values, records.IMAGE_FORMAT), _text(values, records.LABEL_FORMAT)
    return Fields(formats[0], number(records.HEIGHT), number(records.WIDTH), formats[1])


def records_of(path: str, split: str) -> Iterator[RecordItem | Finding]:
    """The records of a shard, with their content; a finding in place of those that cannot be read."""
    offset = 0
    try:
        for index, content in enumerate(records.raw_records(path)):
            yield RecordItem(split, path, index, offset, len(content), content)
            offset += _HEADER_BYTES + len(content) + _FOOTER_BYTES
    except UserError as error:
        yield finding("shard-damaged", path, error.rule, split=split, hint=error.hint)
