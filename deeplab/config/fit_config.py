"""Config of `fit`: the folders, and the training settings whose defaults differ from those of `train`."""

from __future__ import annotations

from dataclasses import dataclass

from deeplab.config.data_config import IMAGE_SIDE
from deeplab.config.fields import Config, Size, setting
from deeplab.config.training_config import SCALE_FACTOR


@dataclass(frozen=True)
class FitConfig(Config):
    """From two folders to a model."""

    image_folder: str = setting("", "Folder of the images; the first word of the command line.", required=True)
    mask_folder: str = setting(
        "", "Folder of the masks, named like their images; the second word of the command line.", required=True
    )
    output: str = setting("", "Folder for the records, the training, the evaluation and the exports.", required=True)
    mask_suffix: str = setting(
        "", "What masks have after the image's name: `_segmentation` for ISIC_0001_segmentation.png."
    )
    tf_initial_checkpoint: str = setting(
        "imagenet", "Checkpoint to start from: a path, zoo:NAME or imagenet, which is downloaded (empty: from scratch)."
    )
    training_number_of_steps: int = setting(2000, "Step at which the training ends.", min=1, unit="steps")
    train_crop_size: Size | None = setting(
        None, "Height,width of the training crop (unset: as the check recommends).", **IMAGE_SIDE, unit="pixels"
    )
    train_batch_size: int = setting(8, "Images per step.", min=1, max=65536, because="it would fill the memory")
    min_scale_factor: float = setting(0.5, "Smallest scale of the augmentation.", **SCALE_FACTOR)
    max_scale_factor: float = setting(1.5, "Largest scale of the augmentation.", **SCALE_FACTOR)
    random_seed: int | None = setting(None, "Seed of the training (unset: a new one each time).", min=0)
