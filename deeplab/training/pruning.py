"""Pruning of kernels during training: the smallest weights become 0 and remain 0.

Magnitude pruning with a rising fraction (Zhu and Gupta 2017, arXiv:1710.01878). Every pruned kernel has a mask, 1 where
a weight is kept, under the name that TensorFlow 1's `contrib.model_pruning` gave it (`SCOPE/mask`, `SCOPE/threshold`).
Weights, and their running averages, are multiplied by it after each step, so that evaluations, checkpoints and exports
hold the pruned model as it is; masked gradients keep pruned weights out of the gradient's norm. Used by the training
step, which calls `update` once per step. It never makes a model smaller: see `channel_pruning` for that.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab.checkpoint import names
from deeplab.config.compression_config import CompressionConfig
from deeplab.config.durations import Length
from deeplab.training.averages import Averages
from deeplab.utils.errors import UserError


@dataclass(frozen=True)
class Plan:
    """When and how much is pruned, in steps done.

    Attributes:
      sparsity: fraction of zeros at the end.
      begin, end: first and last step after which weights are chosen.
      every: steps between two choices.
      gradual: whether the fraction rises from 0 at `begin`; otherwise it has its last value from there.
      structure: kind, N and M, see `CompressionConfig.structure`.
    """

    sparsity: float
    begin: int
    end: int
    every: int
    gradual: bool
    structure: tuple[str, int, int] = ("", 1, 1)

    def is_due(self, done: Any) -> Any:
        """Whether weights are chosen after so many steps."""
        regular = tf.equal((done - self.begin) % self.every, 0) | tf.equal(done, self.end)
        return (done >= self.begin) & (done <= self.end) & regular

    def sparsity_at(self, done: Any) -> tf.Tensor:
        """Fraction of zeros after so many steps, float32: equation 1 of the paper, with s_i = 0."""
        if not self.gradual or self.begin == self.end:
            return tf.constant(self.sparsity, tf.float32)
        passed = tf.cast(done - self.begin, tf.float32) / (self.end - self.begin)
        return self.sparsity * (1.0 - (1.0 - tf.clip_by_value(passed, 0.0, 1.0)) ** 3)


def plan_of(config: CompressionConfig, length: Length) -> Plan | None:
    """The plan for a training of some length; None where nothing is pruned.

    Raises:
      UserError: pruning ends before it begins, or after the training (`conflicting-settings`).
    """
    if not config.prune_sparsity:
        return None
    begin = max(1, length.steps(config.prune_begin, "prune_begin"))
    end = length.steps(config.prune_end, "prune_end")
    if not begin <= end <= length.total_steps:
        where = f"the training's last step, {length.total_steps}" if end >= begin else f"step {begin} of `prune_begin`"
        rule = f"is step {end}, {'after' if end > length.total_steps else 'before'} {where}"
        raise UserError("conflicting-settings", rule, "`prune_end=0.7`", field="prune_end", value=config.prune_end)
    gradual = config.prune_schedule == "polynomial"
    return Plan(config.prune_sparsity, begin, end, config.prune_every, gradual, config.structure())


def prunable(variables: Mapping[str, Any], keep: str, structure: tuple[str, int, int] = ("", 1, 1)) -> list[str]:
    """Names of the kernels that are pruned: [kh, kw, in, out] or [in, out], without those that `keep` names.

    With N:M also without those whose input channels cannot be divided into groups of M.
    """
    kind, _, group = structure
    kernels = [name for name, variable in variables.items() if len(variable.shape) in (2, 4)]
    if kind == ":":
        kernels = [name for name in kernels if variables[name].shape[-2] % group == 0]
    return [name for name in kernels if not re.search(keep, name)]


class Pruning:
    """Masks of kernels, and the step that chooses and applies them.

    Args:
      plan: when and how much.
      variables: TensorFlow-1 name -> float32 kernel of Keras.

    Raises:
      UserError: there is no kernel (`nothing-to-prune`).
    """

    def __init__(self, plan: Plan, variables: Mapping[str, Any]):
        if not variables:
            hint = "exclude fewer kernels by `prune_keep` or `freeze`"
            raise UserError("nothing-to-prune", "no kernel is left to prune", hint, field="prune_keep")
        self.plan, self._variables = plan, dict(variables)
        self._masks = {
            name: tf.Variable(tf.ones(variable.shape), trainable=False, name=names.mask_name(name))
            for name, variable in self._variables.items()
        }
        self._thresholds = {
            name: tf.Variable(0.0, trainable=False, name=names.threshold_name(name)) for name in self._variables
        }

    def masked(self, gradients: Mapping[str, Any]) -> dict[str, Any]:
        """Gradients by name, 0 where the weight is pruned."""
        return {
            name: gradient * tf.convert_to_tensor(self._masks[name])
            if name in self._masks and gradient is not None
            else gradient
            for name, gradient in gradients.items()
        }

    def update(self, step: tf.Tensor, frozen: Collection[str] = (), averages: Averages | None = None) -> None:
        """Chooses the pruned weights where it is time, and sets them to 0; in a replica function, in its own copies.

        Args:
          step: updates done before this one, integer scalar.
          frozen: names of variables that keep their values.
          averages: of the weights, which are pruned as well.
        """
        done = step + 1
        chosen = [name for name in self._variables if name not in frozen]

        def choose() -> tf.Tensor:
            sparsity = self.plan.sparsity_at(done)
            for name in chosen:
                weights = tf.convert_to_tensor(self._variables[name].value)
                mask, threshold = choose_mask(weights, sparsity, self.plan.structure)
                tf.raw_ops.AssignVariableOp(resource=self._masks[name].handle, value=mask)
                tf.raw_ops.AssignVariableOp(resource=self._thresholds[name].handle, value=threshold)
            return tf.constant(True)

        with tf.control_dependencies([tf.cond(self.plan.is_due(done), choose, lambda: tf.constant(False))]):
            for name in chosen:
                mask = tf.raw_ops.ReadVariableOp(resource=self._masks[name].handle, dtype=tf.float32)
                native = self._variables[name].value
                tf.raw_ops.AssignVariableOp(resource=native.handle, value=tf.convert_to_tensor(native) * mask)
                if averages:
                    averages.mask(name, mask)

    def describe(self) -> str:
        """One line: what is pruned, and when."""
        plan, weights = self.plan, sum(int(np.prod(mask.shape)) for mask in self._masks.values())
        when = f"from step {plan.begin} to {plan.end}" if plan.gradual else f"at step {plan.begin}"
        return f"pruning {100 * plan.sparsity:g} % of {weights:,} weights in {len(self._masks)} kernels {when}"

    def variables_by_name(self) -> dict[str, tf.Variable]:
        """What a checkpoint holds of it: TensorFlow-1 name -> variable."""
        found = {names.mask_name(name): mask for name, mask in self._masks.items()}
        return found | {names.threshold_name(name): threshold for name, threshold in self._thresholds.items()}


def choose_mask(
    weights: tf.Tensor, sparsity: tf.Tensor, structure: tuple[str, int, int] = ("", 1, 1)
) -> tuple[tf.Tensor, tf.Tensor]:
    """The mask of a kernel: the largest weights are kept, exactly so many; of equal ones the first.

    Args:
      weights: float32 [kh, kw, in, out] or [in, out].
      sparsity: fraction of zeros, 0..1. With N:M they are chosen among the M - N smallest of each group, so that at
        1 - N/M no group has more than N weights left. With blocks it is the fraction of blocks, whose mean counts.
      structure: see `CompressionConfig.structure`.

    Returns:
      The mask, 1.0 or 0.0, of the same shape, and the smallest magnitude (or mean of a block) that is kept.
    """
    kind, first, second = structure
    magnitude = tf.abs(weights)
    if kind == ":":
        return _choose_in_groups(magnitude, sparsity, first, second)
    if kind == "x" and (first, second) != (1, 1):
        means = _block_means(magnitude, first, second)
        mask, threshold = _keep_largest(means, sparsity)
        spread = tf.repeat(tf.repeat(mask, first, axis=-2), second, axis=-1)
        return spread[..., : weights.shape[-2], : weights.shape[-1]], threshold
    return _keep_largest(magnitude, sparsity)


def _keep_largest(scores: tf.Tensor, sparsity: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    size = int(np.prod(scores.shape))
    number = tf.maximum(1, size - tf.cast(tf.round(sparsity * size), tf.int32))
    values, places = tf.math.top_k(tf.reshape(scores, [size]), number)
    mask = tf.scatter_nd(places[:, tf.newaxis], tf.ones_like(values), [size])
    return tf.reshape(mask, scores.shape), values[-1]


def _choose_in_groups(magnitude: tf.Tensor, sparsity: tf.Tensor, kept: int, of: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The mask of N:M: the N largest of each group are out of reach, the smallest of the others are pruned."""
    *taps, inputs, outputs = magnitude.shape
    groups = tf.reshape(magnitude, [-1, inputs // of, of, outputs])
    order = tf.argsort(tf.argsort(groups, axis=2, direction="DESCENDING", stable=True), axis=2)
    safe = tf.reshape(order < kept, [*taps, inputs, outputs])
    beyond = 1.0 + tf.reduce_max(magnitude)
    mask, _ = _keep_largest(tf.where(safe, beyond + magnitude, magnitude), sparsity)
    left = tf.where(mask > 0, magnitude, beyond)
    return mask, tf.reduce_min(left)


def _block_means(magnitude: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Means of blocks of input x output channels; those at the edge may be smaller."""
    *taps, inputs, outputs = magnitude.shape
    rows, columns = -(-inputs // height), -(-outputs // width)
    more = [*([[0, 0]] * len(taps)), [0, rows * height - inputs], [0, columns * width - outputs]]

    def sums(values):
        blocks = tf.reshape(tf.pad(values, more), [*taps, rows, height, columns, width])
        return tf.reduce_sum(blocks, axis=[-3, -1])

    return sums(magnitude) / sums(tf.ones_like(magnitude))
