"""Learning rate of a step: pure functions for Python integers and for tensors alike.

All arithmetic is float32, as in the reference, so that a schedule read in Python and one computed inside a
`tf.function` agree with each other and with TensorFlow 1's. Each policy takes the steps since the slow start
ended and gives the rate before the slow start is laid over it. `learning_rate` puts the pieces together from
the settings; the policies that no flag reaches (cosine, piecewise constant, linear burn-in) are for callers
from Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab.config.training_config import OptimizerConfig
from deeplab.utils.errors import UserError, nearest


def learning_rate(config: OptimizerConfig, step: Any, total_steps: int) -> Any:
    """The learning rate that the optimizer applies at a step.

    Adam has a constant rate; any other optimizer follows `scheduled_rate`.

    Args:
      config: the settings; a rate is the length of a step along the negative gradient.
      step: number of updates done before this one: an int, or an integer scalar tensor or variable.
      total_steps: step at which the training ends.

    Returns:
      A float for an int, a float32 scalar tensor for a tensor.

    Raises:
      UserError: the schedule has no such name.
    """
    if config.optimizer == "adam":
        return _like(step, np.float32(config.adam_learning_rate))
    return scheduled_rate(config, step, total_steps)


def scheduled_rate(config: OptimizerConfig, step: Any, total_steps: int) -> Any:
    """The rate of the schedule, whatever the optimizer; arguments and result as in `learning_rate`."""
    elapsed = steps_after_slow_start(step, config.slow_start_step)
    remaining_steps = total_steps - config.slow_start_step
    if config.learning_policy == "poly":
        decay_steps = config.decay_steps or remaining_steps
        rate = poly(elapsed, config.base_learning_rate, decay_steps, config.end_learning_rate, config.learning_power)
    elif config.learning_policy == "step":
        period, factor = config.learning_rate_decay_step, config.learning_rate_decay_factor
        rate = staircase(elapsed, config.base_learning_rate, period, factor)
    elif config.learning_policy == "cosine":
        rate = cosine(elapsed, config.base_learning_rate, remaining_steps)
    else:
        hint = nearest(config.learning_policy, ["poly", "step", "cosine"])
        raise UserError(
            "unclassified", f"no schedule is called {config.learning_policy!r}", hint, field="learning_policy"
        )
    return _like(step, slow_start(rate, step, config.slow_start_step, config.slow_start_learning_rate))


def steps_after_slow_start(step: Any, slow_start_step: int) -> Any:
    """Steps since the slow start ended, as float32; 0 while it lasts."""
    return _float32(_library(step).maximum(step - slow_start_step, 0))


def poly(elapsed: Any, base_rate: float, decay_steps: float, end_rate: float = 0.0, power: float = 0.9) -> Any:
    """From `base_rate` to `end_rate` as (1 - elapsed / decay_steps) ** power; `end_rate` from there on.

    The schedule of ParseNet (Liu et al., arXiv:1506.04579), used in all DeepLab papers with power 0.9.

    Args:
      elapsed: float32 scalar, steps since the slow start ended.
      base_rate: rate at 0.
      decay_steps: steps until `end_rate` is reached; below 1 counts as 1.
      end_rate: rate at the end.
      power: exponent; 1 is a straight line.
    """
    left = np.float32(1.0) - _progress(elapsed, decay_steps)
    return (np.float32(base_rate) - np.float32(end_rate)) * left ** np.float32(power) + np.float32(end_rate)


def staircase(elapsed: Any, base_rate: float, period: int, factor: float) -> Any:
    """`base_rate` times `factor` for every full `period` of steps gone by."""
    return np.float32(base_rate) * np.float32(factor) ** (elapsed // np.float32(period))


def cosine(elapsed: Any, base_rate: float, decay_steps: float) -> Any:
    """From `base_rate` to 0 along half a cosine (Loshchilov and Hutter, arXiv:1608.03983, without restarts)."""
    turn = _library(elapsed).cos(np.float32(np.pi) * _progress(elapsed, decay_steps))
    return np.float32(base_rate) * (np.float32(0.5) * (np.float32(1.0) + turn))


def piecewise_constant(elapsed: Any, boundaries: Sequence[float], rates: Sequence[float]) -> Any:
    """`rates[i]` up to and including step `boundaries[i]`, the last rate after all of them.

    Raises:
      UserError: there is not exactly one rate more than boundaries, or these do not ascend.
    """
    if len(rates) != len(boundaries) + 1:
        rule = f"needs {len(boundaries) + 1} rates for {len(boundaries)} boundaries, not {len(rates)}"
        raise UserError("unclassified", rule, where="boundary_learning_rates")
    if list(boundaries) != sorted(boundaries):
        raise UserError(
            "unclassified", f"must ascend, not {list(boundaries)}", f"{sorted(boundaries)}", where="boundaries"
        )
    rate: Any = np.float32(rates[0])
    for boundary, later_rate in zip(boundaries, rates[1:], strict=True):
        rate = _library(elapsed).where(elapsed > np.float32(boundary), np.float32(later_rate), rate)
    return rate


def slow_start(rate: Any, step: Any, steps: int, start_rate: float, linear_to: float | None = None) -> Any:
    """`start_rate` during the first `steps` steps, `rate` after them.

    Args:
      rate: float32 scalar, the schedule's rate.
      step: int or integer scalar tensor, updates done so far.
      steps: length of the slow start.
      start_rate: rate during it, or at its beginning.
      linear_to: when given, the slow start climbs in a straight line from `start_rate` to this rate.
    """
    early: Any = np.float32(start_rate)
    if linear_to is not None:
        climb = np.float32(linear_to) - np.float32(start_rate)
        early = early + climb * _float32(step) / np.float32(max(steps, 1))
    return _library(step).where(step < steps, early, rate)


def _progress(elapsed: Any, steps: float) -> Any:
    """elapsed / steps, 0 to 1, rounded as a graph rounds it.

    TensorFlow's graph optimizer makes a product with the reciprocal of division by a constant. Near the end of
    a poly schedule the other rounding would show in the fifth digit.
    """
    whole = np.float32(max(steps, 1.0))
    return _library(elapsed).minimum(elapsed, whole) * (np.float32(1.0) / whole)


def _library(value: Any) -> Any:
    """The module whose `minimum`, `maximum`, `cos` and `where` fit the value: TensorFlow or NumPy."""
    return tf if tf.is_tensor(value) else np


def _float32(value: Any) -> Any:
    return tf.cast(value, tf.float32) if tf.is_tensor(value) else np.float32(value)


def _like(step: Any, rate: Any) -> Any:
    """The rate as a float beside an int, as a float32 tensor beside a tensor."""
    return tf.convert_to_tensor(rate, tf.float32) if tf.is_tensor(step) else float(rate)
