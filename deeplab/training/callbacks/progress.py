"""Progress lines on the terminal."""

from __future__ import annotations

from typing import Any

from deeplab.training.callbacks import Callback, Pace, register
from deeplab.training.state import TrainState
from deeplab.utils import console


@register("progress")
class Progress(Callback):
    """Prints losses, learning rate, speed and the time left every `log_steps` steps, and at the first and last step."""

    def on_start(self, state: TrainState) -> None:
        self._pace, self._lines = Pace(state.step), 0

    def after_step(self, state: TrainState) -> None:
        if not state.is_log_step:
            return
        results, config, total = state.results, state.config, state.total_steps
        seconds = self._pace.lap(state.step)
        # The first step includes the compilation, so it is no basis for a forecast.
        left = console.duration((total - state.step) * seconds) if self._lines else "..."
        self._lines += 1
        console.note(
            f"step {state.step}/{total}  loss {results['total_loss']:.4f} "
            f"(task {results['task_loss']:.4f}, weight decay {results['regularization_loss']:.4f})  "
            f"learning rate {results['learning_rate']:.3g}  "
            f"{config.train_batch_size / seconds:.1f} images/s  left {left}"
        )

    def on_evaluation(self, state: TrainState, metrics: dict[str, Any]) -> None:
        self._pace.pause(metrics["seconds"])
