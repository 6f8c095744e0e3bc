"""A report as text: the table of classes, and the rule below it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from deeplab.evaluation import metrics
from deeplab.utils import console

if TYPE_CHECKING:
    from deeplab.evaluation.report import Report

_HEADER = ("class", "IoU", "accuracy", "label fraction", "predicted fraction")
_TITLES = {
    "mean_iou": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "mean_dice": "mean Dice",
    "mean_boundary_iou": "mean boundary IoU",
    "kappa": "Cohen's kappa",
    "image_mean_iou": "mean IoU per image",
}


def table(report: Report) -> str:
    """Format the title, one line per class, the metrics of the whole split, and the rule."""
    of = report.per_class()
    columns = (of["iou"], of["accuracy"], of["label_fraction"], of["predicted_fraction"])
    rows = [
        (name, decimal(iou), decimal(accuracy), percent(labeled), percent(predicted))
        for name, iou, accuracy, labeled, predicted in zip(report.class_names, *columns, strict=True)
    ]
    return "\n".join([_title(report), "", console.table(rows, _HEADER), "", _means(report), "", rule(report)])


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


def percent(fraction: float) -> str:
    """Format a fraction from 0 to 1 as a percentage; `-` for NaN."""
    if math.isnan(fraction):
        return "-"
    # A class with few pixels must not look like a class without any.
    return f"{100 * fraction:.4f}%" if 0 < fraction < 5e-5 else f"{100 * fraction:.2f}%"


def listed(names: Sequence[str], max_names: int = 12) -> str:
    """Join names with commas; of more than `max_names`, the first ones and the number of the others."""
    more = f" and {len(names) - max_names} more" if len(names) > max_names else ""
    return ", ".join(names[:max_names]) + more


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
    for name in ("mean_iou", "image_mean_iou") if report.intervals else ():
        low, high = getattr(report.intervals, name).tolist()
        comma = "," if name in remarks else " "
        remarks[name] = f"{remarks.get(name, '')}{comma} 95 % interval {decimal(low)} to {decimal(high)}"
    return "\n".join(
        f"{_TITLES.get(name, name.replace('_', ' ')):<22}  {decimal(value):>5}{remarks.get(name, '')}"
        for name, value in values.items()
    )


def _rule_for_background(report: Report) -> str:
    ignored = report.ignored_class
    if ignored is not None:
        return f"pixels labeled {ignored} do not count (ignore label {report.matrix.ignore_label})"
    background = "background is a class like the others, " if "background" in report.class_names else ""
    return f"{background}pixels labeled {report.matrix.ignore_label} do not count (ignore label)"


def _rule_for_absent(report: Report) -> str:
    absent = [name for name in report.absent_classes if name != report.ignored_class]
    return f"absent from the labels and left out of the means: {listed(absent)}" if absent else ""


def _rule_of_the_reference(report: Report) -> str:
    only_predicted = ~metrics.present_classes(report.counts) & (report.counts.sum(axis=0) > 0)
    if not only_predicted.any():
        return ""
    return (
        f"the research DeepLab's mean IoU would be {decimal(metrics.reference_mean_iou(report.counts))}, as it counts "
        f"classes that are predicted but never labeled as 0: {listed(report.names_of(only_predicted))}"
    )
