"""The state of a training, as the loop keeps it and callbacks see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from deeplab.config.durations import Length
from deeplab.config.training_config import TrainConfig
from deeplab.data.dataset import Dataset
from deeplab.training.distribution import ALONE, Devices
from deeplab.training.guards import StopRequest, UncheckedResults
from deeplab.training.step import PART, Trainer, TrainingBatch

if TYPE_CHECKING:
    from deeplab.evaluation.evaluator import Evaluator
    from deeplab.evaluation.report import Report
    from deeplab.training.callbacks import Callback
    from deeplab.training.setup import TrainingConfigs


@dataclass
class TrainState:
    """One training between two steps.

    Attributes:
      config: when and where things are written.
      dataset: classes and colors.
      trainer: model, optimizer and loss.
      variables: what a checkpoint holds, by TensorFlow-1 name.
      step: updates done so far.
      batch: the last batch; with several devices each tensor holds a part per device. Empty before the first step.
      unchecked: results of steps that have not been fetched from the device.
      checkpoint: prefix of the last checkpoint written; empty before the first.
      configs: all config groups, for what is evaluated during the training.
      recalibrate: computes a model's batch-norm statistics again, where the training was too short for them to settle,
        or with `always=True` in any case; with `brief=True` over an epoch at most.
      actors: the callbacks, which are told of evaluations.
      length: in steps and epochs.
      seed: of the training.
      evaluation_copy: see `evaluation_model`; None = not made yet.
      stop: whether a signal has asked the training to stop; evaluations, which may take long, end at once.
      best: record of the best evaluation so far: step, metric, value; empty before the first.
      evaluation: the last report, and what made it; None before the first.
      stopped_early: evaluations have not improved for long enough, so that this step is the last.
    """

    config: TrainConfig
    dataset: Dataset
    trainer: Trainer
    variables: Mapping[str, keras.Variable | tf.Variable]
    step: int
    unchecked: UncheckedResults
    batch: TrainingBatch = field(default_factory=dict)
    checkpoint: str = ""
    configs: TrainingConfigs | None = None
    recalibrate: Callable[..., None] = lambda model, always=False, brief=False: None
    actors: Sequence[Callback] = ()
    length: Length = Length(1)
    seed: int = 0
    devices: Devices = ALONE
    evaluation_copy: keras.Model | None = None
    stop: StopRequest = field(default_factory=StopRequest)
    best: Mapping[str, Any] = field(default_factory=dict)
    evaluation: tuple[Report, Evaluator] | None = None
    stopped_early: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """Names among `results` of the parts of the loss, if it has several: `loss/NAME`."""
        return tuple(f"{PART}{name}" for name in self.trainer.part_names())

    @property
    def model(self) -> keras.Model:
        """The model in training."""
        return self.trainer.model

    @property
    def total_steps(self) -> int:
        """Step at which the training ends."""
        return self.config.training_number_of_steps

    @property
    def is_last_step(self) -> bool:
        """Whether the step just done was the last one."""
        return self.stopped_early or self.step >= self.total_steps

    @property
    def is_log_step(self) -> bool:
        """Whether the step just done is to be reported: the first, the last, and every `log_steps`."""
        return self.step % self.config.log_steps == 0 or self.step == 1 or self.is_last_step

    @property
    def results(self) -> dict[str, float]:
        """Scalars of the step just done, by name; see `step.make_train_step`. Waits for the device.

        Raises:
          UserError: the loss of a step since the last call was not finite.
        """
        return self.unchecked.latest()

    def require_finite_loss(self) -> None:
        """Raises the UserError of `results`, so that no checkpoint is written after a loss that is not finite."""
        self.unchecked.latest()

    def advance(self, batch: TrainingBatch, results: Mapping[str, tf.Tensor]) -> None:
        """Counts a step that has been done."""
        self.step += 1
        self.batch = batch
        self.unchecked.add(self.step, results)

    def replica_batches(self) -> list[dict[str, Any]]:
        """The parts of the last batch, one per device."""
        return replica_parts(self.batch)


def replica_parts(batch: TrainingBatch) -> list[dict[str, Any]]:
    """The parts of a batch, one per device; with one device the batch itself."""
    parts = {name: getattr(value, "values", (value,)) for name, value in batch.items()}
    return [dict(zip(parts, tensors, strict=True)) for tensors in zip(*parts.values(), strict=True)]
