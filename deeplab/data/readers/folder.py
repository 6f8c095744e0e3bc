"""Plain parallel folders: an image and its mask have the same name."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deeplab.config.fields import setting
from deeplab.data.readers import register_format
from deeplab.data.readers.pairs import IMAGE_EXTENSIONS, JPEG_EXTENSIONS, MASK_EXTENSIONS, Folder, pair_folders
from deeplab.data.readers.source import UNDIVIDED, Pair, Source
from deeplab.utils.paths import require_folder

_SPLIT_WORDS = ("train", "val", "test")


@dataclass(frozen=True)
class BuildFolderConfig:
    """Where images and masks lie."""

    image_folder: str = setting(
        "", "Folder of the images, and of subfolders of them; JPEG, PNG, TIFF, BMP, WebP as you like.", required=True
    )
    mask_folder: str = setting("", "Folder of the masks, named as their images, in the same subfolders.", required=True)
    mask_suffix: str = setting(
        "", "What masks have after the image's name: `_segmentation` for ISIC_0001_segmentation.png."
    )


@register_format("folder", BuildFolderConfig)
def read_folder(config: BuildFolderConfig) -> Source:
    """The pairs of two folders. Subfolders that are all called train, val or test are the splits.

    Raises:
      UserError: a folder is missing or empty, nothing matches, or a name has two files.
    """
    require_folder(config.image_folder, "`image_folder`")
    require_folder(config.mask_folder, "`mask_folder`")
    same = pathlib.Path(config.image_folder).resolve() == pathlib.Path(config.mask_folder).resolve()
    images = Folder(config.image_folder, JPEG_EXTENSIONS if same and not config.mask_suffix else IMAGE_EXTENSIONS)
    masks = Folder(config.mask_folder, MASK_EXTENSIONS)
    if not same and not masks.wanted_stems():  # masks are JPEG only where there is nothing better
        masks = Folder(config.mask_folder, (*MASK_EXTENSIONS, *JPEG_EXTENSIONS))
    return Source(by_subfolder(pair_folders(images, masks, config.mask_suffix)))


def by_subfolder(pairs: Sequence[Pair]) -> Mapping[str, Sequence[Pair]]:
    """Pairs as splits, where the first part of every name is train..., val... or test...; else undivided."""
    splits: dict[str, list[Pair]] = {}
    for pair in pairs:
        first, slash, _ = pair.name.partition("/")
        splits.setdefault(first if slash and first.lower().startswith(_SPLIT_WORDS) else UNDIVIDED, []).append(pair)
    return splits if UNDIVIDED not in splits else {UNDIVIDED: pairs}
