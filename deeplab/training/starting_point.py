"""Where a training starts: the checkpoint to resume from, or the initial weights, and what must be equal to resume.

Owns the comparison of a training with the one in its folder, and the restoring of weights and slots. Called by `setup`
before the first step and by the loop. It writes nothing.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from deeplab import checkpoint
from deeplab.checkpoint import names, zoo
from deeplab.checkpoint.bundle import ArrayCheckpoint, Checkpoint
from deeplab.checkpoint.manager import latest
from deeplab.checkpoint.restore import RestoreReport
from deeplab.checkpoint.restore import restore as restore_variables
from deeplab.config import run_file
from deeplab.config.fields import coerce, fields_of
from deeplab.config.model_config import ModelConfig
from deeplab.config.training_config import BEST_FOR_BACKBONE, IMAGENET, TrainConfig
from deeplab.data.dataset import Dataset
from deeplab.training import channel_pruning
from deeplab.utils import console
from deeplab.utils.errors import UserError
from slim import keras_applications

if TYPE_CHECKING:
    from deeplab.training.setup import Prepared, TrainingConfigs


def facts_of(dataset: Dataset, split: str) -> dict[str, Any]:
    """The dataset's part of `config.yml`."""
    return {
        "dataset_name": dataset.name,
        "num_classes": dataset.num_classes,
        "class_names": list(dataset.class_names),
        "colors": [list(color) for color in dataset.colors],
        "ignore_label": dataset.ignore_label,
        "training_images": dataset.splits.get(split),
    }


def find_start(configs: TrainingConfigs, dataset: Dataset) -> tuple[Checkpoint | None, int, tuple[str, ...]]:
    """The checkpoint to resume from, if there is one, the seed, and the changes that `allow_changes` lets pass.

    A training that has not completed a step has learned nothing: with another config it starts again.

    Raises:
      UserError: the folder holds a training of other data or with another config.
    """
    folder, wanted = configs.train.train_logdir, configs.train.random_seed
    resumed = latest(folder, checksums=True)
    saved = run_file.load(folder) if resumed else {}
    changes: tuple[str, ...] = ()
    try:
        require_same_dataset(dataset, configs.train.train_split, saved, folder)
        changes = require_same_config(configs, saved, folder)
    except UserError:
        if resumed is None or resumed.step > 0:
            raise
        console.note(f"{folder} holds a training at step 0 with another config or dataset: starting again")
        resumed, saved = None, {}
    return resumed, choose_seed(wanted, saved), changes


def choose_seed(wanted: int | None, saved: Mapping[str, Any]) -> int:
    """The seed to use: the one that the training in the folder has, else the wanted one, else a new one."""
    if "seed" in saved:
        return int(saved["seed"])
    return random.SystemRandom().randrange(2**31) if wanted is None else wanted


def _keep_what_was_learned(folder: str) -> str:
    return f"to keep what was learned, start in another folder: `train_logdir=NEW` `tf_initial_checkpoint={folder}`"


def require_same_dataset(dataset: Dataset, split: str, saved: Mapping[str, Any], folder: str) -> None:
    """Refuses to resume a training on another dataset; the same one in another place is welcome.

    Raises:
      UserError: other classes, another ignore label, or another number of images.
    """
    now = facts_of(dataset, split)
    words = {"class_names": "the classes", "ignore_label": "the ignore label", "training_images": "the training images"}
    for name, what in words.items():
        was, current = saved.get(name), now[name]
        if None not in (was, current) and was != current:
            was_text, text = run_file.show(was), run_file.show(current)
            rule = f"{what} of the training in {folder} were {was_text}; of this dataset they are {text}"
            hint = f"resume with the dataset it was trained on; {_keep_what_was_learned(folder)}"
            raise UserError("other-dataset", rule, hint, field="dataset_dir", value=current)


def require_same_config(configs: TrainingConfigs, saved: Mapping[str, Any], folder: str) -> tuple[str, ...]:
    """Refuses to resume a training with another config, except for what may change.

    That is what the fields declare resumable, and the settings in `allow_changes`, whose changes are returned as lines.

    Raises:
      UserError: the config differs; the message lists how. Or `allow_changes` names a setting that shapes the weights.
    """
    allowed = configs.train.changes_allowed()
    different = run_file.differences(dict(saved), configs.groups(), ignore=allowed)
    wanted = configs.train.random_seed
    if wanted is not None and saved.get("seed", wanted) != wanted:
        different.append(f"`random_seed`: was {saved['seed']}, is {wanted}")
    if different:
        rule = "holds a training with another config:\n    " + "\n    ".join(different)
        changed = ",".join(line.split("`")[1] for line in different)
        hint = f"resume with the same config, or add `allow_changes={changed}`; {_keep_what_was_learned(folder)}"
        raise UserError("changed-config", rule, hint, where=folder, value=tuple(different))
    changes = tuple(run_file.differences(dict(saved), configs.groups()))
    for line in changes:
        name = line.split("`")[1]
        if run_file.shapes_weights(name, configs.groups()):
            rule = f"{name} shapes the weights, so that the checkpoint in {folder} would no longer fit ({line})"
            raise UserError("changed-config", rule, _keep_what_was_learned(folder), field="allow_changes", value=name)
        console.note(f"changed on purpose: {line}")
    planned, steps = saved.get("training_number_of_steps"), configs.train.training_number_of_steps
    if planned not in (None, steps):
        console.note(f"the learning rate schedule now covers {steps} steps; it was planned for {planned}")
    return changes


