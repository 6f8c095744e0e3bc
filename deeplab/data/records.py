"""TFRecords: the keys of an example, the names of shards, writers that leave no half files, and readers that name the
damaged record.

Keys, types and names are those of the research DeepLab, so each of the two projects reads the records of the other.
Images that are not 8-bit RGB have the format VALUES and the key DTYPE, which that project does not know. Labels of 16
bits have the key LABEL_16 instead of LABEL: under LABEL, that project would read their high bytes as classes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import os
import pathlib
import re
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplab.data import split_names
from deeplab.data.bands import DTYPES
from deeplab.utils.errors import UserError
from deeplab.utils.files import free_space, partial_path, recover, sync, writing
from deeplab.utils.paths import require_regular
from deeplab.utils.text import byte_text, counted, shorten

if TYPE_CHECKING:  # imported where it is used: names, lists and checks of files start without TensorFlow
    import tensorflow as tf

IMAGE = "image/encoded"
IMAGE_FORMAT = "image/format"
FILENAME = "image/filename"
HEIGHT = "image/height"
WIDTH = "image/width"
CHANNELS = "image/channels"
DTYPE = "image/dtype"  # of images in the format VALUES only
LABEL = "image/segmentation/class/encoded"
LABEL_16 = "image/segmentation/class/encoded_uint16"  # instead of LABEL, of labels of 16 bits
LABEL_FORMAT = "image/segmentation/class/format"

VALUES = "zlib"
"""Image format of anything but 8-bit RGB: the values [H, W, C] in C order, little-endian, compressed by zlib."""

_SHARD_NAME = re.compile(r"^(?P<split>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.tfrecord$")
_KINDS = {  # type of the value of each key, as `tf.train.Feature` calls it
    **dict.fromkeys((IMAGE, IMAGE_FORMAT, FILENAME, LABEL, LABEL_16, LABEL_FORMAT, DTYPE), "bytes_list"),
    **dict.fromkeys((HEIGHT, WIDTH, CHANNELS), "int64_list"),
}
_GZIP, _CUT_OFF = b"\x1f\x8b", "the file ends within it"
_LENGTH_BYTES, _CRC_BYTES = 8, 4  # a record is: length, CRC of the length, content, CRC of the content


def encode_example(
    image: bytes,
    image_format: str,
    filename: str,
    height: int,
    width: int,
    label: bytes,
    label_format: str = "png",
    values: tuple[int, str] | None = None,
    label_bits: int = 8,
) -> bytes:
    """Serialize one image and its label as `tf.train.Example`.

    Args:
      image: the encoded image, JPEG or PNG, byte for byte as in its file; or as `encode_values` makes it.
      image_format: "jpeg" or "png"; the extension "jpg" becomes "jpeg"; or VALUES.
      filename: the image's name without extension.
      height, width: size in pixels of image and label.
      label: the encoded label: gray PNG of `label_bits` bits, class indices.
      label_format: "png".
      values: number of channels and dtype of an image in the format VALUES.
      label_bits: 8, or 16 of labels beyond 256 classes, which get a key of their own.
    """
    features: dict[str, bytes | int] = {
        IMAGE: image,
        FILENAME: filename.encode("utf-8"),
        IMAGE_FORMAT: b"jpeg" if image_format == "jpg" else image_format.encode(),
        HEIGHT: height,
        WIDTH: width,
        CHANNELS: values[0] if values else 3,  # JPEG and PNG: readers decode to RGB, whatever the file holds
        (LABEL if label_bits == 8 else LABEL_16): label,
        LABEL_FORMAT: label_format.encode(),
        **({DTYPE: values[1].encode()} if values else {}),
    }
    return _serialized(features)


def encode_values(pixels: np.ndarray) -> bytes:
    """Encode uint8, uint16 or float32 [H, W, C] for a record, without loss: the format VALUES."""
    return zlib.compress(np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).tobytes(), 1)


def decode_values(record: Mapping[str, Any]) -> np.ndarray:
    """Decode the image of a record, as `parse_example` gives it, in the format VALUES: [H, W, C] of its own dtype.

    Raises:
      ValueError: it is damaged, or its fields do not fit its size; the text completes "the record ...".
    """
    shape = tuple(record.get(key, 0) for key in (HEIGHT, WIDTH, CHANNELS))
    dtype = record.get(DTYPE, b"").decode("utf-8", "replace")
    if dtype not in DTYPES or min(shape) < 1:
        raise ValueError(f"has an image of {'x'.join(map(str, shape))} values of type {dtype!r}")
    expected = math.prod(shape) * np.dtype(dtype).itemsize
    decoder = zlib.decompressobj()
    try:
        content = decoder.decompress(record[IMAGE], expected + 1)
    except zlib.error as error:
        raise ValueError(f"has a damaged image: {error}") from None
    if len(content) != expected or not decoder.eof:
        raise ValueError(f"has an image that is not of the {expected:,} bytes that its fields state")
    return np.frombuffer(content, np.dtype(dtype).newbyteorder("<")).reshape(shape).astype(dtype, copy=False)


def _serialized(features: Mapping[str, bytes | int]) -> bytes:
    """Serializes features, each a single value, as `tf.train.Example`, in the order of their keys.

    The bytes are those of TensorFlow's deterministic serialization. They are put together here so that the images are
    copied once, and so that building reaches its first good pair without TensorFlow.
    """
    parts: list[bytes] = []  # joined once at the end, so that images are copied once
    for key, value in sorted(features.items()):
        content = value if isinstance(value, bytes) else _varint(value)
        parts += (_head(key, len(content), isinstance(value, bytes)), content)
    return b"".join([b"\n", _varint(sum(map(len, parts))), *parts])  # Example.features (1)


@functools.lru_cache(maxsize=4096)
def _head(key: str, length: int, is_bytes: bool) -> bytes:
    """What comes before the content of a feature: the same for most features of all images."""
    # Feature.bytes_list (1) with BytesList.value, or Feature.int64_list (3) with Int64List.value, packed
    head = b"\n" + _varint(length)  # field 1 of the list
    head = (b"\n" if is_bytes else b"\x1a") + _varint(len(head) + length) + head
    name = key.encode()
    named = b"\n" + _varint(len(name)) + name  # the key (1) of the map
    named += b"\x12" + _varint(len(head) + length) + head  # its value (2)
    return b"\n" + _varint(len(named) + length) + named  # Features.feature (1)


@functools.lru_cache(maxsize=4096)
def _varint(value: int) -> bytes:
    found = bytearray()
    value &= (1 << 64) - 1
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def feature_spec() -> dict[str, tf.io.FixedLenFeature]:
    """What `tf.io.parse_single_example` needs to read our records and the reference's."""
    import tensorflow as tf

    def text(default: str) -> tf.io.FixedLenFeature:
        return tf.io.FixedLenFeature((), tf.string, default_value=default)

    def number() -> tf.io.FixedLenFeature:
        return tf.io.FixedLenFeature((), tf.int64, default_value=0)

    return {
        IMAGE: text(""),
        FILENAME: text(""),
        IMAGE_FORMAT: text("jpeg"),
        HEIGHT: number(),
        WIDTH: number(),
        CHANNELS: number(),
        DTYPE: text(""),
        LABEL: text(""),
        LABEL_16: text(""),
        LABEL_FORMAT: text("png"),
    }


