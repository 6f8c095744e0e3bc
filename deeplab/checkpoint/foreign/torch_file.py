"""Reads the tensors of a PyTorch file (`.pth`, `.pt`, `.pth.tar`) without PyTorch and without running its pickle.

Since PyTorch 1.6 the file is a zip archive: `NAME/data.pkl`, a pickle whose tensors refer to raw bytes `NAME/data/KEY`.
Before, it was five pickles (a magic number, a version, facts of the system, the content, the keys of the storages), and
then for each storage its number of values, eight bytes, and the values.
"""

from __future__ import annotations

import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplab.checkpoint.foreign import pickle_reader
from deeplab.checkpoint.foreign.pickle_reader import Call, Name, Reference
from deeplab.checkpoint.foreign.tensor_file import MAX_TENSORS, checked_shape, damaged, from_bfloat16
from deeplab.utils.errors import UserError

MAGIC = 0x1950A86A20F9469CFC6C
MAX_PICKLE = 64 << 20  # bytes
MAX_DEPTH = 3  # of the state dict inside the file's content
PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and torch.compile
# Keys under which trainings save a state dict; with several, the first of these is taken.
STATE_KEYS = ("state_dict", "model_state", "model_state_dict", "model", "net", "network")
DTYPES = {"Double": "<f8", "Float": "<f4", "Half": "<f2", "BFloat16": "<u2", "Long": "<i8", "Int": "<i4"}
DTYPES |= {"Short": "<i2", "Char": "<i1", "Byte": "<u1", "Bool": "<u1"}
_ZIP_DAMAGE: tuple[type[Exception], ...] = (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError)
_ZIP_DAMAGE += (KeyError, ValueError, OverflowError, struct.error, zlib.error)


