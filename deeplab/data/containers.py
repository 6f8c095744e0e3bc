"""Images inside larger files: slices of NIfTI volumes, and cells of parquet and Arrow tables.

A member is named `FILE#PART/NUMBER`: `scan.nii.gz#axial/17`, `train.parquet#image/3`. `read_content` gives its bytes as
if it were a file, so that builders and checks need not know; volumes are expanded to slices after splits are made, so
that a volume stays in one split. Libraries are extras, imported when they are needed. It decodes no image.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from deeplab.utils.errors import UserError
from deeplab.utils.extras import require
from deeplab.utils.paths import read_file

VOLUME_EXTENSIONS = (".nii", ".nii.gz")
TABLE_EXTENSIONS = (".parquet", ".arrow")
PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
_MAX_VALUES = 2**31  # of a volume: what is decoded at once
_lock = threading.Lock()


def split_member(path: str) -> tuple[str, str, int] | None:
    """File, part and number that a path names; None if it names a whole file."""
    file, mark, member = path.rpartition("#")
    part, slash, number = member.rpartition("/")
    if not (mark and slash and number.isdigit() and file.lower().endswith((*VOLUME_EXTENSIONS, *TABLE_EXTENSIONS))):
        return None
    return None if os.path.lexists(path) else (file, part, int(number))


def read_content(path: str) -> bytes:
    """The bytes of a file, or of a member: the image file in a cell, a slice as `.npy`.

    Raises:
      UserError: as `read_file`, or the container is damaged (`unreadable-file`) or its library missing
        (`missing-library`).
    """
    member = split_member(path)
    if member is None:
        return read_file(path)
    file, part, number = member
    changed = os.stat(file).st_mtime_ns if os.path.isfile(file) else 0
    with _lock:  # decoded parts are shared
        if file.lower().endswith(VOLUME_EXTENSIONS):
            return _as_array_file(_slice(_volume(file, changed), PLANES[part], number))
        cells, first = _cells(file, changed, part, number)
        return _cell(cells[number - first], path)


# --- Volumes ------------------------------------------------------------------------------------------------


def volume_slices(path: str, plane: str) -> int:
    """Number of slices of a NIfTI volume in a plane, from its header.

    Raises:
      UserError: it is damaged, or has not three dimensions.
    """
    return int(_oriented(path).shape[PLANES[plane]])


def _oriented(path: str) -> Any:
    """A volume with axes to the right, to the front and up (RAS+), as `nibabel` opens it."""
    nibabel = require("nibabel", "medical")
    try:
        volume = nibabel.as_closest_canonical(nibabel.load(path))
    except Exception as error:  # damaged files raise ImageFileError, OSError, ValueError, EOFError and others
        rule = f"cannot be read as a NIfTI volume: {' '.join(str(error).split())[:200]}"
        raise UserError("unreadable-file", rule, "copy the file again", where=path) from None
    shape = tuple(volume.shape)
    if len(shape) == 4 and shape[3] == 1:
        volume, shape = volume.slicer[..., 0], shape[:3]
    if len(shape) != 3 or not 0 < int(np.prod(shape, dtype=object)) <= _MAX_VALUES:
        rule = f"has the shape {'x'.join(map(str, shape))}, not three dimensions of a volume"
        raise UserError("unsupported-pixels", rule, "save one volume per file", where=path, value=shape)
    return volume


@functools.lru_cache(maxsize=2)
def _volume(path: str, changed: int) -> np.ndarray:
    del changed  # part of the key
    volume = _oriented(path)
    try:
        stored = np.asanyarray(volume.dataobj)
    except Exception as error:  # as above
        rule = f"cannot be read as a NIfTI volume: {' '.join(str(error).split())[:200]}"
        raise UserError("unreadable-file", rule, "copy the file again", where=path) from None
    return stored


def _slice(volume: np.ndarray, axis: int, number: int) -> np.ndarray:
    """A slice as people look at it, from the patient's feet or left side: up or front at the top, right at the left."""
    plane = np.take(volume, number, axis)  # its axes are in the order right, front, up, without the one of the slice
    return np.ascontiguousarray(plane.T[::-1, ::-1])


