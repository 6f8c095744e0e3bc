"""Metrics as pure functions of the confusion matrix.

All take `counts`: integers [classes, classes], rows = label, columns = prediction, in pixels, as in
`ConfusionMatrix.counts`; beyond 256 classes `CellCounts`, which can be used like an array. Metrics per class are
float64 [classes] with NaN where the class has no such metric; metrics of the whole split are a float, NaN if no pixel
was counted.

There are two rules for the mean IoU. Ours averages over the classes that occur in the labels. The research
DeepLab's (`tf.metrics.mean_iou`) averages over the classes that occur in the labels or in the predictions, and
gives 0 if there are none. They differ for a class that is predicted but never labeled: we leave it out and
name it, the research DeepLab counts it as 0. Under both rules its pixels lower the IoU of the classes that
they belong to.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deeplab.data.class_names import MANY_CLASSES
from deeplab.data.label_bits import MAX_CLASSES_8_BIT
from deeplab.evaluation.cell_counts import CellCounts
from deeplab.evaluation.sparse_sums import SparseSums, added
from deeplab.utils.errors import UserError, nearest
from deeplab.utils.registry import Registry

Counts = np.ndarray | CellCounts

# Metrics of the whole split and of each class by name; a report shows and stores all of them. To add one, register a
# function of the confusion matrix.
OVERALL: Registry[Callable[[Counts], float]] = Registry("metric of the split")
PER_CLASS: Registry[Callable[[Counts], np.ndarray]] = Registry("metric per class")


class Accumulator(abc.ABC):
    """A metric that needs the pixels of each image: what it measures per image adds up over images.

    Sums over any choice of images give the metric of that choice, which is how bootstrap intervals, groups and several
    processes work. Ignored pixels count nowhere (`tests/support/accumulator_battery.py` checks it).

    Args:
      num_classes: number of classes.
      ignore_label: label value of pixels that do not count.

    Attributes:
      needs_confidence: whether `measure` needs the probability of the predicted class.
      statistics: what was measured, one array per image, all of one shape; integers are `SparseSums` beyond 256
        classes, so that memory depends on the classes that occur.
    """

    needs_confidence = False

    def __init__(self, num_classes: int, ignore_label: int):
        self.num_classes, self.ignore_label = num_classes, ignore_label
        self.statistics: list[np.ndarray | SparseSums] = []

    @abc.abstractmethod
    def measure(self, label: np.ndarray, prediction: np.ndarray, confidence: np.ndarray | None) -> np.ndarray:
        """Measure one image.

        Args:
          label, prediction: integers [H, W], checked already.
          confidence: float32 [H, W], 0..1, the probability of the predicted class; None unless it is needed.

        Returns:
          Sums that add up over images, always of the same shape.
        """

    @abc.abstractmethod
    def per_class(self, total: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return metrics per class by name: float64 [classes]; NaN where a class has none.

        Args:
          total: a sum of `statistics`; None = the sum of all.
        """

    def overall(self, total: np.ndarray | None = None) -> dict[str, float]:
        """Return metrics of the whole split by name; by default the means of those per class."""
        return {f"mean_{name}": mean_of_known(values) for name, values in self.per_class(total).items()}

    def details(self) -> dict[str, Any]:
        """Return what else `metrics.json` and the report show, in the types of JSON."""
        return {}

    def add(self, label: np.ndarray, prediction: np.ndarray, confidence: np.ndarray | None = None) -> None:
        """Add one image; arguments as in `measure`."""
        found = self.measure(label, prediction, confidence)
        is_sparse = self.num_classes > MAX_CLASSES_8_BIT and found.dtype.kind in "iu"
        self.statistics.append(SparseSums.of(found) if is_sparse else found)

    def total(self) -> np.ndarray:
        """Return the sum of all images' statistics."""
        pixel = np.full((1, 1), self.ignore_label)
        empty = self.measure(pixel, np.zeros_like(pixel), np.zeros((1, 1), np.float32))
        parts = [one.part for one in self.statistics if isinstance(one, SparseSums)]
        dense = [one for one in self.statistics if not isinstance(one, SparseSums)]
        return added(np.sum([empty, *dense], axis=0), parts) if parts else np.sum([empty, *dense], axis=0)


