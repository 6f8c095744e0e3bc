"""The cost of an evaluation compared with the model alone: reading, decoding, padding and counting of each image.

    python benchmarks/evaluation.py [--images 64] [--rounds 3] [--crop 513]

Runs in turn: the model alone (padding, model, upsampling, argmax) on one image repeatedly; the records alone, read and
decoded; the whole evaluation as `deeplab/eval.py` runs it; and, as the peer, the model without padding and upsampling
through Keras' `predict_on_batch`. The images are smooth noise, encoded as JPEG of 500x375 pixels. Takes about two
minutes. The ratio of processor times counts, as it does not depend on other work on the machine: the whole evaluation
should take at most 1.15 times as long as the model alone (measured on two cores: 1.04).
"""

from __future__ import annotations

import argparse
import io
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import tensorflow as tf
from PIL import Image

from deeplab.config.model_config import ModelConfig
from deeplab.data import mask_files, records
from deeplab.data.dataset import Dataset
from deeplab.evaluation import ConfusionMatrix
from deeplab.evaluation.evaluator import count
from deeplab.evaluation.split_images import SplitImages, predict_labels
from deeplab.inference.prediction import PredictionSettings, prepare
from deeplab.inference.predictor import ModelPredictor
from deeplab.model import build_model
from deeplab.utils import console

HEIGHT, WIDTH, CLASSES = 375, 500, 21
LIMIT = 1.15  # processor time of an evaluation over that of its model


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64, help="images in the split")
    parser.add_argument("--rounds", type=int, default=3, help="runs over the split, of which the median counts")
    parser.add_argument("--crop", type=int, default=513, help="height and width that images are padded to; 0 = none")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_split(folder, arguments.images)
        times = measure(split_in(folder, arguments.crop), arguments.rounds)
    alone = times["the model alone"]
    rows = [
        (name, f"{1000 * wall:.1f}", f"{wall / alone[0]:.2f}", f"{1000 * cpu:.1f}", f"{cpu / alone[1]:.2f}")
        for name, (wall, cpu) in times.items()
    ]
    size = f"padded to {arguments.crop}x{arguments.crop}" if arguments.crop else "at their own size"
    print(f"{arguments.images} images of {HEIGHT}x{WIDTH}, {size}; {os.cpu_count()} cores; medians, ms per image")
    print(console.table(rows, ("what", "wall", "times the model", "processor", "times the model")))
    print(f"limit: the whole evaluation within {LIMIT} times the model's processor time")


def write_split(folder: str, images: int) -> None:
    """Records of smooth colored noise with labels of blobs."""
    draw = np.random.default_rng(0)
    with records.ShardWriter(folder, records.shard_name("val", 0, 1)) as writer:
        for index in range(images):
            coarse = Image.fromarray(draw.integers(0, 256, (24, 32, 3), np.uint8))
            buffer = io.BytesIO()
            coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
            label = np.kron(draw.integers(0, CLASSES, (15, 20)), np.ones((25, 25))).astype(np.uint8)
            encoded = mask_files.encode_label(label)
            name = f"image_{index}"
            writer.write(records.encode_example(buffer.getvalue(), "jpeg", name, HEIGHT, WIDTH, encoded))
        writer.publish()


def split_in(folder: str, crop: int) -> SplitImages:
    """The split of those records, for a MobileNetV2 with its default head."""
    dataset = Dataset("noise", tuple(f"class_{index}" for index in range(CLASSES)))
    settings = PredictionSettings(ModelConfig(), crop_size=(crop, crop) if crop else None)
    return SplitImages(dataset, folder, "val", settings)


def measure(split: SplitImages, rounds: int) -> dict[str, tuple[float, ...]]:
    """Median seconds per image of each way of running: wall time, and processor time."""
    model = build_model(split.settings.model, CLASSES)
    predictor = ModelPredictor(model, split.settings, CLASSES)
    first = next(split.batches())
    pixels = prepare(first.images[0], split.settings).pixels[tf.newaxis]
    images = len(split)
    ways: dict[str, Callable[[], object]] = {
        "the model alone": lambda: [predict_labels(predictor, first) for _ in range(images)],
        "the records alone": lambda: [batch.names for batch in split.batches()],
        "the whole evaluation": lambda: evaluate(split, predictor),
        "the model by predict_on_batch": lambda: [model.predict_on_batch(pixels) for _ in range(images)],
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in console.progress(range(rounds + 1), what="measuring", unit="round"):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            way()
            seconds[name].append(((time.perf_counter() - wall) / images, (time.process_time() - cpu) / images))
    # The first round warms up.
    return {name: tuple(map(statistics.median, zip(*pairs[1:], strict=True))) for name, pairs in seconds.items()}


def evaluate(split: SplitImages, predictor: ModelPredictor) -> ConfusionMatrix:
    """What `deeplab/eval.py` does for a checkpoint, without restoring and reporting."""
    matrix = ConfusionMatrix(CLASSES)
    for batch in split.batches():
        count(batch, predict_labels(predictor, batch), split, matrix)
    return matrix


if __name__ == "__main__":
    main()
