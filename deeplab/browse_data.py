"""Draws contact sheets of records: images, labels laid over them, and labels, with a legend of the classes.

    python deeplab/browse_data.py --dataset_dir=data/tfrecord --split=train --images=48 --output_dir=browse
    python deeplab/browse_data.py --dataset_dir=data/tfrecord --classes=hair --random=true
    python deeplab/browse_data.py --train_logdir=runs/first --augmented=true --batches=4

The last one draws the batches of a training exactly as its steps get them: cropped, scaled and mirrored, pixel for
pixel, from the very function and seed of the training; the flags of the training (`--train_crop_size`,
`--min_scale_factor` ...) do as well as its folder or its `config.yml`. Ignored pixels are hatched, padding is
cross-hatched. Fifty images of 500x375 a second on two processor cores, after three seconds in which TensorFlow starts.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.config import flags, run_file
from deeplab.config.data_config import DatasetConfig, ResizeConfig
from deeplab.config.fields import make
from deeplab.config.inspection_config import BrowseConfig, BrowsedTraining
from deeplab.config.model_config import ModelConfig
from deeplab.config.training_config import LossConfig, OptimizerConfig
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.locks import folder_lock
from deeplab.utils.yaml_files import load_mapping

if TYPE_CHECKING:  # the help page needs no TensorFlow
    from deeplab.training.settings import Settings
    from deeplab.visualization.dataset_browser import Look, Split
    from deeplab.visualization.image_grid import Sheet


TRAINING = (ModelConfig, ResizeConfig, DatasetConfig, LossConfig, OptimizerConfig, BrowsedTraining)
GROUPS = (BrowseConfig, *TRAINING)


def browse(given: dict[str, Any]) -> None:
    """The command, after its flags have been read."""
    from deeplab.data import dataset as datasets
    from deeplab.data import records
    from deeplab.utils.files import made_folder
    from deeplab.visualization import dataset_browser as drawing

    config = make(BrowseConfig, given)
    settings, saved = training_settings(given)
    split, data = config.split or settings.train.train_split, settings.dataset
    source = drawing.Split(
        datasets.find(data.dataset, data.dataset_dir), split, records.list_shards(data.dataset_dir, split)
    )
    look = drawing.Look(config.images_per_sheet, config.picture_size, config.overlay_opacity)
    folder = pathlib.Path(config.output_dir)
    with made_folder(folder), folder_lock(folder, "drawing", "give another --output_dir"):
        if config.of_training:
            pages = drawing.Pages(folder, f"{split}-step", config.overwrite)
            sheets = batch_sheets(config, settings, saved, source, look)
        else:
            pages = drawing.Pages(folder, f"{split}-sheet", config.overwrite)
            sheets = record_sheets(config, source, look)
        for number, sheet in sheets:
            pages.write(number, sheet)
        print("written: " + ", ".join(pages.finish()), flush=True)


def training_settings(given: Mapping[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """The settings of the training, from flags and from what it saved; and what it saved, empty where it has not.

    Raises:
      UserError: a flag that the saved network contradicts, or no --dataset_dir.
    """
    from deeplab.training.settings import Settings

    folder = given.get("train_logdir", "")
    saved = run_file.load(folder) if folder else {}
    where = str(pathlib.Path(folder) / run_file.FILE_NAME)
    if folder and not saved:
        console.note(f"{where} is not there yet: taking the flags alone")
    merged = run_file.merge(dict(given), saved, TRAINING, where)
    flags.settings_from(merged, [DatasetConfig])  # stops where --dataset_dir is missing
    groups: list[Any] = [make(group, merged) for group in TRAINING]
    return Settings(*groups), saved


def record_sheets(config: BrowseConfig, source: Split, look: Look) -> Iterator[tuple[str, Sheet]]:
    """Sheets of records with their numbers.

    Raises:
      UserError: an unknown class, none of the wanted classes in the split, a damaged shard.
    """
    from deeplab.visualization import dataset_browser as drawing

    seed = config.seed if config.random else None
    positions = drawing.choose(source, drawing.Selection(config.images, config.classes, seed))
    for number, sheet in enumerate(drawing.record_sheets(source, positions, look), start=1):
        yield f"{number:03d}", sheet


def batch_sheets(
    config: BrowseConfig, settings: Settings, saved: Mapping[str, Any], source: Split, look: Look
) -> Iterator[tuple[str, Sheet]]:
    """Sheets of the batches that the training gets, with the number of the step.

    Raises:
      UserError: a record that cannot be read or used.
    """
    import tensorflow as tf

    import slim
    from deeplab.training import guards
    from deeplab.training.batches import training_batches
    from deeplab.visualization import dataset_browser as drawing

    seed = seed_of(settings, saved)
    device, done = tf.distribute.get_strategy(), config.first_step - 1
    batches = iter(training_batches(settings, source.dataset, source.shards, device, seed, done))
    number = config.batches or -(-config.images // settings.train.train_batch_size)
    about = f"seed {seed}, {about_crops(settings)}"
    for step in console.progress(range(done + 1, done + 1 + number), what="drawing batches", unit="batch"):
        batch = guards.next_batch(batches, source.shards, step)
        title = f"{source.dataset.name}, split {source.name}: the batch of training step {step}"
        padding = slim.find(settings.model.model_variant).padding_color
        sheets = list(drawing.batch_sheets(source, batch, padding, (title, about), look))
        for part, sheet in enumerate(sheets, start=1):
            yield f"{step:06d}-{part}" if len(sheets) > 1 else f"{step:06d}", sheet


def seed_of(settings: Settings, saved: Mapping[str, Any]) -> int:
    """The training's seed; says how to get the same batches where it has none yet, and what differs where it has."""
    from deeplab.training import setup

    seed = setup.choose_seed(settings.train.random_seed, dict(saved))
    if "seed" not in saved and settings.train.random_seed is None:
        console.note(f"a seed was drawn: a training with `random_seed={seed}` gets these batches")
    if settings.train.random_seed not in (None, seed):
        console.note(f"`random_seed={settings.train.random_seed}` has no effect: that training has seed {seed}")
    for line in run_file.differences(saved, settings.groups()):
        console.note(f"differs from that training: {line}")
    return seed


def about_crops(settings: Settings) -> str:
    """The settings of the augmentation in words."""
    train, resize = settings.train, settings.resize
    step = f" by {train.scale_factor_step_size:g}" if train.scale_factor_step_size else ""
    resized = f", resized to sides of {resize.min_resize_value} and up" if resize.min_resize_value else ""
    crop = ",".join(map(str, train.train_crop_size))
    return f"crop {crop} (height,width), scales {train.min_scale_factor:g} to {train.max_scale_factor:g}{step}{resized}"


def with_training_folder(words: Sequence[str]) -> list[str]:
    """A command line in which `--config=FOLDER/config.yml`, what a training saved, is `--train_logdir=FOLDER`."""
    replaced: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in ("--config", "-config"):
            word = f"--config={next(rest, '')}"
        path = pathlib.Path(word.partition("=")[2])
        if word.lstrip("-").startswith("config=") and path.name == run_file.FILE_NAME and path.is_file():
            saved = "dataset_facts" in load_mapping(path)
            word = f"--train_logdir={path.parent}" if saved else word
        replaced.append(word)
    return replaced


def main() -> int:
    """Entry point; returns the exit code."""
    try:
        words = with_training_folder(sys.argv)
    except UserError as fault:  # the file of --config cannot be read
        console.error(fault)
        return 1
    return flags.run_given(browse, GROUPS, words, __doc__)


if __name__ == "__main__":
    sys.exit(main())
