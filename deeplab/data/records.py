"""TFRecords: the keys of an example, the names of shards, writing that leaves nothing half done, reading that says
which record of which file is damaged.

Keys, types and names are those of the research DeepLab, so records go both ways between it and this project.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from deeplab.utils.errors import UserError

IMAGE = "image/encoded"
IMAGE_FORMAT = "image/format"
FILENAME = "image/filename"
HEIGHT = "image/height"
WIDTH = "image/width"
CHANNELS = "image/channels"
LABEL = "image/segmentation/class/encoded"
LABEL_FORMAT = "image/segmentation/class/format"

_SHARD_NAME = re.compile(r"^(?P<split>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.tfrecord$")
_PARTIAL = re.compile(r"^\..+\.\d+\.partial$")  # what ShardWriter and write_atomically leave when killed
_LENGTH_BYTES, _CRC_BYTES = 8, 4  # a record is: length, CRC of the length, content, CRC of the content


def encode_example(
    image: bytes,
    image_format: str,
    filename: str,
    height: int,
    width: int,
    label: bytes,
    label_format: str = "png",
) -> bytes:
    """One image and its label as a serialized `tf.train.Example`.

    Args:
      image: the encoded image, JPEG or PNG, byte for byte as in its file.
      image_format: "jpeg" or "png"; the extension "jpg" becomes "jpeg".
      filename: the image's name without extension.
      height, width: size in pixels of image and label.
      label: the encoded label: 8-bit gray PNG, class indices.
      label_format: "png".
    """
    features = {
        IMAGE: _bytes(image),
        FILENAME: _bytes(filename.encode("utf-8")),
        IMAGE_FORMAT: _bytes(b"jpeg" if image_format == "jpg" else image_format.encode()),
        HEIGHT: _int(height),
        WIDTH: _int(width),
        CHANNELS: _int(3),  # always 3: readers decode to RGB, whatever the file holds
        LABEL: _bytes(label),
        LABEL_FORMAT: _bytes(label_format.encode()),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _int(value: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def feature_spec() -> dict[str, tf.io.FixedLenFeature]:
    """What `tf.io.parse_single_example` needs to read our records and the reference's."""

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
        LABEL: text(""),
        LABEL_FORMAT: text("png"),
    }


# --- Shards and their names ---------------------------------------------------------------------------------


def shard_name(split: str, index: int, count: int) -> str:
    """`train-00002-of-00004.tfrecord` for split "train", index 2 (from 0), 4 shards."""
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord"


def shards_by_split(dataset_dir: str | os.PathLike) -> dict[str, list[str]]:
    """Names of the shards that a folder holds, sorted, for each split; not checked for completeness."""
    found: dict[str, list[str]] = {}
    for name in sorted(os.listdir(dataset_dir)):
        match = _SHARD_NAME.match(name)
        if match:
            found.setdefault(match["split"], []).append(name)
    return found


def list_shards(dataset_dir: str | os.PathLike, split: str) -> list[str]:
    """Paths of a split's shards, sorted by number.

    Raises:
      UserError: the folder or the split is missing, or the set of shards has gaps; the message says what the
        folder holds and what was likely meant.
    """
    folder = pathlib.Path(dataset_dir)
    if not folder.is_dir():
        raise UserError(
            "unclassified",
            "no such folder of records",
            "`dataset_dir` names the folder of the .tfrecord files",
            where=folder,
        )
    by_split = shards_by_split(folder)
    if split not in by_split:
        raise _missing_split(folder, split, by_split)
    _require_complete(folder, split, by_split[split])
    return [str(folder / name) for name in by_split[split]]


def _missing_split(folder: pathlib.Path, split: str, by_split: dict[str, list[str]]) -> UserError:
    rule = f"no file matches {split}-?????-of-?????.tfrecord"
    if by_split:
        held = ", ".join(f"{name} ({len(shards)} shards)" for name, shards in sorted(by_split.items()))
        near = difflib.get_close_matches(split, by_split, n=1) or sorted(by_split)[:1]
        return UserError(
            "unclassified",
            f"{rule}; the folder holds the splits {held}",
            f"did you mean split {near[0]!r}?",
            where=folder,
        )
    inner = [child.name for child in sorted(folder.iterdir()) if child.is_dir() and shards_by_split(child)]
    if inner:
        return UserError(
            "unclassified", rule, f"records lie one folder deeper: `dataset_dir={folder / inner[0]}`", where=folder
        )
    return UserError(
        "unclassified", f"{rule}, nor of any other split", "build records first: datasets/build_*_data.py", where=folder
    )


