"""Learning-rate schedules by name: pure functions for Python integers and for tensors alike.

All arithmetic is float32, as in the reference, so that a schedule read in Python and one computed inside a
`tf.function` agree with each other and with TensorFlow 1's. A schedule gives the rate from the steps since the warm-up
ended; `learning_rate` adds the warm-up. `resolved` turns durations into steps before the training begins.

A new schedule is one function and one registration: `@registry.register("name")` on a function of (config, elapsed,
steps), the steps after the warm-up being `steps` in all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab.config.durations import Length
from deeplab.config.training_config import OptimizerConfig
from deeplab.utils.errors import UserError
from deeplab.utils.registry import Registry

_MAX_RESTARTS = 64  # with growing periods

registry: Registry[Callable[[OptimizerConfig, Any, int], Any]] = Registry("schedule", field="learning_policy")


def learning_rate(config: OptimizerConfig, step: Any, total_steps: int) -> Any:
    """The learning rate that the optimizer applies at a step.

    Adam has a constant rate after its warm-up; any other optimizer follows `scheduled_rate`.

    Args:
      config: the optimizer config; a rate is the length of a step along the negative gradient.
      step: number of updates done before this one: an int, or an integer scalar tensor or variable.
      total_steps: step at which the training ends.

    Returns:
      A float for an int, a float32 scalar tensor for a tensor.

    Raises:
      UserError: no schedule has that name.
    """
    if config.optimizer != "adam":
        return scheduled_rate(config, step, total_steps)
    rate = np.float32(config.adam_learning_rate)
    if config.warmup:
        warm = Length(total_steps).steps(config.warmup, "warmup")
        return _like(step, warm_up(rate, step, warm, 0.0, linear_to=config.adam_learning_rate))
    return _like(step, rate)


def resolved(config: OptimizerConfig, length: Length) -> OptimizerConfig:
    """The config with every duration as a whole number of steps, so that only the length of the training is needed."""
    steps = {name: str(length.steps(getattr(config, name), name)) for name in ("warmup", "restart_period")}
    points = tuple(str(length.steps(text, "learning_rate_boundaries")) for text in config.boundaries())
    if [int(point) for point in points] != sorted({int(point) for point in points}):
        rule = f"must ascend; {', '.join(config.boundaries())} are the steps {', '.join(points)}"
        raise UserError("not-ascending", rule, field="learning_rate_boundaries", value=config.learning_rate_boundaries)
    warm_up_steps = steps["warmup"] if config.warmup else ""
    period = steps["restart_period"]
    return dataclasses.replace(config, warmup=warm_up_steps, restart_period=period, learning_rate_boundaries=points)


def scheduled_rate(config: OptimizerConfig, step: Any, total_steps: int) -> Any:
    """The rate of the schedule, whatever the optimizer; arguments and result as in `learning_rate`."""
    schedule = registry.get(config.learning_policy)
    if config.warmup:
        warm = Length(total_steps).steps(config.warmup, "warmup")
        config = dataclasses.replace(
            config, warmup="", slow_start_step=warm, slow_start_learning_rate=0.0, slow_start_burnin_type="linear"
        )
    rate = schedule(config, steps_after_warm_up(step, config.slow_start_step), total_steps - config.slow_start_step)
    linear_to = None
    if config.slow_start_burnin_type == "linear":  # up to the rate at which the schedule begins
        linear_to = float(schedule(config, np.float32(0), total_steps - config.slow_start_step))
    return _like(step, warm_up(rate, step, config.slow_start_step, config.slow_start_learning_rate, linear_to))


def steps_after_warm_up(step: Any, warm_up_steps: int) -> Any:
    """Steps since the warm-up ended, as float32; 0 while it lasts."""
    return _float32(_library(step).maximum(step - warm_up_steps, 0))


def warm_up(rate: Any, step: Any, steps: int, start_rate: float, linear_to: float | None = None) -> Any:
    """`start_rate` during the first `steps` steps, `rate` after them.

    Args:
      rate: float32 scalar, the schedule's rate.
      step: int or integer scalar tensor, updates done so far.
      steps: length of the warm-up.
      start_rate: rate during it, or at its beginning.
      linear_to: when given, the rate climbs in a straight line from `start_rate` to this rate.
    """
    early: Any = np.float32(start_rate)
    if linear_to is not None:
        climb = np.float32(linear_to) - np.float32(start_rate)
        early = early + climb * _float32(step) / np.float32(max(steps, 1))
    return _library(step).where(step < steps, early, rate)


# ---- schedules -----------------------------------------------------------------------------------------


@registry.register("poly")
def _poly(config: OptimizerConfig, elapsed: Any, steps: int) -> Any:
    decay_steps = config.decay_steps or steps
    return poly(elapsed, config.base_learning_rate, decay_steps, config.end_learning_rate, config.learning_power)


@registry.register("step")
def _step(config: OptimizerConfig, elapsed: Any, steps: int) -> Any:
    del steps
    period, factor = config.learning_rate_decay_step, config.learning_rate_decay_factor
    return staircase(elapsed, config.base_learning_rate, period, factor)


@registry.register("cosine")
def _cosine(config: OptimizerConfig, elapsed: Any, steps: int) -> Any:
    return cosine(elapsed, config.base_learning_rate, steps)


@registry.register("cosine_restarts")
def _cosine_restarts(config: OptimizerConfig, elapsed: Any, steps: int) -> Any:
    period = Length(max(steps, 1)).steps(config.restart_period, "restart_period")
    return cosine_restarts(elapsed, config.base_learning_rate, period, config.restart_period_factor)


@registry.register("piecewise")
def _piecewise(config: OptimizerConfig, elapsed: Any, steps: int) -> Any:
    whole = Length(config.slow_start_step + steps)  # boundaries count from the first step, warm-up included
    points = [whole.steps(text, "learning_rate_boundaries") for text in config.boundaries()]
    since_warm_up = [point - config.slow_start_step - 1 for point in points]
    return piecewise_constant(elapsed, since_warm_up, config.learning_rate_values)


@registry.register("plateau")
def _plateau(config: OptimizerConfig, elapsed: Any, steps: int) -> Any:
    return _constant(config, elapsed, steps)  # `plateau_reductions` tells how often it has been lowered


@registry.register("exponential")
def _exponential(config: OptimizerConfig, elapsed: Any, steps: int) -> Any:
    del steps
    period, factor = config.learning_rate_decay_step, config.learning_rate_decay_factor
    return exponential(elapsed, config.base_learning_rate, period, factor)


@registry.register("constant")
def _constant(config: OptimizerConfig, elapsed: Any, steps: int) -> Any:
    del steps
    return _library(elapsed).zeros_like(elapsed) + np.float32(config.base_learning_rate)


@registry.register("one_cycle")
def _one_cycle(config: OptimizerConfig, elapsed: Any, steps: int) -> Any:
    return one_cycle(elapsed, config.base_learning_rate, steps)


def poly(elapsed: Any, base_rate: float, decay_steps: float, end_rate: float = 0.0, power: float = 0.9) -> Any:
    """From `base_rate` to `end_rate` as (1 - elapsed / decay_steps) ** power; `end_rate` from there on.

    The schedule of ParseNet (Liu et al., arXiv:1506.04579), used in all DeepLab papers with power 0.9.

    Args:
      elapsed: float32 scalar, steps since the warm-up ended.
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


