"""Where a training starts: anew, from an initial checkpoint, or where it was stopped."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import tensorflow as tf

from deeplab import console
from deeplab.checkpoint import files, names
from deeplab.checkpoint.restore import restore as restore_variables
from deeplab.training.settings import Settings

State = Mapping[str, keras.Variable | tf.Variable]


def restore(state: State, settings: Settings) -> int:
    """Sets weights and optimizer slots, and gives the step to go on from.

    A checkpoint in `train_logdir` wins; all of it must fit. Else `tf_initial_checkpoint` sets what fits, which
    is shown as a table, and training starts at step 0.

    Raises:
      UserError: the checkpoint is damaged, of another network, or (when going on) does not fit entirely.
    """
    config = settings.train
    latest = files.latest(config.train_logdir, checksums=True)
    if latest:
        restore_variables(state, latest, require_all=True)
        step = files.step_of(latest)
        console.note(f"going on from {latest}, step {step}")
        return step
    if config.tf_initial_checkpoint:
        exclude = names.initial_exclusion(
            config.initialize_last_layer, settings.optimizer.last_layers_contain_logits_only
        )
        report = restore_variables(state, config.tf_initial_checkpoint, exclude)
        console.note(report.table())
    return 0