# --- Shards and their names ---------------------------------------------------------------------------------


def shard_name(split: str, index: int, count: int) -> str:
    """`train-00002-of-00004.tfrecord` for split "train", index 2 (from 0), 4 shards."""
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord"


def shards_by_split(dataset_dir: str | os.PathLike) -> dict[str, list[str]]:
    """Names of the shards that a folder holds, sorted, for each split; not checked for completeness.

    Raises:
      UserError: a build was killed while it replaced shards, and they cannot be restored (`unfinished-commit`).
    """
    recover(dataset_dir)
    found: dict[str, list[str]] = {}
    for name in sorted(os.listdir(dataset_dir)):
        match = _SHARD_NAME.match(name)
        if match:
            found.setdefault(match["split"], []).append(name)
    return found


def list_shards(dataset_dir: str | os.PathLike, split: str) -> list[str]:
    """Paths of a split's shards, sorted by number.

    Raises:
      UserError: the folder is missing (`folder-not-found`), it has no such split (`unknown-split`; the message lists
        its splits), or shards are missing or of two builds (`incomplete-split`).
    """
    folder = pathlib.Path(dataset_dir)
    if not folder.is_dir():
        hint = "`dataset_dir` is the folder of the .tfrecord files"
        raise UserError("folder-not-found", "there is no such folder of records", hint, where=folder)
    by_split = shards_by_split(folder)
    if split not in by_split:
        raise _missing_split(folder, split, by_split)
    _require_complete(folder, split, by_split[split])
    return [str(folder / name) for name in by_split[split]]


def _missing_split(folder: pathlib.Path, split: str, by_split: dict[str, list[str]]) -> UserError:
    rule = f"no file matches {split}-?????-of-?????.tfrecord"
    hint = "build records first: `deeplab build-data`"
    if by_split:
        held = ", ".join(f"{name} ({counted(len(shards), 'shard')})" for name, shards in sorted(by_split.items()))
        rule, hint = f"{rule}; the folder holds the splits {held}", split_names.suggestion(split, by_split)
    else:
        inner = [child.name for child in sorted(folder.iterdir()) if child.is_dir() and shards_by_split(child)]
        if inner:
            hint = f"the records are one folder deeper: `dataset_dir={folder / inner[0]}`"
    return UserError("unknown-split", rule, hint, where=folder, value=split)