@dataclass(frozen=True)
class Tensor:
    """Where a tensor's values are.

    Attributes:
      kind: key of `DTYPES`.
      key: of the storage.
      offset, shape, stride: in values; strides as in NumPy, but in values.
    """

    kind: str
    key: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class TorchFile:
    """A PyTorch file; see `TensorFile`. Names are those of the state dict, without `module.`.

    Raises:
      UserError: it is damaged, holds no tensors by name, or its pickle would run code (`unsafe-pickle`).
    """

    has_our_axes = False

    def __init__(self, path: str):
        self.path = path
        self._offsets: dict[str, int] = {}
        self._numbers: dict[str, int] = {}  # of values, by storage
        self._is_zip = _starts_as_zip(path)
        content = self._read_zip() if self._is_zip else self._read_legacy()
        self._tensors = dict(self._named(content))
        self.shapes = {name: tensor.shape for name, tensor in self._tensors.items()}
        self._last: tuple[str, np.ndarray] | None = None

    # ---- what is in the file -----------------------------------------------------------------------------

    def _read_zip(self) -> Any:
        try:
            with zipfile.ZipFile(self.path) as archive:
                names = archive.namelist()
                index = next((name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")), None)
                if index is None:
                    rule = "is a zip archive without a PyTorch pickle in it"
                    raise UserError("not-a-checkpoint", rule, "give a file of torch.save", where=self.path)
                self._root = index.removesuffix("data.pkl")
                if archive.getinfo(index).file_size > MAX_PICKLE:
                    raise damaged(self.path, "its index is too large")
                if f"{self._root}byteorder" in names:
                    with archive.open(f"{self._root}byteorder") as file:  # in part: compressed zeros have no end
                        if file.read(16) != b"little":
                            raise damaged(self.path, "its values are big endian")
                with archive.open(index) as file:
                    return pickle_reader.read(_Buffered(file.read(MAX_PICKLE)), self.path)
        except _ZIP_DAMAGE as error:
            raise damaged(self.path, f"is truncated or damaged: {str(error)[:100]}") from error

    def _read_legacy(self) -> Any:
        with open(self.path, "rb") as file:
            stream = _Buffered(file.read(MAX_PICKLE))
            if pickle_reader.read(stream, self.path) != MAGIC:
                rule = "is a pickle, but not one of torch.save"
                raise UserError("not-a-checkpoint", rule, "give a file of torch.save", where=self.path)
            pickle_reader.read(stream, self.path)  # version
            facts = pickle_reader.read(stream, self.path)
            if isinstance(facts, dict) and facts.get("little_endian") is False:
                raise damaged(self.path, "its values are big endian")
            content = pickle_reader.read(stream, self.path)
            keys = pickle_reader.read(stream, self.path)
            file.seek(stream.position)
            sizes = dict(_storages(content))
            for key in keys if isinstance(keys, list) else ():
                number = int.from_bytes(file.read(8), "little")
                itemsize = np.dtype(DTYPES.get(sizes.get(str(key), "Float"), "<f4")).itemsize
                self._offsets[str(key)], self._numbers[str(key)] = file.tell(), number
                if number > (os.path.getsize(self.path) - file.tell()) // itemsize:
                    raise damaged(self.path, f"ends inside storage {str(key)[:40]}")
                file.seek(number * itemsize, os.SEEK_CUR)
        return content

    # ---- tensors by name ---------------------------------------------------------------------------------

    def _named(self, content: Any) -> Iterator[tuple[str, Tensor]]:
        state = _state_dict(content)
        if state is None:
            rule = "holds no tensors by name (a state dict)"
            hint = "save one: torch.save(model.state_dict(), 'weights.pth')"
            raise UserError("not-a-checkpoint", rule, hint, where=self.path)
        for name, value in state.items():
            described = _tensor(value)
            if isinstance(name, str) and described is not None:
                while name.startswith(PREFIXES):
                    name = name.removeprefix(PREFIXES[0]).removeprefix(PREFIXES[1])
                yield name, self._checked(name, *described)

    def _checked(self, name: str, storage: Any, offset: Any, shape: Any, stride: Any) -> Tensor:
        """A tensor that is inside its storage, each value of which it shows once at most."""
        kind, key, number = _storage(storage, self.path)
        shape, stride = checked_shape(shape, self.path, name), checked_shape(stride, self.path, name)
        if len(shape) != len(stride) or type(offset) is not int or offset < 0:
            raise damaged(self.path, f"{name[:100]} has no place", name[:100])
        last = offset + sum((length - 1) * step for length, step in zip(shape, stride, strict=True) if length)
        if math.prod(shape) and (last >= number or math.prod(shape) > number):
            raise damaged(self.path, f"{name[:100]} is larger than its storage", name[:100])
        return Tensor(kind, key, offset, shape, stride)

    def array(self, name: str) -> np.ndarray:
        tensor = self._tensors[name]
        values = self._values(tensor)
        if not math.prod(tensor.shape):
            return np.zeros(tensor.shape, values.dtype)
        last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride, strict=True))
        if last >= values.size:
            raise damaged(self.path, f"ends inside {name}", name)
        steps = tuple(step * values.itemsize for step in tensor.stride)
        view = np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, steps, writeable=False)
        return from_bfloat16(view) if tensor.kind == "BFloat16" else np.array(view)

    def _values(self, tensor: Tensor) -> np.ndarray:
        if self._last is None or self._last[0] != tensor.key:  # parts of one storage are often read one after another
            self._last = tensor.key, np.frombuffer(self._bytes(tensor), DTYPES[tensor.kind])
        return self._last[1]

    def _bytes(self, tensor: Tensor) -> bytes:
        itemsize = np.dtype(DTYPES[tensor.kind]).itemsize
        if not self._is_zip:
            if tensor.key not in self._offsets:
                raise damaged(self.path, f"has no storage {tensor.key[:40]}")
            with open(self.path, "rb") as file:
                file.seek(self._offsets[tensor.key])
                return file.read(self._numbers[tensor.key] * itemsize)
        try:
            with zipfile.ZipFile(self.path) as archive:
                entry = archive.getinfo(f"{self._root}data/{tensor.key}")
                if entry.compress_type != zipfile.ZIP_STORED:  # torch.save never compresses
                    raise damaged(self.path, f"storage {tensor.key[:40]} is compressed")
                data = archive.read(entry)
        except _ZIP_DAMAGE as error:
            raise damaged(self.path, f"storage {tensor.key[:40]} is damaged: {str(error)[:100]}") from error
        return data[: len(data) // itemsize * itemsize]


class _Buffered:
    """Bytes as the stream that `pickletools` reads, which may not ask for more than there is."""

    def __init__(self, data: bytes):
        self._data, self.position = data, 0

    def read(self, count: int = -1) -> bytes:
        end = len(self._data) if count < 0 else self.position + count
        start, self.position = self.position, min(end, len(self._data))
        return self._data[start : self.position]

    def readline(self) -> bytes:
        end = self._data.find(b"\n", self.position)
        return self.read((len(self._data) if end < 0 else end + 1) - self.position)


def _starts_as_zip(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"PK"


def _tensor(value: Any, depth: int = 0) -> tuple[Any, Any, Any, Any] | None:
    """(storage, offset, shape, stride) of what rebuilds a tensor or a parameter; None for anything else."""
    if not isinstance(value, Call) or not isinstance(value.function, Name) or not isinstance(value.arguments, tuple):
        return None
    if value.function.name == "_rebuild_parameter" and value.arguments and depth < 4:
        return _tensor(value.arguments[0], depth + 1)
    if value.function.name in ("_rebuild_tensor_v2", "_rebuild_tensor") and len(value.arguments) >= 4:
        storage, offset, shape, stride = value.arguments[:4]
        return storage, offset, _plain(shape), _plain(stride)
    return None


def _plain(shape: Any) -> Any:
    """A `torch.Size` as the tuple in it."""
    return shape.arguments[0] if isinstance(shape, Call) and len(shape.arguments) == 1 else shape


def _storage(storage: Any, path: str) -> tuple[str, str, int]:
    """Kind, key and number of values of what a persistent id describes."""
    facts = storage.id if isinstance(storage, Reference) else None
    if not isinstance(facts, tuple) or len(facts) < 5 or not isinstance(facts[1], Name):
        raise damaged(path, "a tensor has no storage")
    kind, key, number = facts[1].name.removesuffix(pickle_reader.STORAGE), facts[2], facts[4]
    if kind not in DTYPES or not isinstance(key, str) or type(number) is not int:
        raise damaged(path, f"holds values of an unknown kind: {str(facts[1].name)[:40]}")
    if len(facts) > 5 and facts[5] is not None:  # a view into another storage, of PyTorch before 0.4
        raise damaged(path, "was written by PyTorch before version 0.4")
    return kind, key, number


def _storages(content: Any) -> Iterator[tuple[str, str]]:
    """Key and kind of every storage that a file's content refers to, without recursion."""
    pending, seen = [content], set()
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Reference):
            facts = value.id
            if isinstance(facts, tuple) and len(facts) >= 5 and isinstance(facts[1], Name):
                yield str(facts[2]), facts[1].name.removesuffix(pickle_reader.STORAGE)
        elif isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, (list, tuple, set)):
            pending += value
        elif isinstance(value, Call):
            pending += [value.arguments, value.items]


def _state_dict(content: Any, depth: int = 0) -> dict[Any, Any] | None:
    """The dict with most tensors in what a training saved: itself, or under one of the usual keys."""
    values = content.items if isinstance(content, Call) else content
    if not isinstance(values, dict) or depth > MAX_DEPTH:
        return None
    if sum(_tensor(value) is not None for value in values.values()) > 0:
        return values if len(values) <= MAX_TENSORS else None
    usual = [key for key in STATE_KEYS if key in values]
    inner = (_state_dict(values[key], depth + 1) for key in usual)
    return next((found for found in inner if found), None)
