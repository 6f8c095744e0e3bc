"""What the loss costs in a training step, beside TensorFlow's fused operations.

    python benchmarks/losses.py [--batch 4] [--crop 257] [--rounds 20]

Prints, for each number of classes, the median milliseconds of upsampling + loss + gradient: with no loss but a
sum (the bound: that much is the resize), with this project's loss, and with the two fused operations. All
variants take turns in one run, so that a busy machine slows them alike.
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

from deeplab.losses import cross_entropy
from deeplab.utils import console

IGNORE = 255
Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # upsampled logits [N, C], labels [N] -> float32 [N]


def only_a_sum(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    del labels
    return tf.reduce_sum(logits, axis=1)


def fused_sparse(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def fused_one_hot(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    one_hot = tf.stop_gradient(tf.one_hot(labels, logits.shape[-1]))
    return tf.nn.softmax_cross_entropy_with_logits(labels=one_hot, logits=logits)


VARIANTS: dict[str, Loss] = {
    "no loss (bound)": only_a_sum,
    "deeplab": cross_entropy.softmax_pixel_losses,
    "fused, one-hot": fused_one_hot,
    "fused, sparse": fused_sparse,
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


def registered(name: str, **settings: object) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    return lambda logits, labels: cross_entropy.pixel_loss(name, logits, labels, ignore_label=IGNORE, **settings)


def steps(classes: int) -> dict[str, Callable]:
    """Every variant in the same frame of upsampling, weighting and averaging; and the dearer settings."""
    cross_entropy.PIXEL_LOSSES.update(VARIANTS)
    made = {name: gradient_step(registered(name)) for name in VARIANTS}
    made["deeplab, label weights"] = gradient_step(registered("deeplab", label_weights=[1.0] * classes))
    made["deeplab, hardest quarter"] = gradient_step(registered("deeplab", top_k_percent_pixels=0.25))
    return made


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
    for classes in (3, 21):
        data = batch(options.batch, options.crop, features, classes)
        taken = medians(steps(classes), *data, options.rounds)
        rows = [[name, f"{ms:.1f}", f"{ms / taken['deeplab']:.2f}"] for name, ms in taken.items()]
        print(f"\n{classes} classes, batch {options.batch}, crop {options.crop}, logits {features}x{features}")
        print(console.table(rows, ["variant", "ms", "of deeplab"]))


if __name__ == "__main__":
    main()
