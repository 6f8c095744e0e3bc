"""Common parts of the readers of foreign files: tensors by name, read on demand, and the errors for damaged files."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from deeplab.utils.errors import UserError

MAX_RANK = 8
MAX_TENSORS = 100_000
MAX_BYTES = 16 << 30  # of one tensor
_AGAIN = "download or copy the file again"


class TensorFile(Protocol):
    """Tensors by name.

    Attributes:
      path: of the file.
      shapes: name -> shape; names, axes and values are those of the file.
      has_our_axes: whether kernels are [h, w, in, out], as in TensorFlow, and not [out, in, h, w], as in PyTorch.
    """

    path: str
    has_our_axes: bool
    shapes: dict[str, tuple[int, ...]]

    def array(self, name: str) -> np.ndarray:
        """Return a tensor. Raises UserError for damaged bytes, KeyError for an unknown name."""
        ...


def damaged(path: str, rule: str, value: str | None = None) -> UserError:
    """The error for a file that is truncated or contradicts itself."""
    return UserError("damaged-checkpoint", rule, _AGAIN, where=path, value=value)


def checked_shape(shape: object, path: str, name: str) -> tuple[int, ...]:
    """A shape in a file: a few lengths of at least 0, and no more values than fit into `MAX_BYTES`.

    Raises:
      UserError: it is none.
    """
    lengths = tuple(shape) if isinstance(shape, (list, tuple)) else (None,)
    if len(lengths) > MAX_RANK or any(type(length) is not int or length < 0 for length in lengths):
        raise damaged(path, f"{name[:100]} has no shape", name[:100])
    if math.prod(length for length in lengths if length) > MAX_BYTES // 8:
        raise damaged(path, f"{name[:100]} would have {'x'.join(map(str, lengths))} values", name[:100])
    return lengths


def from_bfloat16(values: np.ndarray) -> np.ndarray:
    """Uint16 patterns of bfloat16 as float32: their first halves."""
    return (values.astype(np.uint32) << 16).view(np.float32)
