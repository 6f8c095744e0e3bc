"""One training step: forward, loss, backward, weight decay, gradient multipliers, clipping, update, averages."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from deeplab.config.training_config import OptimizerConfig
from deeplab.losses.segmentation_loss import SegmentationLoss, label_assertions
from deeplab.training import gradients, schedules
from deeplab.training.averages import Averages
from deeplab.training.distillation import DISTILLATION, FEATURES, Distillation
from deeplab.training.loss_scale import LossScale
from deeplab.training.optimizers import Optimizer
from deeplab.training.pruning import Pruning
from deeplab.training.randomness import StepClock
from slim.layers import variables_by_name

TrainingBatch = Mapping[str, tf.Tensor]
Sums = tuple[Any, list[Any]]  # losses, and the gradient of each variable; None where it is not connected
PART = "loss/"  # before the name of a part of the loss, among the results of a step


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
      decay_mask: which variables decay, see `gradients.carries_l2`.
      parts: each batch is computed in so many parts, one after the other.
      averages: running averages of the weights, if there are any.
      loss_scale: of float16, if that is used.
      rate_scale: float32 scalar that the learning rate is multiplied by; None = 1.
      pruning: masks of kernels, if there are any.
      distillation: the loss between the model and a teacher, if there is one.
      counters: int64 scalars by name that hold the number of steps done.
    """

    model: keras.Model
    optimizer: Optimizer
    loss: SegmentationLoss
    weight_decay: float
    schedule: OptimizerConfig
    total_steps: int
    clock: StepClock
    decay_mask: str = "kernels"
    parts: int = 1
    averages: Averages | None = None
    loss_scale: LossScale | None = None
    rate_scale: tf.Variable | None = None
    pruning: Pruning | None = None
    distillation: Distillation | None = None
    counters: Mapping[str, tf.Variable] = field(default_factory=dict)

    def trainable(self) -> dict[str, keras.Variable]:
        """The model's trainable variables by name."""
        return {name: v for name, v in variables_by_name(self.model).items() if v.trainable}

    def variables(self) -> dict[str, keras.Variable | tf.Variable]:
        """What a checkpoint holds: weights, slots, counters, averages, masks and the scale of the loss by name."""
        variables = {**variables_by_name(self.model), **self.optimizer.variables_by_name(), **self.counters}
        for more in (self.averages, self.loss_scale, self.pruning):
            variables |= more.variables_by_name() if more else {}
        return variables

    def part_names(self) -> tuple[str, ...]:
        """The parts of which the task loss is the sum, by name; none where it is of one piece."""
        return (*self.loss.part_names(self.model.output), *([DISTILLATION] if self.distillation else []))

    def learning_rate(self, step: tf.Tensor) -> tf.Tensor:
        """The rate of a step, float32 scalar."""
        rate = schedules.learning_rate(self.schedule, step, self.total_steps)
        return rate if self.rate_scale is None else rate * tf.convert_to_tensor(self.rate_scale)


def make_train_step(
    trainer: Trainer, strategy: tf.distribute.Strategy, frozen: Collection[str] = (), is_compiled: bool = False
) -> Callable[[TrainingBatch, tf.Tensor], dict[str, tf.Tensor]]:
    """The compiled step.

    Args:
      trainer: model, optimizer and loss.
      strategy: the devices; the batch is one replica's part on each.
      frozen: names of variables that stay as they are; no gradient is computed for them.
      is_compiled: XLA compiles it; for one device only.

    Returns:
      A function of (batch, step). batch: image float32 [B, H, W, C], 0..255, and label int32 [B, H, W]; step:
      int64 scalar, 0 for the first. It updates the weights and returns scalars: total_loss, task_loss (mean over
      replicas), `loss/NAME` for each of its `part_names`, regularization_loss, learning_rate, labeled_fraction (of
      pixels that are not ignored, 0 to 1).
    """

    def on_replica(batch, step):
        return _replica_step(trainer, batch, step, strategy.num_replicas_in_sync, frozenset(frozen))

    if is_compiled:
        on_replica = _compiled(trainer, on_replica)

    @tf.function(jit_compile=False, autograph=False, reduce_retracing=True)
    def train_step(batch, step):
        results = strategy.run(on_replica, args=(batch, step))
        return {name: strategy.reduce("MEAN", value, axis=None) for name, value in results.items()}

    return train_step


