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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.config import flags, run_file
from deeplab.config.data_config import DatasetConfig, ResizeConfig
from deeplab.config.fields import Texts, make, require_positive, setting
from deeplab.config.model_config import ModelConfig
from deeplab.config.training_config import LossConfig, OptimizerConfig, TrainConfig
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.locks import folder_lock

if TYPE_CHECKING:  # the help page needs no TensorFlow
    from deeplab.training.settings import Settings
    from deeplab.visualization.dataset_browser import Look, Split
    from deeplab.visualization.image_grid import Sheet


@dataclass(frozen=True)
class BrowseConfig:
    """What is drawn, and where to."""

    split: str = setting("", "Split to draw (unset: --train_split, which is train unless it is given).")
    images: int = setting(24, "Number of images, or fewer where the split has fewer.")
    output_dir: str = setting("browse", "Folder of the sheets; made when missing.")
    classes: Texts = setting((), "Names or numbers of classes: only images that hold one of them.")
    random: bool = setting(False, "Draw images by chance, all over the split (off: its first ones).")
    seed: int = setting(0, "Seed of that chance.")
    augmented: bool = setting(False, "Draw the batches of a training instead, as its steps get them.")
    batches: int = setting(0, "Number of those batches (unset: as many as --images needs); implies --augmented.")
    first_step: int = setting(1, "Step of the training whose batch is drawn first, counted from 1.")
    images_per_sheet: int = setting(24, "Most images on one sheet.")
    picture_size: int | None = setting(
        None, "Width and height within which pictures are brought, in pixels (unset: 240; batches: as they are)."
    )
    overlay_opacity: float = setting(0.5, "Opacity of the class colors over the image, 0 to 1.")
    overwrite: bool = setting(False, "Replace the sheets of an earlier call.")

    def __post_init__(self) -> None:
        require_positive(self, "images", "first_step", "images_per_sheet", "picture_size")
        if not 0 <= self.overlay_opacity <= 1:
            raise UserError("out-of-range", f"is from 0 to 1, not {self.overlay_opacity}", field="overlay_opacity")
        if self.batches < 0:
            raise UserError("out-of-range", f"must be 0 or more, not {self.batches}", field="batches")
        if self.of_training and (self.classes or self.random):
            chosen = "classes" if self.classes else "random"
            rule = "chooses among records; batches are drawn as the training gets them"
            raise UserError(
                "conflicting-settings", rule, "leave it out, or leave `augmented` and `batches` out", field=chosen
            )

    @property
    def of_training(self) -> bool:
        """Whether batches are drawn rather than records."""
        return self.augmented or self.batches > 0


@dataclass(frozen=True)
class BrowsedTraining(TrainConfig):
    """The training whose batches are drawn; all flags of train are understood."""

    train_logdir: str = setting(
        "", "Training folder whose config.yml gives the settings; --config=FOLDER/config.yml too."
    )


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

    from deeplab.data.transforms import mean_pixel
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
        padding = mean_pixel(settings.model.model_variant)
        sheets = list(drawing.batch_sheets(source, batch, padding, (title, about), look))
        for part, sheet in enumerate(sheets, start=1):
            yield f"{step:06d}-{part}" if len(sheets) > 1 else f"{step:06d}", sheet


def seed_of(settings: Settings, saved: Mapping[str, Any]) -> int:
    """The training's seed; says how to get the same batches where it has none yet, and what differs where it has."""
    from deeplab.training import setup

    seed = setup.choose_seed(settings.train.random_seed, dict(saved))
    if "seed" not in saved and settings.train.random_seed is None:
        console.note(f"a seed was drawn: a training with `random_seed={seed}` gets these batches")
    free = [name for name in setup.FREE_TO_CHANGE if name != "random_seed"]
    for line in run_file.differences(dict(saved), settings.groups(), free):
        console.note(f"not as that training was: {line}")
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
            saved = "dataset_facts" in flags.load_yaml(path)
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
