"""Each export format compared with the SavedModel: processor time per image, size, and mean IoU.

    python benchmarks/exports.py --checkpoint_path=zoo:NAME --dataset_dir=RECORDS --images=FOLDER [--formats=all]

The process is bound to one processor core, so that every runtime has one thread, and all formats take turns on the same
images in one run. Times are medians of `time.process_time`, from uint8 pixels to labels, resizing and padding included;
ratios are medians of the rounds' own ratios. Takes some minutes, most of them for mean IoU. The bounds are what a
depth-0.5 MobileNetV2 at 513x513 and output stride 16 should reach. Measured on a busy processor with VNNI, where
TensorFlow itself is fast: litert_float16 0.56 to 0.60, litert_int8 0.37 to 0.46, onnx 0.66 to 0.72.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if hasattr(os, "sched_setaffinity"):  # before any library counts the cores
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import numpy as np

from deeplab.config.data_config import ResizeConfig
from deeplab.config.export_config import ExportConfig
from deeplab.config.fields import typed
from deeplab.config.model_config import ModelConfig
from deeplab.data import image_files, images
from deeplab.export.exporter import export_checkpoint
from deeplab.export.parity_images import fitting
from deeplab.inference.load import load
from deeplab.inference.predictor import Predictor
from deeplab.utils import console, processor

BASE = "saved_model"
BOUNDS = {"litert_float16": 0.50, "litert_int8": 0.40, "onnx": 0.62, "onnx_dynamic": 0.62}
HEADER = ("format", "MB", "CPU ms", f"ratio to {BASE}", "bound", "mean IoU", "difference", "pixels equal")


def main() -> None:
    """Exports, measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="folder of images; the first four are used")
    parser.add_argument("--rounds", type=int, default=4, help="how often each format predicts each image")
    arguments, words = parser.parse_known_args()
    given = dict(word.removeprefix("--").split("=", 1) for word in words)
    given = {"formats": "all", "quality_images": "100", "max_miou_drop": "1", **given}
    with tempfile.TemporaryDirectory() as folder:
        settings = typed([ExportConfig, ModelConfig, ResizeConfig], {**given, "export_path": folder})
        exported = export_checkpoint(settings)
        rows = {row.format: row for row in exported.rows if row.file}
        files = {name: load(os.path.join(folder, row.file)) for name, row in rows.items()}
        chosen = [images.read_image(one.path) for one in image_files.find_images([arguments.images])[:4]]
        crop = settings.get("crop_size", (513, 513))
        seconds = measure(files, [fitting(image, crop) for image in chosen], arguments.rounds)
    shown = []
    for name, row in rows.items():
        ratio = statistics.median(one / base for one, base in zip(seconds[name], seconds[BASE], strict=True))
        loss = "-" if row.loss is None else f"{-row.loss:+.4f}"
        iou = "-" if row.mean_iou is None else f"{row.mean_iou:.4f}"
        megabytes, milliseconds = f"{row.megabytes or 0:.2f}", f"{1e3 * statistics.median(seconds[name]):.1f}"
        bound = BOUNDS.get(name, "-")
        shown.append((name, megabytes, milliseconds, f"{ratio:.2f}", bound, iou, loss, f"{row.agreement:.4f}"))
    print(f"\none thread; {processor.describe()}; {len(chosen)} images x {arguments.rounds} rounds")
    print(console.table(shown, HEADER))


def measure(files: dict[str, Predictor], chosen: list[np.ndarray], rounds: int) -> dict[str, list[float]]:
    """Processor seconds of every image and round; all take turns, after one round for warmth."""
    seconds: dict[str, list[float]] = {name: [] for name in files}
    for number in console.progress(range(rounds + 1), what="measuring", unit="round"):
        for image in chosen:
            for name, predictor in files.items():
                start = time.process_time()
                predictor.predict(image, probabilities=False)
                if number:
                    seconds[name].append(time.process_time() - start)
    return seconds


if __name__ == "__main__":
    main()
