"""A report as one HTML page: metrics with intervals, classes, confusion matrix, curves, examples.

`evaluation.html.j2` is the page, in the skeleton of `visualization/html_page.py`; this module gives it its values.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deeplab.data import colormaps
from deeplab.data.class_names import MANY_CLASSES
from deeplab.evaluation import bootstrap, examples, metrics
from deeplab.evaluation.confusion_chart import ConfusionChart
from deeplab.evaluation.report import Report
from deeplab.evaluation.report_text import decimal, title
from deeplab.evaluation.split_images import SplitImages
from deeplab.inference.predictor import Predictor
from deeplab.utils.text import percent
from deeplab.visualization import html_page
from deeplab.visualization.charts import LineChart
from deeplab.visualization.label_rendering import LabelColors

TEMPLATE = pathlib.Path(__file__).with_name("evaluation.html.j2")
_MAX_ROWS = 80  # classes whose rows show at once, of more than 160
_CURVES = ("mean_iou", "pixel_accuracy", "mean_accuracy", "mean_dice", "mean_boundary_iou")


def page_for(report: Report, images: SplitImages, predictor: Predictor, folder: str | os.PathLike) -> str:
    """Return the HTML document of a report with examples and the metrics of earlier evaluations in a folder.

    Raises:
      UserError: as `SplitImages.batches`, because the examples are predicted again.
    """
    return page(report, gallery(report, images, predictor), earlier(folder, report))


def page(report: Report, shown: Gallery | None = None, history: Mapping[int, Mapping[str, float]] | None = None) -> str:
    """Return the HTML document of a report.

    Args:
      report: the evaluation.
      shown: example images.
      history: metrics of earlier checkpoints on the same split, by step.
    """
    number = len(report.class_names)
    colors = colormaps.colors_for(report.colors if report.colors is not None else "pascal", number)[:number]
    counts, _, numbers = metrics.condensed(report.counts, report.class_names)
    names = [report.class_names[index] if index >= 0 else f"{number - len(numbers) + 1} others" for index in numbers]
    iou = metrics.class_iou(report.counts)
    chosen = metrics.best_and_worst(iou, _MAX_ROWS).tolist() if number > MANY_CLASSES else None
    values = {
        "report": report,
        "title": title,
        "decimal": decimal,
        "colors": [html_page.hex_color(color) for color in colors],
        "rows": _metric_rows(report),
        "resamples": bootstrap.RESAMPLES,
        "excluded": [report.class_names[index] for index in report.excluded],
        "without": {title(name): decimal(value) for name, value in report.without().items()},
        "classes": class_rows(report),
        "drawn": metrics.present_classes(counts).tolist(),
        "columns": [name for name in report.per_class() if name != "iou"],
        "pixels": report.counts.sum(axis=1).tolist(),
        "chart": ConfusionChart(counts, names, numbers),
        "chosen": chosen,
        "curves": curves_of(history or {}, report),
        "reliability": _reliability(report),
        "trimap": _trimap(report),
        "gallery": shown or Gallery({}, []),
        "settings": {name: json.dumps(value, default=str) for name, value in sorted(report.settings.items())},
    }
    return html_page.render(TEMPLATE, values)


def _metric_rows(report: Report) -> list[tuple[str, str, str]]:
    """Name, value and interval of every metric of the split."""
    values = report.overall() | ({"image_mean_iou": report.image_mean_iou} if report.images else {})
    ends = report.intervals.overall if report.intervals else {}
    return [(title(name), decimal(value), interval_text(ends.get(name))) for name, value in values.items()]


def interval_text(ends: np.ndarray | None) -> str:
    """Format an interval: `0.512 to 0.561`; empty without."""
    if ends is None or not np.isfinite(ends).all():
        return ""
    return f"{ends[0]:.3f} to {ends[1]:.3f}"


@dataclass(frozen=True)
class ClassRow:
    """A class in the table.

    Attributes:
      index: its number.
      name: its name.
      iou: its IoU; None if it is absent from the labels.
      low, high: ends of the interval of the IoU; None if unknown.
      values: its other metrics as text.
    """

    index: int
    name: str
    iou: float | None
    low: float | None
    high: float | None
    values: list[str]


def class_rows(report: Report) -> list[ClassRow]:
    """Return the rows of the table of classes, in the order of the classes."""
    by_class = report.per_class()
    iou = by_class.pop("iou")
    ends = report.intervals.class_iou if report.intervals else np.full((2, len(iou)), np.nan)
    known = [None if math.isnan(value) else float(value) for value in np.concatenate([iou, *ends])]
    shown = {name: percent if name.endswith("_fraction") else decimal for name in by_class}
    texts = [[shown[name](float(row[index])) for name, row in by_class.items()] for index in range(len(iou))]
    number = len(iou)
    return [
        ClassRow(index, name, known[index], known[number + index], known[2 * number + index], texts[index])
        for index, name in enumerate(report.class_names)
    ]


# --- Curves -------------------------------------------------------------------------------------------------


def earlier(folder: str | os.PathLike, report: Report) -> dict[int, dict[str, float]]:
    """Return the metrics of other checkpoints on the same split from the `metrics*.json` of a folder, by step."""
    found: dict[int, dict[str, float]] = {}
    for path in sorted(pathlib.Path(folder).glob("metrics*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            same = content["split"] == report.split and content["evaluation"].endswith(f"-{report.passes}")
            if same and len(content["class_names"]) == len(report.class_names):
                values = {name: float(content[name]) for name in _CURVES if content.get(name) is not None}
                found[int(content["step"])] = values
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # of another program, or damaged
            continue
    return found


def curves_of(history: Mapping[int, Mapping[str, float]], report: Report) -> LineChart | None:
    """Return the metrics over steps; None for a single checkpoint."""
    steps = dict(history) | {report.step: report.overall()}
    if len(steps) < 2:
        return None
    names = [name for name in _CURVES if sum(name in values for values in steps.values()) > 1]
    series = {
        title(name): [(step, values[name]) for step, values in sorted(steps.items()) if name in values]
        for name in names
    }
    return LineChart("Metrics of the checkpoints", series, y_limits=(0, 1))


def _reliability(report: Report) -> LineChart | None:
    found = [metric.details().get("reliability") for metric in report.accumulators.values()]
    plot = next((one for one in found if one), None)
    if plot is None:
        return None
    points = [
        (sure, right) for sure, right in zip(plot["confidence"], plot["accuracy"], strict=True) if sure is not None
    ]
    return LineChart(
        "Reliability: fraction of right predictions by predicted probability",
        {"pixels": points},
        "predicted probability",
        "fraction that is right",
        (0, 1),
        (0, 1),
        diagonal=True,
    )


def _trimap(report: Report) -> LineChart | None:
    for metric in report.accumulators.values():
        details = metric.details()
        if "trimap_width" in details:
            points = list(zip(details["trimap_width"], details["trimap_mean_iou"], strict=True))
            return LineChart("Mean IoU near outlines", {"mean IoU": points}, "distance in pixels", "mean IoU")
    return None


# --- Examples -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gallery:
    """Example images of a report.

    Attributes:
      kinds: figures by kind: best, worst, most uncertain.
      pairs: one for each confused pair of classes.
    """

    kinds: Mapping[str, list[html_page.Figure]]
    pairs: list[html_page.Figure]


def gallery(report: Report, images: SplitImages, predictor: Predictor) -> Gallery:
    """Return the example images of a report: those that are best, worst, least sure, and of confused classes."""
    if not report.images or not report.images.names:
        return Gallery({}, [])
    counts, names = report.images, report.class_names
    kinds = {
        "Worst images": examples.worst(counts),
        "Most uncertain images": examples.most_uncertain(counts),
        "Best images": examples.best(counts),
    }
    pairs = examples.confused_pairs(report.counts, counts)
    wanted = {index for chosen in kinds.values() for index in chosen} | {pair.image for pair in pairs}
    predict = examples.predict_with(predictor, images)
    found = dict(examples.read(images, predict, sorted(wanted)))
    colors, means = LabelColors.of(images.dataset), counts.mean_iou()

    def caption(index: int) -> str:
        sure = counts.uncertainties[index]
        unsure = "" if math.isnan(sure) else f", uncertainty {sure:.3f}"
        return f"{counts.names[index]}: mean IoU {decimal(float(means[index]))}{unsure}"

    labeled = report.counts.sum(axis=1)
    texts = [
        f"{names[pair.label]} predicted as {names[pair.prediction]}: {pair.pixels:,} pixels, "
        f"{percent(pair.pixels / labeled[pair.label], 1)} of {names[pair.label]}"
        for pair in pairs
    ]
    return Gallery(
        {
            kind: [found[index].figure(colors, caption(index)) for index in chosen if index in found]
            for kind, chosen in kinds.items()
            if chosen
        },
        [
            found[pair.image].figure(colors, f"{text}. Most of them in {counts.names[pair.image]}")
            for text, pair in zip(texts, pairs, strict=True)
            if pair.image in found
        ],
    )
