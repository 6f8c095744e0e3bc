"""A report as files: `metrics.json`, two plots, the HTML page, and a TensorBoard events file.

All but the last get their names together, so that a kill leaves those of one evaluation.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import pathlib
import platform
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from deeplab import __version__
from deeplab.evaluation import bootstrap, plots, report_scalars
from deeplab.evaluation.cell_counts import CellCounts
from deeplab.evaluation.report import Report
from deeplab.utils.files import transaction_in_turn, writing

METRICS_FILE = "metrics.json"
CONFUSION_FILE = "confusion_matrix.png"
IOU_FILE = "class_iou.png"
PAGE_FILE = "report.html"
PER_IMAGE_FILE = "per_image.csv"


def write_report(report: Report, folder: str | os.PathLike, page: str = "") -> list[pathlib.Path]:
    """Write a report into a folder, all files together or none.

    The files are of the latest evaluation. A `metrics.json` of another checkpoint, split or set of scales is
    kept under a different name (`metrics-val-700-1.0.json`); TensorBoard shows the scalars of all evaluations.

    Args:
      report: the evaluation.
      folder: the folder (`eval_logdir`); created if missing.
      page: the HTML document for `report.html`; empty = none is written, and that of an earlier evaluation stays.

    Returns:
      Paths of `metrics.json`, `confusion_matrix.png`, `class_iou.png`, with counts per image `per_image.csv`, and
      `report.html`.

    Raises:
      UserError: the folder cannot be created or written to, or another process writes there for more than a minute
        (`folder-in-use`).
    """
    folder, evaluation = pathlib.Path(folder), _evaluation_name(report)
    contents = {
        METRICS_FILE: _as_json(metrics_of(report)).encode(),
        CONFUSION_FILE: plots.confusion_png(report),
        IOU_FILE: plots.iou_png(report),
    }
    if report.images:
        contents[PER_IMAGE_FILE] = report.images.csv(report.class_names).encode()
    if page:
        contents[PAGE_FILE] = page.encode()
    with transaction_in_turn(folder, "eval_logdir") as transaction:
        with writing(folder):
            for name, content in (_earlier(folder / METRICS_FILE, evaluation) | contents).items():
                transaction.temporary(name).write_bytes(content)
        transaction.commit()
    with writing(folder):
        report_scalars.write_scalars(report, folder)
    return [folder / name for name in contents]


def metrics_of(report: Report) -> dict[str, Any]:
    """Return the content of `metrics.json` in the types of JSON; NaN is None.

    `confusion_matrix` holds pixels, rows = label, columns = prediction, from which the other numbers can be
    computed. Beyond 256 classes, `confusion_cells` has [label, prediction, pixels] of the cells that are not 0.
    """
    labeled, predicted = report.counts.sum(axis=1).tolist(), report.counts.sum(axis=0).tolist()
    per_class = {name: values.tolist() for name, values in report.per_class().items()}
    classes = [
        {"index": index, "name": name}
        | {metric: values[index] for metric, values in per_class.items()}
        | {"label_pixels": labeled[index], "predicted_pixels": predicted[index]}
        for index, name in enumerate(report.class_names)
    ]
    return _plain(
        {
            "evaluation": _evaluation_name(report),
            "checkpoint": report.checkpoint,
            "checkpoint_sha256": _sha256(report.checkpoint),
            "step": report.step,
            "split": report.split,
            "num_images": report.num_images,
            "seconds": round(report.seconds, 3),
            **report.overall(),
            "image_mean_iou": report.image_mean_iou,
            "intervals": _intervals(report),
            "excluded_classes": report.names_of(np.isin(np.arange(len(report.class_names)), report.excluded)),
            "without_excluded_classes": report.without(),
            "groups": report.groups(),
            **{name: value for metric in report.accumulators.values() for name, value in metric.details().items()},
            "rule": report.rule(),
            "absent_classes": report.absent_classes,
            "classes": classes,
            "warnings": report.warnings(),
            "reference": report.reference_scalars(),
            "settings": dict(report.settings),
            "versions": _versions(),
            "ignore_label": report.matrix.ignore_label,
            "class_names": list(report.class_names),
            **_confusion(report.counts),
        }
    )


def _confusion(counts: np.ndarray | CellCounts) -> dict[str, list[list[int]]]:
    if not isinstance(counts, CellCounts):
        return {"confusion_matrix": counts.tolist()}
    row, column = np.divmod(counts.cells, counts.num_classes)
    return {"confusion_cells": np.stack([row, column, counts.numbers], axis=1).tolist()}


def _intervals(report: Report) -> dict[str, Any] | None:
    found = report.intervals
    if found is None:
        return None
    method = {"confidence": bootstrap.CONFIDENCE, "resamples": bootstrap.RESAMPLES, "seed": bootstrap.SEED}
    by_class = dict(zip(report.class_names, found.class_iou.T.tolist(), strict=True))
    return method | {name: ends.tolist() for name, ends in found.overall.items()} | {"class_iou": by_class}


def _sha256(source: str) -> str | None:
    """Return the hash of a model file, or of a checkpoint's index, which holds a checksum of every variable."""
    for path in (f"{source}.index", source):
        if os.path.isfile(path):
            with open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    return None


def _evaluation_name(report: Report) -> str:
    """Return a name that identifies an evaluation within its folder; part of a file name."""
    return _as_file_name(f"{report.split}-{report.step}-{report.passes}")


def _as_file_name(text: str) -> str:
    return re.sub(r"[^\w.-]", "_", text)


def _earlier(path: pathlib.Path, evaluation: str) -> dict[str, bytes]:
    """Return the metrics of another evaluation under the name by which they are kept; empty if there are none."""
    try:
        content = path.read_bytes()
        name = _as_file_name(str(json.loads(content)["evaluation"]))
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, RecursionError):
        name = "unknown"  # not from this program, or damaged: kept as well
    return {f"metrics-{name}.json": content} if name != evaluation else {}


def _as_json(content: dict[str, Any]) -> str:
    """Format indented JSON with one line per row, or cell, of the confusion matrix, which comes last."""
    *others, last = content
    rows = ",\n    ".join(json.dumps(row) for row in content[last])
    text = json.dumps({name: content[name] for name in others}, indent=2, allow_nan=False, ensure_ascii=False)
    text = text.removesuffix("\n}")
    return f'{text},\n  "{last}": [\n    {rows}\n  ]\n}}\n'


def _plain(value: Any) -> Any:
    """Convert to the types of JSON: no NaN, tuples as lists, other objects as text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _versions() -> dict[str, str]:
    found = {"deeplab": __version__, "python": platform.python_version()}
    for package in ("tensorflow", "keras", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # TensorFlow also comes as tensorflow-cpu and the like
            continue
    return found
