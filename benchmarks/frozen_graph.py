"""The speed of a frozen graph compared with the `tf.function` that it was made from.

    python benchmarks/frozen_graph.py [--output_stride 16] [--size 513] [--rounds 30] [--reference GRAPH.pb]

MobileNetV2 with 21 classes and random weights, one image at a time from uint8 pixels to labels (in the second table,
to probabilities as well). All variants take turns in one run, so that other work on the machine slows all of them;
ratios are medians of the rounds' own ratios. Takes a minute. The limit: at output stride 16 the folded graph takes at
most 0.85 of the time of the unfolded `tf.function` (measured: 0.82; 0.84 at output stride 8). `--reference` adds a
frozen graph of another program, for example of the research DeepLab.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from deeplab.config.model_config import ModelConfig
from deeplab.export.formats import frozen_graph, saved_model
from deeplab.export.freeze import freeze
from deeplab.inference.load import load
from deeplab.inference.prediction import PredictionSettings, predict_image
from deeplab.inference.predictor import ModelPredictor
from deeplab.model import build_model
from deeplab.utils import console

LIMIT, LIMIT_STRIDE, NUM_CLASSES = 0.85, 16, 21
BASE, FOLDED = "tf.function, unfolded", "frozen graph, folded"
Run = Callable[[np.ndarray, bool], tuple[np.ndarray, np.ndarray | None]]


def main() -> None:
    """Measures and prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_stride", type=int, default=16)
    parser.add_argument("--size", type=int, default=513, help="height and width of the image and the crop in pixels")
    parser.add_argument("--rounds", type=int, default=30, help="images per variant")
    parser.add_argument("--reference", default="", help="frozen graph of another program")
    arguments = parser.parse_args()
    model = ModelConfig(output_stride=arguments.output_stride)
    settings = PredictionSettings(model, crop_size=(arguments.size,) * 2, may_outgrow_crop=True)
    runs = variants(settings)
    if arguments.reference:
        runs["the other program's graph"] = load(arguments.reference).run
    image = np.random.default_rng(0).integers(0, 256, (1, arguments.size, arguments.size, 3)).astype(np.uint8)
    agree({name: run for name, run in runs.items() if "other" not in name}, image)
    for probabilities in (False, True):
        what = "labels and probabilities" if probabilities else "labels"
        seconds = measure(runs, image, probabilities, arguments.rounds, what)
        tell(seconds, what, arguments)


def variants(settings: PredictionSettings) -> dict[str, Run]:
    """Functions that predict the labels of an image, uint8 [1, H, W, 3]; the `tf.function` is the first."""
    predictor = ModelPredictor(build_model(settings.model, NUM_CLASSES), settings, NUM_CLASSES)
    settle(predictor)
    runs: dict[str, Run] = {BASE: of_model(predictor, settings)}
    with tempfile.TemporaryDirectory() as folder:
        for name, folded in (("frozen graph, unfolded", False), (FOLDED, True)):
            path = pathlib.Path(folder) / f"{folded}.pb"
            definition = frozen_graph.graph_definition(freeze(predictor, settings, folded))
            path.write_bytes(definition.SerializeToString())
            runs[name] = load(str(path)).run
        path = pathlib.Path(folder) / "saved_model"
        saved_model.write(freeze(predictor, settings), str(path))
        runs["SavedModel, folded"] = load(str(path)).run
    return runs


def settle(predictor: ModelPredictor) -> None:
    """Sets the batch-norm statistics so that activations of random weights do not vanish from layer to layer."""
    pixels = np.random.default_rng(1).uniform(0, 255, (2, 129, 129, 3)).astype(np.float32)
    for _ in range(3):
        predictor.model(pixels, training=True)


def of_model(predictor: ModelPredictor, settings: PredictionSettings) -> Run:
    """The model with its variables, as evaluation runs it."""
    signature = [tf.TensorSpec([1, None, None, 3], tf.uint8)]

    @tf.function(input_signature=signature)
    def labels_of(images):
        return predict_image(predictor.logits_of, images[0], settings).labels[tf.newaxis]

    @tf.function(input_signature=signature)
    def both_of(images):
        prediction = predict_image(predictor.logits_of, images[0], settings)
        return prediction.labels[tf.newaxis], prediction.probabilities[tf.newaxis]

    def run(images: np.ndarray, probabilities: bool) -> tuple[np.ndarray, np.ndarray | None]:
        if not probabilities:
            return labels_of(images).numpy(), None
        labels, scores = both_of(images)
        return labels.numpy(), scores.numpy()

    return run


def agree(runs: dict[str, Run], image: np.ndarray) -> None:
    """Warms up every variant, and stops if one gives other labels (one pixel in 10,000 may differ by rounding)."""
    expected, _ = runs[BASE](image, False)
    for name, run in runs.items():
        labels, _ = run(image, True)[0], run(image, False)
        if np.mean(labels != expected) > 1e-4:
            sys.exit(f"error: {name} gives other labels in {np.mean(labels != expected):.2%} of the pixels")


def measure(
    runs: dict[str, Run], image: np.ndarray, probabilities: bool, rounds: int, what: str
) -> dict[str, list[float]]:
    """Seconds of every round of every variant, measured in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in console.progress(range(rounds), what=what, unit="round"):
        for name, run in runs.items():
            start = time.perf_counter()
            run(image, probabilities)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def tell(seconds: dict[str, list[float]], what: str, arguments: argparse.Namespace) -> None:
    """Prints medians, minimum times and ratios."""
    ratios = {
        name: statistics.median(one / base for one, base in zip(times, seconds[BASE], strict=True))
        for name, times in seconds.items()
    }
    rows = [
        (name, f"{1e3 * statistics.median(times):.1f}", f"{1e3 * min(times):.1f}", f"{ratios[name]:.2f}")
        for name, times in seconds.items()
    ]
    size, stride = arguments.size, arguments.output_stride
    print(f"\n{what}, {size}x{size} pixels, output stride {stride}, {os.cpu_count()} cores")
    print(console.table(rows, ("variant", "ms (median)", "ms (min)", f"ratio to {BASE}")))
    if stride == LIMIT_STRIDE:
        print(f"limit of the folded graph: {LIMIT}, measured {ratios[FOLDED]:.2f}")


if __name__ == "__main__":
    main()
