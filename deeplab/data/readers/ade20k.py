"""The layout of ADE20K's scene parsing benchmark: parallel folders of images and of masks 0 (other) to 150."""

from __future__ import annotations

import random
from dataclasses import dataclass

from deeplab.config.fields import Config, setting
from deeplab.data.image_files import IMAGE_EXTENSIONS
from deeplab.data.readers import register_format
from deeplab.data.readers.folder_files import Folder
from deeplab.data.readers.pairs import pair_by_names
from deeplab.data.readers.source import Pair, Source
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import require_folder
from deeplab.utils.text import counted, shorten

_ROOT = "./ADE20K/ADEChallengeData2016"


@dataclass(frozen=True)
class BuildAde20kConfig(Config):
    """Where images and masks are, and the order of the training images."""

    train_image_folder: str = setting(f"{_ROOT}/images/training", "Folder of the training images.")
    train_image_label_folder: str = setting(f"{_ROOT}/annotations/training", "Folder of their masks.")
    val_image_folder: str = setting(f"{_ROOT}/images/validation", "Folder of the validation images.")
    val_image_label_folder: str = setting(f"{_ROOT}/annotations/validation", "Folder of their masks.")
    image_format: str = setting(
        "", "Extension of the images (unset: whichever an image has).", choices=("", "jpg", "jpeg", "png")
    )
    label_format: str = setting("png", "Extension of the masks.", choices=("png",))
    shuffle_seed: int = setting(
        0, "Seed of the order of the training images: neighbors in the folder are not neighbors in a shard."
    )


@register_format("ade20k", BuildAde20kConfig, output_dir="./ADE20K/tfrecord")
def read_ade20k(config: BuildAde20kConfig) -> Source:
    """Reads the splits train, in an order that the seed determines, and val, by name.

    Raises:
      UserError: a folder does not exist or is empty, or images have no mask; the first ten are named.
    """
    train = _pairs(config, "train")
    random.Random(config.shuffle_seed).shuffle(train)  # nosec B311  # shuffles data, no secrets
    return Source({"train": train, "val": _pairs(config, "val")}, known="ade20k")


def _pairs(config: BuildAde20kConfig, split: str) -> list[Pair]:
    """Returns the pairs of one split, sorted by name."""
    image_field, label_field = f"{split}_image_folder", f"{split}_image_label_folder"
    require_folder(getattr(config, image_field), image_field)
    require_folder(getattr(config, label_field), label_field)
    extensions = (f".{config.image_format}",) if config.image_format else IMAGE_EXTENSIONS
    images = Folder(getattr(config, image_field), extensions, "image_format")
    masks = Folder(getattr(config, label_field), (f".{config.label_format}",))
    names = images.wanted_stems()
    if not names:
        rule = f"{images.path} contains no file with {' or '.join(extensions)}"
        raise UserError("no-files", rule, "set the folder of the images", field=image_field, value=str(images.path))
    pairs = pair_by_names(names, images, masks, "", str(masks.path))
    unused = sorted(set(masks.wanted_stems()) - set(names))
    if unused:
        number = counted(len(unused), "mask")
        console.warning(f"{masks.path}: {number} without an image, left out: {shorten(unused, 10)}")
    return pairs