def cosine_restarts(elapsed: Any, base_rate: float, period: int, factor: float = 1.0) -> Any:
    """Half a cosine from `base_rate` to 0 in each period (SGDR, Loshchilov and Hutter, arXiv:1608.03983).

    Args:
      elapsed: float32 scalar, steps since the warm-up ended.
      base_rate: rate at the beginning of each period.
      period: steps of the first one.
      factor: length of each period over that of the one before, at least 1.
    """
    library, starts, length = _library(elapsed), [0.0], float(max(period, 1))
    while starts[-1] < 2**31 and len(starts) < _MAX_RESTARTS and factor > 1.0:
        starts.append(starts[-1] + length * factor ** (len(starts) - 1))
    if factor == 1.0:
        within, of = elapsed % np.float32(length), np.float32(length)
    else:
        edges = np.array(starts[1:], np.float32)
        past = library.where(elapsed >= edges, np.float32(1.0), np.float32(0.0))
        number = tf.reduce_sum(past) if tf.is_tensor(elapsed) else past.sum(dtype=np.float32)
        index = tf.cast(number, tf.int32) if tf.is_tensor(elapsed) else int(number)
        begin = tf.gather(np.array(starts, np.float32), index) if tf.is_tensor(index) else np.float32(starts[index])
        within, of = elapsed - begin, np.float32(length) * np.float32(factor) ** number
    turn = library.cos(np.float32(np.pi) * within / of)
    return np.float32(base_rate) * (np.float32(0.5) * (np.float32(1.0) + turn))


