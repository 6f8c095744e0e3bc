"""Counts per image: the IoU of every image, groups of images, and the table `per_image.csv`."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deeplab.evaluation import bootstrap
from deeplab.evaluation.bootstrap import RESAMPLES, SEED, Intervals
from deeplab.evaluation.metrics import Accumulator
from deeplab.utils.errors import UserError
from deeplab.utils.text import harmless

NO_GROUP = "(no match)"


@dataclass(eq=False)
class ImageCounts:
    """Pixels per image and class, in the order in which images were added.

    Attributes:
      names: of the images.
      sums: per image, int64 [3, classes]: right predictions, labeled pixels, predicted pixels (at labeled pixels).
      cells: per image, the numbers of the confusion matrix's cells that are not 0 (row * classes + column), ascending,
        and their counts: two int64 [n].
      uncertainties: per image, 1 minus the mean probability of the predicted class, 0..1; NaN where it is unknown.
    """

    names: list[str] = field(default_factory=list)
    sums: list[np.ndarray] = field(default_factory=list)
    cells: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    uncertainties: list[float] = field(default_factory=list)

    def add(self, name: str, counts: np.ndarray, uncertainty: float = float("nan")) -> None:
        """Add the confusion matrix of one image, int [classes, classes]."""
        self.names.append(name)
        self.sums.append(np.stack([np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)]))
        (used,) = np.nonzero(counts.ravel())
        self.cells.append((used, counts.ravel()[used].astype(np.int64)))
        self.uncertainties.append(uncertainty)

    @property
    def num_classes(self) -> int:
        """Number of classes; of at least one image."""
        return self.sums[0].shape[1]

    def counts_of(self, index: int) -> np.ndarray:
        """Return the confusion matrix of one image: int64 [classes, classes]."""
        counts = np.zeros(self.num_classes**2, np.int64)
        cells, numbers = self.cells[index]
        counts[cells] = numbers
        return counts.reshape(self.num_classes, self.num_classes)

    def extend(self, other: ImageCounts) -> None:
        """Add the images of another one."""
        for mine, theirs in zip(self._parts(), other._parts(), strict=True):
            mine.extend(theirs)

    def _parts(self) -> tuple[list[Any], ...]:
        return self.names, self.sums, self.cells, self.uncertainties

    def subset(self, indices: Sequence[int]) -> ImageCounts:
        """Return the counts of some images."""
        return ImageCounts(*([part[index] for index in indices] for part in self._parts()))  # type: ignore[arg-type]

    def total(self) -> np.ndarray:
        """Return the confusion matrix of all images: int64 [classes, classes]."""
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
        return _iou(np.stack(self.sums))

    def mean_iou(self) -> np.ndarray:
        """Return the mean IoU of the classes in each image's label: float64 [images]; NaN if all is ignored."""
        return _mean(self.iou())

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
        present = np.sum(self.sums, axis=0)[1] > 0
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
        for name, sums, uncertainty in zip(self.names, self.sums, self.uncertainties, strict=True):
            (hits, pixels), iou = sums.sum(axis=1)[:2], _iou(sums)
            values = [
                float(_ratio(hits, pixels)),
                float(_mean(iou)),
                *([uncertainty] if further else []),
                *iou.tolist(),
            ]
            texts = ["" if np.isnan(value) else f"{value:.6f}" for value in values]
            writer.writerow([harmless(name), int(pixels), *texts])
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