def _require_complete(folder: pathlib.Path, split: str, names: Sequence[str]) -> None:
    matches = [match for match in map(_SHARD_NAME.match, names) if match]
    counts = sorted({int(match["count"]) for match in matches})
    if len(counts) > 1:
        kinds = " and ".join(f"of-{count:05d}" for count in counts)
        rule = f"split {split!r} has shards of two builds: {kinds}"
        hint = "remove the older set, or build again with `overwrite=true`"
        raise UserError("incomplete-split", rule, hint, where=folder, value=split)
    missing = sorted(set(range(counts[0])) - {int(match["index"]) for match in matches})
    if missing:
        lacking = shorten([shard_name(split, index, counts[0]) for index in missing], 3)
        rule = f"split {split!r} lacks {len(missing)} of {counts[0]} shards: {lacking}"
        hint = "copy the whole folder again, or build the records again"
        raise UserError("incomplete-split", rule, hint, where=folder, value=split)


# --- Writing ------------------------------------------------------------------------------------------------


class ShardWriter:
    """Writes one shard under a temporary name; `publish` gives it its own.

    The temporary name starts with a dot, so that no reader takes the file for a shard. Use it as a context; leaving
    the context without `publish` or `keep` removes the file.

        with ShardWriter(folder, shard_name("train", 0, 4)) as writer:
            writer.write(encode_example(...))
            writer.publish()

    Args:
      folder: folder of the shard.
      name: its name.
      mark: number in the temporary name (default: that of the process); workers on several machines need their own.
    """

    def __init__(self, folder: str | os.PathLike, name: str, mark: int | None = None):
        self.path = pathlib.Path(folder) / name
        self._temporary = partial_path(self.path, mark)
        self._kept = self._begun = False
        self._file: Any = None  # opened at the first record, so that TensorFlow is not imported for none

    @property
    def was_removed(self) -> bool:
        """Whether somebody else has removed the file while it was being written."""
        return self._begun and not self._temporary.exists()

    def _open(self) -> Any:
        import tensorflow as tf

        if self._file is None:
            self._begun = True
            self._file = tf.io.TFRecordWriter(str(self._temporary))
        return self._file

    def write(self, example: bytes) -> None:
        """Appends one serialized example."""
        with self._writing():
            (self._file or self._open()).write(example)

    def _close(self, synced: bool = True) -> None:
        """Completes the file on disk, still under its temporary name."""
        with self._writing():
            self._open().close()
            self._file = None
            if synced:
                sync(self._temporary)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        import tensorflow as tf

        try:
            with writing(self.path):
                yield
        except tf.errors.OpError as error:
            hint = f"check the permissions and the free space: {byte_text(free_space(self.path))} are free"
            raise UserError("unwritable-file", f"cannot be written: {_short(error)}", hint, where=self.path) from None

    def publish(self) -> None:
        """Renames the complete file to the shard's name, in one step."""
        self._close()
        os.replace(self._temporary, self.path)

    def keep(self, synced: bool = True) -> pathlib.Path:
        """Completes the file and leaves it under its temporary name, for the caller to rename; that name.

        Args:
          synced: wait until it is on the disk; if not, the caller does that, too.
        """
        self._close(synced)
        self._kept = True
        return self._temporary

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            import tensorflow as tf

            with contextlib.suppress(tf.errors.OpError):
                self._file.close()
            self._file = None
        if not self._kept:
            with contextlib.suppress(FileNotFoundError):
                self._temporary.unlink()


# --- Reading and checking -----------------------------------------------------------------------------------


def count_records(path: str | os.PathLike) -> int:
    """Number of records in a shard, from the lengths alone: fast, contents are neither read nor checked.

    Raises:
      UserError: no such file (`file-not-found`), or it ends within a record (`bad-record`).
    """
    return len(offsets(path))


def offsets(path: str | os.PathLike) -> array[int]:
    """Place of each record in a shard, in bytes from its beginning; contents are neither read nor checked.

    Raises:
      UserError: as `count_records`.
    """
    places, is_whole = _walk_lengths(path)
    if not is_whole:
        raise _damaged(path, len(places), _CUT_OFF)
    return places


def _walk_lengths(path: str | os.PathLike) -> tuple[array[int], bool]:
    """Places of the records before the first one that reaches beyond the end of the file; whether there is none such.

    TensorFlow trusts the lengths, and crashes at large ones.
    """
    require_regular(path)
    size = os.path.getsize(path)
    places = array("q")
    position = 0
    with open(path, "rb") as file:
        while position < size:
            begin = position
            header = file.read(_LENGTH_BYTES)
            position += _LENGTH_BYTES + _CRC_BYTES + int.from_bytes(header, "little") + _CRC_BYTES
            if len(header) < _LENGTH_BYTES or position > size:
                return places, False
            file.seek(position)
            places.append(begin)
    return places, True


