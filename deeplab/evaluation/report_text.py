"""A report as text: the table of classes, and the rule below it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from deeplab.data.class_names import MANY_CLASSES
from deeplab.evaluation import metrics
from deeplab.utils import console
from deeplab.utils.text import harmless, percent, shorten

if TYPE_CHECKING:
    from deeplab.evaluation.report import Report

_COLUMNS = ("iou", "accuracy", "label_fraction", "predicted_fraction")  # of the table, unless metrics are chosen
_TITLES = {
    "mean_iou": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "mean_dice": "mean Dice",
    "mean_boundary_iou": "mean boundary IoU",
    "kappa": "Cohen's kappa",
    "image_mean_iou": "mean IoU per image",
    "calibration_error": "calibration error",
    "iou": "IoU",
    "dice": "Dice",
    "f2": "F2",
    "boundary_iou": "boundary IoU",
}
_MAX_ROWS = 40  # classes in the text, of more than 160
_MAX_GROUPS = 30  # in the text; all are in metrics.json


def table(report: Report) -> str:
    """Format the title, one line per class, the metrics of the whole split, the groups, and the rule."""
    of = report.per_class()
    names = [name for name in of if name in _COLUMNS] if not report.shown else list(of)
    columns = [[percent(v) if name.endswith("_fraction") else decimal(v) for v in of[name]] for name in names]
    rows = list(zip(report.class_names, *columns, strict=True))
    header, number = ("class", *map(title, names)), len(rows)
    if number > MANY_CLASSES:
        chosen = metrics.best_and_worst(metrics.class_iou(report.counts), _MAX_ROWS)
        rows = [rows[index] for index in chosen]
    more = (
        f"\nthe best and the worst {len(rows)} of {number} classes; metrics.json holds all"
        if len(rows) < number
        else ""
    )
    parts = [_title(report), console.table(rows, header) + more, _means(report)]
    if report.group_by and report.images:
        parts.append(_groups(report))
    return "\n\n".join([*parts, rule(report)])


def title(name: str) -> str:
    """Return a metric's name as people write it."""
    if name.startswith("trimap_iou_"):
        return f"mean IoU within {name.removeprefix('trimap_iou_')} px"
    return _TITLES.get(name, name.replace("_", " ").replace("iou", "IoU"))


def _groups(report: Report) -> str:
    rows = []
    groups = report.groups()
    for name, values in list(groups.items())[:_MAX_GROUPS]:
        interval = " to ".join(map(decimal, values["interval"])) if values["interval"] else "-"
        rows.append((harmless(name), values["images"], decimal(values["mean_iou"]), interval))
    if len(groups) > _MAX_GROUPS:
        rows.append((f"... and {len(groups) - _MAX_GROUPS} more", "", "", ""))
    return console.table(rows, (f"images by {report.group_by}", "images", "mean IoU", "95 % interval"))


def rule(report: Report) -> str:
    """Format one line that says what the numbers mean."""
    parts = [
        "IoU is counted over all pixels of the split together, not per image",
        _rule_for_background(report),
        _rule_for_absent(report),
        _rule_of_the_reference(report),
    ]
    return "; ".join(part for part in parts if part) + "."


def decimal(value: float) -> str:
    """Format a metric from 0 to 1 with three digits; `-` for NaN."""
    return "-" if math.isnan(value) else f"{value:.3f}"


def _title(report: Report) -> str:
    images = f"{report.num_images} image{'s' if report.num_images != 1 else ''}"
    time = f" in {console.duration(report.seconds)}" if report.seconds else ""
    return f"{report.checkpoint} (step {report.step}), split {report.split}: {images}{time}"


def _means(report: Report) -> str:
    present = int(metrics.present_classes(report.counts).sum())
    remarks = {"mean_iou": f"  over {present} of {report.matrix.num_classes} classes"}
    values = report.overall()
    if report.images:
        values["image_mean_iou"] = report.image_mean_iou
    for name, ends in (report.intervals.overall if report.intervals else {}).items():
        low, high = ends.tolist()
        comma = "," if name in remarks else " "
        remarks[name] = f"{remarks.get(name, '')}{comma} 95 % interval {decimal(low)} to {decimal(high)}"
    width = max(22, *(len(title(name)) for name in values))
    lines = [f"{title(name):<{width}}  {decimal(value):>5}{remarks.get(name, '')}" for name, value in values.items()]
    left = ", ".join(report.class_names[index] for index in report.excluded)
    lines += [f"{title(name)} without {left}: {value:.4f}" for name, value in report.without().items()]
    return "\n".join(lines)


def _rule_for_background(report: Report) -> str:
    ignored = report.ignored_class
    if ignored is not None:
        return f"pixels labeled {ignored} do not count (ignore label {report.matrix.ignore_label})"
    background = "background is a class like the others, " if "background" in report.class_names else ""
    return f"{background}pixels labeled {report.matrix.ignore_label} do not count (ignore label)"


def _rule_for_absent(report: Report) -> str:
    absent = [name for name in report.absent_classes if name != report.ignored_class]
    return f"absent from the labels and left out of the means: {shorten(absent, 12)}" if absent else ""


def _rule_of_the_reference(report: Report) -> str:
    only_predicted = ~metrics.present_classes(report.counts) & (report.counts.sum(axis=0) > 0)
    if not only_predicted.any():
        return ""
    return (
        f"the research DeepLab's mean IoU would be {decimal(metrics.reference_mean_iou(report.counts))}, as it counts "
        f"classes that are predicted but never labeled as 0: {shorten(report.names_of(only_predicted), 12)}"
    )
