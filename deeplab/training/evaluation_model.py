"""The model that a running training evaluates: the live one, or a float32 copy with the averaged weights.

Without averages and in float32 it is the model in training itself, whose batch-norm statistics are computed again for
the evaluation where the training was too short for them to settle; the training then goes on with its own. Otherwise it
is a copy, as `deeplab eval` would build it from the checkpoint. Used by what evaluates during a training, and at its
end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import keras
import numpy as np

from deeplab.checkpoint.names import AVERAGE
from deeplab.checkpoint.sparsity import Sparsity, sparsity_of
from deeplab.model import build_model
from deeplab.training import precise_bn
from slim.layers import refresh_weight_ranges, variables_by_name

if TYPE_CHECKING:
    from deeplab.training.state import TrainState


@contextlib.contextmanager
def ready(state: TrainState, recalibrate: bool = True) -> Iterator[keras.Model]:
    """Gives the model to be evaluated, with present weights or averages, within the block.

    Args:
      state: of the training.
      recalibrate: compute batch norm's statistics again where needed; off after the last step, when that is done.
    """
    model = model_of(state)
    if model is state.model:
        with precise_bn.kept_statistics(model) if recalibrate else contextlib.nullcontext():
            if recalibrate:
                state.recalibrate(model, brief=True)
            _share_statistics(state, model)
            yield model
        return
    refresh(state, model)
    if recalibrate:
        state.recalibrate(model, brief=True)
    _share_statistics(state, model)
    yield model


def _share_statistics(state: TrainState, model: keras.Model) -> None:
    """Gives all workers the chief's statistics, which checkpoints hold: they differ where batch norm is not synced."""
    found = variables_by_name(model)
    state.devices.broadcast({name: found[name] for name in statistics(model)})


def model_of(state: TrainState) -> keras.Model:
    """The model in training, or its copy, which is made at the first call."""
    if state.trainer.averages is None and state.config.precision == "float32":
        return state.model
    if state.evaluation_copy is None:
        state.evaluation_copy = make_copy(state)
    return state.evaluation_copy


def make_copy(state: TrainState) -> keras.Model:
    """A float32 model of the same architecture; its batch norm keeps statistics where that of the live one does."""
    assert state.configs
    with state.devices.strategy.scope():
        copy = build_model(state.configs.model, state.dataset.num_classes)
    state.trainer.clock.control(copy, state.seed)
    own = {layer.name: layer.norm for layer in precise_bn.batch_norm_layers(state.model)}
    for layer in precise_bn.batch_norm_layers(copy):
        layer.norm = own[layer.name]
    return copy


def refresh(state: TrainState, copy: keras.Model) -> None:
    """Gives a copy the averages, or the weights where there are none."""
    averages = state.trainer.averages
    live = variables_by_name(state.model)
    values = averages.values() if averages else {name: variable.numpy() for name, variable in live.items()}
    for name, variable in variables_by_name(copy).items():
        variable.assign(values[name])
    if averages:
        refresh_weight_ranges(copy)
    own = {layer.name: layer.norm for layer in precise_bn.batch_norm_layers(state.model)}
    for layer in precise_bn.batch_norm_layers(copy):
        layer.norm = own[layer.name]  # some keep their statistics


def statistics(model: keras.Model) -> dict[str, np.ndarray]:
    """Batch norm's moving means and variances by name."""
    found = variables_by_name(model).items()
    return {name: np.asarray(v.numpy()) for name, v in found if name.endswith(("/moving_mean", "/moving_variance"))}


def checkpoint_tensors(state: TrainState) -> dict[str, np.ndarray]:
    """What a checkpoint holds of the training, with the statistics that the evaluation has used."""
    tensors = {name: np.asarray(variable.numpy()) for name, variable in state.variables.items()}
    model = model_of(state)
    if model is state.model:
        return tensors
    suffix = f"/{AVERAGE}" if state.trainer.averages else ""
    return tensors | {f"{name}{suffix}": value for name, value in statistics(model).items()}


def sparsity(state: TrainState) -> Sparsity:
    """Zeros and compressed size of the averages, or of the weights where there are none."""
    averages = state.trainer.averages
    if averages:
        return sparsity_of(averages.values())
    return sparsity_of({name: np.asarray(v.numpy()) for name, v in variables_by_name(state.model).items()})


def recalibrate_for_good(state: TrainState) -> None:
    """Computes batch norm's statistics again where needed after the last step, for the averages as well."""
    state.recalibrate(state.model)
    averages = state.trainer.averages
    if averages:
        copy = model_of(state)
        refresh(state, copy)
        state.recalibrate(copy)
        averages.set(statistics(copy))
