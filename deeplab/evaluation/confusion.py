"""The confusion matrix: how often each class was predicted as each class, in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from deeplab.data.label_bits import MAX_CLASSES_8_BIT
from deeplab.data.labels import LabelSpec
from deeplab.evaluation.cell_counts import CellCounts, count_cells
from deeplab.utils.errors import UserError
from deeplab.utils.text import shorten

_MAX_WAITING = 1_000_000  # cells of counted images that wait to be added up


class ConfusionMatrix:
    """Pixel counts of label against prediction, the input of the metrics.

    Args:
      num_classes: number of classes, background included, ignore label not.
      ignore_label: label value of pixels that are not counted. It may be inside the class range (0 in
        ADE20K): the class of that number then has no labels.
      counts: counts to start from, integers [num_classes, num_classes] as in the attribute below; zeros if None.

    Beyond 256 classes, counts are `CellCounts`, which hold only the cells that are not 0; `np.asarray` makes an array.

    Example:
      matrix = ConfusionMatrix(num_classes=3, ignore_label=255)
      matrix.add(np.array([[0, 1, 255]]), np.array([[0, 2, 2]]))
      matrix.counts  # [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    """

    def __init__(self, num_classes: int, ignore_label: int = 255, counts: np.ndarray | CellCounts | None = None):
        if num_classes < 1:
            raise UserError("out-of-range", f"must be at least 1, not {num_classes}", field="num_classes")
        self.num_classes, self.ignore_label = int(num_classes), int(ignore_label)
        shape = (self.num_classes, self.num_classes)
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []  # images that are not yet in the counts
        self._waiting = 0  # cells of these images
        self._counts: np.ndarray | CellCounts
        if self.is_sparse:
            self._counts = CellCounts.total(self.num_classes, [])
            if counts is not None:
                self._counts = CellCounts.of(_checked_counts(counts, shape))
        else:
            self._counts = np.zeros(shape, np.int64)
            if counts is not None:
                self._counts += np.asarray(_checked_counts(counts, shape))

    @property
    def is_sparse(self) -> bool:
        """Whether counts are `CellCounts`."""
        return self.num_classes > MAX_CLASSES_8_BIT

    @property
    def counts(self) -> np.ndarray | CellCounts:
        """int64 [num_classes, num_classes], rows = label, columns = prediction."""
        if self._parts:
            assert isinstance(self._counts, CellCounts)
            self._parts.append((self._counts.cells, self._counts.numbers))
            self._counts, self._parts, self._waiting = CellCounts.total(self.num_classes, self._parts), [], 0
        return self._counts

    def add(
        self, label: np.ndarray, prediction: np.ndarray, image_name: str | Sequence[str] = ""
    ) -> np.ndarray | CellCounts:
        """Count one image or one batch.

        Args:
          label: integers [H, W] or [B, H, W], classes 0..num_classes-1 or the ignore label.
          prediction: integers of the same shape, classes 0..num_classes-1.
          image_name: the image's name, or one name for each image of the batch; only for messages.

        Returns:
          The counts of these images alone, as `counts`.

        Raises:
          UserError: shapes differ, or a value is outside the classes; then nothing is counted.
          TypeError: an array does not hold integers.
        """
        label, prediction = np.asarray(label), np.asarray(prediction)
        _check_arrays(label, prediction, image_name)
        count = count_cells if self.is_sparse else confusion_counts
        counts = count(label, prediction, self.num_classes, self.ignore_label)
        if counts is None:
            _refuse_values_outside(label, prediction, self.num_classes, self.ignore_label, image_name)
        if isinstance(counts, CellCounts):
            self._parts.append(counts.part)
            self._waiting += len(counts.cells)
            if self._waiting > _MAX_WAITING:
                self._counts = self.counts
        else:
            self._counts += counts
        return counts

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """Add the counts of two workers."""
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        mine, theirs = (self.num_classes, self.ignore_label), (other.num_classes, other.ignore_label)
        if mine != theirs:
            rule = f"must have the same classes and ignore label to be added, not {mine} and {theirs}"
            raise UserError("class-count-mismatch", rule, where="confusion matrices", value=theirs)
        return ConfusionMatrix(*mine, counts=self.counts + other.counts)


