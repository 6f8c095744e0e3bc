"""A checkpoint's variables as a table, and the difference of two checkpoints."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from deeplab.checkpoint.bundle import ArrayCheckpoint, Checkpoint

Opened = Checkpoint | ArrayCheckpoint
Row = tuple[str, ...]
HEADER = ("name", "shape", "dtype")
VALUES_HEADER = ("mean", "std", "min", "max")
SAME, DIFFERENT = "equal", "values differ"


@dataclass(frozen=True)
class Difference:
    """How one variable differs in two checkpoints.

    Attributes:
      name: the variable.
      kind: `only in the first`, `only in the second`, `shape differs`, `values differ` or `equal`.
      first, second: shapes; None where it is missing.
      largest: largest absolute difference of the values; None where they cannot be compared.
    """

    name: str
    kind: str
    first: tuple[int, ...] | None
    second: tuple[int, ...] | None
    largest: float | None = None


def differences(first: Opened, second: Opened, names: Iterable[str]) -> list[Difference]:
    """Compare the named variables of two checkpoints; values are read where shapes agree."""
    return [_difference(first, second, name) for name in names]


def _difference(first: Opened, second: Opened, name: str) -> Difference:
    shapes = first.shapes.get(name), second.shapes.get(name)
    if None in shapes:
        return Difference(name, "only in the first" if shapes[1] is None else "only in the second", *shapes)
    if shapes[0] != shapes[1]:
        return Difference(name, "shape differs", *shapes)
    largest = largest_difference(first.array(name), second.array(name))
    return Difference(name, DIFFERENT if largest is None or largest else SAME, *shapes, largest)


def largest_difference(first: np.ndarray, second: np.ndarray) -> float | None:
    """The largest absolute difference of two arrays of one shape, any dtype.

    NaN equals NaN; NaN against a number gives infinity; texts that differ give None.
    """
    if not (_is_numeric(first) and _is_numeric(second)):
        return 0.0 if np.array_equal(first, second) else None
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        distance = np.where(same, 0.0, np.abs(one - other))
    return float(np.nan_to_num(distance, nan=np.inf, posinf=np.inf).max(initial=0.0))


def variable_row(checkpoint: Opened, name: str, values: bool = False) -> Row:
    """Name, shape and dtype of a variable; with `values` its mean, standard deviation, minimum and maximum."""
    row = (name, shape_text(checkpoint.shapes[name]), _dtype_text(checkpoint.dtypes.get(name)))
    if not values:
        return row
    array = checkpoint.array(name)
    if not _is_numeric(array) or not array.size:
        return (*row, "", "", "", "")
    numbers = array.astype(np.float64)
    return (*row, *(f"{value:.5g}" for value in (numbers.mean(), numbers.std(), numbers.min(), numbers.max())))


def shape_text(shape: tuple[int, ...] | None) -> str:
    """`3x3x3x32`, `scalar`, or an empty text for a missing variable."""
    return "" if shape is None else "x".join(map(str, shape)) or "scalar"


def parameters(checkpoint: Opened, names: Iterable[str]) -> int:
    """The total number of values in the variables."""
    return sum(int(np.prod(checkpoint.shapes[name], dtype=np.int64)) for name in names)


def _is_numeric(array: np.ndarray) -> bool:
    return array.dtype.kind in "biuf" or array.dtype.name == "bfloat16"


def _dtype_text(dtype: np.dtype | None) -> str:
    return "" if dtype is None else "text" if dtype.kind in "OSU" else dtype.name
