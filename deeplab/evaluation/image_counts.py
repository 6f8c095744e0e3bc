"""Counts per image: the IoU of every image, groups of images, and the table `per_image.csv`."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deeplab.data.label_bits import MAX_CLASSES_8_BIT
from deeplab.evaluation import bootstrap
from deeplab.evaluation.bootstrap import RESAMPLES, SEED, Intervals
from deeplab.evaluation.cell_counts import CellCounts, margins_of
from deeplab.evaluation.metrics import Accumulator
from deeplab.utils.errors import UserError
from deeplab.utils.text import harmless

NO_GROUP = "(no match)"
_MAX_SUMS = 1_000_000  # images times classes whose sums are in memory at once


@dataclass(eq=False)
class ImageCounts:
    """Pixels per image and class, in the order in which images were added.

    Attributes:
      names: of the images.
      cells: per image, the numbers of the confusion matrix's cells that are not 0 (row * classes + column), ascending,
        and their counts: two int64 [n].
      uncertainties: per image, 1 minus the mean probability of the predicted class, 0..1; NaN where it is unknown.
      num_classes: number of classes; 0 before the first image.
    """

    names: list[str] = field(default_factory=list)
    cells: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    uncertainties: list[float] = field(default_factory=list)
    num_classes: int = 0

    def add(self, name: str, counts: np.ndarray | CellCounts, uncertainty: float = float("nan")) -> None:
        """Add the confusion matrix of one image, int [classes, classes]."""
        used = CellCounts.of(counts)
        self.names.append(name)
        self.cells.append(used.part)
        self.uncertainties.append(uncertainty)
        self.num_classes = used.num_classes

    @property
    def sums(self) -> np.ndarray:
        """Right predictions, labeled pixels and predicted pixels (at labeled ones): int64 [images, 3, classes]."""
        return margins_of(self.cells, self.num_classes)

    def counts_of(self, index: int) -> np.ndarray | CellCounts:
        """Return the confusion matrix of one image: int64 [classes, classes]; beyond 256 classes `CellCounts`."""
        counts = CellCounts(self.num_classes, *self.cells[index])
        return counts if self._is_sparse else np.asarray(counts)

    @property
    def _is_sparse(self) -> bool:
        return self.num_classes > MAX_CLASSES_8_BIT

    def extend(self, other: ImageCounts) -> None:
        """Add the images of another one."""
        for mine, theirs in zip(self._parts(), other._parts(), strict=True):
            mine.extend(theirs)
        self.num_classes = self.num_classes or other.num_classes

    def _parts(self) -> tuple[list[Any], ...]:
        return self.names, self.cells, self.uncertainties

    def subset(self, indices: Sequence[int]) -> ImageCounts:
        """Return the counts of some images."""
        names, cells, uncertainties = ([part[index] for index in indices] for part in self._parts())
        return ImageCounts(names, cells, uncertainties, self.num_classes)

    def total(self) -> np.ndarray | CellCounts:
        """Return the confusion matrix of all images: int64 [classes, classes]; beyond 256 classes `CellCounts`."""
        if self._is_sparse:
            return CellCounts.total(self.num_classes, self.cells)
        counts = np.zeros(self.num_classes**2, np.int64)
        for cells, numbers in self.cells:
            counts[cells] += numbers
        return counts.reshape(self.num_classes, self.num_classes)

    def groups(self, pattern: str) -> dict[str, list[int]]:
        """Return the images of each group, sorted by the group's name; images that match nothing come last.

        Args:
          pattern: regular expression that is searched in the image's name; the first group in parentheses names the
            image's group, or the whole match if it has none.

        Raises:
          UserError: it is no regular expression (`bad-pattern`).
        """
        expression = group_expression(pattern)
        found: dict[str, list[int]] = {}
        for index, name in enumerate(self.names):
            match = expression.search(name)
            key = NO_GROUP if match is None else (match[1] if expression.groups else match[0]) or NO_GROUP
            found.setdefault(key, []).append(index)
        return dict(sorted(found.items(), key=lambda item: (item[0] == NO_GROUP, item[0])))

    def iou(self) -> np.ndarray:
        """Return the IoU per image and class: float64 [images, classes]; NaN for classes absent from the label."""
        return _iou(self.sums)

    def mean_iou(self) -> np.ndarray:
        """Return the mean IoU of the classes in each image's label: float64 [images]; NaN if all is ignored."""
        return np.concatenate([np.zeros(0), *(_mean(_iou(sums)) for sums in self._sums_of_some())])

    def _sums_of_some(self) -> Iterator[np.ndarray]:
        """`sums` of some images after the other, so that memory does not grow with images times classes."""
        number = max(1, _MAX_SUMS // max(1, self.num_classes))
        for start in range(0, len(self.cells), number):
            yield margins_of(self.cells[start : start + number], self.num_classes)

    def intervals(
        self, resamples: int = RESAMPLES, seed: int = SEED, accumulators: Mapping[str, Accumulator] | None = None
    ) -> Intervals | None:
        """Return 95 % bootstrap intervals of the metrics; None for fewer than two images.

        Args:
          resamples: number of draws.
          seed: the same seed gives the same intervals.
          accumulators: metrics with statistics of the same images.
        """
        if len(self.names) < 2:
            return None
        found = bootstrap.resample(self, accumulators or {}, resamples, seed).intervals()
        present = np.zeros(self.num_classes, bool)
        for cells, _ in self.cells:
            present[cells // self.num_classes] = True
        return Intervals(found.overall, np.where(present, found.class_iou, np.nan))

    def csv(self, class_names: Sequence[str]) -> str:
        """Format a table: per image its labeled pixels, pixel accuracy, mean IoU and IoU per class; empty for NaN.

        With known uncertainties, they have a column as well.
        """
        with_uncertainty = bool(np.isfinite(self.uncertainties).any())
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        further = ["uncertainty"] if with_uncertainty else []
        writer.writerow(["image", "pixels", "pixel_accuracy", "mean_iou", *further, *map(harmless, class_names)])
        rows = zip(self.names, itertools.chain.from_iterable(self._sums_of_some()), self.uncertainties, strict=True)
        for name, sums, uncertainty in rows:
            (hits, pixels), iou = sums.sum(axis=1)[:2], _iou(sums)
            values = [float(_ratio(hits, pixels)), float(_mean(iou)), *([uncertainty] if further else [])]
            by_class = [""] * len(iou)
            for index in np.flatnonzero(~np.isnan(iou)).tolist():
                by_class[index] = f"{iou[index]:.6f}"
            texts = ["" if np.isnan(value) else f"{value:.6f}" for value in values]
            writer.writerow([harmless(name), int(pixels), *texts, *by_class])
        return buffer.getvalue()


def group_expression(pattern: str) -> re.Pattern[str]:
    """Compile the regular expression of `group_by`.

    Raises:
      UserError: it is none (`bad-pattern`).
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        rule, hint = f"{pattern!r} is not a regular expression: {error}", "for example: `group_by=^([a-z]+)_`"
        raise UserError("bad-pattern", rule, hint, field="group_by", value=pattern) from None


def _iou(sums: np.ndarray) -> np.ndarray:
    """[..., 3, classes] -> [..., classes]; NaN where the class is not labeled."""
    hits, labeled, predicted = np.moveaxis(sums, -2, 0)
    return np.where(labeled > 0, _ratio(hits, labeled + predicted - hits), np.nan)


def _mean(iou: np.ndarray) -> np.ndarray:
    """Mean over the last axis without NaN; NaN if nothing else is there."""
    return _ratio(np.nansum(iou, axis=-1), np.isfinite(iou).sum(axis=-1))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)
