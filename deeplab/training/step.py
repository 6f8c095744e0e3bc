"""One training step: forward, loss, backward, weight decay, gradient multipliers, clipping, update."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import keras
import tensorflow as tf

from deeplab.config.training_config import OptimizerConfig
from deeplab.losses.segmentation_loss import SegmentationLoss
from deeplab.training import gradients, schedules
from deeplab.training.optimizers import Optimizer
from deeplab.training.randomness import StepClock
from slim.layers import variables_by_name

TrainingBatch = Mapping[str, tf.Tensor]


@dataclass(frozen=True)
class Trainer:
    """What all steps of one training have in common.

    Attributes:
      model: from images to a dict of logits; its weights have TensorFlow-1 names.
      optimizer: over the model's trainable variables.
      loss: of logits and labels.
      weight_decay: coefficient of the L2 term.
      schedule: optimizer config, of which learning rate and multipliers are read here.
      total_steps: length of the training, for the learning rate.
      clock: tells the model's layers the step.
    """

    model: keras.Model
    optimizer: Optimizer
    loss: SegmentationLoss
    weight_decay: float
    schedule: OptimizerConfig
    total_steps: int
    clock: StepClock

    def trainable(self) -> dict[str, keras.Variable]:
        """The model's trainable variables by name."""
        return {name: v for name, v in variables_by_name(self.model).items() if v.trainable}

    def variables(self) -> dict[str, keras.Variable | tf.Variable]:
        """What a checkpoint holds: weights and optimizer slots by name."""
        return {**variables_by_name(self.model), **self.optimizer.variables_by_name()}


def make_train_step(
    trainer: Trainer, strategy: tf.distribute.Strategy
) -> Callable[[TrainingBatch, tf.Tensor], dict[str, tf.Tensor]]:
    """The compiled step.

    Args:
      trainer: model, optimizer and loss.
      strategy: the devices; the batch is one replica's part on each.

    Returns:
      A function of (batch, step). batch: image float32 [B, H, W, C], 0..255, and label int32 [B, H, W]; step:
      int64 scalar, 0 for the first. It updates the weights and returns scalars: total_loss, task_loss (mean over
      replicas), regularization_loss, learning_rate, labeled_fraction (of pixels that are not ignored, 0 to 1).
    """

    # XLA makes depthwise convolutions on a CPU many times slower, and is no faster elsewhere: off, and said so.
    @tf.function(jit_compile=False, autograph=False, reduce_retracing=True)
    def train_step(batch, step):
        results = strategy.run(_replica_step, args=(trainer, batch, step, strategy.num_replicas_in_sync))
        return {name: strategy.reduce("MEAN", value, axis=None) for name, value in results.items()}

    return train_step


def _replica_step(trainer: Trainer, batch: TrainingBatch, step: tf.Tensor, replicas: int) -> dict[str, tf.Tensor]:
    variables = trainer.trainable()
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([variable.value for variable in variables.values()])
        with trainer.clock.at(step):
            outputs = trainer.model(batch["image"], training=True)
        task_loss = tf.add_n(list(trainer.loss.of_outputs(outputs, batch["label"], step).values()))
        scaled_loss = task_loss / replicas
    of_loss = tape.gradient(scaled_loss, [variable.value for variable in variables.values()])
    if replicas > 1:
        of_loss = tf.distribute.get_replica_context().all_reduce("SUM", of_loss)
    # Each replica adds the same L2 gradient after the sum: it enters once, as in the reference.
    by_name = gradients.add_l2(dict(zip(variables, of_loss, strict=True)), variables, trainer.weight_decay)
    by_name = gradients.scale(by_name, gradients.multipliers(by_name, trainer.schedule))
    by_name = gradients.clip(by_name, trainer.schedule.gradient_clip_norm)
    penalty = gradients.l2(variables, trainer.weight_decay)
    rate = schedules.learning_rate(trainer.schedule, step, trainer.total_steps)
    trainer.optimizer.apply(by_name, rate)
    labeled = tf.reduce_mean(tf.cast(tf.not_equal(batch["label"], trainer.loss.ignore_label), tf.float32))
    return {
        "total_loss": task_loss + penalty,
        "task_loss": task_loss,
        "regularization_loss": penalty,
        "learning_rate": rate,
        "labeled_fraction": labeled,
    }
