r"""Draws image grids of records, images with their labels and a legend of the classes, or of training batches.

Examples, 50 images of 500x375 per second on two processor cores:

    python deeplab/browse_data.py --dataset_dir=data/tfrecord --split=train --images=48 --output_dir=browse
    python deeplab/browse_data.py --dataset_dir=data/tfrecord --classes=hair --random=true
    python deeplab/browse_data.py --train_logdir=runs/first --augmented=true --batches=4

The last one draws the batches of a training exactly as its steps get them: cropped, scaled and mirrored, from the
function and the seed of the training. Its flags (`train_crop_size`, `min_scale_factor`, `augmentation`, `rotation` ...)
work as well as its folder or its config.yml. Ignored pixels are hatched, padding is cross-hatched.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.config import run_file
from deeplab.config.augmentation_config import AugmentationConfig
from deeplab.config.command_line import Command, Given, configs_from
from deeplab.config.data_config import DatasetConfig, ResizeConfig
from deeplab.config.fields import make
from deeplab.config.inspection_config import BrowseConfig, BrowsedTraining
from deeplab.config.model_config import ModelConfig
from deeplab.config.training_config import LossConfig, OptimizerConfig
from deeplab.data import dataset as datasets
from deeplab.utils import console

if TYPE_CHECKING:  # the help page needs no TensorFlow
    from deeplab.training.setup import TrainingConfigs
    from deeplab.visualization.dataset_browser import GridStyle, RecordSplit
    from deeplab.visualization.image_grid import ImageGrid


TRAINING = (ModelConfig, ResizeConfig, DatasetConfig, LossConfig, OptimizerConfig, BrowsedTraining, AugmentationConfig)
GROUPS = (BrowseConfig, *reversed(TRAINING))


def run(given: Given) -> None:
    """Runs the command."""
    config = make(BrowseConfig, given)
    if given.get("dataset_dir"):
        splits = [config.split] if config.split else []
        datasets.require_records(given.get("dataset", ""), given["dataset_dir"], *splits)
    console.import_tensorflow()
    from deeplab.data import records
    from deeplab.utils.files import locked_folder
    from deeplab.visualization import dataset_browser as drawing

    settings, saved = training_settings(given)
    split, data = config.split or settings.train.train_split, settings.dataset
    source = drawing.RecordSplit(
        datasets.find(data.dataset, data.dataset_dir), split, records.list_shards(data.dataset_dir, split)
    )
    style = drawing.GridStyle(
        config.images_per_sheet, config.picture_size, config.overlay_opacity, config.overlay_background
    )
    folder = pathlib.Path(config.output_dir)
    with locked_folder(folder, "drawing"):
        if config.of_training:
            files = drawing.GridFiles(folder, f"{split}-step", config.overwrite)
            grids = batch_grids(config, settings, saved, source, style)
        else:
            files = drawing.GridFiles(folder, f"{split}-grid", config.overwrite)
            grids = record_grids(config, source, style)
        for number, grid in grids:
            files.write(number, grid)
        print("written: " + ", ".join(files.finish()), flush=True)


def training_settings(given: Given) -> tuple[TrainingConfigs, dict[str, Any]]:
    """Return the config of the training, from flags and from what it saved; and what it saved, if anything.

    Raises:
      UserError: a flag that contradicts the saved model, or no `dataset_dir`.
    """
    from deeplab.training.setup import TrainingConfigs

    folder = given.get("train_logdir", "")
    saved = run_file.load(folder) if folder else {}
    where = str(pathlib.Path(folder) / run_file.FILE_NAME)
    if folder and not saved:
        console.note(f"{where} does not exist yet: using the flags alone")
    merged = run_file.merge(dict(given), saved, TRAINING, where)
    configs_from(merged, [DatasetConfig])  # `dataset_dir` is required
    groups: list[Any] = [make(group, merged) for group in TRAINING]
    return TrainingConfigs(*groups), saved


def record_grids(config: BrowseConfig, source: RecordSplit, style: GridStyle) -> Iterator[tuple[str, ImageGrid]]:
    """Grids of records with their numbers.

    Raises:
      UserError: an unknown class, none of the wanted classes in the split, a damaged shard.
    """
    from deeplab.visualization import dataset_browser as drawing

    seed = config.seed if config.random else None
    positions = drawing.choose(source, drawing.Selection(config.images, config.classes, seed))
    for number, grid in enumerate(drawing.record_grids(source, positions, style), start=1):
        yield f"{number:03d}", grid


def batch_grids(
    config: BrowseConfig, settings: TrainingConfigs, saved: Mapping[str, Any], source: RecordSplit, style: GridStyle
) -> Iterator[tuple[str, ImageGrid]]:
    """Grids of the batches that the training gets, with the number of the step.

    Raises:
      UserError: a record that cannot be read or used.
    """
    from deeplab.model import padding_color
    from deeplab.training import guards
    from deeplab.training.distribution import ALONE
    from deeplab.training.setup import training_batches, with_input_of
    from deeplab.visualization import dataset_browser as drawing

    seed, settings = seed_of(settings, saved), with_input_of(settings, source.dataset)
    done = config.first_step - 1
    batches = iter(training_batches(settings, source.dataset, source.shards, ALONE, seed, done))
    number = config.batches or -(-config.images // settings.train.train_batch_size)
    about = f"seed {seed}, {about_crops(settings)}"
    for step in console.progress(range(done + 1, done + 1 + number), what="drawing batches", unit="step"):
        batch = guards.next_batch(batches, source.shards)
        title = f"{source.dataset.name}, split {source.name}: the batch of training step {step}"
        padding = padding_color(settings.model)
        grids = list(drawing.batch_grids(source, batch, padding, (title, about), style))
        for part, grid in enumerate(grids, start=1):
            yield f"{step:06d}-{part}" if len(grids) > 1 else f"{step:06d}", grid


def seed_of(settings: TrainingConfigs, saved: Mapping[str, Any]) -> int:
    """The training's seed; says how to get the same batches where it has none yet, and what differs where it has."""
    from deeplab.training.starting_point import choose_seed

    seed = choose_seed(settings.train.random_seed, dict(saved))
    if "seed" not in saved and settings.train.random_seed is None:
        console.note(f"a seed was drawn: a training with `random_seed={seed}` gets these batches")
    if settings.train.random_seed not in (None, seed):
        console.note(f"`random_seed={settings.train.random_seed}` has no effect: that training has seed {seed}")
    for line in run_file.differences(saved, settings.groups()):
        console.note(f"differs from that training: {line}")
    return seed


def about_crops(settings: TrainingConfigs) -> str:
    """The settings of the augmentation in words."""
    train, resize = settings.train, settings.resize
    step = f" by {train.scale_factor_step_size:g}" if train.scale_factor_step_size else ""
    resized = f", resized to sides of {resize.min_resize_value} and up" if resize.min_resize_value else ""
    crop = ",".join(map(str, train.train_crop_size))
    scales = f"scales {train.min_scale_factor:g} to {train.max_scale_factor:g}{step}"
    operations = "".join(f", {name} {amount:g}" for name, amount in settings.augmentation.amounts().items())
    return f"crop {crop} (height,width), {scales}{resized}{operations}"


COMMAND = Command("browse_data", run, GROUPS, __doc__)


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
