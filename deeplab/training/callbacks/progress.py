"""Progress of the training: a live line on a terminal, lines elsewhere."""

from __future__ import annotations

from typing import Any

from deeplab.training import memory
from deeplab.training.callbacks import Callback, Pace, register
from deeplab.training.state import TrainState
from deeplab.training.step import PART
from deeplab.utils import console, resources


@register("progress")
class Progress(Callback):
    """Shows epoch, losses, learning rate, speed, memory, the metric of evaluations, and the time left.

    On a terminal they are beside a bar that moves with every step; elsewhere a line is printed every `log_steps` steps,
    and at the first and last step. The numbers are those of the last `log_steps`, so that the device is not waited for.
    """

    def on_start(self, state: TrainState) -> None:
        self._pace, self._lines, self._last = Pace(state.step), 0, ""
        self._bar = console.progress(total=state.total_steps, what="training") if console.is_terminal() else None
        if self._bar:
            self._bar.__enter__()
            self._bar.update(state.step)

    def after_step(self, state: TrainState) -> None:
        self._pace.step(state.step)
        if self._bar:
            self._bar.update()
        if not state.is_log_step:
            return
        seconds = self._pace.lap(state.step)
        if self._bar:
            self._bar.describe(self._text(state, seconds))
        else:
            # The first step includes the compilation, so it is no basis for a forecast.
            left = console.duration((state.total_steps - state.step) * seconds) if self._lines else "..."
            console.note(f"step {state.step}/{state.total_steps}  {self._text(state, seconds)}  left {left}")
        self._lines += 1

    def on_evaluation(self, state: TrainState, metrics: dict[str, Any]) -> None:
        self._pace.interrupt()
        name = state.config.best_metric
        best = f" (best {state.best['value']:.4f})" if state.best else ""
        self._last = f"  {'mean IoU' if name == 'mean_iou' else name} {metrics[name]:.4f}{best}"

    def on_end(self, state: TrainState) -> None:
        if self._bar:
            self._bar.close()
            self._bar = None

    def _text(self, state: TrainState, seconds: float) -> str:
        results, held = state.results, resources.used_memory()
        epoch = f"epoch {state.step / state.length.steps_per_epoch:.1f}  " if state.length.steps_per_epoch > 1 else ""
        return (
            f"{epoch}loss {results['total_loss']:.4f} "
            f"({_parts(state)}, weight decay {results['regularization_loss']:.4f})  "
            f"learning rate {results['learning_rate']:.3g}  "
            f"{state.config.train_batch_size / seconds if seconds else 0:.1f} images/s"
            f"{f'  memory {memory.size_text(held)}' if held else ''}{self._last}"
        )


def _parts(state: TrainState) -> str:
    """The task loss, as the parts of a sum where it is one."""
    parts = {name.removeprefix(PART): state.results[name] for name in state.parts} or {
        "task": state.results["task_loss"]
    }
    return ", ".join(f"{name} {value:.4f}" for name, value in parts.items())
