"""`report.html` at the end of a training: one page to send to a colleague."""

from __future__ import annotations

import time

from deeplab.training import report_page
from deeplab.training.callbacks import Callback, register
from deeplab.training.state import TrainState
from deeplab.utils import console


@register("training_report")
class TrainingReport(Callback):
    """Writes the page after the last step."""

    def on_start(self, state: TrainState) -> None:
        self._began, self._first_step = time.monotonic(), state.step

    def on_end(self, state: TrainState) -> None:
        if state.is_last_step and state.configs:
            seconds = time.monotonic() - self._began
            path = report_page.write(state, seconds, state.step - self._first_step)
            console.note(f"report: {path}")
