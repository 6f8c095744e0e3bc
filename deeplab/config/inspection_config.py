"""Config of the commands that inspect checkpoints, records and training batches."""

from __future__ import annotations

from dataclasses import dataclass

from deeplab.config.fields import Config, Texts, setting
from deeplab.config.prediction_config import OVERLAY_BACKGROUND
from deeplab.config.training_config import TrainConfig
from deeplab.utils.errors import UserError

_MAX_GRID_PIXELS = 1 << 30


@dataclass(frozen=True)
class InspectConfig(Config):
    """Inspection of a checkpoint."""

    checkpoint: str = setting(
        "", "Training folder, prefix or file of a checkpoint, zoo:NAME or hf://USER/NAME.", required=True
    )
    other: str = setting("", "A second checkpoint: show how it differs, instead of the variables.")
    filter: str = setting("", "Regular expression: only variables in whose names it is found.")
    values: bool = setting(False, "Show mean, standard deviation, minimum and maximum of each variable.")


@dataclass(frozen=True)
class BrowseConfig(Config):
    """Drawing of records and batches."""

    split: str = setting("", "Split to draw (unset: `train_split`, which is train unless it is given).")
    images: int = setting(
        24,
        "Number of images; fewer if the split has fewer.",
        min=1,
        max=1000000,
        because="an image grid of more is not readable",
        unit="images",
    )
    output_dir: str = setting("browse", "Folder for the image grids; created if it does not exist.", writes="folder")
    classes: Texts = setting((), "Names or numbers of classes: only images that contain one of them.")
    random: bool = setting(False, "Draw images at random positions of the split (off: its first ones).")
    seed: int = setting(0, "Seed of the random positions.", min=0)
    augmented: bool = setting(False, "Draw the batches of a training instead, as they are fed to its steps.")
    batches: int = setting(
        0,
        "Number of those batches (unset: as many as `images` needs); implies `augmented`.",
        min=0,
        max=100000,
        because="an image grid of more is not readable",
        unit="batches",
    )
    first_step: int = setting(
        1, "Step of the training whose batch is drawn first, counted from 1.", min=1, unit="steps"
    )
    images_per_sheet: int = setting(
        24, "Maximum number of images in one grid.", min=1, max=10000, because="a grid is one image in memory"
    )
    picture_size: int | None = setting(
        None,
        "Maximum width and height of each image (unset: 240; batches: as they are).",
        min=8,
        max=4096,
        because="a grid is one image in memory",
        unit="pixels",
    )
    overlay_opacity: float = setting(0.5, "Opacity of the class colors over the image, 0 to 1.", min=0, max=1)
    overlay_background: bool = setting(False, OVERLAY_BACKGROUND)
    overwrite: bool = setting(False, "Replace the image grids of an earlier run.")

    def validate(self) -> None:
        if self.images_per_sheet * (self.picture_size or 0) ** 2 > _MAX_GRID_PIXELS:
            rule = f"{self.images_per_sheet} images of {self.picture_size} pixels do not fit into one grid"
            raise UserError("out-of-range", rule, "lower it, or `picture_size`", field="images_per_sheet")
        if self.of_training and (self.classes or self.random):
            rule = "selects records; batches are drawn as they are fed to the training"
            hint = "leave it out, or leave `augmented` and `batches` out"
            raise UserError("conflicting-settings", rule, hint, field="classes" if self.classes else "random")

    @property
    def of_training(self) -> bool:
        """Whether batches are drawn rather than records."""
        return self.augmented or self.batches > 0


@dataclass(frozen=True)
class BrowsedTraining(TrainConfig):
    """Training whose batches are drawn: all settings of train."""

    train_logdir: str = setting(
        "", "Training folder whose config.yml is used; `config=FOLDER/config.yml` does the same."
    )
