"""Where a training starts: anew, from an initial checkpoint, or where it was stopped."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import tensorflow as tf

from deeplab.checkpoint import AnyCheckpoint, names
from deeplab.checkpoint.manager import latest
from deeplab.checkpoint.restore import restore as restore_variables
from deeplab.training.settings import Settings
from deeplab.utils import console
from deeplab.utils.errors import UserError
from slim import keras_applications

IMAGENET = "imagenet"  # as --tf_initial_checkpoint: Keras' own weights of a keras: backbone
State = Mapping[str, keras.Variable | tf.Variable]


def restore(state: State, settings: Settings) -> int:
    """Sets weights and optimizer slots, and gives the step to go on from.

    A checkpoint in `train_logdir` wins; all of it must fit. Else `tf_initial_checkpoint` sets what fits, which
    is shown as a table, and training starts at step 0.

    Raises:
      UserError: the checkpoint is damaged, of another network, or (when going on) does not fit entirely.
    """
    config = settings.train
    found = latest(config.train_logdir, checksums=True)
    if found:
        restore_variables(state, found, require_all=True)
        console.note(f"going on from {found.prefix}, step {found.step}")
        return found.step
    if config.tf_initial_checkpoint:
        exclude = names.initial_exclusion(
            config.initialize_last_layer, settings.optimizer.last_layers_contain_logits_only
        )
        report = restore_variables(state, initial_weights(settings), exclude)
        console.note(report.table())
    elif settings.model.model_variant.startswith(keras_applications.PREFIX):
        console.note(f"all weights start anew; `tf_initial_checkpoint={IMAGENET}` takes Keras' ImageNet weights")
    return 0


def initial_weights(settings: Settings) -> AnyCheckpoint:
    """What `tf_initial_checkpoint` means: a checkpoint's path, or Keras' ImageNet weights by name.

    Raises:
      UserError: Keras has no such weights, or they cannot be fetched.
    """
    wanted, variant = settings.train.tf_initial_checkpoint, settings.model.model_variant
    if wanted != IMAGENET:
        return wanted
    if not variant.startswith(keras_applications.PREFIX):
        raise UserError(
            "unclassified",
            f"Keras has ImageNet weights for keras: backbones alone, not for {variant}",
            "give a checkpoint, or zoo:NAME; docs/model_zoo.md lists those trained on ImageNet",
            field="tf_initial_checkpoint",
        )
    try:
        return keras_applications.imagenet_weights(variant.removeprefix(keras_applications.PREFIX))
    except OSError as fault:
        raise UserError("unclassified", str(fault), field="tf_initial_checkpoint") from fault
