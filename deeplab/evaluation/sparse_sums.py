"""Integers about many classes of which most are 0: only the others are kept.

With thousands of classes an image has pixels of a few dozen, whereas its statistics have rows for all. Beyond 256
classes `Accumulator` keeps what extra metrics measure in this form, `cell_counts.CellCounts` the confusion matrix, and
the bootstrap adds both up. It knows neither labels nor metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

Part = tuple[np.ndarray, np.ndarray]  # cells and numbers, both int64 [n]

_CHUNK = 50  # parts that are dense at once
_MAX_CELLS = 4_000_000  # cells times sums in memory at once


class SparseSums(np.lib.mixins.NDArrayOperatorsMixin):
    """Integers of any shape, most of them 0, that can be used as an array: whatever is done with it first makes one.

    Args:
      shape: of the array.
      cells: int64 [n], places in the flat array of the numbers that differ from 0, ascending, each once.
      numbers: int64 [n].

    Example:
      part = SparseSums.of(np.array([[0, 4], [1, 0]]))
      part.cells, part.numbers  # [1, 2], [4, 1]
    """

    def __init__(self, shape: tuple[int, ...], cells: np.ndarray, numbers: np.ndarray):
        self.shape, self.cells, self.numbers = shape, cells, numbers

    @classmethod
    def of(cls, values: np.ndarray) -> SparseSums:
        """The numbers of an array of integers that are not 0."""
        flat = values.ravel()
        (used,) = np.nonzero(flat)
        return cls(values.shape, used, flat[used].astype(np.int64, copy=False))

    @property
    def part(self) -> Part:
        """Cells and numbers."""
        return self.cells, self.numbers

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = np.zeros(self.shape, dtype or np.int64)
        values.ravel()[self.cells] = self.numbers
        return values

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        arrays = [np.asarray(one) if isinstance(one, SparseSums) else one for one in inputs]
        return getattr(ufunc, method)(*arrays, **options)


def added(total: np.ndarray, parts: Iterable[Part]) -> np.ndarray:
    """An array of integers to which several are added: a new one."""
    values = total.astype(np.int64)
    flat = values.reshape(-1)
    for cells, numbers in parts:
        flat[cells] += numbers
    return values


def used_cells(parts: Sequence[Part]) -> np.ndarray:
    """The cells that occur in any of several: int64, ascending."""
    found = [np.zeros(0, np.int64)]
    for start in range(0, len(parts), _CHUNK):
        found.append(np.unique(np.concatenate([cells for cells, _ in parts[start : start + _CHUNK]])))
    return np.unique(np.concatenate(found))


def weighted(parts: Sequence[Part], times: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Sums of several, each taken a number of times.

    Args:
      parts: cells and numbers of each.
      times: float64 [sums, parts], whole numbers.
      used: the cells that occur, ascending.

    Returns:
      int64 [cells, sums].
    """
    sums = np.zeros((len(used), len(times)))  # float64, in which these integers are exact
    for start in range(0, len(parts), _CHUNK):
        some = parts[start : start + _CHUNK]
        here = np.unique(np.concatenate([cells for cells, _ in some]))
        dense = np.zeros((len(some), len(here)))
        for row, (cells, numbers) in zip(dense, some, strict=True):
            row[np.searchsorted(here, cells)] = numbers
        sums[np.searchsorted(used, here)] += (times[:, start : start + len(some)] @ dense).T
    return sums.astype(np.int64)


def resampled(parts: Sequence[Part], times: np.ndarray, used: np.ndarray) -> Iterator[np.ndarray]:
    """`weighted` for as many sums at once as memory should hold: int64 [cells, some of the sums]."""
    at_once = max(1, _MAX_CELLS // max(1, len(used)))
    for start in range(0, len(times), at_once):
        yield weighted(parts, times[start : start + at_once], used)
