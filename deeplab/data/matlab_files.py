"""Matrices in MATLAB's files, for masks: `.mat` of version 5 (`save -v6` and `-v7`).

Labels and SBD's reader call it. It reads matrices of real numbers and structs of them, and skips all else (cells,
objects, text, sparse and complex matrices). It trusts nothing in a file: every length is checked before it is used,
which SciPy's compiled reader does not do (1.17 crashes on damaged files).

Source: MathWorks, "MAT-File Format", version 5: elements of a tag (type and number of bytes) and data, padded to eight
bytes; tags of up to four bytes of data hold them; matrices are elements of elements.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Content: TypeAlias = "np.ndarray | dict[str, Content] | None"

START = b"MATLAB 5.0 MAT-file"
_HEADER = 128  # bytes: text, version, byte order
_COMPRESSED, _MATRIX = 15, 14  # types of elements
_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_STRUCT, _NUMBERS = 2, range(6, 16)  # classes of matrices
_COMPLEX = 8  # flag
_MAX_BYTES = 2**31  # of what all compressed elements of a file may hold
_MAX_DEPTH = 8  # structs within structs
_MAX_FIELDS = 1000


def read_matrices(data: bytes) -> dict[str, Content]:
    """Return the variables of a file by name.

    Args:
      data: the file.

    Returns:
      A matrix [H, W, ...] in the type in which its numbers are stored; a struct as a dict of its fields; None for
      variables of other kinds.

    Raises:
      ValueError: it is no such file, or is damaged.
    """
    if data[:4] != START[:4] or len(data) < _HEADER:
        raise ValueError("it is not a MATLAB file of version 5")
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or data[124:126][:: 1 if order == "<" else -1] != b"\x00\x01":
        raise ValueError("its version is not 5: save it with -v7")
    found: dict[str, Content] = {}
    left = _MAX_BYTES
    for kind, content in _elements(memoryview(data)[_HEADER:], order):
        if kind == _COMPRESSED:
            inflated = _inflated(content, left)
            left -= len(inflated)
            inside = list(_elements(inflated, order))
            if len(inside) != 1:
                raise ValueError("a compressed element holds no variable")
            kind, content = inside[0]
        if kind != _MATRIX:
            raise ValueError(f"a variable is of the unknown type {kind}")
        name, value = _matrix(content, order, 0)
        found[name] = value
    return found


def _inflated(content: memoryview, limit: int) -> memoryview:
    inflate = zlib.decompressobj()
    try:
        data = inflate.decompress(content, limit) if limit else b""  # 0 would mean no limit
    except zlib.error as error:
        raise ValueError(f"a variable cannot be decompressed: {error}") from None
    if not inflate.eof:
        raise ValueError("a compressed variable is cut off, or too large")
    return memoryview(data)


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield type and data of each element.

    Raises:
      ValueError: one is cut off.
    """
    place = 0
    while place < len(data):
        if place + 8 > len(data):
            raise ValueError("it is cut off")
        first, length = (int(number) for number in np.frombuffer(data[place : place + 8], f"{order}u4"))
        if first >> 16:  # a small element: its length is in the upper half, its data is in the tag
            kind, length, start, end = first & 0xFFFF, first >> 16, place + 4, place + 8
            if length > 4:
                raise ValueError("an element has a wrong length")
        else:
            kind, start = first, place + 8
            padding = 0 if kind == _COMPRESSED else -length % 8
            end = start + length + padding
            if start + length > len(data):
                raise ValueError("it is cut off")
        yield kind, data[start : start + length]
        place = end


@dataclass(frozen=True)
class _Head:
    """What a matrix says about itself: its class, whether it is complex, its size, its name."""

    kind: int
    is_complex: bool
    shape: tuple[int, ...]
    name: str


def _matrix(data: memoryview, order: str, depth: int) -> tuple[str, Content]:
    """Return name and content of a matrix element; an empty one is a matrix without values.

    Raises:
      ValueError: it is damaged, or structs are nested too deeply.
    """
    if depth > _MAX_DEPTH:
        raise ValueError("structs are nested too deeply")
    if not len(data):
        return "", None
    parts = _elements(data, order)
    head = _head(parts, order)
    if head.kind == _STRUCT:
        return head.name, _fields(parts, order, depth) if math.prod(head.shape) == 1 else None
    if head.kind not in _NUMBERS or head.is_complex:
        return head.name, None
    kind, content = _next(parts)
    if kind not in _DTYPES:
        raise ValueError(f"the numbers of a matrix are of the unknown type {kind}")
    values = np.frombuffer(content, f"{order}{_DTYPES[kind]}") if len(content) else np.empty(0)
    if values.size != math.prod(head.shape):
        raise ValueError(f"a matrix of {'x'.join(map(str, head.shape))} has {values.size} numbers")
    return head.name, values.reshape(head.shape, order="F")


def _head(parts: Iterator[tuple[int, memoryview]], order: str) -> _Head:
    flags, sizes = (_whole(_next(parts)[1], order) for _ in range(2))
    if len(flags) != 2 or not 2 <= len(sizes) <= 32 or min(sizes) < 0:
        raise ValueError("the head of a matrix is damaged")
    name = bytes(_next(parts)[1]).decode("utf-8", "replace")
    return _Head(flags[0] & 0xFF, bool(flags[0] >> 8 & _COMPLEX), tuple(sizes), name)


def _fields(parts: Iterator[tuple[int, memoryview]], order: str, depth: int) -> dict[str, Content]:
    lengths, names = _whole(_next(parts)[1], order), bytes(_next(parts)[1])
    if len(lengths) != 1 or lengths[0] < 1 or len(names) > _MAX_FIELDS * lengths[0]:
        raise ValueError("the fields of a struct are damaged")
    found: dict[str, Content] = {}
    for start in range(0, len(names), lengths[0]):
        kind, content = _next(parts)
        if kind != _MATRIX:
            raise ValueError("a field of a struct is not a matrix")
        name = names[start : start + lengths[0]].partition(b"\0")[0].decode("utf-8", "replace")
        found[name] = _matrix(content, order, depth + 1)[1]
    return found


def _next(parts: Iterator[tuple[int, memoryview]]) -> tuple[int, memoryview]:
    found = next(parts, None)
    if found is None:
        raise ValueError("a matrix is cut off")
    return found


def _whole(content: memoryview, order: str) -> list[int]:
    """Whole numbers of 32 bits."""
    if len(content) % 4:
        raise ValueError("an element has a wrong length")
    return np.frombuffer(content, f"{order}i4").tolist()
