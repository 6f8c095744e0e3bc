"""Phases of training with fake quantization: when rounding begins, and when batch norm keeps its statistics.

Owns the phases of `quantize_delay_step` and `quantize_freeze_bn_step`, what checkpoints store of them, and which
other settings they refuse. Used by the loop, which makes one step function per phase; the rounding itself is that of
`slim.quantization`.

The steps are counted as TensorFlow 1.15's `contrib.quantize` counts them: within the first step the counter is 1.
"""

from __future__ import annotations

from typing import NamedTuple

import keras
import tensorflow as tf

from deeplab.checkpoint.names import FAKE_QUANTIZATION_STEP
from deeplab.config.model_config import ModelConfig
from deeplab.config.training_config import TrainConfig
from deeplab.utils.errors import UserError
from slim.quantization import set_rounding


class Phase(NamedTuple):
    """What fake quantization does in a step.

    Attributes:
      rounds: weights and activations are rounded; before, their ranges are learned.
      keeps_statistics: batch norm normalizes by its moving averages, which stay as they are.
    """

    rounds: bool
    keeps_statistics: bool


def phase_at(config: ModelConfig, step: int) -> Phase:
    """The phase of the step that follows `step` updates; without fake quantization it is the same for all."""
    if config.quantize_delay_step < 0:
        return Phase(False, False)
    freeze = config.quantize_freeze_bn_step
    return Phase(step + 1 >= config.quantize_delay_step, freeze >= 0 and step + 1 >= freeze)


def enter(model: keras.Model, phase: Phase) -> str:
    """Prepares a model for a phase, before its step is traced; returns what that means as a sentence."""
    set_rounding(model, phase.rounds)
    rounding = (
        "weights and activations are rounded to 8 bits"
        if phase.rounds
        else "ranges for 8 bits are learned, nothing is rounded yet"
    )
    return rounding + (", batch norm keeps its statistics" if phase.keeps_statistics else "")


def counter(config: ModelConfig) -> dict[str, tf.Variable]:
    """The counter that checkpoints with a delay hold, which TensorFlow 1.15 resumes from; empty without one."""
    if config.quantize_delay_step <= 0:
        return {}
    return {FAKE_QUANTIZATION_STEP: tf.Variable(0, dtype=tf.int64, trainable=False, name=FAKE_QUANTIZATION_STEP)}


def require_consistent(model: ModelConfig, train: TrainConfig, replicas: int = 1) -> None:
    """Refuse what fake quantization cannot be combined with; `replicas` are the devices of all workers.

    Raises:
      UserError: half precision, several devices, or settings of fake quantization without it.
    """
    if model.quantize_delay_step < 0:
        if model.quantize_freeze_bn_step >= 0:
            rule = "sets when batch norm is frozen in fake quantization, which is off"
            hint = "add `quantize_delay_step=0`, or leave it out"
            raise UserError("missing-setting", rule, hint, field="quantize_freeze_bn_step")
        return
    if train.precision != "float32":
        rule = "is too coarse for fake quantization, which imitates integers with float32 numbers"
        raise UserError("conflicting-settings", rule, "`precision=float32`", field="precision", value=train.precision)
    if max(train.num_clones, replicas) > 1:
        rule = "is more than one device; fake quantization learns its ranges on one device, as in the research DeepLab"
        raise UserError("not-supported", rule, "`num_clones=1`", field="num_clones", value=train.num_clones)
