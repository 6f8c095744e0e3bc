"""What exporting a network gains: its frozen graph beside the `tf.function` it was made from.

    python benchmarks/frozen_graph.py [--output_stride 16] [--size 513] [--rounds 30] [--reference GRAPH.pb]

MobileNetV2 with 21 classes, random weights, one picture at a time from uint8 pixels to labels (and, in the second
table, probabilities as well). All take turns in one run, so that a busy machine slows all alike; ratios are medians
of the rounds' own ratios. Takes a minute. The bound: at output stride 16 the folded graph needs at most 0.85 of the
time of the unfolded `tf.function` (measured: 0.82; 0.84 at output stride 8). `--reference` adds a frozen graph of
another program, e.g. of the research DeepLab.
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

BOUND, BOUND_STRIDE, NUM_CLASSES = 0.85, 16, 21
BASE, FOLDED = "tf.function, unfolded", "frozen graph, folded"
Run = Callable[[np.ndarray, bool], tuple[np.ndarray, np.ndarray | None]]


def main() -> None:
    """Measures and prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_stride", type=int, default=16)
    parser.add_argument("--size", type=int, default=513, help="height and width of the picture and the crop in pixels")
    parser.add_argument("--rounds", type=int, default=30, help="pictures each one answers")
    parser.add_argument("--reference", default="", help="frozen graph of another program")
    arguments = parser.parse_args()
    model = ModelConfig(output_stride=arguments.output_stride)
    settings = PredictionSettings(model, crop_size=(arguments.size,) * 2, may_outgrow_crop=True)
    runs = contenders(settings)
    if arguments.reference:
        runs["the other program's graph"] = load(arguments.reference).run
    image = np.random.default_rng(0).integers(0, 256, (1, arguments.size, arguments.size, 3)).astype(np.uint8)
    agree({name: run for name, run in runs.items() if "other" not in name}, image)
    for probabilities in (False, True):
        what = "labels and probabilities" if probabilities else "labels"
        seconds = measure(runs, image, probabilities, arguments.rounds, what)
        tell(seconds, what, arguments)


def contenders(settings: PredictionSettings) -> dict[str, Run]:
    """Functions that answer a picture uint8 [1, H, W, 3], the `tf.function` first."""
    network = ModelPredictor(build_model(settings.model, NUM_CLASSES), settings, NUM_CLASSES)
    settle(network)
    runs: dict[str, Run] = {BASE: of_model(network, settings)}
    with tempfile.TemporaryDirectory() as folder:
        for name, folded in (("frozen graph, unfolded", False), (FOLDED, True)):
            path = pathlib.Path(folder) / f"{folded}.pb"
            definition = frozen_graph.graph_definition(freeze(network, settings, folded))
            path.write_bytes(definition.SerializeToString())
            runs[name] = load(str(path)).run
        path = pathlib.Path(folder) / "saved_model"
        saved_model.write(freeze(network, settings), str(path))
        runs["SavedModel, folded"] = load(str(path)).run
    return runs


def settle(network: ModelPredictor) -> None:
    """Gives batch norm statistics under which random weights keep the signal alive, as trained ones do."""
    picture = np.random.default_rng(1).uniform(0, 255, (2, 129, 129, 3)).astype(np.float32)
    for _ in range(3):
        network.model(picture, training=True)


def of_model(network: ModelPredictor, settings: PredictionSettings) -> Run:
    """The network with its variables, as evaluation runs it."""
    signature = [tf.TensorSpec([1, None, None, 3], tf.uint8)]

    @tf.function(input_signature=signature)
    def labels_of(images):
        return predict_image(network.logits_of, images[0], settings).labels[tf.newaxis]

    @tf.function(input_signature=signature)
    def both_of(images):
        answer = predict_image(network.logits_of, images[0], settings)
        return answer.labels[tf.newaxis], answer.probabilities[tf.newaxis]

    def run(images: np.ndarray, probabilities: bool) -> tuple[np.ndarray, np.ndarray | None]:
        if not probabilities:
            return labels_of(images).numpy(), None
        labels, scores = both_of(images)
        return labels.numpy(), scores.numpy()

    return run


def agree(runs: dict[str, Run], image: np.ndarray) -> None:
    """One round for warmth, and the proof that all answer the same (a pixel in ten thousand may be undecided)."""
    expected, _ = runs[BASE](image, False)
    for name, run in runs.items():
        labels, _ = run(image, True)[0], run(image, False)
        if np.mean(labels != expected) > 1e-4:
            sys.exit(f"error: {name} gives other labels in {np.mean(labels != expected):.2%} of the pixels")


def measure(
    runs: dict[str, Run], image: np.ndarray, probabilities: bool, rounds: int, what: str
) -> dict[str, list[float]]:
    """Seconds of every round of every contender, taken in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in console.progress(range(rounds), what=what, unit="round"):
        for name, run in runs.items():
            start = time.perf_counter()
            run(image, probabilities)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def tell(seconds: dict[str, list[float]], what: str, arguments: argparse.Namespace) -> None:
    """Prints medians, least times and ratios."""
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
    print(console.table(rows, ("answered by", "ms (median)", "ms (least)", f"ratio to {BASE}")))
    if stride == BOUND_STRIDE:
        print(f"bound of the folded graph: {BOUND}, measured {ratios[FOLDED]:.2f}")


if __name__ == "__main__":
    main()