def confusion_counts(
    label: np.ndarray, prediction: np.ndarray, num_classes: int, ignore_label: int
) -> np.ndarray | None:
    """Count label against prediction.

    Args:
      label: integers of any shape.
      prediction: integers of the same shape.
      num_classes: number of classes.
      ignore_label: label value that is not counted.

    Returns:
      int64 [num_classes, num_classes], rows = label; None when a label is neither a class nor the ignore
      label, or a prediction is not a class.
    """
    if label.size == 0:
        return np.zeros((num_classes, num_classes), np.int64)
    ignored = label == ignore_label
    # One row below the classes takes the ignored pixels: faster than selecting the others with a mask.
    row = label.astype(np.int64)  # wide enough for num_classes and for the cell's number
    np.putmask(row, ignored, num_classes)
    if min(row.min(), prediction.min()) < 0 or row.max() > num_classes or prediction.max() >= num_classes:
        return None
    cell = np.multiply(row, num_classes, out=row)
    # Added in place: a copy of the prediction as int64 (new memory) costs more than everything else.
    np.add(cell, prediction, out=cell, casting="unsafe")  # values are checked, so only the type is unsafe
    counts = np.bincount(cell.ravel(), minlength=(num_classes + 1) * num_classes)
    counts = counts.astype(np.int64, copy=False).reshape(num_classes + 1, num_classes)
    # A label of exactly num_classes is in the extra row as well; it appears as a surplus there.
    return counts[:-1] if counts[-1].sum() == np.count_nonzero(ignored) else None


def _checked_counts(counts: np.ndarray | CellCounts, shape: tuple[int, int]) -> np.ndarray | CellCounts:
    counts = counts if isinstance(counts, CellCounts) else np.asarray(counts)
    if counts.shape != shape:
        rule = f"must have shape {list(shape)}, not {list(counts.shape)}"
        raise UserError("size-mismatch", rule, where="confusion matrix", value=counts.shape)
    values = counts.numbers if isinstance(counts, CellCounts) else counts
    if not np.issubdtype(values.dtype, np.integer) or (values < 0).any():
        rule = f"must hold counts, which are integers from 0; these are {counts.dtype}"
        raise UserError("out-of-range", rule, where="confusion matrix")
    return counts


def _check_arrays(label: np.ndarray, prediction: np.ndarray, image_name: str | Sequence[str]) -> None:
    for what, array in (("label", label), ("prediction", prediction)):
        if not np.issubdtype(array.dtype, np.integer):
            raise TypeError(f"{what} must hold integers, not {array.dtype}")
    if label.shape != prediction.shape:
        rule = f"label and prediction must have the same size, not {list(label.shape)} and {list(prediction.shape)}"
        hint = "resize the prediction to the size of the label before it is counted"
        raise UserError("size-mismatch", rule, hint, where=_named(image_name))


def _refuse_values_outside(
    label: np.ndarray, prediction: np.ndarray, num_classes: int, ignore_label: int, image_name: str | Sequence[str]
) -> NoReturn:
    """Raise the error for values outside the classes; speed does not matter here."""
    spec = LabelSpec(num_classes, ignore_label)
    bad_label = spec.is_outside(label)
    if bad_label.any():
        if not isinstance(image_name, str):  # a batch: the error is about its first bad image alone
            first = int(np.argmax(bad_label.reshape(len(label), -1).any(axis=1)))
            label, image_name = label[first], str(image_name[first])
        spec.check(label, image_name or "image", in_records=True)
    bad = (prediction < 0) | (prediction >= num_classes)
    values = np.unique(prediction[bad]).tolist()
    raise UserError(
        "prediction-out-of-range",
        f"predictions must be 0..{num_classes - 1}, not {shorten(values, 8)}",
        f"the model has more classes than the {num_classes} of this dataset: check `dataset` and `checkpoint_dir`",
        where=_named(image_name, bad),
        value=values,
    )


def _named(image_name: str | Sequence[str], where: np.ndarray | None = None) -> str:
    """Return the image name for a message: of a batch, the first with a true pixel in `where` (bool [B, H, W])."""
    if isinstance(image_name, str):
        return image_name or "image"
    if where is None:
        return ", ".join(map(str, image_name))
    return str(image_name[int(np.argmax(where.reshape(len(where), -1).any(axis=1)))])
