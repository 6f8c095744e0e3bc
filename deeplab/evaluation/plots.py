"""Plots of a report: the confusion matrix, and the IoU per class as sorted bars.

Figures are made without pyplot: they need no display and do not affect other plots of the process.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import numpy as np

from deeplab.utils.installation import forget_missing_plot_backend

forget_missing_plot_backend()

import matplotlib
from matplotlib import font_manager, patheffects
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from deeplab.data.class_names import MANY_CLASSES
from deeplab.evaluation import metrics

if TYPE_CHECKING:
    from deeplab.evaluation.report import Report

DPI = 150
_MAX_NUMBERED = 30  # classes; with more, the cells are too small for percentages
_MAX_BARS = 60  # in one column of the bar plot
_MAX_NAME = 26  # characters
_PLAIN_COLOR = np.array([70, 130, 180], np.uint8)
_GRAY = "#8a8a8a"
_FONTS_FOR_MORE_SCRIPTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "Malgun Gothic",
    "Arial Unicode MS",
)


def confusion_png(report: Report) -> bytes:
    """Draw the confusion matrix, each row in percent of the label's pixels: the bytes of a PNG file."""
    with _style():
        return _png(_confusion_figure(report))


def iou_png(report: Report) -> bytes:
    """Draw the IoU per class as bars in the classes' colors, best first: the bytes of a PNG file."""
    with _style():
        return _png(_iou_figure(report))


def _style() -> AbstractContextManager[None]:
    installed = set(font_manager.get_font_names())
    families = ["DejaVu Sans", *(name for name in _FONTS_FOR_MORE_SCRIPTS if name in installed)]
    return matplotlib.rc_context(
        {
            "font.family": families,
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": "#444444",
            "text.parse_math": False,  # a dollar sign in a class name is a dollar sign
        }
    )


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script without a font appears as boxes; the class number is beside it.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(file, format="png", dpi=DPI)
    return file.getvalue()


