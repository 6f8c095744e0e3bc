"""The confusion matrix of many classes: only its cells that are not 0.

At 10,000 classes the whole matrix takes 800 MB, whereas an image has pixels in a few hundred cells. Beyond 256 classes
`ConfusionMatrix` counts in this form, `ImageCounts` and the bootstrap add it up, and the metrics take it like an array.
It knows neither labels nor files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deeplab.evaluation.sparse_sums import Part, SparseSums
from deeplab.utils.errors import UserError

_MAX_DENSE = 20_000  # classes: the whole matrix then takes 3.2 GB


class CellCounts(SparseSums):
    """The cells of a confusion matrix, int64 [classes, classes], that can be used as an array.

    `sum`, `diagonal` and `trace` read the cells. Whatever else is done with it first makes an int64 array of all cells,
    as `np.asarray` does; sums of several stay sparse.

    Args:
      num_classes: number of classes.
      cells: int64 [n], row * classes + column of the cells that may differ from 0, ascending, each once.
      numbers: int64 [n], their values.
      margins: int64 [3, classes]: diagonal, sums of the rows, sums of the columns; None = from the cells.

    Example:
      counts = CellCounts.of(np.array([[4, 0], [1, 0]]))
      counts.cells, counts.numbers  # [0, 2], [4, 1]
    """

    def __init__(self, num_classes: int, cells: np.ndarray, numbers: np.ndarray, margins: np.ndarray | None = None):
        super().__init__((num_classes, num_classes), cells, numbers)
        self.num_classes, self._margins = num_classes, margins

    @classmethod
    def of(cls, values: np.ndarray | SparseSums) -> CellCounts:
        """The cells of a confusion matrix in either form."""
        if isinstance(values, CellCounts):
            return values
        counts = np.asarray(values)
        return cls(len(counts), *SparseSums.of(counts).part)

    @classmethod
    def total(cls, num_classes: int, parts: Sequence[Part]) -> CellCounts:
        """The sum of several, given as their cells and numbers."""
        cells = np.concatenate([np.zeros(0, np.int64), *(cells for cells, _ in parts)])
        numbers = np.concatenate([np.zeros(0, np.int64), *(numbers for _, numbers in parts)])
        order = np.argsort(cells, kind="stable")
        cells, numbers = cells[order], numbers[order]
        starts = np.flatnonzero(np.diff(cells, prepend=-1))
        return cls(num_classes, cells[starts], np.add.reduceat(numbers, starts) if len(starts) else numbers)

    @property
    def dtype(self) -> np.dtype:
        """As of an array."""
        return np.dtype(np.int64)

    @property
    def margins(self) -> np.ndarray:
        """int64 [3, classes]: the diagonal, the sums of the rows and those of the columns."""
        if self._margins is None:
            self._margins = margins_of([self.part], self.num_classes)[0]
        return self._margins

    def __len__(self) -> int:
        return self.num_classes

    def __getitem__(self, key: Any) -> Any:
        return np.asarray(self)[key]

    def diagonal(self) -> np.ndarray:
        """int64 [classes]."""
        return self.margins[0]

    def trace(self) -> np.int64:
        """The sum of the diagonal."""
        return self.margins[0].sum()

    def sum(self, axis: int | None = None, **options: Any) -> Any:
        """As of an array; of one axis int64 [classes]."""
        if options or axis not in (None, 0, 1, -1, -2):
            return np.asarray(self).sum(axis, **options)
        return self.margins[1].sum() if axis is None else self.margins[2 if axis in (0, -2) else 1]

    def tolist(self) -> list[list[int]]:
        """As of an array."""
        return np.asarray(self).tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.num_classes > _MAX_DENSE:
            size = 8e-9 * self.num_classes**2
            rule = f"the confusion matrix of {self.num_classes:,} classes takes {size:.1f} GB as an array"
            hint = "use its `cells` and `numbers`, or `sum` and `diagonal`"
            raise UserError("too-many-classes", rule, hint, where="confusion matrix", value=self.num_classes)
        return super().__array__(dtype, copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        same = all(isinstance(one, CellCounts) and one.num_classes == self.num_classes for one in inputs)
        if ufunc is np.add and method == "__call__" and same and not options:
            return CellCounts.total(self.num_classes, [one.part for one in inputs])
        return super().__array_ufunc__(ufunc, method, *inputs, **options)


def margins_of(images: Sequence[Part], num_classes: int) -> np.ndarray:
    """Diagonals, sums of rows and sums of columns of several confusion matrices: int64 [images, 3, classes].

    Args:
      images: cells and numbers of each, as of `CellCounts`.
      num_classes: number of classes.
    """
    found = np.zeros((len(images), 3, num_classes), np.int64)
    image = np.repeat(np.arange(len(images)), [len(cells) for cells, _ in images])
    cells = np.concatenate([np.zeros(0, np.int64), *(cells for cells, _ in images)])
    numbers = np.concatenate([np.zeros(0, np.int64), *(numbers for _, numbers in images)])
    row, column = np.divmod(cells, num_classes)
    size, shape = len(images) * num_classes, (len(images), num_classes)
    # The weights are float64, in which these integers are exact.
    found[:, 1] = np.bincount(image * num_classes + row, numbers, size).reshape(shape)
    found[:, 2] = np.bincount(image * num_classes + column, numbers, size).reshape(shape)
    right = row == column
    found[image[right], 0, row[right]] = numbers[right]
    return found


def count_cells(label: np.ndarray, prediction: np.ndarray, num_classes: int, ignore_label: int) -> CellCounts | None:
    """Count label against prediction; the time depends on the pixels and the classes, not on the classes' pairs.

    Args:
      label: integers of any shape.
      prediction: integers of the same shape.
      num_classes: number of classes.
      ignore_label: label value that is not counted.

    Returns:
      The counts, rows = label; None when a label is neither a class nor the ignore label, or a prediction is not a
      class.
    """
    if label.size == 0:
        return CellCounts(num_classes, np.zeros(0, np.int64), np.zeros(0, np.int64))
    ignored = label == ignore_label
    row, column = label.astype(np.int64).ravel(), prediction.ravel()
    if column.min() < 0 or column.max() >= num_classes:
        return None
    column = column.astype(np.int64, copy=False)
    np.putmask(row, ignored.ravel(), num_classes)  # one row below the classes takes the ignored pixels
    if row.min() < 0 or row.max() > num_classes:
        return None
    rows, row_places = _places(row, num_classes + 1)
    columns, column_places = _places(column, num_classes)
    cell = row_places[row]
    np.multiply(cell, len(columns), out=cell)
    np.add(cell, column_places[column], out=cell)
    if len(rows) * len(columns) <= 4 * cell.size:
        numbers = np.bincount(cell, minlength=len(rows) * len(columns))
        (used,) = np.nonzero(numbers)
        numbers = numbers[used].astype(np.int64, copy=False)
    else:  # noise: nearly each pixel has a cell of its own
        used, numbers = np.unique(cell, return_counts=True)
    place, other = np.divmod(used, len(columns))
    last = rows[place] == num_classes
    if numbers[last].sum() != np.count_nonzero(ignored):  # labels of exactly `num_classes` are in that row as well
        return None
    cells = rows[place] * num_classes + columns[other]
    return CellCounts(num_classes, cells[~last], numbers[~last])


def _places(values: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The values that occur, ascending, and the place of each value of 0..number-1 among them."""
    seen = np.zeros(number, bool)
    seen[values] = True
    return np.flatnonzero(seen), np.cumsum(seen) - 1
