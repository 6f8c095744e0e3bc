"""The check that an exported file predicts the same as the model: the same images go through both.

The model is used as it was trained, batch norm unfolded, in a `tf.function` through `deeplab.inference.prediction`; the
file is loaded from the disk. Labels must be equal in every pixel, except where the model itself was undecided between
two classes, and probabilities must agree within `MAX_DIFFERENCE`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from deeplab.inference import prediction
from deeplab.inference.prediction import LogitsOf, PredictionSettings, TensorPrediction
from deeplab.inference.predictor import Prediction
from deeplab.utils import console
from slim import kernels

CLOSE = 1e-4  # of probability: pixels whose two best classes are closer than this may get either label
MAX_DIFFERENCE = 1e-3  # of probability


@dataclass(frozen=True)
class Expected:
    """The model's prediction for one image.

    Attributes:
      labels: int32 [H, W].
      probabilities: float32 [H, W, classes], 0..1.
      margin: float32 [H, W], probability of the best class minus that of the second, where the label is decided.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    margin: np.ndarray


@dataclass(frozen=True)
class Parity:
    """How a file's prediction for one image compares with the model's.

    Attributes:
      image: its name.
      size: height, width in pixels.
      unequal: pixels with another label where the model was not undecided.
      close_calls: pixels with another label where it was undecided.
      max_difference: largest difference of a probability; None for a file without probabilities.
    """

    image: str
    size: tuple[int, int]
    unequal: int
    close_calls: int
    max_difference: float | None

    @property
    def holds(self) -> bool:
        """Whether the predictions count as equal (a difference of NaN does not)."""
        return self.unequal == 0 and (self.max_difference is None or self.max_difference <= MAX_DIFFERENCE)

    @property
    def shown_difference(self) -> str:
        """`max_difference` as text."""
        return "-" if self.max_difference is None else f"{self.max_difference:.6f}"


def compare(
    expected: Iterable[tuple[str, np.ndarray, Expected]],
    predict: Callable[[np.ndarray], Prediction],
    has_probabilities: bool = True,
) -> list[Parity]:
    """Compares a file's predictions with the model's.

    Args:
      expected: name, pixels [H, W, C], and the model's prediction (see `model_predictions`) of every image.
      predict: the file: [H, W, C] -> labels int32 [H, W], probabilities float32 [H, W, classes].
      has_probabilities: whether the file must have probabilities; else its labels alone are compared.
    """
    return [_compare_one(name, wanted, *predict(image), has_probabilities) for name, image, wanted in expected]


def _compare_one(
    name: str, expected: Expected, labels: np.ndarray, probabilities: np.ndarray | None, has_probabilities: bool
) -> Parity:
    size = expected.labels.shape[:2]
    if labels.shape != size:
        return Parity(name, size, expected.labels.size, 0, float("nan"))
    differs = labels != expected.labels
    close = differs & (expected.margin < CLOSE)
    unequal, close_calls = int((differs & ~close).sum()), int(close.sum())
    if probabilities is None and not has_probabilities:
        return Parity(name, size, unequal, close_calls, None)
    if probabilities is None or probabilities.shape != expected.probabilities.shape:
        return Parity(name, size, unequal, close_calls, float("nan"))
    return Parity(name, size, unequal, close_calls, float(np.abs(probabilities - expected.probabilities).max()))


def agreement(comparisons: Sequence[Parity]) -> float:
    """Return the fraction of all pixels with the model's label, 0..1."""
    pixels = sum(one.size[0] * one.size[1] for one in comparisons)
    return 1 - sum(one.unequal + one.close_calls for one in comparisons) / max(1, pixels)


def model_predictions(logits_of: LogitsOf, settings: PredictionSettings) -> Callable[[np.ndarray], Expected]:
    """Return the model as a function of images [H, W, C], traced once for all sizes."""

    dtype = tf.as_dtype(settings.model.input_dtype)

    @tf.function(input_signature=[tf.TensorSpec([None, None, settings.model.input_channels], dtype)])
    def traced(image):
        seen: list[tf.Tensor] = []

        def remember(pixels):
            seen.append(logits_of(pixels))
            return seen[-1]

        predicted = prediction.predict_image(remember, image, settings)
        size = prediction.prepare(image, settings).size
        margin = _margin(predicted, seen, settings)
        original = tf.shape(image)[:2] if settings.resize.min_resize_value else None
        return predicted.labels, predicted.probabilities, prediction.restore_labels(margin, size, original)

    return lambda image: Expected(*(part.numpy() for part in traced(tf.constant(image))))


def _margin(predicted: TensorPrediction, logits: Sequence[tf.Tensor], settings: PredictionSettings) -> tf.Tensor:
    """Best minus second-best probability at the padded size, where the label was decided: float32 [h, w]."""
    if settings.one_pass and not settings.model.prediction_with_upsampled_logits:
        coarse = _lead(tf.nn.softmax(logits[0]))[..., tf.newaxis]
        size = tf.shape(predicted.raw_labels)
        return kernels.resize_nearest(coarse, size[0], size[1])[0, ..., 0]
    return _lead(predicted.raw_probabilities)


def _lead(probabilities: tf.Tensor) -> tf.Tensor:
    best = tf.math.top_k(probabilities, k=2).values
    return best[..., 0] - best[..., 1]


def table(results: Mapping[str, Sequence[Parity]]) -> str:
    """Return the comparisons as text.

    Args:
      results: file name -> its comparisons.
    """
    rows = [
        (file, one.image, f"{one.size[0]}x{one.size[1]}", one.unequal, one.close_calls, one.shown_difference)
        for file, ones in results.items()
        for one in ones
    ]
    header = ("file", "image", "size", "pixels unequal", "undecided", "largest difference")
    return console.table(rows, header)
