"""The pairs of a dataset, one after the other, wherever they lie: files before they become records, or records.

An item is small until it is loaded; `load` is called in worker threads, so only a few pairs lie in memory at a time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import tensorflow as tf

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
            values = parsed(self.content if self.content is not None else self._read())
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


def parsed(serialized: bytes) -> Mapping[str, Any]:
    """The values of a serialized `tf.train.Example`: key -> bytes or int.

    Raises:
      ValueError: it is none, or holds no image; the text says what it holds.
    """
    from google.protobuf.message import DecodeError

    try:
        features = tf.train.Example.FromString(serialized).features.feature
    except DecodeError:
        raise ValueError("holds no tf.train.Example") from None
    values: dict[str, Any] = {}
    for key, feature in features.items():
        content = getattr(feature, feature.WhichOneof("kind") or "bytes_list").value
        if len(content):
            values[key] = content[0]
    if not (isinstance(values.get(records.IMAGE), bytes) and values[records.IMAGE]):
        held = ", ".join(sorted(set(values) - {records.IMAGE})) or "nothing"
        raise ValueError(f"has no {records.IMAGE!r}, only {held}")
    return values


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
    offset = index = 0
    stream = iter(tf.data.TFRecordDataset(path))
    while True:
        try:
            content = next(stream).numpy()
        except StopIteration:
            return
        except tf.errors.OpError as fault:
            yield finding("shard-damaged", path, f"record {index} (counted from 0) {_damage(path, fault)}", split=split)
            return
        yield RecordItem(split, path, index, offset, len(content), content)
        offset += _HEADER_BYTES + len(content) + _FOOTER_BYTES
        index += 1


def _damage(path: str, fault: tf.errors.OpError) -> str:
    """What is wrong with a record, from TensorFlow's words without the names of its ops around them."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        if file.read(2) == _GZIP:
            return "cannot be read: the shard is compressed by gzip; unpack it"
    words = str(fault.message).split("}}")[-1].split("[Op:")[0].replace("(Is this even a TFRecord file?)", "")
    what = ": ".join(" ".join(words.split()).split("' failed with "))
    return f"is damaged: {what}" + (", so this may be no TFRecord file at all" if what.endswith("at 0") else "")