def _as_array_file(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array.astype(array.dtype.newbyteorder("="), copy=False), allow_pickle=False)
    return buffer.getvalue()


def expanded(pairs: Sequence[Any]) -> Sequence[Any]:
    """Pairs (`readers.source.Pair`) with pairs of volumes replaced by pairs of their slices, NAME_0000 and so on.

    A pair of volumes has images and masks that end in `#PLANE`, perhaps with `:STEP` after it.
    """
    if not any(_is_volume(pair.image) for pair in pairs):
        return pairs
    found = []
    for pair in pairs:
        if not _is_volume(pair.image):
            found.append(pair)
            continue
        file, _, part = pair.image.rpartition("#")
        plane, _, step = part.partition(":")
        mask = pair.mask.rpartition("#")[0]
        numbers = [volume_slices(path, plane) for path in (file, mask)]
        if numbers[0] != numbers[1]:
            rule = f"has {numbers[1]} {plane} slices, its image {file} {numbers[0]}"
            raise UserError("size-mismatch", rule, "give volumes of one grid", where=mask, value=numbers[1])
        found += [
            dataclasses.replace(
                pair, name=f"{pair.name}_{at:04d}", image=f"{file}#{plane}/{at}", mask=f"{mask}#{plane}/{at}"
            )
            for at in range(0, numbers[0], int(step or 1))
        ]
    return found


def _is_volume(path: str) -> bool:
    """Whether a path names a volume and a plane, perhaps with a step."""
    file, mark, part = path.rpartition("#")
    return bool(mark) and part.partition(":")[0] in PLANES and file.lower().endswith(VOLUME_EXTENSIONS)


# --- Tables -------------------------------------------------------------------------------------------------


def damaged_table(path: str, error: Exception) -> UserError:
    """The error for a table that cannot be read."""
    rule = f"cannot be read as a table: {' '.join(str(error).split())[:200]}"
    return UserError("unreadable-file", rule, "download or save it again", where=path)


@functools.lru_cache(maxsize=4)
def open_table(path: str, changed: int) -> Any:
    """A parquet file, or the batches of an Arrow file, as `pyarrow` opens them; `changed` is part of the key.

    Raises:
      UserError: the extra `hf` is not installed, or the file is damaged.
    """
    del changed
    pyarrow = require("pyarrow", "hf")
    try:
        if path.lower().endswith(".parquet"):
            return require("pyarrow.parquet", "hf").ParquetFile(path)
        source = pyarrow.memory_map(path)
        try:
            table = pyarrow.ipc.open_stream(source).read_all()  # as `datasets` saves them
        except pyarrow.ArrowInvalid:
            table = pyarrow.ipc.open_file(pyarrow.memory_map(path)).read_all()
        table.validate(full=True)  # Arrow's native code crashes on offsets that are wrong
        return table
    except (pyarrow.ArrowException, OSError) as error:
        raise damaged_table(path, error) from None


def _cells(path: str, changed: int, column: str, row: int) -> tuple[Any, int]:
    """Cells of a column that are read together, `row` among them, and the number of the first."""
    table = open_table(path, changed)
    if not hasattr(table, "num_row_groups"):
        return table.column(column), 0
    first = 0
    for group in range(table.num_row_groups):
        length = table.metadata.row_group(group).num_rows
        if row < first + length:
            return _row_group(path, changed, group, column), first
        first += length
    raise UserError("unreadable-file", f"has no row {row}", "list the files again", where=path, value=row)


@functools.lru_cache(maxsize=4)
def _row_group(path: str, changed: int, group: int, column: str) -> Any:
    pyarrow = require("pyarrow", "hf")
    try:
        return open_table(path, changed).read_row_group(group, columns=[column]).column(column)
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise damaged_table(path, error) from None


def _cell(cell: Any, where: str) -> bytes:
    """The image file in a cell: bytes, or a struct with `bytes`, as Hugging Face's `Image` feature stores it."""
    try:
        value = cell.as_py()
    except UnicodeDecodeError as error:
        raise damaged_table(where, error) from None
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        return read_file(value)
    if not isinstance(value, bytes):
        rule = "holds no image: neither bytes nor a struct with bytes or path"
        raise UserError("unreadable-image", rule, "name the column of the images", where=where)
    return value