def _confusion_figure(report: Report) -> Figure:
    counts, names, numbers = metrics.condensed(report.counts, [_short(name) for name in report.class_names])
    classes = len(names)
    cell = _cell_inches(classes)
    figure = Figure(
        figsize=(max(classes * cell + 3.0, 5.0), max(classes * cell + 2.0, 3.8)),
        layout="constrained",
        facecolor="white",
    )
    axes = figure.add_subplot()
    fractions = metrics.row_fractions(counts)
    colors = matplotlib.colormaps["Blues"].with_extremes(bad="#ececec")
    # The square root keeps confusions of a few percent visible next to a full diagonal.
    image = axes.imshow(fractions, cmap=colors, norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    _name_both_axes(axes, names, metrics.present_classes(counts), cell)
    _draw_grid(axes, classes)
    if classes <= _MAX_NUMBERED:
        _write_percentages(axes, fractions, cell)
    what = "Confusion matrix" if -1 not in numbers else f"Confusions of {classes - 1} of {len(report.counts)} classes"
    figure.suptitle(_title(report, what), x=0.01, ha="left", fontsize=11)
    axes.set_xlabel("prediction")
    axes.set_ylabel("label (gray: none in this split)" if report.absent_classes else "label")
    bar = figure.colorbar(image, ax=axes, shrink=min(0.8, 4 / (classes * cell)), pad=0.02, aspect=18)
    bar.set_ticks([0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1], labels=["0 %", "1", "5", "10", "25", "50", "75", "100 %"])
    bar.set_label("fraction of the label's pixels")
    bar.outline.set_visible(False)
    return figure


def _cell_inches(classes: int) -> float:
    """Return the side of a matrix cell: enough for a percentage, or for the class name beside it if there is none."""
    if classes <= 10:
        return 0.62
    return 0.42 if classes <= _MAX_NUMBERED else 0.14


def _name_both_axes(axes: Axes, names: Sequence[str], present: np.ndarray, cell: float) -> None:
    size = min(9.0, cell * 72 * 0.62)
    slant = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if cell > 0.5 else {"rotation": 90}
    axes.set_xticks(range(len(names)), names, fontsize=size, **slant)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    many = len(names) > _MAX_NUMBERED
    axes.tick_params(length=0, labeltop=many, labelright=many)
    for tick, labeled in zip(axes.yaxis.get_major_ticks(), present, strict=True):
        for text in (tick.label1, tick.label2):
            text.set_color("black" if labeled else _GRAY)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_grid(axes: Axes, classes: int) -> None:
    edges = np.arange(classes + 1) - 0.5
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(which="minor", color="#d9d9d9", linewidth=0.4)
    axes.tick_params(which="minor", length=0)


def _write_percentages(axes: Axes, fractions: np.ndarray, cell: float) -> None:
    digits, size = (1, 9) if cell > 0.5 else (0, 7)
    for row, column in np.ndindex(fractions.shape):
        fraction = float(fractions[row, column])
        if fraction > 0:  # absent rows (NaN) and empty cells stay blank
            text = _cell_text(fraction, digits)
            color = "white" if fraction > 0.35 else "#a0a8b0" if text.startswith("<") else "#222222"
            axes.text(column, row, text, ha="center", va="center", fontsize=size, color=color)


def _cell_text(fraction: float, digits: int) -> str:
    """Format a fraction as a percentage; 0 and 100 appear only if they are exact."""
    smallest = 10.0**-digits
    if 100 * fraction < smallest / 2:
        return f"<{smallest:g}"
    text = f"{100 * fraction:.{digits}f}"
    return f">{100 - smallest:g}" if fraction < 1 and float(text) == 100 else text


def _iou_figure(report: Report) -> Figure:
    iou = metrics.class_iou(report.counts)
    order = metrics.best_and_worst(iou, len(iou) if len(iou) <= MANY_CLASSES else 2 * _MAX_BARS)
    columns = math.ceil(len(order) / _MAX_BARS)
    bars = math.ceil(len(order) / columns)
    figure = Figure(figsize=(5.6 * columns + 0.4, 0.215 * bars + 1.5), layout="constrained", facecolor="white")
    for number, axes in enumerate(figure.subplots(1, columns, squeeze=False)[0]):
        _draw_bars(axes, report, iou, order[number * bars : (number + 1) * bars], bars)
    what = "IoU by class"
    if len(order) < len(iou):
        absent = np.count_nonzero(np.isnan(iou))
        what = f"IoU of the best and the worst {len(order)} of {len(iou) - absent} classes"
    figure.suptitle(_title(report, what), x=0.01, ha="left", fontsize=11)
    return figure


def _draw_bars(axes: Axes, report: Report, iou: np.ndarray, chosen: np.ndarray, bars: int) -> None:
    places = np.arange(len(chosen))
    colors = np.tile(_PLAIN_COLOR, (len(iou), 1)) if report.colors is None else np.asarray(report.colors)
    values = np.nan_to_num(iou[chosen])
    # The edge shows bars whose class color is white, or black on a dark viewer.
    axes.barh(places, values, height=0.72, color=colors[chosen] / 255, edgecolor="#555555", linewidth=0.6)
    for place, index in zip(places, chosen, strict=True):
        absent = np.isnan(iou[index])
        text = "not in the labels" if absent else f"{iou[index]:.3f}"
        color = _GRAY if absent else "black"
        shown = axes.text(values[place] + 0.012, float(place), text, va="center", fontsize=8, color=color)
        shown.set_path_effects([patheffects.withStroke(linewidth=2.5, foreground="white")])
    axes.set_yticks(places, [f"{_short(report.class_names[index])} {index}" for index in chosen], fontsize=8)
    axes.set_ylim(bars - 0.4, -0.6)  # equal for all columns, so that bars are equally thick
    axes.set_xlim(0, 1.12)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e3e3e3", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel("IoU")
    _draw_mean(axes, metrics.mean_iou(report.counts))


def _draw_mean(axes: Axes, mean: float) -> None:
    if math.isnan(mean):
        return
    axes.axvline(mean, color="#c0392b", linewidth=1.1, linestyle=(0, (4, 3)))
    side = "left" if mean < 0.85 else "right"
    axes.annotate(
        f" mean {mean:.3f} ",
        (mean, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 2),
        textcoords="offset points",
        ha=side,
        fontsize=8,
        color="#c0392b",
        annotation_clip=False,
    )


def _title(report: Report, what: str) -> str:
    mean = metrics.mean_iou(report.counts)
    found = "no pixel counted" if math.isnan(mean) else f"mean IoU {mean:.3f}"
    return f"{what}: {_short(report.split)}, step {report.step}, {found}"


def _short(name: str) -> str:
    return name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…"