def _require_complete(folder: pathlib.Path, split: str, names: Sequence[str]) -> None:
    matches = [match for match in map(_SHARD_NAME.match, names) if match]
    counts = sorted({int(match["count"]) for match in matches})
    if len(counts) > 1:
        kinds = " and ".join(f"of-{count:05d}" for count in counts)
        rule = f"split {split!r} has shards of two builds: {kinds}"
        raise UserError(
            "unclassified", rule, "remove the older set, or build again with `overwrite=true`", where=folder
        )
    missing = sorted(set(range(counts[0])) - {int(match["index"]) for match in matches})
    if missing:
        lacking = ", ".join(shard_name(split, index, counts[0]) for index in missing[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        rule = f"split {split!r} lacks {len(missing)} of {counts[0]} shards: {lacking}{more}"
        raise UserError("unclassified", rule, "copy the whole folder again, or build the records anew", where=folder)


# --- Writing ------------------------------------------------------------------------------------------------


class ShardWriter:
    """Writes one shard under a temporary name; `publish` gives it its own.

    Until then no reader takes it for a shard: the temporary name starts with a dot. Use it as a context; leaving
    the context without `publish` removes the file.

        with ShardWriter(folder, shard_name("train", 0, 4)) as writer:
            writer.write(encode_example(...))
            writer.publish()

    Args:
      folder: where the shard is to lie.
      name: its name.
      mark: number in the temporary name (default: the process's); workers on several machines need their own.
    """

    def __init__(self, folder: str | os.PathLike, name: str, mark: int | None = None):
        self.path = pathlib.Path(folder) / name
        self._temporary = self.path.with_name(f".{name}.{os.getpid() if mark is None else mark}.partial")
        self._kept = False
        self._file: Any = tf.io.TFRecordWriter(str(self._temporary))

    def write(self, example: bytes) -> None:
        """Appends one serialized example."""
        with self._faults():
            self._file.write(example)

    def close(self) -> None:
        """Completes the file on disk, still under its temporary name."""
        if self._file is not None:
            with self._faults():
                self._file.close()
                self._file = None
                _sync(self._temporary)

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (tf.errors.OpError, OSError) as fault:
            raise UserError(
                "unclassified", f"cannot be written: {_short(fault)}", "is the disk full?", where=self.path
            ) from None

    def publish(self) -> None:
        """Renames the complete file to the shard's name, in one step."""
        self.close()
        os.replace(self._temporary, self.path)

    def keep(self) -> pathlib.Path:
        """Completes the file and leaves it under its temporary name, for somebody else to rename; that name."""
        self.close()
        self._kept = True
        return self._temporary

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with contextlib.suppress(tf.errors.OpError):
                self._file.close()
            self._file = None
        if not self._kept:
            with contextlib.suppress(FileNotFoundError):
                self._temporary.unlink()


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_partial_files(folder: str | os.PathLike) -> list[str]:
    """Removes what a killed writer left in a folder; names of the removed files. Call it under the folder's lock."""
    left = [name for name in sorted(os.listdir(folder)) if _PARTIAL.match(name)]
    for name in left:
        (pathlib.Path(folder) / name).unlink(missing_ok=True)  # a worker of ours may be quicker
    return left


# --- Reading and checking -----------------------------------------------------------------------------------


def count_records(path: str | os.PathLike) -> int:
    """Number of records in a shard, from the lengths alone: fast, contents are neither read nor checked.

    Raises:
      UserError: the file ends within a record.
    """
    size = os.path.getsize(path)
    number = position = 0
    with open(path, "rb") as file:
        while position < size:
            header = file.read(_LENGTH_BYTES)
            length = int.from_bytes(header, "little")
            position += _LENGTH_BYTES + _CRC_BYTES + length + _CRC_BYTES
            if len(header) < _LENGTH_BYTES or position > size:
                raise _damaged(path, number, "the file ends within it")
            file.seek(position)
            number += 1
    return number


def count(shards: Iterable[str | os.PathLike]) -> int:
    """Number of records in all shards together."""
    return sum(count_records(path) for path in shards)


def _damaged(path: str | os.PathLike, number: int, what: str) -> UserError:
    rule = f"record {number} (counted from 0) is damaged: {what}"
    hint = "copy the file again, or build the records again with `overwrite=true`"
    return UserError("bad-record", rule, hint, where=path)


def read_shard(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """The records of a shard, one dict an example: key -> bytes or int.

    Raises:
      UserError: truncated or corrupt file; the message names the file and the number of the record.
    """
    number = 0
    records = iter(tf.data.TFRecordDataset(str(path)))
    while True:
        try:
            record = next(records)
        except StopIteration:
            return
        except tf.errors.NotFoundError:
            raise UserError("unclassified", "no such file", where=path) from None
        except tf.errors.OpError as fault:  # DataLossError: wrong checksum or early end
            raise _damaged(path, number, _short(fault)) from None
        yield _decode(path, number, record.numpy())
        number += 1


def _decode(path: str | os.PathLike, number: int, serialized: bytes) -> dict[str, Any]:
    from google.protobuf.message import DecodeError

    try:
        features = tf.train.Example.FromString(serialized).features.feature
    except DecodeError:
        raise _damaged(path, number, "it holds no tf.train.Example") from None
    values: dict[str, Any] = {}
    for key, feature in features.items():
        content = getattr(feature, feature.WhichOneof("kind") or "bytes_list").value
        values[key] = content[0] if len(content) else b""
    if not values.get(IMAGE):
        held = ", ".join(sorted(values)) or "nothing"
        raise _damaged(path, number, f"it has no {IMAGE!r}, only {held}")
    return values


def _short(fault: Exception) -> str:
    """The reason in a TensorFlow error, without the names of ops and devices around it."""
    text = str(fault).split("}}")[-1].split("[Op:")[0]
    return " ".join(text.split()).removesuffix("'")


def check_shard(path: str | os.PathLike) -> int:
    """Reads a whole shard, checksums included; number of records.

    Raises:
      UserError: as `read_shard`.
    """
    return sum(1 for _ in read_shard(path))


def find_damage(shards: Iterable[str | os.PathLike]) -> UserError | None:
    """The first damaged record among shards; TensorFlow's own DataLossError does not say which file it met."""
    for path in shards:
        try:
            check_shard(path)
        except UserError as fault:
            return fault
    return None
