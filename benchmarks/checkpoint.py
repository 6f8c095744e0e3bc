"""The time to save and restore a training, compared with plain writing to the disk and with TensorFlow's checkpoints.

    python benchmarks/checkpoint.py [--tensors 330] [--megabytes 22] [--rounds 9]

All take turns in one run, with the same tensors (330 and 22 MB: MobileNetV2 with ASPP and decoder, momentum
included). The bound is writing the same bytes to one file and syncing it. Measured on two busy cores: bound
22 ms, `save_step` 34 ms, `tf.train.Checkpoint`, which syncs nothing, 87 ms; restoring 50 ms.
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
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import tensorflow as tf

from deeplab import checkpoint
from deeplab.checkpoint import manager
from deeplab.checkpoint.restore import restore
from deeplab.utils import console


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tensors", type=int, default=330, help="number of tensors")
    parser.add_argument("--megabytes", type=float, default=22.0, help="size of all tensors together")
    parser.add_argument("--rounds", type=int, default=9, help="how often each is done")
    arguments = parser.parse_args()
    tensors = sample(arguments.tensors, arguments.megabytes)
    with tempfile.TemporaryDirectory(dir=".") as folder:  # the disk people train on; /tmp may be memory
        medians = measure(contenders(folder, tensors), arguments.rounds)
    bound = medians["bytes to one file, synced (bound)"]
    rows = [(name, f"{1000 * seconds:.0f}", f"{seconds / bound:.1f}") for name, seconds in medians.items()]
    print(f"{len(tensors)} tensors, {sum(t.nbytes for t in tensors.values()) / 1e6:.0f} MB, {os.cpu_count()} cores")
    print(console.table(rows, ("done", "ms (median)", "times the bound")))


def sample(count: int, megabytes: float) -> dict[str, np.ndarray]:
    """float32 tensors of one size each, with random values: nothing can be compressed away."""
    draw = np.random.default_rng(0)
    size = int(megabytes * 1e6 / 4 / count)
    return {f"layer_{index}/weights": draw.standard_normal(size, np.float32) for index in range(count)}


def contenders(folder: str, tensors: dict[str, np.ndarray]) -> dict[str, Callable[[], object]]:
    """What is measured, by name; the ones that read come after one that has written."""
    state = {name: tf.Variable(value) for name, value in tensors.items()}
    objects = tf.train.Checkpoint(**{name.replace("/", "_"): variable for name, variable in state.items()})
    steps = iter(range(1_000_000))
    return {
        "bytes to one file, synced (bound)": lambda: write_bytes(f"{folder}/bytes", tensors),
        "TensorFlow's SaveV2 alone, not synced": lambda: save_v2(f"{folder}/plain", tensors),
        "tf.train.Checkpoint, not synced": lambda: objects.write(f"{folder}/objects"),
        "save_step": lambda: manager.save_step(f"{folder}/logs", next(steps), tensors),
        "read": lambda: checkpoint.open(f"{folder}/logs").arrays(),
        "restore": lambda: restore(state, f"{folder}/logs"),
        "latest": lambda: manager.latest(f"{folder}/logs"),
    }


def write_bytes(path: str, tensors: dict[str, np.ndarray]) -> None:
    """The values one after another, on the disk."""
    with open(path, "wb") as file:
        for value in tensors.values():
            file.write(value)
        file.flush()
        os.fsync(file.fileno())


def save_v2(prefix: str, tensors: dict[str, np.ndarray]) -> None:
    """The bare operation."""
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )


def measure(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each; all take turns, and the first round, which warms up, does not count."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, work in contenders.items():
            start = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


if __name__ == "__main__":
    main()
