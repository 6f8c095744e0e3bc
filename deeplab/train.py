r"""Trains a model, or resumes a training that was stopped.

Example, four minutes on two processor cores:

    python deeplab/train.py --dataset_dir=data/tfrecord --train_logdir=runs/first \
        --tf_initial_checkpoint=imagenet --model_variant=mobilenet_v2 --output_stride=16 \
        --train_crop_size=257,257 --train_batch_size=4 --training_number_of_steps=500 --base_learning_rate=.007

On your own data, with settings that suit them and this machine:

    deeplab train --dataset_dir=data/tfrecord --train_logdir=runs/mine/train --recipe=auto --time_budget=30min

Writes checkpoints (model.ckpt-N), config.yml and TensorBoard summaries into the folder `train_logdir`. After a stop the
same command resumes from the last checkpoint. Ctrl-C saves a checkpoint first.
"""

from __future__ import annotations

import pathlib
import sys
import time

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.checkpoint.find import require_something
from deeplab.config.augmentation_config import AugmentationConfig
from deeplab.config.command_line import Command, Given, configs_from
from deeplab.config.compression_config import CompressionConfig
from deeplab.config.data_config import DatasetConfig, ResizeConfig
from deeplab.config.model_config import ModelConfig
from deeplab.config.recipe_config import RecipeConfig
from deeplab.config.training_config import BEST_FOR_BACKBONE, IMAGENET, LossConfig, OptimizerConfig, TrainConfig
from deeplab.data import dataset as datasets
from deeplab.training import cluster
from deeplab.utils import console

SETTINGS = (
    *(TrainConfig, DatasetConfig, ModelConfig, LossConfig, OptimizerConfig, ResizeConfig, AugmentationConfig),
    CompressionConfig,
)
GROUPS = (TrainConfig, RecipeConfig, *SETTINGS[1:])


def run(given: Given) -> None:
    """Runs the command."""
    started = time.monotonic()
    train_config, recipe_config, dataset_config, *_ = configs_from(given, GROUPS)
    datasets.require_records(dataset_config.dataset, dataset_config.dataset_dir, train_config.train_split)
    if train_config.tf_initial_checkpoint not in (IMAGENET, BEST_FOR_BACKBONE):
        require_something(train_config.tf_initial_checkpoint)
    console.import_tensorflow()
    from deeplab.training import connection, distribution, setup
    from deeplab.training.loop import train
    from deeplab.training.recipe_plan import RecipePlan, plan

    chosen = plan(given, SETTINGS, started) if recipe_config.is_on() else RecipePlan(given, explicit=given)
    train_config, dataset_config, model, loss, optimizer, resize, *more = configs_from(dict(chosen.given), SETTINGS)
    configs = setup.TrainingConfigs(model, resize, dataset_config, loss, optimizer, train_config, *more)
    devices = distribution.open_devices(train_config)
    console.only_errors(not devices.is_chief)
    prepared_start = setup.prepare(configs, devices, warns_of_batch=not chosen.chose("train_batch_size"))
    try:
        with connection.explained(devices.cluster), prepared_start as (resolved, prepared):
            resolved, prepared, chosen = chosen.settle(resolved, prepared, devices)
            if devices.is_chief:
                chosen.tell()
                chosen.write(train_config.train_logdir)
            train(resolved, prepared, devices)
    finally:
        console.only_errors(False)


def _kept(given: Given) -> tuple[str, ...]:
    """The settings whose remote paths are not copied: other workers than the chief do not use the training folder."""
    found = cluster.find() if given.get("distribution", "auto") in ("auto", "multi_worker") else None
    return ("train_logdir",) if found is not None and found.index else ()


COMMAND = Command("train", run, GROUPS, __doc__, keeps_remote=_kept)


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
