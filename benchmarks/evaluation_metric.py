"""The time to count one image: this project's confusion matrix compared with TensorFlow's and Keras'.

    python benchmarks/evaluation_metric.py [--size 513] [--classes 21] [--rounds 60]

All get the same labels (with ignored pixels) and predictions, in turn, so that other work on the machine slows all of
them, and must count the same. Takes ten seconds; the limit is 2 ms for an image of 513x513 pixels and 21 classes
(measured on two cores: 1.0 ms; `tf.math.confusion_matrix` 12 ms; Keras' `MeanIoU` 22 ms).
"""

from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
import tensorflow as tf

from deeplab.evaluation import ConfusionMatrix, metrics
from deeplab.utils import console

BOUND_MS, BOUND_CASE = 2.0, (513, 21)  # milliseconds for an image of that size and number of classes
IGNORE_LABEL = 255


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=513, help="height and width of the image in pixels")
    parser.add_argument("--classes", type=int, default=21, help="number of classes")
    parser.add_argument("--rounds", type=int, default=60, help="images each one counts")
    arguments = parser.parse_args()
    label, prediction = sample(arguments.size, arguments.classes)
    counters = counters_of(label, prediction, arguments.classes)
    agree(counters)
    medians = measure(counters, arguments.rounds)
    ours = next(iter(medians.values()))
    rows = [(name, f"{ms:.2f}", f"{ms / ours:.1f}") for name, ms in medians.items()]
    print(f"one image of {arguments.size}x{arguments.size} pixels, {arguments.classes} classes, {os.cpu_count()} cores")
    print(console.table(rows, ("counted by", "ms (median)", "times ours")))
    if (arguments.size, arguments.classes) == BOUND_CASE:
        print(f"bound: {BOUND_MS} ms, ours takes {ours / BOUND_MS:.0%} of it")


def sample(size: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The label of an image and its prediction: blobs of classes, a tenth of the pixels wrong, a twentieth ignored.

    Returns:
      label: uint8 [size, size], 0..classes-1 or 255.
      prediction: int32 [size, size], 0..classes-1.
    """
    draw = np.random.default_rng(0)
    coarse = draw.integers(0, classes, (size // 31 + 1, size // 31 + 1))
    label = np.kron(coarse, np.ones((31, 31), np.int64))[:size, :size]
    wrong, ignored = draw.random(label.shape) < 0.1, draw.random(label.shape) < 0.05
    prediction = np.where(wrong, draw.integers(0, classes, label.shape), label)
    return np.where(ignored, IGNORE_LABEL, label).astype(np.uint8), prediction.astype(np.int32)


def counters_of(label: np.ndarray, prediction: np.ndarray, classes: int) -> dict[str, Callable[[], float]]:
    """Functions that count the image once and give the mean IoU over all that they counted, ours first."""
    mine = ConfusionMatrix(classes, IGNORE_LABEL)
    keras_metric = keras.metrics.MeanIoU(classes, ignore_class=IGNORE_LABEL)
    total = tf.Variable(tf.zeros((classes, classes), tf.int64))
    label_tensor, prediction_tensor = tf.constant(label, tf.int32), tf.constant(prediction)

    @tf.function
    def add_by_tensorflow() -> None:
        counted = tf.not_equal(label_tensor, IGNORE_LABEL)
        total.assign_add(
            tf.math.confusion_matrix(
                tf.boolean_mask(label_tensor, counted),
                tf.boolean_mask(prediction_tensor, counted),
                classes,
                dtype=tf.int64,
            )
        )

    def ours() -> float:
        mine.add(label, prediction)
        return metrics.mean_iou(mine.counts)

    def by_tensorflow() -> float:
        add_by_tensorflow()
        return metrics.mean_iou(total.numpy())

    def by_keras() -> float:
        keras_metric.update_state(label_tensor, prediction_tensor)
        return float(keras_metric.result())

    return {
        "deeplab.evaluation.ConfusionMatrix": ours,
        "tf.math.confusion_matrix in a tf.function": by_tensorflow,
        "keras.metrics.MeanIoU": by_keras,
    }


def agree(counters: dict[str, Callable[[], float]]) -> None:
    """One round for warmth, and the proof that all count the same."""
    results = {name: count() for name, count in counters.items()}
    if not np.allclose(list(results.values()), next(iter(results.values())), atol=1e-6):
        sys.exit(f"error: the counters disagree: {results}")


def measure(counters: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each counter, taken in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in counters}
    for _ in console.progress(range(rounds), what="counting", unit="round"):
        for name, count in counters.items():
            start = time.perf_counter()
            count()
            seconds[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    main()
