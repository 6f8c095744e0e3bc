"""Bootstrap over images: intervals of every metric, and of the difference between two models on the same images.

Images are drawn with replacement, as many as there are (Efron 1979); a resample's metric is that of its summed counts.
Reports call it; it knows neither files nor models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deeplab.data.label_bits import MAX_CLASSES_8_BIT
from deeplab.evaluation import metrics, sparse_sums
from deeplab.evaluation.cell_counts import CellCounts
from deeplab.evaluation.sparse_sums import SparseSums

if TYPE_CHECKING:
    from deeplab.evaluation.image_counts import ImageCounts

CONFIDENCE = 0.95
RESAMPLES = 1000
SEED = 0
_CHUNK = 50  # resamples that are drawn at once


@dataclass(frozen=True)
class Intervals:
    """Lower and upper ends of intervals.

    Attributes:
      overall: float64 [2] of each metric of the split by name, `image_mean_iou` among them.
      class_iou: float64 [2, classes]; NaN for classes absent from the labels.
    """

    overall: Mapping[str, np.ndarray]
    class_iou: np.ndarray

    @property
    def mean_iou(self) -> np.ndarray:
        """float64 [2]."""
        return self.overall["mean_iou"]

    @property
    def image_mean_iou(self) -> np.ndarray:
        """float64 [2], of the mean IoU per image."""
        return self.overall["image_mean_iou"]


@dataclass(frozen=True)
class Resampled:
    """Metrics of resamples.

    Attributes:
      overall: float64 [resamples] of each metric of the split by name.
      class_iou: float64 [resamples, classes]; NaN where the class is not labeled in the resample.
    """

    overall: Mapping[str, np.ndarray]
    class_iou: np.ndarray

    def intervals(self) -> Intervals:
        """95 % percentile intervals."""
        return Intervals({name: _ends(values) for name, values in self.overall.items()}, _ends(self.class_iou))

    def minus(self, other: Resampled) -> Resampled:
        """Differences, resample by resample; both must come from the same images and the same seed."""
        both = [name for name in self.overall if name in other.overall]
        overall = {name: self.overall[name] - other.overall[name] for name in both}
        return Resampled(overall, self.class_iou - other.class_iou)


def resample(
    images: ImageCounts,
    accumulators: Mapping[str, metrics.Accumulator],
    resamples: int = RESAMPLES,
    seed: int = SEED,
    only: Sequence[str] | None = None,
) -> Resampled:
    """Measure resamples of the images.

    Args:
      images: counts per image, at least one.
      accumulators: metrics with statistics of the same images.
      resamples: number of draws.
      seed: the same seed and number of images give the same draws.
      only: names in `metrics.OVERALL`; None = all.
    """
    number = len(images.names)
    times = draw(number, resamples, seed)
    overall: dict[str, np.ndarray] = {"image_mean_iou": _of_images(times, images.mean_iou())}
    counts = counted(images, times)
    functions = {name: metrics.OVERALL.get(name) for name in (metrics.OVERALL if only is None else only)}
    found = [(metrics.class_iou(one), [function(one) for function in functions.values()]) for one in counts]
    values = np.array([row for _, row in found]).reshape(resamples, len(functions))
    overall |= dict(zip(functions, values.T, strict=True))
    for metric in accumulators.values():
        rows = [metric.overall(total) for total in _totals(metric.statistics, times)]
        overall |= {name: np.array([row[name] for row in rows]) for name in metric.overall()}
    return Resampled(overall, np.stack([iou for iou, _ in found]))


def draw(number: int, resamples: int, seed: int) -> np.ndarray:
    """Return how often each image is in each resample: float64 [resamples, number]."""
    random = np.random.default_rng(seed)
    sizes = [min(_CHUNK, resamples - start) for start in range(0, resamples, _CHUNK)]
    even = np.full(number, 1 / number)
    return np.concatenate([random.multinomial(number, even, size) for size in sizes]).astype(np.float64)


def counted(images: ImageCounts, times: np.ndarray) -> Iterator[np.ndarray | CellCounts]:
    """Yield the confusion matrix of each resample: int64 [classes, classes]; beyond 256 classes `CellCounts`.

    Args:
      images: counts per image.
      times: float64 [resamples, images].
    """
    classes = images.num_classes
    used = sparse_sums.used_cells(images.cells)
    if classes <= MAX_CLASSES_8_BIT:
        for row in sparse_sums.weighted(images.cells, times, used).T:
            counts = np.zeros(classes * classes, np.int64)
            counts[used] = row
            yield counts.reshape(classes, classes)
    else:
        for sums in sparse_sums.resampled(images.cells, times, used):
            yield from _sparse(classes, used, sums)


def _totals(statistics: Sequence[np.ndarray | SparseSums], times: np.ndarray) -> Iterator[np.ndarray]:
    """The sums of each resample of an accumulator's statistics: float64 of their shape."""
    parts = [one.part for one in statistics if isinstance(one, SparseSums)]
    shape = statistics[0].shape
    if len(parts) < len(statistics):
        stacked = np.stack([np.asarray(one) for one in statistics])
        yield from (times @ stacked.reshape(len(stacked), -1)).reshape(len(times), *shape)
        return
    used = sparse_sums.used_cells(parts)
    for sums in sparse_sums.resampled(parts, times, used):
        for row in sums.T:
            total = np.zeros(shape)
            total.reshape(-1)[used] = row
            yield total


def _sparse(classes: int, used: np.ndarray, sums: np.ndarray) -> Iterator[CellCounts]:
    """The confusion matrices of resamples from their sums, int64 [cells, resamples]."""
    margins = np.zeros((3, classes, sums.shape[1]), np.int64)
    row, column = np.divmod(used, classes)
    right = row == column
    margins[0, row[right]] = sums[right]
    for number, index in enumerate((row, column), start=1):
        order = np.argsort(index, kind="stable")
        starts = np.flatnonzero(np.diff(index[order], prepend=-1))
        if len(starts):
            margins[number, index[order][starts]] = np.add.reduceat(sums[order], starts, axis=0)
    margins = np.ascontiguousarray(np.moveaxis(margins, -1, 0))
    for numbers, own in zip(sums.T, margins, strict=True):
        yield CellCounts(classes, used, numbers, own)


def _of_images(times: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Means over the drawn images that have a value: [resamples]."""
    counted = np.isfinite(values)
    weights = times[:, counted].sum(axis=1)
    means = np.full(len(times), np.nan)
    return np.divide(times[:, counted] @ values[counted], weights, out=means, where=weights > 0)


def _ends(values: np.ndarray) -> np.ndarray:
    """Ends of the intervals of each column, without NaN: [2, ...]."""
    tail = (1 - CONFIDENCE) / 2
    columns = values.reshape(len(values), -1).T
    kept = [column[np.isfinite(column)] for column in columns]
    ends = [np.quantile(column, [tail, 1 - tail]) if column.size else np.full(2, np.nan) for column in kept]
    return np.stack(ends, axis=-1).reshape(2, *values.shape[1:])
