"""The mean of the last checkpoints' weights, written at the end into `averaged/` beside them.

Stochastic weight averaging (Izmailov et al., arXiv:1803.05407) over the checkpoints that are in the training folder
anyway, so that nothing is kept in memory and a stop changes nothing. Batch norm's statistics are computed for the mean.
"""

from __future__ import annotations

import os
import pathlib

import numpy as np

from deeplab import checkpoint
from deeplab.checkpoint import manager
from deeplab.checkpoint.bundle import step_in_name
from deeplab.checkpoint.chosen import AVERAGED
from deeplab.checkpoint.restore import averaged_name, masked
from deeplab.config import run_file
from deeplab.config.training_config import TrainConfig
from deeplab.training import evaluation_model
from deeplab.training.callbacks import Callback, live_evaluation, register
from deeplab.training.state import TrainState
from deeplab.utils import console
from deeplab.utils.files import write_atomically
from slim.layers import variables_by_name


@register("weight_averaging")
class WeightAveraging(Callback):
    """Averages the last `average_checkpoints` checkpoints after the last step."""

    in_all_workers = True

    def on_end(self, state: TrainState) -> None:
        number = state.config.average_checkpoints
        if not number or not state.is_last_step:
            return
        model = evaluation_model.make_copy(state)
        variables = variables_by_name(model)
        prefixes = regular_checkpoints(state)[-number:] if state.devices.is_chief else []
        for name, value in mean_of(prefixes, list(variables)).items() if prefixes else ():
            variables[name].assign(value)
        state.devices.broadcast(variables)
        state.recalibrate(model, always=True)
        score = self._score(state, model)
        if not state.devices.is_chief:
            return
        folder = pathlib.Path(state.config.train_logdir)
        (folder / AVERAGED).mkdir(exist_ok=True)
        config = folder / run_file.FILE_NAME
        if config.exists():
            write_atomically(folder / AVERAGED / run_file.FILE_NAME, config.read_bytes())
        tensors = {name: np.asarray(variable.numpy()) for name, variable in variables_by_name(model).items()}
        prefix = manager.save_step(folder / AVERAGED, state.step, tensors, keep=1)
        console.note(f"mean of {len(prefixes)} checkpoints: {prefix} (`checkpoint={AVERAGED}`){score}")

    def _score(self, state: TrainState, model) -> str:
        """The metric of the mean, where the training is evaluated."""
        if not state.config.eval_every:
            return ""
        report = live_evaluation.shared_evaluation(state, live_evaluation.make_evaluators(state, model))
        name = state.config.best_metric
        return f", {name} {live_evaluation.metrics_of(report)[name]:.4f} on {report.split}"


def is_missing(config: TrainConfig, step: int) -> bool:
    """Whether a kill after the last checkpoint has prevented the mean of a training that ended at this step."""
    if not config.average_checkpoints:
        return False
    prefixes = manager.all_checkpoints(os.path.join(config.train_logdir, AVERAGED))
    return step not in map(step_in_name, prefixes)


def regular_checkpoints(state: TrainState) -> list[str]:
    """Prefixes of the checkpoints at every `save_interval_steps` and at the last step; a stop may have left others."""
    every = state.config.save_interval_steps
    found = {step_in_name(prefix): prefix for prefix in manager.all_checkpoints(state.config.train_logdir)}
    return [found[step] for step in sorted(filter(None, found)) if step % every == 0 or step == state.step]


def mean_of(prefixes: list[str], names: list[str]) -> dict[str, np.ndarray]:
    """Mean of variables over checkpoints, of their running averages where they have some: name -> float32 array.

    Kernels that are pruned in the last checkpoint are pruned in the mean as well.
    """
    sums = {name: np.zeros((), np.float64) for name in names}
    for prefix in prefixes:
        opened = checkpoint.open(prefix)
        for name in names:
            sums[name] = sums[name] + opened.array(averaged_name(name, opened))
    last = checkpoint.open(prefixes[-1])
    return {name: masked(name, (total / len(prefixes)).astype(np.float32), last) for name, total in sums.items()}
