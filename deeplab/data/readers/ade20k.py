"""The layout of ADE20K's scene parsing benchmark: parallel folders of images and of masks 0 (other) to 150."""

from __future__ import annotations

import random
from dataclasses import dataclass

from deeplab.config.fields import setting
from deeplab.data.readers import register_format
from deeplab.data.readers.pairs import IMAGE_EXTENSIONS, Folder, pair_by_names
from deeplab.data.readers.source import Pair, Source
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import require_folder, shorten

_ROOT = "./ADE20K/ADEChallengeData2016"


@dataclass(frozen=True)
class BuildAde20kConfig:
    """Where images and masks lie, and the order of the training images."""

    train_image_folder: str = setting(f"{_ROOT}/images/training", "Folder of the training images.")
    train_image_label_folder: str = setting(f"{_ROOT}/annotations/training", "Folder of their masks.")
    val_image_folder: str = setting(f"{_ROOT}/images/validation", "Folder of the validation images.")
    val_image_label_folder: str = setting(f"{_ROOT}/annotations/validation", "Folder of their masks.")
    image_format: str = setting(
        "", "Extension of the images (unset: whichever an image has).", choices=("", "jpg", "jpeg", "png")
    )
    label_format: str = setting("png", "Extension of the masks.", choices=("png",))
    shuffle_seed: int = setting(
        0, "Seed of the training images' order: neighbors in a shard are no neighbors in the folder."
    )


@register_format("ade20k", BuildAde20kConfig, output_dir="./ADE20K/tfrecord")
def read_ade20k(config: BuildAde20kConfig) -> Source:
    """Splits train, in an order drawn by the seed, and val, by name.

    Raises:
      UserError: a folder is missing or empty, or images have no mask; the first ten are named.
    """
    train = _pairs(config, "train")
    random.Random(config.shuffle_seed).shuffle(train)
    return Source({"train": train, "val": _pairs(config, "val")}, known="ade20k")


def _pairs(config: BuildAde20kConfig, split: str) -> list[Pair]:
    """The pairs of one split, sorted by name."""
    image_flag, label_flag = f"{split}_image_folder", f"{split}_image_label_folder"
    require_folder(getattr(config, image_flag), f"--{image_flag}")
    require_folder(getattr(config, label_flag), f"--{label_flag}")
    extensions = (f".{config.image_format}",) if config.image_format else IMAGE_EXTENSIONS
    images = Folder(getattr(config, image_flag), extensions, "`image_format`")
    masks = Folder(getattr(config, label_flag), (f".{config.label_format}",))
    names = images.wanted_stems()
    if not names:
        raise UserError("unclassified", f"{images.path} holds no file with {' or '.join(extensions)}", field=image_flag)
    pairs = pair_by_names(names, images, masks, "", str(masks.path))
    unused = sorted(set(masks.wanted_stems()) - set(names))
    if unused:
        console.warning(f"{masks.path}: {len(unused)} masks without an image, left out: {shorten(unused, 10)}")
    return pairs
