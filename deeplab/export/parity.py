"""The proof that an exported file answers as the model does: the same pictures go through both.

The model is the network as it was trained, batch norm unfolded, in a `tf.function` through the one prediction of
`deeplab.inference`; the file is loaded anew. Labels must be equal in every pixel, except where the model itself was
undecided between two classes, and probabilities must agree within `MAX_DIFFERENCE`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from deeplab.inference import prediction
from deeplab.inference.prediction import LogitsOf, PredictionSettings
from deeplab.inference.runtimes.frozen_graph import Answer
from deeplab.utils import console
from slim import kernels

CLOSE = 1e-4  # of probability: pixels whose two best classes are nearer than this may fall to either
MAX_DIFFERENCE = 1e-3  # of probability


@dataclass(frozen=True)
class Expected:
    """What the model answers to one picture.

    Attributes:
      labels: int32 [H, W].
      probabilities: float32 [H, W, classes], 0..1.
      margin: float32 [H, W], by how much the best class leads the second where the decision was taken.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    margin: np.ndarray


@dataclass(frozen=True)
class Parity:
    """How a file's answer to one picture compares with the model's.

    Attributes:
      picture: its name.
      size: height, width in pixels.
      unequal: pixels with another label though the model was not undecided.
      close_calls: pixels with another label where it was.
      max_difference: largest difference of a probability.
    """

    picture: str
    size: tuple[int, int]
    unequal: int
    close_calls: int
    max_difference: float

    @property
    def holds(self) -> bool:
        """Whether the answers count as the same (a difference that is no number does not)."""
        return self.unequal == 0 and self.max_difference <= MAX_DIFFERENCE


def compare(
    expected: Iterable[tuple[str, np.ndarray, Expected]],
    answer: Callable[[np.ndarray], Answer],
) -> list[Parity]:
    """Holds a file's answers against the model's.

    Args:
      expected: name, pixels uint8 [H, W, C], and the model's answer (see `model_answers`) of every picture.
      answer: the file: uint8 [H, W, C] -> labels int32 [H, W], probabilities float32 [H, W, classes].
    """
    return [_compare_one(name, wanted, *answer(image)) for name, image, wanted in expected]


def _compare_one(name: str, expected: Expected, labels: np.ndarray, probabilities: np.ndarray | None) -> Parity:
    size = expected.labels.shape[:2]
    if labels.shape != size or probabilities is None or probabilities.shape != expected.probabilities.shape:
        return Parity(name, size, expected.labels.size, 0, float("nan"))
    differs = labels != expected.labels
    close = differs & (expected.margin < CLOSE)
    difference = np.abs(probabilities - expected.probabilities).max()
    return Parity(name, size, int((differs & ~close).sum()), int(close.sum()), float(difference))


def model_answers(logits_of: LogitsOf, settings: PredictionSettings) -> Callable[[np.ndarray], Expected]:
    """The model as a function of pictures uint8 [H, W, C], traced once for all sizes."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, settings.model.input_channels], tf.uint8)])
    def traced(image):
        seen: list[tf.Tensor] = []

        def remember(pixels):
            seen.append(logits_of(pixels))
            return seen[-1]

        answer = prediction.predict_image(remember, image, settings)
        size = prediction.prepare(image, settings).size
        margin = _margin(answer, seen, settings)
        original = tf.shape(image)[:2] if settings.resize.min_resize_value else None
        return answer.labels, answer.probabilities, prediction.restore_labels(margin, size, original)

    return lambda image: Expected(*(part.numpy() for part in traced(tf.constant(image))))


def _margin(answer: prediction.Prediction, logits: Sequence[tf.Tensor], settings: PredictionSettings) -> tf.Tensor:
    """Best minus second-best probability at the padded size, where the label was decided: float32 [h, w]."""
    if settings.one_pass and not settings.model.prediction_with_upsampled_logits:
        coarse = _lead(tf.nn.softmax(logits[0]))[..., tf.newaxis]
        size = tf.shape(answer.raw_labels)
        return kernels.resize_nearest(coarse, size[0], size[1])[0, ..., 0]
    return _lead(answer.raw_probabilities)


def _lead(probabilities: tf.Tensor) -> tf.Tensor:
    best = tf.math.top_k(probabilities, k=2).values
    return best[..., 0] - best[..., 1]


def table(results: Mapping[str, Sequence[Parity]]) -> str:
    """The comparisons as text.

    Args:
      results: the format's name -> its comparisons.
    """
    rows = [
        (kind, one.picture, f"{one.size[0]}x{one.size[1]}", one.unequal, one.close_calls, f"{one.max_difference:.6f}")
        for kind, ones in results.items()
        for one in ones
    ]
    header = ("file", "picture", "size", "pixels unequal", "undecided", "largest difference")
    return console.table(rows, header)
