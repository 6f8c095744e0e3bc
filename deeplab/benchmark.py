r"""Measures how fast models are, on noise or on your own images.

Example, a minute on two processor cores:

    python deeplab/benchmark.py --model=runs/first --model=exports/model.tflite --image_size=257,513 --json=speed.json

Prints for each model the seconds for loading, and for each size and batch: median and 90th percentile of a call in
milliseconds, images per second, processor seconds per image, and the largest memory of the process during the calls
(on Linux; elsewhere, the largest of the process so far). Reading and decoding of your own images
(`input`) is timed separately. Other programs on the machine change the numbers.
"""

from __future__ import annotations

import json
import pathlib
import platform
import sys
import time
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab import __version__
from deeplab.checkpoint.find import require_something
from deeplab.config.benchmark_config import BenchmarkConfig
from deeplab.config.command_line import Command, Given, configs_from
from deeplab.config.data_config import ResizeConfig
from deeplab.config.fields import fields_of
from deeplab.config.model_config import ModelConfig
from deeplab.config.prediction_config import InferenceConfig
from deeplab.data import image_files
from deeplab.utils import console
from deeplab.utils.files import write_atomically
from deeplab.utils.resources import core_count

if TYPE_CHECKING:
    import numpy as np

    from deeplab.inference.predictor import Predictor
    from deeplab.inference.timing import Timing

GROUPS = (BenchmarkConfig, InferenceConfig, ResizeConfig, ModelConfig)


def run(given: Given) -> None:
    """Runs the command."""
    (config,) = configs_from(given, [BenchmarkConfig])
    for model in config.model:
        require_something(model)
    files = image_files.find_images(config.input) if config.input else []
    console.import_tensorflow()
    from deeplab.data import images
    from deeplab.inference import timing
    from deeplab.inference.load import load

    started = time.perf_counter()
    pixels = [images.read_image(file.path) for file in files]
    decoding = (time.perf_counter() - started) / len(files) if files else None
    if decoding is not None:
        print(f"reading and decoding: {1000 * decoding:.1f} ms per image")
    own = fields_of([InferenceConfig, ResizeConfig, ModelConfig])
    settings = {name: value for name, value in given.items() if name in own}
    models = []
    for model in config.model:
        started = time.perf_counter()
        predictor = load(model, settings)
        loading = time.perf_counter() - started
        found = measured(predictor, config, pixels)
        print(f"\n{predictor.source}: loaded in {loading:.2f} seconds")
        del predictor  # its memory does not count as the next one's
        print(console.table([one.row() for one in found], timing.HEADER), flush=True)
        models.append({"model": model, "loading_seconds": round(loading, 3), "timings": [t.content() for t in found]})
    if config.json:
        machine = {"processor": platform.processor() or platform.machine(), "cores": core_count()}
        content: dict[str, Any] = {"version": __version__, "machine": machine, "decoding_seconds": decoding}
        write_atomically(config.json, (json.dumps(content | {"models": models}, indent=2) + "\n").encode())
        print(f"\nwritten: {config.json}", flush=True)


def measured(predictor: Predictor, config: BenchmarkConfig, pixels: list[np.ndarray]) -> list[Timing]:
    """Returns the timings of one model: of all sizes and batches, or of the user's images."""
    from deeplab.inference import timing
    from deeplab.inference.predictor import ModelPredictor

    if pixels:
        size = f"{len(pixels)} images"
        return [timing.time_images(predictor, pixels, size, max(config.runs, len(pixels)), config.warm_up)]
    found = []
    for side in config.image_size:
        for batch in config.batch_size:
            if batch == 1:
                image = timing.noise(side, predictor.bands.channels, predictor.bands.dtype)
                found.append(timing.time_images(predictor, [image], f"{side}x{side}", config.runs, config.warm_up))
            elif isinstance(predictor, ModelPredictor):
                found.append(timing.time_batch(predictor, side, batch, config.runs, config.warm_up))
            else:
                console.note(f"{predictor.source} takes one image per call: batches of {batch} are left out")
    return found


COMMAND = Command("benchmark", run, GROUPS, __doc__)


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
