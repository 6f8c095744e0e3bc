"""The time that the loss takes in a training step, compared with TensorFlow's fused operations.

    python benchmarks/losses.py [--batch 4] [--crop 257] [--rounds 20]

Prints, for each number of classes, the median milliseconds of upsampling, loss and gradient: with a plain sum instead
of a loss (the lower bound: the time of resizing), with this project's loss, and with the two fused operations. All
variants take turns in one run, so that other work on the machine slows all of them.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
import tensorflow as tf

from deeplab import losses
from deeplab.losses import cross_entropy, pixelwise
from deeplab.utils import console

IGNORE = 255
PixelValues = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # logits [B, H, W, C], labels [B, H, W] -> [B, H, W]


def only_a_sum(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    del labels
    return tf.reduce_sum(logits, axis=-1)


def fused_sparse(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.maximum(labels, 0), logits=logits)


def fused_one_hot(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    one_hot = tf.stop_gradient(tf.one_hot(labels, logits.shape[-1]))
    return tf.nn.softmax_cross_entropy_with_logits(labels=one_hot, logits=logits)


VARIANTS: dict[str, PixelValues] = {
    "only_a_sum": only_a_sum,  # the bound
    "deeplab": cross_entropy.cross_entropy,
    "fused_one_hot": fused_one_hot,
    "fused_sparse": fused_sparse,
}


def batch(size: int, crop: int, features: int, classes: int) -> tuple[tf.Tensor, tf.Tensor]:
    """float32 logits [size, features, features, classes] and int32 labels [size, crop, crop], some ignored."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, classes, (size, crop, crop)).astype(np.int32)
    labels[:, : crop // 10] = IGNORE
    return tf.constant(draw.normal(0, 3, (size, features, features, classes)), tf.float32), tf.constant(labels)


def gradient_step(loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> Callable:
    @tf.function(autograph=False)
    def step(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(logits, labels)
        return tape.gradient(value, logits)

    return step


def steps(classes: int) -> dict[str, Callable]:
    """Every variant in the same frame of upsampling, weighting and averaging; and the dearer settings."""
    settings: dict[str, dict] = {name: {} for name in VARIANTS}
    settings["deeplab, label weights"] = {"label_weights": [1.0] * classes}
    settings["deeplab, hardest quarter"] = {"top_k_percent_pixels": 0.25}
    return {
        name: gradient_step(losses.get(name.split(",")[0], ignore_label=IGNORE, **given).value)
        for name, given in settings.items()
    }


def medians(functions: dict[str, Callable], logits: tf.Tensor, labels: tf.Tensor, rounds: int) -> dict[str, float]:
    """Median milliseconds of each function; one call of each per round, after two to warm up."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds + 2):
        for name, function in functions.items():
            start = time.perf_counter()
            function(logits, labels).numpy()
            if turn > 1:
                times[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=4, help="images a step")
    parser.add_argument("--crop", type=int, default=257, help="crop height and width in pixels")
    parser.add_argument("--rounds", type=int, default=20, help="measurements a variant")
    options = parser.parse_args()
    features = (options.crop - 1) // 4 + 1
    for name, variant in VARIANTS.items():
        pixelwise.pixel_loss(name)(variant)
    for classes in (3, 21):
        data = batch(options.batch, options.crop, features, classes)
        taken = medians(steps(classes), *data, options.rounds)
        rows = [[name, f"{ms:.1f}", f"{ms / taken['deeplab']:.2f}"] for name, ms in taken.items()]
        print(f"\n{classes} classes, batch {options.batch}, crop {options.crop}, logits {features}x{features}")
        print(console.table(rows, ["variant", "ms", "of deeplab"]))


if __name__ == "__main__":
    main()
