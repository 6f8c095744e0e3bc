"""The report of a training as one HTML page: results, curves, classes, example images, data, settings, machine.

`training.html.j2` is the page, in the skeleton of `visualization/html_page.py`; this module gives it its values. Used
by the callback `training_report`.
"""

from __future__ import annotations

import importlib.metadata
import pathlib
import platform
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from deeplab import __version__
from deeplab.config import run_file
from deeplab.config.fields import as_dict
from deeplab.data import colormaps
from deeplab.data.class_names import MANY_CLASSES
from deeplab.evaluation import html_report
from deeplab.evaluation.report_text import decimal, title
from deeplab.training import curve_plots, evaluation_model, memory
from deeplab.training.callbacks import curves
from deeplab.training.callbacks.live_evaluation import HISTORY
from deeplab.training.state import TrainState
from deeplab.utils import console, resources
from deeplab.utils.files import write_atomically
from deeplab.utils.remote_names import named
from deeplab.utils.text import percent, shorten
from deeplab.visualization import html_page
from deeplab.visualization.charts import LineChart

TEMPLATE = pathlib.Path(__file__).with_name("training.html.j2")
REPORT_FILE = "report.html"
_PACKAGES = ("tensorflow", "keras", "numpy")
_MAX_CLASS_CURVES = 8
_MAX_NAMES = 40


def write(state: TrainState, seconds: float, steps: int) -> pathlib.Path:
    """Write `report.html` into the training folder.

    Args:
      state: after the last step.
      seconds: that this run took.
      steps: that this run did.

    Raises:
      UserError: the page cannot be written.
    """
    path = pathlib.Path(state.config.train_logdir, REPORT_FILE)
    write_atomically(path, page(state, seconds, steps).encode())
    return path


def page(state: TrainState, seconds: float, steps: int) -> str:
    """Return the HTML document; arguments as `write`."""
    assert state.configs
    folder = pathlib.Path(state.config.train_logdir)
    losses, history = curves.read(folder / curves.LOSSES), curves.read(folder / HISTORY)
    report, evaluator = state.evaluation or (None, None)
    dataset = state.dataset
    colors = colormaps.colors_for(dataset.colors, dataset.num_classes)[: max(256, dataset.num_classes)]
    examples = html_report.gallery(report, evaluator.images, evaluator.predictor) if report and evaluator else None
    values = {
        "folder": named(str(folder)),
        "tiles": tiles(state, report, seconds),
        "charts": charts(losses, history, dataset.class_names),
        "classes": class_table(state, report),
        "folds": dataset.num_classes > MANY_CLASSES,
        "columns": [title(name) for name in report.per_class()] if report else [],
        "colors": [html_page.hex_color(color) for color in colors],
        "rows": [(title(name), decimal(value)) for name, value in report.overall().items()] if report else [],
        "split": report.split if report else "",
        "warnings": report.warnings() if report else [],
        "kinds": {name: found for name, found in examples.kinds.items() if name in _KINDS} if examples else {},
        "data": data_rows(state),
        "pruning": evaluation_model.sparsity(state).text() if state.trainer.pruning else "",
        "settings": settings_rows(state),
        "machine": machine_rows(seconds, steps, state.config.train_batch_size),
        "best": state.best,
    }
    return html_page.render(TEMPLATE, values)


_KINDS = ("Best images", "Worst images")


def tiles(state: TrainState, report: Any, seconds: float) -> list[tuple[str, str]]:
    """Large numbers at the top."""
    found = [(f"{state.step:,}", "steps"), (console.duration(seconds), "time of this run")]
    if report:
        found.insert(0, (decimal(report.mean_iou), f"mean IoU on {report.split}, last step"))
    if state.best:
        found.insert(
            1, (decimal(state.best["value"]), f"best {title(state.best['metric'])}, step {state.best['step']}")
        )
    return found


