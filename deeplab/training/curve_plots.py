"""Draws the curves of a training as one PNG. Used by the callback `curves`; it reads no files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np

from deeplab.data import colormaps
from deeplab.data.class_names import MANY_CLASSES
from deeplab.evaluation import metrics
from deeplab.evaluation.plots import DPI, Axes, Figure  # which imports Matplotlib with a backend that exists

Rows = Sequence[Mapping[str, float]]
_LOSSES = {
    "total_loss": ("total", "#1f3d7a"),
    "task_loss": ("task", "#3b78c9"),
    "regularization_loss": ("decay", "#9aa5b4"),
}
PART = "loss/"  # as in `step.PART`, which needs TensorFlow
_MAX_LEGEND = 12  # classes
_MAX_LINES = 40  # classes that are drawn, of more than 160


def png(losses: Rows, history: Rows, class_names: Sequence[str], colors: Sequence[Sequence[int]] = ()) -> bytes:
    """The bytes of a PNG file: loss, learning rate, mean IoU, and IoU per class over the steps.

    Args:
      losses: rows of `losses.csv`.
      history: rows of `history.csv`; without any, the loss and the learning rate alone are drawn.
      class_names: of the classes.
      colors: RGB of each class, 0..255; empty = a color map's.
    """
    rows = 2 if history else 1
    figure = Figure(figsize=(11, 3.6 * rows), dpi=DPI * 2 // 3, layout="constrained")
    axes = figure.subplots(rows, 2, squeeze=False)
    _losses(axes[0][0], losses)
    _line(axes[0][1], losses, "learning_rate", "learning rate", "#9a5bb5")
    if history:
        _line(axes[1][0], history, "mean_iou", "mean IoU", "#3d9a5f", marked=True)
        _classes(axes[1][1], history, class_names, colors)
    for axis in axes.flat:
        axis.set_xlabel("step")
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def _points(rows: Rows, name: str) -> tuple[list[float], list[float]]:
    found = [(row["step"], row[name]) for row in rows if name in row]
    return [step for step, _ in found], [value for _, value in found]


def _losses(axis: Axes, losses: Rows) -> None:
    for name, (label, color) in _LOSSES.items():
        axis.plot(*_points(losses, name), color=color, linewidth=1.2, label=label)
    for name in part_names(losses):
        axis.plot(*_points(losses, name), linewidth=0.9, linestyle="--", label=name.removeprefix(PART))
    values = [value for value in _points(losses, "total_loss")[1] if np.isfinite(value)]
    if values:  # the first steps may be far above all others
        axis.set_ylim(0, max(1.1 * float(np.percentile(values, 98)), 1e-6))
    axis.set_title("loss", loc="left")
    axis.legend(frameon=False)


def part_names(losses: Rows) -> list[str]:
    """The columns of the parts of a sum of losses."""
    return list(dict.fromkeys(name for row in losses for name in row if name.startswith(PART)))


def _line(axis: Axes, rows: Rows, name: str, title: str, color: str, marked: bool = False) -> None:
    steps, values = _points(rows, name)
    axis.plot(
        steps, values, color=color, linewidth=1.6, marker="o" if marked and len(steps) < 60 else None, markersize=4
    )
    axis.set_title(title, loc="left")
    axis.set_ylim(bottom=0)
    if marked and values and np.isfinite(values).any():
        best = int(np.nanargmax(values))
        axis.set_title(f"{title}: best {values[best]:.4f} at step {int(steps[best])}", loc="left")
        axis.axvline(steps[best], color=color, linewidth=0.8, linestyle=":")


def _classes(axis: Axes, history: Rows, names: Sequence[str], colors: Sequence[Sequence[int]]) -> None:
    palette = colormaps.colors_for(tuple(colors), len(names))
    chosen, title = list(range(len(names))), "IoU per class"
    if len(names) > MANY_CLASSES:
        last = np.array([history[-1].get(f"iou/{name}", np.nan) for name in names])
        chosen = metrics.best_and_worst(last, _MAX_LINES).tolist()
        title = f"IoU of the best and the worst {len(chosen)} of {len(names)} classes"
    for index in chosen:
        name = names[index]
        color = np.clip(palette[index] / 255.0, 0, 0.82)  # white would not show
        axis.plot(*_points(history, f"iou/{name}"), color=color, linewidth=1.4, label=name, marker=".", markersize=5)
    axis.set_title(title, loc="left")
    axis.set_ylim(0, 1)
    if len(names) <= _MAX_LEGEND:
        axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
