"""What checking a dataset costs: images a second beside the bound, which only decodes every image and mask once.

    python benchmarks/check_data.py [--images 400] [--rounds 5]

Bound and checks take turns on the same generated images (375x500 JPEG, palette and gray PNG masks) on the same number
of threads, so that a busy machine slows all alike. The bound decodes a JPEG at a quarter of its size and a mask whole,
as the check must. A minute or two.
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
from collections.abc import Callable, Sequence

sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np
from PIL import Image

from benchmarks.build_data import HEIGHT, LABELS, WIDTH, write_pairs
from deeplab.config.validation_config import CheckConfig
from deeplab.data.png_files import without_palette
from deeplab.data.readers.classes import classes_from
from deeplab.data.readers.source import Pair, Source
from deeplab.data.validation import analysis, subject
from deeplab.utils import console
from deeplab.utils.parallel import ordered_map


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400, help="pairs of a timed check")
    parser.add_argument("--rounds", type=int, default=5, help="timed checks of each kind")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="check_data_") as folder:
        gray, palette = write_pairs(pathlib.Path(folder), arguments.images)
        kinds: dict[str, Callable[[], object]] = {
            "bound: decode gray masks": lambda: decode_once(gray),
            "check, gray masks": lambda: quiet_check(gray),
            "bound: decode palette masks": lambda: decode_once(palette),
            "check, palette masks": lambda: quiet_check(palette),
        }
        wall: dict[str, list[float]] = {name: [] for name in kinds}
        processor: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(arguments.rounds):
            for name, run in kinds.items():
                starts = time.perf_counter(), time.process_time()
                run()
                wall[name].append(time.perf_counter() - starts[0])
                processor[name].append(time.process_time() - starts[1])
    rows = []
    for place, name in enumerate(kinds):
        bound = list(kinds)[place // 2 * 2]
        seconds, cost = statistics.median(wall[name]), statistics.median(processor[name])
        ratio = cost / statistics.median(processor[bound])
        rows.append((name, f"{len(gray) / seconds:.0f}", f"{1000 * cost / len(gray):.2f}", f"{ratio:.1f}"))
    print(f"{len(gray)} pairs of {WIDTH}x{HEIGHT} pixels, {os.cpu_count()} cores")
    print(console.table(rows, ("", "images/s", "CPU ms an image", "times the bound's CPU")))


def decode_once(pairs: Sequence[Pair]) -> None:
    """The bound: every image is decoded at a quarter of its size, every mask whole."""
    for _ in ordered_map(_decode, pairs):
        pass


def _decode(pair: Pair) -> None:
    image = Image.open(io.BytesIO(pathlib.Path(pair.image).read_bytes()))
    image.draft("L", (WIDTH // 4, HEIGHT // 4))
    np.asarray(image.convert("L"))
    mask = without_palette(pathlib.Path(str(pair.mask)).read_bytes())
    cv2.imdecode(np.frombuffer(mask, np.uint8), cv2.IMREAD_UNCHANGED)


def quiet_check(pairs: Sequence[Pair]) -> None:
    """Checks without printing anything."""
    with open(os.devnull, "w") as nowhere:
        err, sys.stderr = sys.stderr, nowhere
        try:
            source = Source({"train": list(pairs)})
            analysis.check(subject.of_source(source, classes_from(LABELS, source), "pairs"), CheckConfig())
        finally:
            sys.stderr = err


if __name__ == "__main__":
    main()