def plateau_reductions(scores: Sequence[float], patience: int) -> int:
    """How often a schedule that waits for a plateau has lowered the rate after these evaluations.

    Each time that `patience` evaluations in a row were not better than the best so far; counting then starts again.

    Args:
      scores: of all evaluations so far, in order; more is better, NaN is never better.
      patience: evaluations, at least 1.
    """
    best, waited, reductions = -float("inf"), 0, 0
    for score in scores:
        if score > best:
            best, waited = score, 0
            continue
        waited += 1
        if waited == patience:
            waited, reductions = 0, reductions + 1
    return reductions


def exponential(elapsed: Any, base_rate: float, period: int, factor: float) -> Any:
    """`base_rate` times `factor` to the power of the periods gone by, fractions included."""
    return np.float32(base_rate) * np.float32(factor) ** (elapsed * (np.float32(1.0) / np.float32(period)))


def one_cycle(
    elapsed: Any, top_rate: float, steps: float, rising: float = 0.3, divisor: float = 25.0, final_divisor: float = 1e4
) -> Any:
    """Half a cosine up from `top_rate / divisor` to `top_rate`, and half a cosine down to almost 0.

    The schedule of Smith and Topin (arXiv:1708.07120) with the defaults of PyTorch's OneCycleLR: the last step
    (`steps - 1`) has `top_rate / divisor / final_divisor`.

    Args:
      elapsed: float32 scalar, steps since the warm-up ended.
      top_rate: the largest rate.
      steps: length of the cycle.
      rising: fraction of the cycle before the largest rate.
      divisor: `top_rate` over the first rate.
      final_divisor: the first rate over the last.
    """
    library, start = _library(elapsed), top_rate / divisor
    top = max(rising * steps - 1.0, 1.0)

    def between(first: float, last: float, progress: Any) -> Any:
        turn = np.float32(0.5) * (np.float32(1.0) + library.cos(np.float32(np.pi) * progress))
        return np.float32(last) + (np.float32(first) - np.float32(last)) * turn

    up = between(start, top_rate, _progress(elapsed, top))
    since_top = library.maximum(elapsed - np.float32(top), np.float32(0.0))
    down = between(top_rate, start / final_divisor, _progress(since_top, steps - 1.0 - top))
    return library.where(elapsed < np.float32(top), up, down)


def piecewise_constant(elapsed: Any, boundaries: Sequence[float], rates: Sequence[float]) -> Any:
    """`rates[i]` up to and including step `boundaries[i]`, the last rate after all of them.

    Raises:
      UserError: there is not exactly one rate more than boundaries, or these do not ascend.
    """
    if len(rates) != len(boundaries) + 1:
        rule = f"{len(boundaries)} boundaries need {len(boundaries) + 1} rates, not {len(rates)}"
        raise UserError("wrong-number-of-values", rule, where="rates", value=list(rates))
    if list(boundaries) != sorted(boundaries):
        rule = f"must ascend, not {list(boundaries)}"
        raise UserError("not-ascending", rule, f"{sorted(boundaries)}", where="boundaries", value=list(boundaries))
    rate: Any = np.float32(rates[0])
    for boundary, later_rate in zip(boundaries, rates[1:], strict=True):
        rate = _library(elapsed).where(elapsed > np.float32(boundary), np.float32(later_rate), rate)
    return rate


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
