r"""Evaluates a trained model on a split of records.

Example, 0.1 seconds per image of 513x513 on two processor cores (MobileNetV2, output stride 16):

    python deeplab/eval.py --checkpoint_dir=runs/first --eval_logdir=runs/first/eval --dataset_dir=data/tfrecord

Prints the table of classes and writes metrics.json, plots and TensorBoard scalars into the folder `eval_logdir`. The
architecture comes from config.yml beside the checkpoint. Evaluates the latest checkpoint and ends; `watch` waits for
further ones. With `min_resize_value`, labels are resized like the images and compared at that size, as in the research
DeepLab.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.config.command_line import Command, Given, configs_from
from deeplab.config.data_config import DatasetConfig, ResizeConfig
from deeplab.config.fields import as_dict
from deeplab.config.model_config import ModelConfig
from deeplab.config.prediction_config import EvalConfig, InferenceConfig
from deeplab.utils import console

if TYPE_CHECKING:
    from deeplab.checkpoint.bundle import Checkpoint

GROUPS = (EvalConfig, DatasetConfig, InferenceConfig, ResizeConfig, ModelConfig)


def run(given: Given) -> None:
    """Runs the command: one checkpoint after the other."""
    (config,) = configs_from(given, [EvalConfig])
    console.import_tensorflow()
    from deeplab.checkpoint import watch

    most = 0 if config.watch and config.max_number_of_evaluations == 1 else config.max_number_of_evaluations
    measure = None
    for checkpoint in watch.checkpoints(config.checkpoint_dir, most, config.eval_interval_secs):
        measure = measure or prepared(given, checkpoint)
        measure(checkpoint)


def prepared(given: Given, checkpoint: Checkpoint) -> Callable[[Checkpoint], None]:
    """Everything that stays the same for all checkpoints; gives the function that evaluates one."""
    from deeplab.data import dataset as datasets
    from deeplab.evaluation import evaluator as measure
    from deeplab.evaluation.split_images import Split
    from deeplab.inference import checkpoint_model
    from deeplab.inference.prediction import PredictionSettings

    resolved = checkpoint_model.resolve(given, checkpoint, GROUPS)
    config, data, inference, resize, model = configs_from(resolved, GROUPS)
    described = datasets.find(data.dataset, data.dataset_dir)
    excluded = measure.class_numbers(config.exclude_classes, described.class_names)
    settings = PredictionSettings(
        model, resize, config.eval_crop_size, inference.eval_scales, inference.add_flipped_images
    )
    split = Split(described, data.dataset_dir, config.eval_split, settings, config.eval_batch_size)
    split.require_crop_fits_all()
    evaluator = measure.Evaluator(checkpoint_model.build(model, checkpoint, settings.one_pass), split)
    measure.warn_of_other_names(resolved.get("class_names"), described.class_names, described.name)
    flat = {name: value for group in (config, data, inference, resize, model) for name, value in as_dict(group).items()}

    return lambda opened: measure.tell(evaluator.evaluate(opened, flat), config.eval_logdir, excluded)


COMMAND = Command("eval", run, GROUPS, __doc__)


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
