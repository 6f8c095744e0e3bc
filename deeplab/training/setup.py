"""What is checked, said and written before the first step of a training."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator

from deeplab import checkpoint
from deeplab.checkpoint.manager import latest
from deeplab.config import run_file
from deeplab.data import dataset as datasets
from deeplab.data import records
from deeplab.data.dataset import Dataset
from deeplab.losses import class_balance
from deeplab.model.resize import fitting_size
from deeplab.training.settings import Settings
from deeplab.training.start import IMAGENET
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.locks import folder_lock

LEAST_BATCH_FOR_BATCH_NORM = 12


@contextlib.contextmanager
def prepared(settings: Settings) -> Iterator[tuple[Dataset, int]]:
    """Checks the settings against dataset and folder, saves them, and holds the folder meanwhile.

    Yields:
      The dataset, and the seed of this training (the one it began with, when it goes on).

    Raises:
      UserError: the settings do not fit the data, or not the training that the folder holds.
    """
    folder = settings.train.train_logdir
    dataset = datasets.find(settings.dataset.dataset, settings.dataset.dataset_dir)
    check_against_dataset(settings, dataset)
    records.list_shards(settings.dataset.dataset_dir, settings.train.train_split)
    os.makedirs(folder, exist_ok=True)
    with folder_lock(folder, "training", "give another `train_logdir`"):
        goes_on = latest(folder) is not None
        if settings.train.tf_initial_checkpoint not in ("", IMAGENET) and not goes_on:
            checkpoint.open(
                settings.train.tf_initial_checkpoint
            )  # a wrong path or zoo name shows before TensorFlow works
        saved = run_file.load(folder) if goes_on else {}
        refuse_other_settings(settings, saved, folder)
        seed = choose_seed(settings.train.random_seed, saved)
        run_file.save(folder, settings.groups(), {**facts_of(dataset), "seed": seed})
        say_what_matters(settings, dataset)
        yield dataset, seed


def facts_of(dataset: Dataset) -> dict:
    """What later commands need to know of the dataset, for `config.yml`."""
    return {
        "dataset_name": dataset.name,
        "num_classes": dataset.num_classes,
        "class_names": list(dataset.class_names),
        "colors": [list(color) for color in dataset.colors],
        "ignore_label": dataset.ignore_label,
    }


def check_against_dataset(settings: Settings, dataset: Dataset) -> None:
    """Refuses settings that cannot go with the dataset's classes.

    Raises:
      UserError: not one label weight a class.
    """
    weights = settings.loss.label_weights
    if weights and len(weights) != dataset.num_classes:
        names = ", ".join(dataset.class_names)
        raise UserError(
            "unclassified",
            f"{len(weights)} weights for {dataset.num_classes} classes ({names})",
            "give one for each class, background included, the ignore label not",
            field="label_weights",
        )


def refuse_other_settings(settings: Settings, saved: dict, folder: str) -> None:
    """Going on with a training needs the settings it began with.

    Raises:
      UserError: they differ; the message lists how.
    """
    different = run_file.differences(saved, settings.groups())
    if different:
        raise UserError(
            "unclassified",
            "holds a training with other settings:\n    " + "\n    ".join(different),
            "give the same settings to go on, or another `train_logdir` to start anew",
            where=folder,
        )
    if saved.get("training_number_of_steps") not in (None, settings.train.training_number_of_steps):
        console.note(
            f"the learning rate now runs over {settings.train.training_number_of_steps} steps; it was planned for "
            f"{saved['training_number_of_steps']}"
        )


def choose_seed(wanted: int | None, saved: dict) -> int:
    """The seed to use: the one a stopped training had, else the wanted one, else a new one."""
    if "seed" in saved:
        return int(saved["seed"])
    return wanted if wanted is not None else random.SystemRandom().randrange(2**31)


def say_what_matters(settings: Settings, dataset: Dataset) -> None:
    """Notes and warnings on settings that work but often disappoint."""
    train, split = settings.train, settings.train.train_split
    if dataset.pixels.get(split):
        console.note(class_table(dataset, split, settings.loss.label_weights))
    uneven = class_balance.ratio(settings.loss.label_weights)
    if uneven > class_balance.MAX_RATIO:
        recommended = class_balance.recommended_weights(dataset.pixels.get(split, ()))
        instead = f"try {class_balance.setting_text(recommended)}" if recommended else "try their square roots"
        console.warning(
            f"`label_weights` differ by a factor of {uneven:.0f}: such models tend to predict the heavy class "
            f"everywhere; {instead}"
        )
    stride = settings.model.output_stride
    if train.train_crop_size != fitting_size(train.train_crop_size, stride):
        better = run_file.show(fitting_size(train.train_crop_size, stride))
        console.note(f"`train_crop_size={better}` would fit the output stride {stride} (multiples of it, plus one)")
    per_device = train.train_batch_size // train.num_clones
    if train.fine_tune_batch_norm and per_device < LEAST_BATCH_FOR_BATCH_NORM:
        console.warning(
            f"batch norm learns from {per_device} images a device; with fewer than {LEAST_BATCH_FOR_BATCH_NORM} its "
            "statistics are noisy. `fine_tune_batch_norm=false` keeps those of the initial checkpoint"
        )


def class_table(dataset: Dataset, split: str, weights: tuple[float, ...]) -> str:
    """Class, share of the pixels, weight in the loss: a table."""
    pixels = dataset.pixels[split]
    total = max(1, sum(pixels))
    rows = [
        (index, name, f"{100 * count / total:.2f}%", f"{weight:g}")
        for index, (name, count, weight) in enumerate(
            zip(dataset.class_names, pixels, weights or (1.0,) * dataset.num_classes, strict=True)
        )
    ]
    return console.table(rows, ["label", "class", "pixels", "loss weight"])
