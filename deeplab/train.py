"""Trains a network, or goes on with a training that was stopped.

    python deeplab/train.py --dataset_dir=data/tfrecord --train_logdir=runs/first \
        --tf_initial_checkpoint=mobilenet_v2/model.ckpt --model_variant=mobilenet_v2 --output_stride=16 \
        --train_crop_size=257,257 --train_batch_size=4 --training_number_of_steps=500 --base_learning_rate=.007

500 such steps take about four minutes on two processor cores. Writes checkpoints (`model.ckpt-N`), `config.yml`
and TensorBoard summaries into `train_logdir`; the same command after a stop goes on from the last checkpoint.
"""

from __future__ import annotations

import pathlib
import sys

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.config import flags
from deeplab.config.data_config import DatasetConfig, ResizeConfig
from deeplab.config.model_config import ModelConfig
from deeplab.config.training_config import LossConfig, OptimizerConfig, TrainConfig

GROUPS = (ModelConfig, ResizeConfig, DatasetConfig, LossConfig, OptimizerConfig, TrainConfig)


def run(*groups) -> None:
    """The command, after its flags have been read."""
    from deeplab.training import setup
    from deeplab.training.loop import train
    from deeplab.training.settings import Settings

    settings = Settings(*groups)
    with setup.prepared(settings) as (dataset, seed):
        train(settings, dataset, seed)


def main() -> int:
    """Entry point; returns the exit code."""
    return flags.run(run, GROUPS)


if __name__ == "__main__":
    sys.exit(main())