def fingerprint(path: str | os.PathLike) -> str:
    """The identity of a shard: a hash of the checksums that it stores with its records.

    Contents are neither read nor checked.

    Raises:
      UserError: as `count_records`.
    """
    places = offsets(path)
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for end in [*places[1:], os.path.getsize(path)] if places else ():
            file.seek(end - _CRC_BYTES)
            found.update(file.read(_CRC_BYTES))
    return found.hexdigest()[:16]


def count(shards: Iterable[str | os.PathLike]) -> int:
    """Number of records in all shards together."""
    return sum(count_records(path) for path in shards)


def _damaged(path: str | os.PathLike, number: int, what: str) -> UserError:
    """The error for a record; `what` completes "record 3 is damaged: ..."."""
    rule = f"record {number} (counted from 0) is damaged: {what}"
    hint = "copy the file again, or build the records again with `overwrite=true`"
    with open(path, "rb") as file:
        is_gzip = file.read(len(_GZIP)) == _GZIP
    if is_gzip:
        rule, hint = f"record {number} (counted from 0) cannot be read: the shard is compressed by gzip", "unpack it"
    elif number == 0 and what.endswith((_CUT_OFF, "at 0")):
        rule += ", so this may be no TFRecord file at all"
    return UserError("bad-record", rule, hint, where=path, value=number)


def raw_records(path: str | os.PathLike) -> Iterator[bytes]:
    """The serialized examples of a shard. Records before a damaged one are yielded.

    Raises:
      UserError: no such file (`file-not-found`), or a truncated or damaged record (`bad-record`); the message names the
        file and the number of the record.
    """
    import tensorflow as tf

    places, is_whole = _walk_lengths(path)
    number = len(places)
    stream = iter(tf.data.TFRecordDataset(str(path)).take(number))
    for index in range(number):
        try:
            yield next(stream).numpy()
        except tf.errors.OpError as error:  # DataLossError: a wrong checksum
            raise _damaged(path, index, _short(error)) from None
    if not is_whole:
        raise _damaged(path, number, _CUT_OFF)


def parse_example(serialized: bytes) -> dict[str, Any]:
    """The values of a serialized `tf.train.Example`: key -> bytes, int or float.

    Raises:
      ValueError: it is none, it has no image, or a value is of another type than readers expect; the text completes
        "the record ...".
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        features = tf.train.Example.FromString(serialized).features.feature
    except DecodeError:
        raise ValueError("holds no tf.train.Example") from None
    values: dict[str, Any] = {}
    for key, feature in features.items():
        kind = feature.WhichOneof("kind") or "bytes_list"
        wanted = _KINDS.get(key, kind)
        if kind != wanted:
            raise ValueError(f"has a {kind} as {key!r}, where a {wanted} belongs")
        content = getattr(feature, kind).value
        values[key] = content[0] if len(content) else (b"" if kind == "bytes_list" else 0)
    if not values.get(IMAGE):
        held = ", ".join(sorted(set(values) - {IMAGE})) or "nothing"
        raise ValueError(f"has no {IMAGE!r}, only {held}")
    return values


def label_of(record: Mapping[str, Any]) -> bytes:
    """The encoded label of a record, as `parse_example` gives it, of 8 or 16 bits; empty where there is none."""
    return record.get(LABEL) or record.get(LABEL_16) or b""


def read_shard(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """The records of a shard, one dict per example: key -> bytes or int. Records before a damaged one are yielded.

    Raises:
      UserError: as `raw_records`, or a record that `parse_example` refuses (`bad-record`).
    """
    for number, serialized in enumerate(raw_records(path)):
        try:
            yield parse_example(serialized)
        except ValueError as error:
            raise _damaged(path, number, f"it {error}") from None


def _short(error: Exception) -> str:
    """The reason that a TensorFlow error gives, without the names of ops and devices."""
    text = str(error).split("}}")[-1].split("[Op:")[0]
    return " ".join(text.split()).removesuffix("'")


def check_shard(path: str | os.PathLike) -> int:
    """Reads a whole shard, checksums included; number of records.

    Raises:
      UserError: as `read_shard`.
    """
    return sum(1 for _ in read_shard(path))


def find_damage(shards: Iterable[str | os.PathLike]) -> UserError | None:
    """The error for the first damaged record of shards; the DataLossError of TensorFlow does not name the file."""
    for path in shards:
        try:
            check_shard(path)
        except UserError as error:
            return error
    return None
