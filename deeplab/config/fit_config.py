"""Config of `fit`: the output folder, and settings of the training that replace what its recipe chooses."""

from __future__ import annotations

from dataclasses import dataclass

from deeplab.config.conversion_config import LEAK_TEXT, MAX_LEAK
from deeplab.config.data_config import IMAGE_SIDE
from deeplab.config.fields import Config, Floats, Size, Texts, setting
from deeplab.config.training_config import SCALE_FACTOR

_TILES = "training decodes a whole image for each crop"


@dataclass(frozen=True)
class FitConfig(Config):
    """From images and annotations to a model."""

    output: str = setting(
        "", "Folder for the records, the training, the evaluation and the exports.", required=True, writes="folder"
    )
    bands: str = setting("", "Bands to store in the records, as for `build_data`: 4,3,2 or all (unset: 8-bit RGB).")
    max_leak: int = setting(MAX_LEAK, LEAK_TEXT, min=0, unit="images", rare=True)
    scale_from: Floats = setting((), "With `bands`: values that become 0 and 255, as for `build_data`.")
    tile_size: int | None = setting(
        None, "Cut larger images into tiles, as for `build_data`.", min=33, max=16384, because=_TILES, unit="pixels"
    )
    minutes: float | None = setting(
        None,
        "Time for the training: the number of steps is derived from the measured time of a few steps.",
        above=0,
        max=100_000,
        because="that is ten weeks",
        unit="minutes",
    )
    tf_initial_checkpoint: str | None = setting(
        None,
        "Weights to start from: a path, or zoo:NAME, imagenet or best_for_backbone, which are downloaded; empty: from "
        "scratch (unset: as the recipe chooses).",
    )
    training_number_of_steps: int | None = setting(
        None, "Step at which the training ends (unset: as the recipe chooses).", min=1, unit="steps"
    )
    eval_every: str | None = setting(
        None, "Interval of evaluations during training: steps, or '1 epoch' (unset: as the recipe chooses)."
    )
    train_crop_size: Size | None = setting(
        None, "Height,width of the training crop (unset: as the recipe chooses).", **IMAGE_SIDE, unit="pixels"
    )
    train_batch_size: int | None = setting(
        None,
        "Images per step (unset: as the recipe chooses).",
        min=1,
        max=65536,
        because="it would fill the memory",
        unit="images",
    )
    min_scale_factor: float | None = setting(
        None, "Smallest scale of the augmentation (unset: as the recipe chooses).", **SCALE_FACTOR
    )
    max_scale_factor: float | None = setting(
        None, "Largest scale of the augmentation (unset: as the recipe chooses).", **SCALE_FACTOR
    )
    random_seed: int | None = setting(None, "Seed of the training (unset: a new one each time).", min=0)
    formats: Texts = setting(
        (), "Formats to export (unset: frozen_graph, saved_model, litert, and onnx if its libraries are installed)."
    )
