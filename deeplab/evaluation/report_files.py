"""A report as files: `metrics.json`, two pictures, and a TensorBoard events file."""

from __future__ import annotations

import contextlib
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
from deeplab.evaluation import plots, report_scalars
from deeplab.evaluation.report import Report
from deeplab.utils.errors import UserError
from deeplab.utils.files import write_atomically

METRICS_FILE = "metrics.json"
CONFUSION_FILE = "confusion_matrix.png"
IOU_FILE = "class_iou.png"


def write_report(report: Report, folder: str | os.PathLike) -> list[pathlib.Path]:
    """Writes a report into a folder, each file whole or not at all.

    The files are those of the latest evaluation. A `metrics.json` of another checkpoint, split or set of scales
    is kept under a name of its own (`metrics-val-700-1.0.json`); scalars of all evaluations stand side by
    side in TensorBoard.

    Args:
      report: the evaluation.
      folder: the folder (`eval_logdir`); made when missing.

    Returns:
      Paths of `metrics.json`, `confusion_matrix.png` and `class_iou.png`.

    Raises:
      UserError: the folder cannot be made or written to.
    """
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / name for name in (METRICS_FILE, CONFUSION_FILE, IOU_FILE)]
        _keep_earlier(paths[0], _evaluation_name(report))
        write_atomically(paths[0], _as_json(metrics_of(report)).encode())
        write_atomically(paths[1], plots.confusion_png(report))
        write_atomically(paths[2], plots.iou_png(report))
        report_scalars.write_scalars(report, folder)
    except OSError as fault:
        rule = f"{folder} cannot be written to: {fault.strerror or fault}"
        raise UserError("unwritable-folder", rule, "choose another folder", field="eval_logdir") from fault
    return paths


def metrics_of(report: Report) -> dict[str, Any]:
    """The content of `metrics.json`, ready for JSON: what has no value (NaN) is None.

    `confusion_matrix` holds pixels, rows = label, columns = prediction, so that every other number can be
    worked out anew.
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
            "step": report.step,
            "split": report.split,
            "num_images": report.num_images,
            "seconds": round(report.seconds, 3),
            **report.overall(),
            "rule": report.rule(),
            "absent_classes": report.absent_classes,
            "classes": classes,
            "warnings": report.warnings(),
            "reference": report.reference_scalars(),
            "settings": dict(report.settings),
            "versions": _versions(),
            "ignore_label": report.matrix.ignore_label,
            "class_names": list(report.class_names),
            "confusion_matrix": report.counts.tolist(),
        }
    )


def _evaluation_name(report: Report) -> str:
    """Tells evaluations in one folder apart; part of a file's name."""
    return _as_file_name(f"{report.split}-{report.step}-{report.passes}")


def _as_file_name(text: str) -> str:
    return re.sub(r"[^\w.-]", "_", text)


def _keep_earlier(path: pathlib.Path, evaluation: str) -> None:
    """Gives the metrics of another evaluation a name of their own before this one's take their place."""
    try:
        earlier = _as_file_name(str(json.loads(path.read_text(encoding="utf-8"))["evaluation"]))
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        earlier = "unknown"  # not of this program, or damaged: kept all the same
    if earlier != evaluation:
        with contextlib.suppress(FileNotFoundError):  # another evaluation into this folder was quicker
            os.replace(path, path.with_name(f"metrics-{earlier}.json"))


def _as_json(content: dict[str, Any]) -> str:
    """Indented JSON with each row of the confusion matrix on a line of its own."""
    head = {name: value for name, value in content.items() if name != "confusion_matrix"}
    rows = ",\n    ".join(json.dumps(row) for row in content["confusion_matrix"])
    text = json.dumps(head, indent=2, allow_nan=False, ensure_ascii=False).removesuffix("\n}")
    return f'{text},\n  "confusion_matrix": [\n    {rows}\n  ]\n}}\n'


def _plain(value: Any) -> Any:
    """The value in JSON's types: no NaN, tuples as lists, anything else by its text."""
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
        except PackageNotFoundError:  # TensorFlow is also sold as tensorflow-cpu and the like
            continue
    return found