# Metrics that the settings `metrics` and `extra_metrics` name; to add one, register a subclass of `Accumulator`.
ACCUMULATORS: Registry[Callable[[int, int], Accumulator]] = Registry("extra metric", field="extra_metrics")
for _name in ("boundary_iou", "trimap_iou", "calibration", "object_size"):
    ACCUMULATORS.register_lazily(_name, f"deeplab.evaluation.{_name}")


def choose(names: Sequence[str], extra: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the metrics that a report shows, and the accumulators among them.

    Args:
      names: names of metrics; none = all that are functions of the confusion matrix.
      extra: names of accumulators to add.

    Raises:
      UserError: there is no such metric (`unknown-name`).
    """
    plain = [*OVERALL, *PER_CLASS]
    for name in names:
        if name not in plain and name not in ACCUMULATORS:
            hint = nearest(name, [*plain, *ACCUMULATORS])
            raise UserError("unknown-name", f"there is no metric called {name!r}", hint, field="metrics", value=name)
    for name in extra:
        ACCUMULATORS.get(name)
    chosen = list(dict.fromkeys([*(names or plain), *extra]))
    return chosen, [name for name in chosen if name in ACCUMULATORS]


@PER_CLASS.register("iou")
def class_iou(counts: Counts) -> np.ndarray:
    """Intersection over union of each class, 0..1; NaN for classes absent from the labels."""
    hits = counts.diagonal()
    iou = _ratio(hits, counts.sum(axis=1) + counts.sum(axis=0) - hits)
    return np.where(present_classes(counts), iou, np.nan)


@PER_CLASS.register("accuracy")
def class_accuracy(counts: Counts) -> np.ndarray:
    """Recall: the fraction of each class's labeled pixels that was found, 0..1; NaN for absent classes."""
    return _ratio(counts.diagonal(), counts.sum(axis=1))


@PER_CLASS.register("precision")
def class_precision(counts: Counts) -> np.ndarray:
    """The fraction of each class's predicted pixels that is right, 0..1; NaN for classes never predicted."""
    return _ratio(counts.diagonal(), counts.sum(axis=0))


def class_f_beta(counts: Counts, beta: float) -> np.ndarray:
    """F-beta per class, 0..1: recall weighs beta times as much as precision; NaN for absent classes."""
    hits, weight = counts.diagonal(), beta * beta
    score = _ratio((1 + weight) * hits, weight * counts.sum(axis=1) + counts.sum(axis=0))
    return np.where(present_classes(counts), score, np.nan)


@PER_CLASS.register("dice")
def class_dice(counts: Counts) -> np.ndarray:
    """Dice coefficient per class (F-beta with beta 1), 0..1; NaN for absent classes."""
    return class_f_beta(counts, 1.0)


@PER_CLASS.register("f2")
def class_f2(counts: Counts) -> np.ndarray:
    """F-beta with beta 2 per class (recall counts more), 0..1; NaN for absent classes."""
    return class_f_beta(counts, 2.0)


@PER_CLASS.register("label_fraction")
def label_fraction(counts: Counts) -> np.ndarray:
    """Each class's fraction of all labeled pixels, 0..1; NaN when no pixel was counted."""
    return _ratio(counts.sum(axis=1), counts.sum())


@PER_CLASS.register("predicted_fraction")
def predicted_fraction(counts: Counts) -> np.ndarray:
    """Each class's fraction of the predictions at labeled pixels, 0..1; NaN when no pixel was counted."""
    return _ratio(counts.sum(axis=0), counts.sum())


def present_classes(counts: Counts) -> np.ndarray:
    """Tell which classes occur in the labels: bool [classes]."""
    return counts.sum(axis=1) > 0


@OVERALL.register("mean_iou")
def mean_iou(counts: Counts) -> float:
    """Mean IoU of the classes that occur in the labels (the module's docstring compares the rules)."""
    return _mean(class_iou(counts)[present_classes(counts)])


@OVERALL.register("pixel_accuracy")
def pixel_accuracy(counts: Counts) -> float:
    """The fraction of all labeled pixels with the right prediction."""
    return float(_ratio(np.asarray(counts.trace()), counts.sum()))


@OVERALL.register("mean_accuracy")
def mean_accuracy(counts: Counts) -> float:
    """Mean recall of the classes that occur in the labels."""
    return _mean(class_accuracy(counts)[present_classes(counts)])


@OVERALL.register("frequency_weighted_iou")
def frequency_weighted_iou(counts: Counts) -> float:
    """Mean IoU with classes weighted by their label fraction (Long et al. 2015, section 5)."""
    present = present_classes(counts)
    if not present.any():
        return float("nan")
    return float((label_fraction(counts) * class_iou(counts))[present].sum())


@OVERALL.register("mean_dice")
def mean_dice(counts: Counts) -> float:
    """Mean Dice coefficient of the classes that occur in the labels."""
    return _mean(class_dice(counts)[present_classes(counts)])


@OVERALL.register("kappa")
def kappa(counts: Counts) -> float:
    """Cohen's kappa, -1..1: agreement beyond chance (Cohen 1960); NaN if label and prediction are one same class."""
    by_chance = float((label_fraction(counts) * predicted_fraction(counts)).sum())
    return (pixel_accuracy(counts) - by_chance) / (1 - by_chance) if by_chance < 1 else float("nan")


def row_fractions(counts: np.ndarray) -> np.ndarray:
    """Fractions of each label's predictions: float64 [classes, classes], rows sum to 1; NaN rows for absent classes."""
    return _ratio(counts, counts.sum(axis=1, keepdims=True))


def reference_class_iou(counts: Counts) -> np.ndarray:
    """Per-class IoU as the research DeepLab reports it: NaN unless the class is labeled somewhere.

    The same as `class_iou`; the separate name keeps the reference's tags unchanged if ours change.
    """
    return class_iou(counts)


def reference_mean_iou(counts: Counts) -> float:
    """Mean IoU as the research DeepLab reports it (the module's docstring compares the rules).

    The mean over classes that are labeled or predicted somewhere; a class that is only predicted counts as
    0, and the result is 0 when no pixel was counted.
    """
    hits = counts.diagonal()
    union = counts.sum(axis=1) + counts.sum(axis=0) - hits
    return float(np.mean(hits[union > 0] / union[union > 0])) if (union > 0).any() else 0.0


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where whole is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def mean_of_known(values: np.ndarray) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    return _mean(values[np.isfinite(values)])


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


_MAX_CONDENSED = 60  # classes whose confusions are drawn, of more than MANY_CLASSES


def condensed(counts: Counts, names: Sequence[str]) -> tuple[np.ndarray, list[str], np.ndarray]:
    """The classes of a confusion matrix that can be drawn: all, or of more than 160 the most confused ones.

    Args:
      counts: int64 [classes, classes].
      names: one per class.

    Returns:
      Counts, names with their numbers, and the classes' numbers. Of more than 160 classes, these are the 60 with the
      most wrong pixels, as label or prediction, in the order of the classes; the last row and column, whose number is
      -1, are the sums over all others.
    """
    number = len(names)
    if number <= MANY_CLASSES:
        return np.asarray(counts), [f"{name} {index}" for index, name in enumerate(names)], np.arange(number)
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    kept = np.sort(np.argsort(-wrong, kind="stable")[:_MAX_CONDENSED])
    places = np.full(number, len(kept))
    places[kept] = np.arange(len(kept))
    used, side = CellCounts.of(counts), len(kept) + 1
    row, column = np.divmod(used.cells, number)
    found = np.bincount(places[row] * side + places[column], used.numbers, side * side).astype(np.int64)
    shown = [*(f"{names[index]} {index}" for index in kept), f"{number - len(kept)} other classes"]
    return found.reshape(side, side), shown, np.append(kept, -1)


def best_and_worst(iou: np.ndarray, limit: int) -> np.ndarray:
    """Numbers of the classes with the highest and with the lowest IoU, `limit` in all, best first; absent ones last.

    All classes if they are not more than `limit`; else those without an IoU are left out.
    """
    order = np.argsort(np.where(np.isnan(iou), np.inf, -iou), kind="stable")
    if len(order) <= limit:
        return order
    present = order[: np.count_nonzero(~np.isnan(iou))]
    if len(present) <= limit:
        return present
    return np.concatenate([present[: limit - limit // 2], present[len(present) - limit // 2 :]])