def _compiled(trainer: Trainer, on_replica: Callable) -> Callable:
    """A replica's step as one XLA program. Labels are checked before it, since XLA leaves assertions out."""
    program = tf.function(on_replica, jit_compile=True, autograph=False, reduce_retracing=True)
    logits = next(output for name, output in trainer.model.output.items() if name != FEATURES)

    def run(batch, step):
        checks = label_assertions(batch["label"], logits.shape[-1], trainer.loss.ignore_label)
        with tf.control_dependencies(checks):
            return program(batch, step)

    return run


def _replica_step(
    trainer: Trainer, batch: TrainingBatch, step: tf.Tensor, replicas: int, frozen: frozenset[str]
) -> dict[str, tf.Tensor]:
    variables = {name: variable for name, variable in trainer.trainable().items() if name not in frozen}
    losses, of_loss = _accumulated(trainer, variables, batch, step, replicas)
    if replicas > 1:
        of_loss = tf.distribute.get_replica_context().all_reduce("SUM", of_loss)
    if trainer.loss_scale:
        of_loss = trainer.loss_scale.unscaled(of_loss)
    rate = trainer.learning_rate(step)
    by_name = dict(zip(variables, of_loss, strict=True))
    if trainer.pruning:
        by_name = trainer.pruning.masked(by_name)
    coupled = 0.0 if trainer.optimizer.decoupled_decay else trainer.weight_decay
    penalty = gradients.l2(variables, coupled, trainer.decay_mask)

    def update() -> None:
        _update(trainer, variables, by_name, coupled, rate, step)

    if trainer.loss_scale:
        trainer.loss_scale.guard(of_loss, update)
    else:
        update()
    if trainer.pruning:  # also after a step whose gradients have overflowed, so that no choice is left out
        trainer.pruning.update(step, frozen, trainer.averages)
    labeled = tf.reduce_mean(tf.cast(_labeled(trainer, batch["label"]), tf.float32))
    task_loss, *parts = tf.unstack(losses, 1 + len(trainer.part_names()))
    return {
        "total_loss": task_loss + penalty,
        "task_loss": task_loss,
        **{f"{PART}{name}": value for name, value in zip(trainer.part_names(), parts, strict=True)},
        "regularization_loss": penalty,
        "learning_rate": rate,
        "labeled_fraction": labeled,
    }


def _update(
    trainer: Trainer, variables: Mapping[str, Any], of_loss: Mapping[str, Any], coupled: float, rate: Any, step: Any
) -> None:
    """Moves weights, slots and averages by the gradients of the loss, summed over all replicas."""
    # Each replica adds the same L2 gradient after the sum: it enters once, as in the reference.
    by_name = gradients.add_l2(of_loss, variables, coupled, trainer.decay_mask)
    by_name = gradients.scale(by_name, gradients.multipliers(by_name, trainer.schedule))
    by_name = gradients.clip(by_name, trainer.schedule.gradient_clip_norm)
    rates = gradients.rate_multipliers(by_name, trainer.schedule)
    if trainer.optimizer.decoupled_decay and trainer.weight_decay:
        gradients.decay(variables, trainer.weight_decay, trainer.decay_mask, rate, rates)
    trainer.optimizer.apply(by_name, rate, rates)
    for counter in trainer.counters.values():
        counter.assign(step + 1)
    if trainer.averages:
        trainer.averages.update(step)


def _weight_of_replica(trainer: Trainer, batch: TrainingBatch, replicas: int) -> Any:
    """The factor of a replica's loss in the mean over all of them: its labeled pixels over their mean.

    So a loss of single pixels is that of the whole batch, however the labeled pixels are spread; as for parts.
    """
    if replicas == 1:
        return 1.0
    labeled = tf.reduce_sum(tf.cast(_labeled(trainer, batch["label"]), tf.float32))
    of_all = tf.distribute.get_replica_context().all_reduce("MEAN", labeled)
    return tf.math.divide_no_nan(labeled, of_all)


def _labeled(trainer: Trainer, label: tf.Tensor) -> tf.Tensor:
    return tf.not_equal(label, trainer.loss.ignore_label)


