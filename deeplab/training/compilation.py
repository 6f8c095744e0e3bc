"""Whether XLA compiles the training step: as `jit_compile` says, or as measured when a training starts on one GPU.

The loop asks once, before the first step, and keeps the answer in `config.yml`, since a compiled step rounds
differently and a resumed training must continue exactly. Measuring leaves every variable as it was. It is never done on
a CPU, where XLA made depthwise convolutions 15 times slower, nor on several devices, which XLA cannot connect:
`setup.require_consistent` refuses `jit_compile=true` there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab.config import run_file
from deeplab.config.training_config import TrainConfig
from deeplab.training.distribution import Devices, is_tpu
from deeplab.training.guards import run_step
from deeplab.training.step import TrainingBatch
from deeplab.utils import console
from deeplab.utils.errors import UserError

Step = Callable[[TrainingBatch, tf.Tensor], Mapping[str, tf.Tensor]]

ROUNDS, STEPS = 3, 5  # the best of three rounds of five steps counts
MIN_GAIN = 0.97  # of the time of the other; below it, compiling again after each start would not pay


def decide(
    config: TrainConfig,
    devices: Devices,
    make_step: Callable[[bool], Step],
    batches: Callable[[], Iterator[TrainingBatch]],
    variables: Mapping[str, Any],
    resumed_step: int = 0,
) -> str:
    """What `jit_compile` is in a training: "true", "false", or "auto" where nothing is measured and nothing compiled.

    Args:
      config: its `jit_compile` is "true", "false" or "auto".
      devices: on which the training runs.
      make_step: gives the step's function, compiled by XLA or not.
      batches: gives the batches that follow; called only for a measurement.
      variables: all that a step changes, by name; they keep their values.
      resumed_step: updates done so far; from the first on, what `config.yml` says is kept.
    """
    if config.jit_compile != "auto" or not may_pay(devices):
        return config.jit_compile
    chosen = run_file.load(config.train_logdir).get("jit_compile", "auto") if resumed_step else "auto"
    if chosen != "auto":
        return str(chosen)
    console.note("measuring whether XLA makes the steps faster: `jit_compile=false` leaves this out")
    return "true" if is_faster(make_step, next(batches()), resumed_step, variables) else "false"


def may_pay(devices: Devices) -> bool:
    """Whether compiling may make the steps of these devices faster, so that measuring is worth its time."""
    return devices.replicas == 1 and not is_tpu(devices.strategy) and bool(tf.config.list_physical_devices("GPU"))


def is_faster(make_step: Callable[[bool], Step], batch: TrainingBatch, step: int, variables: Mapping[str, Any]) -> bool:
    """Whether steps that XLA has compiled are faster; no, if it cannot compile them. Arguments as in `decide`."""
    before = {name: np.asarray(variable.numpy()) for name, variable in variables.items()}
    try:
        plain = _seconds(make_step(False), batch, step)
        compiled = _seconds(make_step(True), batch, step)
    except (UserError, tf.errors.OpError, NotImplementedError, ValueError, TypeError) as problem:
        # If it fails without XLA as well, the training's first step explains it.
        text = str(getattr(problem, "message", problem)) or type(problem).__name__
        console.note(f"steps are not compiled by XLA: {text.splitlines()[0]}")
        return False
    finally:
        for name, variable in variables.items():
            variable.assign(before[name])
    is_worth_it = compiled < MIN_GAIN * plain
    verdict = "compiled by XLA" if is_worth_it else "not compiled by XLA"
    console.note(f"a step takes {1000 * compiled:.0f} ms with XLA and {1000 * plain:.0f} ms without: {verdict}")
    return is_worth_it


def _seconds(train_step: Step, batch: TrainingBatch, step: int) -> float:
    """Seconds of a step; the first one, which traces and compiles, does not count."""
    results = run_step(train_step, batch, step, folder="")
    rounds = []
    for _ in range(ROUNDS):
        results["total_loss"].numpy()  # waits for the device
        start = time.perf_counter()
        for _ in range(STEPS):
            results = run_step(train_step, batch, step, folder="")
        results["total_loss"].numpy()
        rounds.append((time.perf_counter() - start) / STEPS)
    return min(rounds)