def charts(losses: curves.Rows, history: curves.Rows, class_names: tuple[str, ...]) -> list[tuple[str, LineChart]]:
    """Heading and chart of the loss, the learning rate, the metrics and the IoU per class."""

    def series(rows: curves.Rows, names: Mapping[str, str]) -> dict[str, list[tuple[float, float]]]:
        found = {label: [(row["step"], row[name]) for row in rows if name in row] for name, label in names.items()}
        return {label: thinned(points) for label, points in found.items() if points}

    losses_by_name = {"total_loss": "total", "task_loss": "task", "regularization_loss": "weight decay"}
    losses_by_name |= {name: name.removeprefix(curve_plots.PART) for name in curve_plots.part_names(losses)}
    found = [
        ("Loss", LineChart("Loss", series(losses, losses_by_name))),
        ("Learning rate", LineChart("Learning rate", series(losses, {"learning_rate": "learning rate"}))),
    ]
    if len(history) > 1:
        means = {"mean_iou": "mean IoU", "pixel_accuracy": "pixel accuracy"}
        found.append(("Evaluations", LineChart("Evaluations", series(history, means), y_limits=(0, 1))))
        for start in range(0, len(class_names), _MAX_CLASS_CURVES):
            part = class_names[start : start + _MAX_CLASS_CURVES]
            chart = LineChart("IoU per class", series(history, {f"iou/{name}": name for name in part}), y_limits=(0, 1))
            found.append(("IoU per class", chart))
    return found


def thinned(points: list[tuple[float, float]], most: int = 400) -> list[tuple[float, float]]:
    """At most about so many points, the last among them."""
    every = max(1, len(points) // most)
    return points[::every] + ([points[-1]] if (len(points) - 1) % every else [])


def class_table(state: TrainState, report: Any) -> list[tuple[str, list[str], str]]:
    """Name, metrics and fraction of the training pixels of each class."""
    pixels = state.dataset.pixels.get(state.config.train_split, ())
    total = sum(pixels)
    fractions = [percent(count / total, unit=" %") if total else "" for count in pixels]
    fractions = fractions or [""] * state.dataset.num_classes
    metrics = report.per_class() if report else {}
    return [
        (name, [decimal(float(values[index])) for values in metrics.values()], fractions[index])
        for index, name in enumerate(state.dataset.class_names)
    ]


def data_rows(state: TrainState) -> list[tuple[str, str]]:
    """What is known of the data."""
    assert state.configs
    dataset = state.dataset
    images = ", ".join(f"{split} {count:,}" for split, count in dataset.splits.items())
    rows = [
        ("dataset", dataset.name),
        ("folder", named(state.configs.dataset.dataset_dir)),
        ("images", images),
        ("classes", f"{dataset.num_classes}: {shorten(dataset.class_names, _MAX_NAMES)}"),
        ("ignore label", str(dataset.ignore_label)),
        ("epoch", f"{state.length.steps_per_epoch:.1f} steps"),
    ]
    return [(name, text) for name, text in rows if text]


def settings_rows(state: TrainState) -> list[tuple[str, list[tuple[str, str]]]]:
    """Every setting by group; those that differ from the default are marked by the template."""
    assert state.configs
    groups = []
    for group in state.configs.groups():
        default = {name: run_file.show(value) for name, value in _defaults(type(group)).items()}
        rows = [(name, run_file.show(value)) for name, value in as_dict(group).items()]
        changed = [(name, value) for name, value in rows if default.get(name) != value]
        groups.append((type(group).__name__.removesuffix("Config"), changed))
    return [(name, rows) for name, rows in groups if rows]


def _defaults(kind: type) -> dict[str, Any]:
    return as_dict(kind())


def machine_rows(seconds: float, steps: int, batch_size: int) -> list[tuple[str, str]]:
    """Hardware, time and versions."""
    gpus = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    names = ", ".join(str(gpu.get("device_name", "GPU")) for gpu in gpus)
    free = resources.available_memory()
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    rows = [
        ("processor", f"{_processor()}, {resources.core_count()} cores"),
        ("GPU", names or "none"),
        ("free memory at the end", memory.size_text(free) if free else ""),
        ("time", f"{console.duration(seconds)} for {steps:,} steps, evaluations and checkpoints included"),
        ("speed", f"{steps * batch_size / seconds:.1f} images/s" if seconds and steps else ""),
        ("versions", ", ".join([f"deeplab {__version__}", *versions, f"Python {platform.python_version()}"])),
    ]
    return [(name, text) for name, text in rows if text]


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        return names[0] if names else platform.machine()
    except OSError:
        return platform.processor() or platform.machine()
