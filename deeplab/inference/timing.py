"""Measures the speed of a Predictor: loading, decoding and predicting separately, per size and batch.

The command `benchmark` uses this; everything that predicts is a Predictor, so that all kinds of models compare.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import pathlib
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import tensorflow as tf

from deeplab.inference.prediction import prepare
from deeplab.inference.predictor import ModelPredictor, Predictor


@dataclass(frozen=True)
class Timing:
    """The calls of one size and batch.

    Attributes:
      model: its source.
      size: `513x513`, or the number of the user's images.
      batch: images per call.
      calls: timed calls.
      median_ms, p90_ms: milliseconds per call.
      images_per_second: from the median.
      cpu_seconds: processor time per image, of all cores together.
      memory_mb: largest memory of the process during these calls, the model and TensorFlow included.
    """

    model: str
    size: str
    batch: int
    calls: int
    median_ms: float
    p90_ms: float
    images_per_second: float
    cpu_seconds: float
    memory_mb: float

    def row(self) -> tuple[str, ...]:
        """The cells of the table."""
        values = [f"{value:.1f}" for value in (self.median_ms, self.p90_ms, self.images_per_second)]
        return (self.size, str(self.batch), *values, f"{self.cpu_seconds:.3f}", f"{self.memory_mb:.0f}")

    def content(self) -> dict[str, object]:
        """The values for JSON."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


HEADER = ("size", "batch", "median ms", "p90 ms", "images/s", "CPU s/image", "memory MB")


def time_calls(calls: Sequence[Callable[[], object]], warm_up: int) -> tuple[np.ndarray, float]:
    """Time calls one after the other.

    Args:
      calls: the timed ones; the first is also called for the warm-up.
      warm_up: number of calls before.

    Returns:
      Seconds of each call, float64 [n], and processor seconds of all timed calls together.
    """
    reset_peak_memory()
    for _ in range(warm_up):
        calls[0]()
    seconds = np.zeros(len(calls))
    before = time.process_time()
    for index, call in enumerate(calls):
        started = time.perf_counter()
        call()
        seconds[index] = time.perf_counter() - started
    return seconds, time.process_time() - before


def time_images(predictor: Predictor, images: Sequence[np.ndarray], size: str, runs: int, warm_up: int) -> Timing:
    """Time the prediction of single images, uint8 [H, W, C], labels alone; each takes its turn."""
    calls = [functools.partial(predictor.predict, images[index % len(images)], False) for index in range(runs)]
    return _timing(predictor.source, size, 1, *time_calls(calls, warm_up))


def time_batch(predictor: ModelPredictor, side: int, batch: int, runs: int, warm_up: int) -> Timing:
    """Time batches of square images that are prepared already."""
    image = noise(side, predictor.bands.channels, predictor.bands.dtype)
    pixels = tf.stack([prepare(tf.constant(image), predictor.settings).pixels] * batch)
    calls = [functools.partial(predictor.predict_padded, pixels)] * runs
    return _timing(predictor.source, f"{side}x{side}", batch, *time_calls(calls, warm_up))


def noise(side: int, channels: int = 3, dtype: str = "uint8") -> np.ndarray:
    """A square image of noise, 0..255: [side, side, channels] of a type."""
    return np.random.default_rng(0).integers(0, 256, (side, side, channels), np.uint8).astype(dtype)


def _timing(model: str, size: str, batch: int, seconds: np.ndarray, processor: float) -> Timing:
    median, p90 = np.quantile(seconds, [0.5, 0.9]).tolist()
    number = len(seconds)
    speed = batch / max(median, 1e-9)
    values = (1000 * median, 1000 * p90, speed, processor / (number * batch), peak_memory())
    return Timing(model, size, batch, number, *values)


def reset_peak_memory() -> bool:
    """Give free memory back and start the measurement of `peak_memory` from here; whether the system can do that."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # of glibc alone
        ctypes.CDLL(None).malloc_trim(0)
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # man 5 proc
    except OSError:
        return False
    return True


def peak_memory() -> float:
    """Largest memory of this process since `reset_peak_memory`, in megabytes; since its start without /proc."""
    try:
        lines = pathlib.Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
