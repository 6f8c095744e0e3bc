"""Config of the commands that rank images to label next, and labels that are probably wrong."""

from __future__ import annotations

from dataclasses import dataclass

from deeplab.config.data_config import IMAGE_SIDE
from deeplab.config.fields import Config, Size, Texts, setting
from deeplab.utils.errors import UserError

_MODEL = "Training folder, checkpoint prefix, zoo:NAME, hf://USER/NAME, or an exported file with probabilities."


@dataclass(frozen=True)
class LabelErrorConfig(Config):
    """The search for label errors."""

    model: str = setting("", _MODEL)
    folds: Texts = setting(
        (),
        "Models of a cross-validation, in the order of the folders fold_0, fold_1 ... in `dataset_dir`; each judges "
        "the images that it was not trained on. Separated by commas, in place of `model`.",
    )
    output_dir: str = setting(
        "", "Folder for the tables, overlays and report; created if it does not exist.", required=True, writes="folder"
    )
    split: str = setting("train", "Split whose labels are examined; with `folds`, always val.")
    overlays: int = setting(
        50,
        "Images with the highest scores that are drawn.",
        min=0,
        max=5000,
        because="the page holds them",
        unit="images",
    )
    min_pixels: int = setting(50, "Smallest region in the table of regions.", min=1, unit="pixels")
    overwrite: bool = setting(False, "Replace the results of an earlier run.")

    def validate(self) -> None:
        if bool(self.model) == bool(self.folds):
            rule = "needs a model: `model`, or `folds`" if not self.model else "`model` and `folds` exclude each other"
            code = "missing-setting" if not self.model else "conflicting-settings"
            raise UserError(code, rule, "give one of them", field="model")


@dataclass(frozen=True)
class RankConfig(Config):
    """The order in which unlabeled images are labeled."""

    model: str = setting("", _MODEL, required=True)
    input: Texts = setting((), "Image, folder, or pattern such as 'photos/*.jpg'; repeatable.", required=True)
    output_dir: str = setting(
        "", "Folder for ranking.csv and report.html; created if it does not exist.", required=True, writes="folder"
    )
    number: int = setting(
        100,
        "Images to choose for labeling; the others follow by uncertainty.",
        min=1,
        max=100_000,
        because="each is compared with those chosen before",
        unit="images",
    )
    diversity: float = setting(
        0.5, "Weight of the difference from the images chosen before, from 0 (uncertainty alone) to 1.", min=0, max=1
    )
    recursive: bool = setting(False, "Include the subfolders of input folders.")
    overwrite: bool = setting(False, "Replace the results of an earlier run.")
    crop_size: Size | None = setting(
        None, "Height,width to which images are padded (unset: each keeps its size).", **IMAGE_SIDE, unit="pixels"
    )
