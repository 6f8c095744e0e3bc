"""What building records costs: images a second beside the bound, which only reads and writes the same bytes; memory.

    python benchmarks/build_data.py [--images 400] [--rounds 5] [--many 10000]

Bound and builds take turns on the same generated images (375x500 JPEG, palette and gray PNG masks), so that a busy
machine slows all alike. The bound reads both files of every pair and writes their bytes to shards, unchecked. Peak
memory is measured in a process of its own for 200 pairs and for --many, after the same imports. A minute or two.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pathlib
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import cv2
import numpy as np

from deeplab.config.conversion_config import LabelConfig, RecordConfig
from deeplab.data.conversion.encode import Recipe, convert
from deeplab.data.conversion.local import build
from deeplab.data.labels import LabelSpec
from deeplab.data.mask_files import write_index_png
from deeplab.data.readers.source import Painter, Pair, Source
from deeplab.data.records import ShardWriter, shard_name
from deeplab.data.sample_dataset import draw_portrait
from deeplab.utils import console

HEIGHT, WIDTH, DRAWN = 375, 500, 40  # of so many different images all files are copies
FEW = 200
LABELS = LabelConfig(num_classes=3)


def main() -> None:
    """Measures and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400, help="pairs of a timed build")
    parser.add_argument("--rounds", type=int, default=5, help="timed builds of each kind")
    parser.add_argument("--many", type=int, default=10_000, help="pairs of the large build of the memory test")
    arguments = parser.parse_args()
    if arguments.many <= FEW:
        parser.error(f"--many must be more than {FEW}, with which it is compared")
    with tempfile.TemporaryDirectory(prefix="build_data_") as folder:
        root = pathlib.Path(folder)
        gray, palette = write_pairs(root, max(arguments.images, arguments.many))
        print_speeds(root, gray[: arguments.images], palette[: arguments.images], arguments.rounds)
        print_memory(root, gray, arguments.many)


def write_pairs(root: pathlib.Path, number: int) -> tuple[list[Pair], list[Pair]]:
    """Pairs with gray masks, and pairs of the same images with palette masks."""
    for kind in ("images", "gray", "palette"):
        (root / kind).mkdir()
    for index in range(min(DRAWN, number)):
        image, label = draw_portrait(np.random.default_rng(index), HEIGHT, WIDTH)
        cv2.imwrite(str(root / "images" / f"{index}.jpg"), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
        cv2.imwrite(str(root / "gray" / f"{index}.png"), label)
        write_index_png(root / "palette" / f"{index}.png", label)
    for index in range(DRAWN, number):
        for kind, extension in (("images", "jpg"), ("gray", "png"), ("palette", "png")):
            shutil.copyfile(root / kind / f"{index % DRAWN}.{extension}", root / kind / f"{index}.{extension}")

    def pairs(kind: str) -> list[Pair]:
        images, masks = root / "images", root / kind
        return [Pair(str(i), str(images / f"{i}.jpg"), str(masks / f"{i}.png")) for i in range(number)]

    return pairs("gray"), pairs("palette")


def print_speeds(root: pathlib.Path, gray: list[Pair], palette: list[Pair], rounds: int) -> None:
    """Images a second of the bound and of builds, in turn."""
    kinds: dict[str, Callable[[], object]] = {
        "bound: read and write the bytes": lambda: copy_bytes(gray, root / "out"),
        "build, gray masks": lambda: quiet_build(gray, root / "out"),
        "build, palette masks": lambda: quiet_build(palette, root / "out"),
        "build, values mapped": lambda: quiet_build(gray, root / "out", LabelConfig(num_classes=3, label_map="0:255")),
        "build, --verify_images": lambda: quiet_build(gray, root / "out", verify=True),
        "build, one thread": lambda: quiet_build(gray, root / "out", workers=1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    processor: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, run in kinds.items():
            shutil.rmtree(root / "out", ignore_errors=True)
            (root / "out").mkdir()
            start, used = time.perf_counter(), time.process_time()
            run()
            seconds[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - used)
    costs = {name: statistics.median(values) for name, values in processor.items()}
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    bound, cost = next(iter(medians.values())), next(iter(costs.values()))
    megabytes = sum(os.path.getsize(pair.image) + os.path.getsize(pair.mask) for pair in gray) / 1e6
    rows = [
        (
            name,
            f"{len(gray) / median:.0f}",
            f"{megabytes / median:.0f}",
            f"{median / bound:.1f}",
            f"{costs[name] / cost:.1f}",
        )
        for name, median in medians.items()
    ]
    size = f"{WIDTH}x{HEIGHT} pixels, {megabytes / len(gray) * 1000:.0f} kB"
    print(f"{len(gray)} pairs of {size} each, {os.cpu_count()} cores")
    print(console.table(rows, ("", "images/s", "MB/s", "times the bound's time", "times its CPU")))
    print_parts(gray[:100])


def print_parts(pairs: list[Pair]) -> None:
    """Milliseconds of one conversion alone, without threads and shards."""
    recipe = Recipe(Painter((), LabelSpec(3)))
    start = time.perf_counter()
    for pair in pairs:
        convert(pair, recipe)
    print(f"one conversion alone: {(time.perf_counter() - start) / len(pairs) * 1000:.2f} ms")


def copy_bytes(pairs: list[Pair], folder: pathlib.Path) -> None:
    """The bound: every file is read, and its bytes are written to one of four shards."""
    size = -(-len(pairs) // 4)
    for index in range(4):
        with ShardWriter(folder, shard_name("train", index, 4)) as writer:
            for pair in pairs[index * size : (index + 1) * size]:
                writer.write(pathlib.Path(pair.image).read_bytes() + pathlib.Path(pair.mask).read_bytes())
            writer.publish()


def quiet_build(
    pairs: list[Pair],
    folder: pathlib.Path,
    labels: LabelConfig = LABELS,
    verify: bool = False,
    workers: int = 0,
) -> None:
    """Builds records without printing anything."""
    with open(os.devnull, "w") as nowhere:
        out, err, sys.stdout, sys.stderr = sys.stdout, sys.stderr, nowhere, nowhere
        try:
            build(Source({"train": pairs}), folder, labels, RecordConfig(verify_images=verify, num_workers=workers))
        finally:
            sys.stdout, sys.stderr = out, err


def print_memory(root: pathlib.Path, pairs: list[Pair], many: int) -> None:
    """Peak memory of a small and of a large build, each in a fresh process."""
    context = multiprocessing.get_context("spawn")
    rows = []
    for number in (0, FEW, many):
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            peak = pool.submit(peak_memory, pairs[:number], str(root / f"memory{number}")).result()
        rows.append((number, f"{peak:.0f}"))
    print(console.table(rows, ("pairs", "peak memory (MB)")))


def peak_memory(pairs: list[Pair], folder: str) -> float:
    """Megabytes at the highest point of a build; of the imports alone when there are no pairs."""
    if pairs:
        quiet_build(pairs, pathlib.Path(folder))
    # Not getrusage: what it reports for a new process can be its parent's.
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
