"""Callbacks, which act before, between and after training steps: one file each.

A callback is a class with a constructor without arguments and the four methods of `Callback`, registered under a name.
All registered callbacks take part in every training, in the order of their registration; one that has nothing to do
returns at once.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from deeplab.utils.registry import Registry

if TYPE_CHECKING:
    from deeplab.training.state import TrainState


class Callback:
    """Takes part in a training; every method may be left out.

    Attributes:
      in_all_workers: it computes together with the other workers of a training; where it is False, as for what only
        writes files, the chief alone has it.
    """

    in_all_workers = False

    def on_start(self, state: TrainState) -> None:
        """Called before the first step, after weights were restored and `config.yml` was written."""

    def after_step(self, state: TrainState) -> None:
        """Called after each step. `state.results` waits for the device, so read it only when it is needed."""

    def on_evaluation(self, state: TrainState, metrics: dict[str, Any]) -> None:
        """Called with the metrics of the model as it is, by name, after each evaluation during the training."""

    def on_end(self, state: TrainState) -> None:
        """Called after the last step, and when the training is stopped by a signal, not after an error."""


registry: Registry[type[Callback]] = Registry("callback")
for _name in (
    *("profiler", "progress", "summaries", "augmented_samples", "curves", "live_evaluation"),
    *("checkpoints", "weight_averaging", "training_report", "experiment_trackers"),
):
    registry.register_lazily(_name, f"deeplab.training.callbacks.{_name}")

register = registry.register


def make_all(is_chief: bool = True) -> list[Callback]:
    """A new instance of every registered callback that takes part in this process."""
    return [kind() for kind in map(registry.get, registry.names()) if is_chief or kind.in_all_workers]


class Pace:
    """Seconds per step, measured from one call to the next.

    Args:
      step: updates done so far.
    """

    def __init__(self, step: int):
        self._step, self._at, self._seconds, self._waits = step, time.monotonic(), 0.0, False

    def step(self, step: int) -> None:
        """Must be called after each step, so that time that was not spent on steps can be left out."""
        if self._waits:
            self._step, self._at, self._waits = step, time.monotonic(), False

    def lap(self, step: int) -> float:
        """Seconds per step since the last lap; those of the last lap where no step can be measured since."""
        if step > self._step:
            now = time.monotonic()
            self._seconds = (now - self._at) / (step - self._step)
            self._step, self._at = step, now
        return self._seconds

    def interrupt(self) -> None:
        """Leaves out the time until the end of the next step."""
        self._waits = True