def _gradients(
    trainer: Trainer,
    variables: Mapping[str, Any],
    batch: TrainingBatch,
    step: Any,
    part: Any,
    weight: Any,
    fraction: tf.Tensor | None = None,
) -> tuple[tf.Tensor, list[tf.Tensor | None]]:
    """The loss of a batch, or of a part of one, and the gradients of its product with a weight and the loss scale.

    The loss is a vector: itself, and the parts of `Trainer.part_names`. `fraction` is for `Distillation.loss`.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([variable.value for variable in variables.values()])
        with trainer.clock.at(step, part):
            outputs = dict(trainer.model(batch["image"], training=True))
        features = outputs.pop(FEATURES, None)
        task_loss, parts = trainer.loss.of_outputs(outputs, batch["label"], step)
        if trainer.distillation:
            ignored = trainer.loss.ignore_label
            parts[DISTILLATION] = trainer.distillation.loss(outputs, batch, features, ignored, fraction)
            task_loss += parts[DISTILLATION]
        scaled_loss = weight(task_loss)
        if trainer.loss_scale:
            scaled_loss = trainer.loss_scale.scaled(scaled_loss)
    return tf.stack([task_loss, *parts.values()]), tape.gradient(
        scaled_loss, [variable.value for variable in variables.values()]
    )


def _accumulated(
    trainer: Trainer, variables: Mapping[str, Any], batch: TrainingBatch, step: tf.Tensor, replicas: int
) -> tuple[tf.Tensor, list[tf.Tensor | None]]:
    """Loss (as `_gradients` gives it) and gradients of a replica's batch, computed in parts that follow each other.

    Each part counts by its labeled pixels, so that the sum of a loss of single pixels is that of the whole batch.
    """
    whole = _weight_of_replica(trainer, batch, replicas)
    if trainer.parts == 1:
        if replicas == 1:
            return _gradients(trainer, variables, batch, step, 0, lambda loss: loss)
        loss, of_loss = _gradients(trainer, variables, batch, step, 0, lambda loss: loss * (whole / replicas), whole)
        return loss * whole, of_loss
    split = _in_parts(batch, trainer.parts)
    counts = tf.reduce_sum(tf.cast(_labeled(trainer, split["label"]), tf.float32), axis=[1, 2, 3])
    weights = whole * tf.math.divide_no_nan(counts, tf.reduce_sum(counts))

    def of_part(part):
        content = {name: parts[part] for name, parts in split.items()}
        loss, of_loss = _gradients(
            trainer, variables, content, step, part, lambda value: value * (weights[part] / replicas)
        )
        return loss * weights[part], of_loss

    if replicas > 1:  # collective operations of batch norm cannot be in a loop of TensorFlow's
        return _sum_unrolled(of_part, trainer.parts)
    return _sum_in_loop(of_part, trainer.parts)


def _in_parts(batch: TrainingBatch, parts: int) -> dict[str, tf.Tensor]:
    """The tensors of a batch [B, ...] as [parts, B / parts, ...]."""
    return {
        name: tf.ensure_shape(
            tf.reshape(values, tf.concat([[parts, -1], tf.shape(values)[1:]], 0)),
            [parts, None, *values.shape[1:]],
        )
        for name, values in batch.items()
    }


def _sum_unrolled(of_part: Callable[[Any], Sums], parts: int) -> Sums:
    """The sum over all parts; each is computed after the one before, so that one is in memory at a time."""
    loss, of_loss = of_part(0)
    connected = [index for index, gradient in enumerate(of_loss) if gradient is not None]
    for part in range(1, parts):
        with tf.control_dependencies([loss, *(of_loss[index] for index in connected)]):
            more, further = of_part(part)
            loss = loss + more
            for index in connected:
                of_loss[index] = of_loss[index] + further[index]
    return loss, of_loss


def _sum_in_loop(of_part: Callable[[Any], Sums], parts: int) -> Sums:
    """The same sum in a loop of the graph that begins with the first part, so one part's activations are in memory."""
    loss, of_loss = of_part(0)
    connected = [index for index, gradient in enumerate(of_loss) if gradient is not None]

    def add(part, loss, *sums):
        more, further = of_part(part)
        totals = (total + further[index] for total, index in zip(sums, connected, strict=True))
        return part + 1, loss + more, *totals

    first = (tf.constant(1), loss, *(tf.convert_to_tensor(of_loss[index]) for index in connected))
    _, loss, *sums = tf.while_loop(lambda part, *_: part < parts, add, first, parallel_iterations=1)
    for index, total in zip(connected, sums, strict=True):
        of_loss[index] = total
    return loss, of_loss