def require_initial_weights(train: TrainConfig) -> None:
    """Opens the initial checkpoint, so that a wrong path or zoo name shows at once; warns where statistics need one.

    Raises:
      UserError: there is no such checkpoint.
    """
    if train.tf_initial_checkpoint not in ("", IMAGENET, BEST_FOR_BACKBONE):
        checkpoint.open(train.tf_initial_checkpoint)
    if not train.fine_tune_batch_norm and not train.tf_initial_checkpoint:
        console.warning(
            "`fine_tune_batch_norm=false` without an initial checkpoint: batch norm keeps mean 0 and variance 1, and a "
            "model from scratch hardly learns; start from a checkpoint (`tf_initial_checkpoint`), or leave it out"
        )


def restore(variables: Mapping[str, keras.Variable | tf.Variable], configs: TrainingConfigs, prepared: Prepared) -> int:
    """Sets weights and optimizer slots, and returns the number of updates that they have seen.

    When resuming, the whole checkpoint must fit. Otherwise `tf_initial_checkpoint` sets what fits, which is shown as
    a table, and training starts at step 0.

    Raises:
      UserError: the checkpoint is damaged, of another model, holds values that are not finite, or (when resuming) does
        not fit entirely.
    """
    train, model = configs.train, configs.model
    if prepared.resumed:
        resumed = prepared.resumed
        new = [
            name
            for name in variables
            if name not in resumed and (names.is_mask(name) or (prepared.changes and names.is_bookkeeping(name)))
        ]
        restore_variables(variables, resumed, new.__contains__, require_all=True)
        if new:
            console.note(
                f"{len(new)} slots are not in {resumed.prefix} and start from their first values: {new[0]}, ..."
            )
        console.note(f"resuming from {prepared.resumed.prefix}, step {prepared.resumed.step}")
        return prepared.resumed.step
    if train.tf_initial_checkpoint:
        logits_only = configs.optimizer.last_layers_contain_logits_only
        exclude = names.initial_exclusion(train.initialize_last_layer, logits_only)
        source = checkpoint.open(zoo.published_weights(train.tf_initial_checkpoint, model))
        averages = bool(source.config.get("ema_decay")) if isinstance(source, Checkpoint) else False
        if source.averages_alone:
            console.note(source.remark)
        tell_of_other_settings(source, model)
        if configs.compression.prune_channels:
            source = channel_pruning.cut(source, model, averages)
        report = restore_variables(variables, source, exclude, averages=averages)
        if averages and not source.averages_alone:
            console.note(f"{source.prefix}: running averages of the weights, which that training used")
        console.note(report.table())
        if not train.fine_tune_batch_norm:
            warn_of_frozen_defaults(report)
    elif model.model_variant.startswith(keras_applications.PREFIX):
        console.note(f"training from scratch; `tf_initial_checkpoint={IMAGENET}` takes Keras' ImageNet weights")
    return 0


def tell_of_other_settings(source: Checkpoint | ArrayCheckpoint, model: ModelConfig) -> None:
    """Print which settings of the model an initial checkpoint was trained with, where this training has others."""
    fields = {name: each for name, each in fields_of([ModelConfig]).items() if name in source.config}
    was = {name: coerce(each, group, source.config[name]) for name, (each, group) in fields.items()}
    others = [f"`{name}={run_file.show(value)}`" for name, value in was.items() if value != getattr(model, name)]
    if others:
        console.note(
            f"{source.prefix} was trained with settings that differ from those of this training: {' '.join(others)}"
        )


def warn_of_frozen_defaults(report: RestoreReport) -> None:
    """Warns of batch norms that stay at mean 0 and variance 1, because the checkpoint does not have them."""
    frozen = [name for name in (*report.missing, *report.excluded) if name.endswith("/moving_variance")]
    if frozen:
        console.warning(
            f"the statistics of {len(frozen)} batch norms are not in the initial checkpoint and stay at mean 0, "
            f"variance 1, for example {frozen[0]}; without `fine_tune_batch_norm=false` they are trained"
        )
