"""The curves of a training: `losses.csv` step by step, and `curves.png` with loss, learning rate and mean IoU.

`losses.csv` has a line for every `log_steps` steps, with a column `loss/NAME` for each part of a sum of losses. A
resumed training drops the lines after the step it resumes from.
The numbers of evaluations are in `history.csv`, which `live_evaluation` writes.
"""

from __future__ import annotations

import csv
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from deeplab.training import curve_plots
from deeplab.training.callbacks import Callback, register
from deeplab.training.callbacks.live_evaluation import HISTORY
from deeplab.training.state import TrainState
from deeplab.utils.files import write_atomically, writing

LOSSES, CURVES = "losses.csv", "curves.png"
NAMES = ("total_loss", "task_loss", "regularization_loss", "learning_rate")
Rows = Sequence[Mapping[str, float]]


@register("curves")
class Curves(Callback):
    """Appends to `losses.csv`, and draws `curves.png` after evaluations and at the end, but not at a stop."""

    def on_start(self, state: TrainState) -> None:
        self._path = pathlib.Path(state.config.train_logdir, LOSSES)
        kept = [row for row in read(self._path) if row["step"] <= state.step]
        earlier = [name for row in kept for name in row if name != "step"]  # of another loss, perhaps
        self._names = tuple(dict.fromkeys((*NAMES, *state.parts, *earlier)))
        lines = [header_of(self._names), *(line_of(row, self._names) for row in kept)]
        write_atomically(self._path, "".join(lines))
        self._drawn_at = -1

    def after_step(self, state: TrainState) -> None:
        if state.is_log_step:
            line = line_of({"step": state.step, **state.results}, self._names)
            with writing(self._path, len(line)), open(self._path, "a", encoding="utf-8") as file:
                file.write(line)

    def on_evaluation(self, state: TrainState, metrics: dict[str, Any]) -> None:
        self._draw(state)

    def on_end(self, state: TrainState) -> None:
        if self._drawn_at != state.step:
            self._draw(state)

    def _draw(self, state: TrainState) -> None:
        if state.stop.received:  # drawing takes seconds; a stop must not
            return
        folder = self._path.parent
        losses, history = read(self._path), read(folder / HISTORY)
        names = state.dataset.class_names
        write_atomically(folder / CURVES, curve_plots.png(losses, history, names, state.dataset.colors))
        self._drawn_at = state.step


def header_of(names: Sequence[str] = NAMES) -> str:
    """The first line of `losses.csv`."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(("step", *names))
    return text.getvalue()


def line_of(row: Mapping[str, float], names: Sequence[str] = NAMES) -> str:
    """A line of `losses.csv`: enough digits to tell any two float32 numbers apart; what a row lacks stays empty."""
    values = (f"{row[name]:.9g}" if name in row else "" for name in names)
    return ",".join([str(int(row["step"])), *values]) + "\n"


def read(path: pathlib.Path) -> list[dict[str, float]]:
    """The rows of a file of curves, all columns that are numbers; a line that a kill has cut is left out."""
    if not path.is_file():
        return []
    rows = []
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        for row in csv.DictReader(file):
            if None in row or None in row.values():
                continue
            rows.append({name: float(value) for name, value in row.items() if _is_number(value)})
    return [row for row in rows if "step" in row]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
