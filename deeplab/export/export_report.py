"""`export_report.md` and the printed table: size, time and quality of every exported file, measured in one run.

Owns the measurement of time and the text. The exporter makes the rows; nothing here decides whether a file is good.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deeplab.export.formats import TensorInfo
from deeplab.inference.predictor import Predictor
from deeplab.utils import console, processor, resources

REPORT_FILE = "export_report.md"
ROUNDS = 5
MODEL = "the model"
HEADER = ("format", "file", "MB", "ms", "CPU ms", "of the model", "mean IoU", "difference", "pixels equal")
GZIP = "gzip MB"  # one more column, for pruned models


@dataclass(frozen=True)
class Time:
    """Median milliseconds of one image.

    Attributes:
      wall: on the clock.
      processor: of all threads together, which hardly depends on what else the machine does.
    """

    wall: float
    processor: float


@dataclass(frozen=True)
class Row:
    """One exported file, or the model itself.

    Attributes:
      format, file: names; of the model: "the model", "".
      megabytes: size; None for the model.
      time: of one image, from uint8 pixels to labels; None if it was not measured.
      mean_iou: 0..1 on the labeled split; None if it was not measured.
      loss: the model's mean IoU minus this one.
      agreement: fraction of pixels with the model's label, 0..1; None if nothing here can run the file.
      is_reduced: whether its labels may differ from the model's.
      compressed: megabytes after gzip; None if it was not measured, as for models that are not pruned.
    """

    format: str
    file: str
    megabytes: float | None = None
    time: Time | None = None
    mean_iou: float | None = None
    loss: float | None = None
    agreement: float | None = 1.0
    is_reduced: bool = False
    compressed: float | None = None


def measure(predictors: Mapping[str, Predictor], image: np.ndarray, rounds: int = ROUNDS) -> dict[str, Time]:
    """Return the time of one image for each predictor; all take turns.

    Args:
      predictors: by name.
      image: uint8 [H, W, C].
      rounds: number of timed predictions of each, after one for warm-up.
    """
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in predictors}
    for number in range(rounds + 1):
        for name, predictor in predictors.items():
            wall, busy = time.perf_counter(), time.process_time()
            predictor.predict(image, probabilities=False)
            if number:
                seconds[name].append((time.perf_counter() - wall, time.process_time() - busy))
    return {
        name: Time(*(1e3 * statistics.median(column) for column in zip(*times, strict=True)))
        for name, times in seconds.items()
    }


def cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the rows as text, in the columns of `HEADER`."""
    base = next((row.time.processor for row in rows if row.format == MODEL and row.time), None)
    return [
        (
            row.format,
            row.file or "-",
            _number(row.megabytes, ".2f"),
            _number(row.time.wall if row.time else None, ".1f"),
            _number(row.time.processor if row.time else None, ".1f"),
            _number(row.time.processor / base if row.time and base else None, ".2f"),
            _number(row.mean_iou, ".4f"),
            _number(None if row.loss is None else -row.loss, "+.4f"),
            _number(row.agreement, ".4f"),
        )
        for row in rows
    ]


def table(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return header and cells, with the sizes after gzip where they were measured."""
    if all(row.compressed is None for row in rows):
        return HEADER, cells(rows)
    place = HEADER.index("MB") + 1
    both = zip(cells(rows), rows, strict=True)
    found = [(*line[:place], _number(row.compressed, ".2f"), *line[place:]) for line, row in both]
    return (*HEADER[:place], GZIP, *HEADER[place:]), found


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def text(
    rows: Sequence[Row], tensors: Mapping[str, Sequence[TensorInfo]], conditions: Sequence[str], checkpoint: str
) -> str:
    """Return the report as Markdown.

    Args:
      rows: the model first.
      tensors: file name -> its inputs and outputs.
      conditions: sentences that say on what was measured.
      checkpoint: from which the files were made.
    """
    shapes = [(file, *one) for file, ones in tensors.items() for one in ones]
    lines = [
        "# Exported files",
        "",
        f"Made of `{checkpoint}`.",
        "",
        *_markdown(*table(rows)),
        "",
        "- Time: median of one image, uint8 pixels to labels, resizing and padding included, default threads of each",
        f"  runtime on {resources.core_count()} processor cores ({processor.describe()}); all take turns. CPU ms is",
        "  the time of all threads; its ratio to that of the model depends little on other work of the machine.",
        "  Measure on your own device.",
        *(f"- {sentence}" for sentence in conditions),
        "",
        "## Inputs and outputs",
        "",
        *_markdown(("file", "tensor", "type", "shape"), shapes),
    ]
    return "\n".join(lines) + "\n"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in (header, ["---"] * len(header), *rows)
    ]


def printed(rows: Sequence[Row]) -> str:
    """Return the table for a terminal."""
    header, found = table(rows)
    return console.table(found, header)
