"""How the cost of building, checking, starting and resuming grows with the number of images.

    python benchmarks/growth.py [--numbers 1000 10000] [--stages checking starting] [--folder DIR]

The images are tiny (24x24 pixels), so that what is left is the cost of there being many. Each stage runs in a process
of its own, whose peak memory and processor time are measured; 64 images stand for its imports. Every image is
different, so that no search for duplicates ends early. 100,000 images take some 20 minutes and 2 GB of disk; without
the stage `building`, records are made without files, which takes a minute and 0.2 GB.

    building        `deeplab build_data folder`, without the check at its end
    checking        `deeplab check_data`
    starting        the first batch of a training
    resuming        the first batch of a training that has consumed nine tenths of an epoch

On two cores of an AMD EPYC with much other work, processor time and memory for each image beyond 64, and peaks:

    building    1,000,000 images    0.26 ms    0.03 kB    734 MB (709 MB with 64)
    checking    100,000 images      0.77 ms    0.05 kB    726 MB (721 MB)
                136,020 images      1.40 ms    0.31 kB    779 MB (737 MB): two splits that are compared
                1,000,000 images    0.81 ms    0.04 kB    762 MB (720 MB)
    starting    100,000 images      0.01 ms    1.5 kB     890 MB (737 MB): a buffer of records, 128 MiB at most
                1,000,000 images    0.00 ms    0.1 kB     901 MB (753 MB)
    resuming    100,000 images      0.01 ms    1.6 kB     892 MB (736 MB)
                1,000,000 images    0.01 ms    0.2 kB     906 MB (753 MB)

The million images that were built are 256 different ones under many names; the million that were checked all differ.
The million of which a training started are the same 100,000 ten times over.
"""

from __future__ import annotations

import argparse
import itertools
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import cv2
import numpy as np

from deeplab.utils import console

SIDE, FEW, BATCH = 24, 64, 8
STAGES = ("building", "checking", "starting", "resuming")


@dataclass(frozen=True)
class Cost:
    """What a process took: seconds of all its threads, and megabytes at its highest point."""

    seconds: float
    megabytes: float


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--numbers", type=int, nargs="+", default=(1000, 10_000), help="numbers of images")
    parser.add_argument("--folder", default=None, help="where the files go, which are removed at the end")
    parser.add_argument(
        "--stages", nargs="+", choices=STAGES, default=STAGES, help="without building, records are made without files"
    )
    arguments = parser.parse_args()
    rows = []
    for number in (FEW, *arguments.numbers):
        with tempfile.TemporaryDirectory(prefix="growth_", dir=arguments.folder) as folder:
            costs = measured(pathlib.Path(folder), number, arguments.stages)
        for place, (stage, cost) in enumerate(costs.items()):
            few = rows[place] if len(rows) >= len(costs) else None
            ms = f"{1000 * (cost.seconds - few[-1].seconds) / (number - FEW):.3f}" if few else ""
            kilobytes = f"{1000 * (cost.megabytes - few[-1].megabytes) / (number - FEW):.2f}" if few else ""
            rows.append((number, stage, f"{cost.seconds:.1f}", ms, f"{cost.megabytes:.0f}", kilobytes, cost))
    heads = ("images", "stage", "CPU s", "ms an image", "peak MB", "kB an image")
    print(console.table([row[:-1] for row in rows], heads))


def measured(folder: pathlib.Path, number: int, stages: Sequence[str]) -> dict[str, Cost]:
    """The cost of each stage for so many images, in a folder that is filled with them."""
    (write_images if "building" in stages else write_records)(folder, number)
    records, deeplab = folder / "records", [sys.executable, "-m", "deeplab"]
    folders = [f"--image_folder={folder / 'images'}", f"--mask_folder={folder / 'masks'}", f"--output_dir={records}"]
    build = [*deeplab, "build_data", "folder", *folders, "--num_classes=3", "--nocheck"]
    commands = {
        "building": build,
        "checking": [*deeplab, "check_data", f"--dataset_dir={records}"],
        "starting": [sys.executable, __file__, "batch", str(records), "0"],
        "resuming": [sys.executable, __file__, "batch", str(records), str(int(number * 0.9) // BATCH)],
    }
    return {stage: cost_of(commands[stage]) for stage in STAGES if stage in stages}


def cost_of(command: list[str]) -> Cost:
    """Runs a command, which must not fail otherwise than by findings of a check."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    messages = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 3):
        raise RuntimeError(f"{' '.join(command)} failed:\n{messages[-2000:]}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def encoded_pairs(number: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """So many different images and masks: name, JPEG and PNG, uint8 [bytes]."""
    draw = np.random.default_rng(0)
    for index in range(number):
        image = cv2.resize(draw.integers(0, 256, (6, 6, 3), np.uint8), (SIDE, SIDE))
        mask = cv2.resize(draw.integers(0, 3, (6, 6), np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
        yield (
            f"image_{index:07d}",
            *(cv2.imencode(kind, pixels)[1] for kind, pixels in ((".jpg", image), (".png", mask))),
        )


def write_images(folder: pathlib.Path, number: int) -> None:
    """Fills `images` and `masks`."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for name, image, mask in encoded_pairs(number):
        image.tofile(folder / "images" / f"{name}.jpg")
        mask.tofile(folder / "masks" / f"{name}.png")


def write_records(folder: pathlib.Path, number: int) -> None:
    """Fills `records` with the same, in four shards, and describes them."""
    from deeplab.data import dataset, records

    (folder / "records").mkdir()
    pairs = encoded_pairs(number)
    for shard in range(4):
        size = (number + shard) // 4
        with records.ShardWriter(folder / "records", records.shard_name("train", shard, 4)) as writer:
            for name, image, mask in itertools.islice(pairs, size):
                writer.write(records.encode_example(image.tobytes(), "jpeg", name, SIDE, SIDE, mask.tobytes()))
            writer.publish()
    names, colors = ("background", "class_1", "class_2"), ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    described = dataset.Dataset("growth", names, colors, 255, splits={"train": number})
    (folder / "records" / dataset.FILE_NAME).write_text(dataset.as_text(described))


def first_batch(folder: str, start: int) -> None:
    """Makes the first batch of a training that has consumed `start` batches."""
    from deeplab.data import pipeline, records

    shards = [path for split in records.shards_by_split(folder) for path in records.list_shards(folder, split)]
    gray = (127.5,) * 3
    settings = {"crop_size": (33, 33), "padding_color": gray, "ignore_label": 255, "num_classes": 3, "seed": 1}
    next(iter(pipeline.train_batches(shards, batch_size=BATCH, start=start, **settings)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["batch"]:
        first_batch(sys.argv[2], int(sys.argv[3]))
    else:
        main()
