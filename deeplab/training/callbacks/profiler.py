"""A profile of a few steps for TensorBoard."""

from __future__ import annotations

import tensorflow as tf

from deeplab.training.callbacks import Callback, register
from deeplab.training.state import TrainState
from deeplab.utils import console

WARM_UP, STEPS = 5, 5


@register("profiler")
class Profiler(Callback):
    """Profiles `STEPS` steps into `profile_logdir`, after `WARM_UP` others."""

    def on_start(self, state: TrainState) -> None:
        self._first_step, self._running = state.step, False

    def after_step(self, state: TrainState) -> None:
        done = state.step - self._first_step
        if done == WARM_UP and state.config.profile_logdir and not state.is_last_step:
            tf.profiler.experimental.start(state.config.profile_logdir)
            self._running = True
        elif done == WARM_UP + STEPS:
            self.on_end(state)

    def on_end(self, state: TrainState) -> None:
        if self._running:
            tf.profiler.experimental.stop()
            self._running = False
            console.note(f"profile of {STEPS} steps: {state.config.profile_logdir}")
