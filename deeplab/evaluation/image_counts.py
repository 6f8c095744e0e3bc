"""Counts per image: the IoU of every image, and bootstrap intervals of the split's IoU."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from deeplab.utils.text import harmless

CONFIDENCE = 0.95
RESAMPLES = 1000
SEED = 0
_CHUNK = 50  # resamples in memory at the same time


class Intervals(NamedTuple):
    """Lower and upper ends of bootstrap intervals over images.

    Attributes:
      mean_iou: float64 [2].
      image_mean_iou: float64 [2], of the mean IoU per image.
      class_iou: float64 [2, classes]; NaN for classes absent from the labels.
    """

    mean_iou: np.ndarray
    image_mean_iou: np.ndarray
    class_iou: np.ndarray


@dataclass(eq=False)
class ImageCounts:
    """Pixels per image and class, in the order in which images were added.

    Attributes:
      names: of the images.
      sums: per image, int64 [3, classes]: right predictions, labeled pixels, predicted pixels (at labeled pixels).
    """

    names: list[str] = field(default_factory=list)
    sums: list[np.ndarray] = field(default_factory=list)

    def add(self, name: str, counts: np.ndarray) -> None:
        """Add the confusion matrix of one image, int [classes, classes]."""
        self.names.append(name)
        self.sums.append(np.stack([np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)]))

    def iou(self) -> np.ndarray:
        """Return the IoU per image and class: float64 [images, classes]; NaN for classes absent from the label."""
        return _iou(np.stack(self.sums))

    def mean_iou(self) -> np.ndarray:
        """Return the mean IoU of the classes in each image's label: float64 [images]; NaN if all is ignored."""
        return _mean(self.iou())

    def intervals(self, resamples: int = RESAMPLES, seed: int = SEED) -> Intervals | None:
        """Return 95 % percentile intervals (Efron 1979): images are drawn with replacement, as many as there are.

        The mean IoU of a resample is over the classes that occur in its labels.

        Args:
          resamples: number of draws.
          seed: the same seed gives the same intervals.

        Returns:
          None for fewer than two images.
        """
        if len(self.names) < 2:
            return None
        found = [np.concatenate(parts) for parts in zip(*self._resampled(resamples, seed), strict=True)]
        tail = (1 - CONFIDENCE) / 2
        ends = [_quantiles(values, [tail, 1 - tail]) for values in found]
        present = np.sum(self.sums, axis=0)[1] > 0
        return Intervals(ends[0], ends[1], np.where(present, ends[2], np.nan))

    def _resampled(self, resamples: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield mean IoU [n], mean IoU per image [n] and IoU [n, classes] of some resamples after others."""
        sums, per_image = np.stack(self.sums).astype(np.float64), self.mean_iou()
        number, _, classes = sums.shape
        counted = np.isfinite(per_image)
        draw = np.random.default_rng(seed)
        for start in range(0, resamples, _CHUNK):
            times = draw.multinomial(number, np.full(number, 1 / number), min(_CHUNK, resamples - start)).astype(float)
            iou = _iou((times @ sums.reshape(number, -1)).reshape(-1, 3, classes))
            of_images = _ratio(times[:, counted] @ per_image[counted], times[:, counted].sum(axis=1))
            yield _mean(iou), of_images, iou

    def csv(self, class_names: Sequence[str]) -> str:
        """Format a table: per image its labeled pixels, pixel accuracy, mean IoU and IoU per class; empty for NaN."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(["image", "pixels", "pixel_accuracy", "mean_iou", *map(harmless, class_names)])
        for name, sums in zip(self.names, self.sums, strict=True):
            (hits, pixels), iou = sums.sum(axis=1)[:2], _iou(sums)
            values = [float(_ratio(hits, pixels)), float(_mean(iou)), *iou.tolist()]
            texts = ["" if np.isnan(value) else f"{value:.6f}" for value in values]
            writer.writerow([harmless(name), int(pixels), *texts])
        return buffer.getvalue()


def _iou(sums: np.ndarray) -> np.ndarray:
    """[..., 3, classes] -> [..., classes]; NaN where the class is not labeled."""
    hits, labeled, predicted = np.moveaxis(sums, -2, 0)
    return np.where(labeled > 0, _ratio(hits, labeled + predicted - hits), np.nan)


def _mean(iou: np.ndarray) -> np.ndarray:
    """Mean over the last axis without NaN; NaN if nothing else is there."""
    return _ratio(np.nansum(iou, axis=-1), np.isfinite(iou).sum(axis=-1))


def _quantiles(values: np.ndarray, at: list[float]) -> np.ndarray:
    """Quantiles over the first axis without NaN: [2, ...]."""
    columns = values.reshape(len(values), -1).T
    kept = [column[np.isfinite(column)] for column in columns]
    ends = [np.quantile(column, at) if column.size else np.full(len(at), np.nan) for column in kept]
    return np.stack(ends, axis=-1).reshape(len(at), *values.shape[1:])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)
