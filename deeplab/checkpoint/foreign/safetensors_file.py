"""Reads `.safetensors`: eight bytes with the length of a JSON header, the header, and the values.

The format is that of https://github.com/huggingface/safetensors: little endian, rows first, `data_offsets` counted from
the end of the header.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any

import numpy as np

from deeplab.checkpoint.foreign.tensor_file import MAX_TENSORS, checked_shape, damaged, from_bfloat16

MAX_HEADER = 100_000_000
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2"}
DTYPES |= {"I8": "<i1", "U8": "<u1", "BOOL": "<u1"}


class SafetensorsFile:
    """A `.safetensors` file; see `TensorFile`.

    Raises:
      UserError: it is truncated, or its header is none.
    """

    has_our_axes = False

    def __init__(self, path: str):
        self.path = path
        self._entries: dict[str, tuple[str, int]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(MAX_HEADER, size - 8):
                raise damaged(path, f"is not a complete safetensors file: {size} bytes")
            header = file.read(length)
        try:
            content = json.loads(header)
        except (ValueError, RecursionError) as error:
            raise damaged(path, f"its header is not JSON: {str(error)[:100]}") from error
        if not isinstance(content, dict) or len(content) > MAX_TENSORS:
            raise damaged(path, "its header does not describe tensors")
        for name, entry in content.items():
            if name != "__metadata__":
                self._add(name, entry, 8 + length, size)

    def _add(self, name: str, entry: Any, start: int, size: int) -> None:
        facts = entry if isinstance(entry, dict) else {}
        dtype, offsets = DTYPES.get(str(facts.get("dtype"))), facts.get("data_offsets")
        shape = checked_shape(facts.get("shape"), self.path, name)
        begin, end = offsets if isinstance(offsets, list) and len(offsets) == 2 else (None, None)
        if dtype is None or type(begin) is not int or type(end) is not int:
            raise damaged(self.path, f"the header does not describe {name[:100]}", name[:100])
        if not 0 <= begin <= end <= size - start or end - begin != math.prod(shape) * np.dtype(dtype).itemsize:
            raise damaged(self.path, f"{name[:100]} does not fit its place in the file", name[:100])
        self.shapes[name], self._entries[name] = shape, (str(facts["dtype"]), start + begin)

    def array(self, name: str) -> np.ndarray:
        kind, offset = self._entries[name]
        shape = self.shapes[name]
        with open(self.path, "rb") as file:
            file.seek(offset)
            values = np.fromfile(file, DTYPES[kind], math.prod(shape))
        if values.size != math.prod(shape):
            raise damaged(self.path, f"ends inside {name}", name)
        return (from_bfloat16(values) if kind == "BF16" else values).reshape(shape)
