"""Metrics as pure functions of the confusion matrix.

All take `counts`: integers [classes, classes], rows = label, columns = prediction, in pixels, as in
`ConfusionMatrix.counts`. Metrics per class are float64 [classes] with NaN where the class has no such
metric; metrics of the whole split are a float, NaN if no pixel was counted.

There are two rules for the mean IoU. Ours averages over the classes that occur in the labels. The research
DeepLab's (`tf.metrics.mean_iou`) averages over the classes that occur in the labels or in the predictions, and
gives 0 if there are none. They differ for a class that is predicted but never labeled: we leave it out and
name it, the research DeepLab counts it as 0. Under both rules its pixels lower the IoU of the classes that
they belong to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from deeplab.utils.registry import Registry

# Metrics of the whole split and of each class by name; a report shows and stores all of them. To add one, register a
# function of the confusion matrix.
OVERALL: Registry[Callable[[np.ndarray], float]] = Registry("metric of the split")
PER_CLASS: Registry[Callable[[np.ndarray], np.ndarray]] = Registry("metric per class")


class Accumulator(Protocol):
    """A metric that needs the pixels of each image; made of the number of classes and the ignore label."""

    def add(self, label: np.ndarray, prediction: np.ndarray) -> None:
        """Add one image: integers [H, W], checked already."""

    def per_class(self) -> np.ndarray:
        """Return the metric per class over all images: float64 [classes]; NaN where a class has none."""


# Metrics that the setting `extra_metrics` adds; to add one, register an `Accumulator`.
ACCUMULATORS: Registry[Callable[[int, int], Accumulator]] = Registry("extra metric", field="extra_metrics")
ACCUMULATORS.register_lazily("boundary_iou", "deeplab.evaluation.boundary_iou")


@PER_CLASS.register("iou")
def class_iou(counts: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, 0..1; NaN for classes absent from the labels."""
    hits = np.diagonal(counts)
    iou = _ratio(hits, counts.sum(axis=1) + counts.sum(axis=0) - hits)
    return np.where(present_classes(counts), iou, np.nan)


@PER_CLASS.register("accuracy")
def class_accuracy(counts: np.ndarray) -> np.ndarray:
    """Recall: the fraction of each class's labeled pixels that was found, 0..1; NaN for absent classes."""
    return _ratio(np.diagonal(counts), counts.sum(axis=1))


@PER_CLASS.register("precision")
def class_precision(counts: np.ndarray) -> np.ndarray:
    """The fraction of each class's predicted pixels that is right, 0..1; NaN for classes never predicted."""
    return _ratio(np.diagonal(counts), counts.sum(axis=0))


def class_f_beta(counts: np.ndarray, beta: float) -> np.ndarray:
    """F-beta per class, 0..1: recall weighs beta times as much as precision; NaN for absent classes."""
    hits, weight = np.diagonal(counts), beta * beta
    score = _ratio((1 + weight) * hits, weight * counts.sum(axis=1) + counts.sum(axis=0))
    return np.where(present_classes(counts), score, np.nan)


@PER_CLASS.register("dice")
def class_dice(counts: np.ndarray) -> np.ndarray:
    """Dice coefficient per class (F-beta with beta 1), 0..1; NaN for absent classes."""
    return class_f_beta(counts, 1.0)


@PER_CLASS.register("f2")
def class_f2(counts: np.ndarray) -> np.ndarray:
    """F-beta with beta 2 per class (recall counts more), 0..1; NaN for absent classes."""
    return class_f_beta(counts, 2.0)


@PER_CLASS.register("label_fraction")
def label_fraction(counts: np.ndarray) -> np.ndarray:
    """Each class's fraction of all labeled pixels, 0..1; NaN when no pixel was counted."""
    return _ratio(counts.sum(axis=1), counts.sum())


@PER_CLASS.register("predicted_fraction")
def predicted_fraction(counts: np.ndarray) -> np.ndarray:
    """Each class's fraction of the predictions at labeled pixels, 0..1; NaN when no pixel was counted."""
    return _ratio(counts.sum(axis=0), counts.sum())


def present_classes(counts: np.ndarray) -> np.ndarray:
    """Tell which classes occur in the labels: bool [classes]."""
    return counts.sum(axis=1) > 0


@OVERALL.register("mean_iou")
def mean_iou(counts: np.ndarray) -> float:
    """Mean IoU of the classes that occur in the labels (the module's docstring compares the rules)."""
    return _mean(class_iou(counts)[present_classes(counts)])


@OVERALL.register("pixel_accuracy")
def pixel_accuracy(counts: np.ndarray) -> float:
    """The fraction of all labeled pixels with the right prediction."""
    return float(_ratio(np.trace(counts), counts.sum()))


@OVERALL.register("mean_accuracy")
def mean_accuracy(counts: np.ndarray) -> float:
    """Mean recall of the classes that occur in the labels."""
    return _mean(class_accuracy(counts)[present_classes(counts)])


@OVERALL.register("frequency_weighted_iou")
def frequency_weighted_iou(counts: np.ndarray) -> float:
    """Mean IoU with classes weighted by their label fraction (Long et al. 2015, section 5)."""
    present = present_classes(counts)
    if not present.any():
        return float("nan")
    return float((label_fraction(counts) * class_iou(counts))[present].sum())


@OVERALL.register("mean_dice")
def mean_dice(counts: np.ndarray) -> float:
    """Mean Dice coefficient of the classes that occur in the labels."""
    return _mean(class_dice(counts)[present_classes(counts)])


@OVERALL.register("kappa")
def kappa(counts: np.ndarray) -> float:
    """Cohen's kappa, -1..1: agreement beyond chance (Cohen 1960); NaN if label and prediction are one same class."""
    by_chance = float((label_fraction(counts) * predicted_fraction(counts)).sum())
    return (pixel_accuracy(counts) - by_chance) / (1 - by_chance) if by_chance < 1 else float("nan")


def row_fractions(counts: np.ndarray) -> np.ndarray:
    """Fractions of each label's predictions: float64 [classes, classes], rows sum to 1; NaN rows for absent classes."""
    return _ratio(counts, counts.sum(axis=1, keepdims=True))


def reference_class_iou(counts: np.ndarray) -> np.ndarray:
    """Per-class IoU as the research DeepLab reports it: NaN unless the class is labeled somewhere.

    The same as `class_iou`; the separate name keeps the reference's tags unchanged if ours change.
    """
    return class_iou(counts)


def reference_mean_iou(counts: np.ndarray) -> float:
    """Mean IoU as the research DeepLab reports it (the module's docstring compares the rules).

    The mean over classes that are labeled or predicted somewhere; a class that is only predicted counts as
    0, and the result is 0 when no pixel was counted.
    """
    hits = np.diagonal(counts)
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
