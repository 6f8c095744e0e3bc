"""Checkpoints: at step 0, every so many steps or seconds, and at the end."""

from __future__ import annotations

import time

import numpy as np

from deeplab.checkpoint.manager import save_step
from deeplab.training.callbacks import Callback, register
from deeplab.training.state import TrainState


@register("checkpoints")
class Checkpoints(Callback):
    """Writes `model.ckpt-STEP` with weights, optimizer slots and the number of updates done."""

    def on_start(self, state: TrainState) -> None:
        self._saved_at, self._saved_step = time.monotonic(), state.step
        if state.step == 0:
            self._save(state)

    def after_step(self, state: TrainState) -> None:
        every = state.config.save_interval_steps
        due = time.monotonic() - self._saved_at >= state.config.save_interval_secs
        if (due or (every and state.step % every == 0)) and not state.is_last_step:
            self._save(state)

    def on_end(self, state: TrainState) -> None:
        if state.is_last_step or state.step != self._saved_step:
            self._save(state)

    def _save(self, state: TrainState) -> None:
        state.require_finite_loss()
        tensors = {name: np.asarray(variable.numpy()) for name, variable in state.variables.items()}
        keep = state.config.max_checkpoints_to_keep
        state.checkpoint = save_step(state.config.train_logdir, state.step, tensors, keep)
        self._saved_at, self._saved_step = time.monotonic(), state.step
