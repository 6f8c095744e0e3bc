"""Records from plain parallel folders: an image and its mask have the same name."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

from deeplab.data.build.engine import build
from deeplab.data.build.pairs import (
    IMAGE_EXTENSIONS,
    MASK_EXTENSIONS,
    Folder,
    Pair,
    divide,
    pair_by_names,
    pair_folders,
    read_list,
    require_folder,
)
from deeplab.data.build.settings import LabelConfig, RecordConfig
from deeplab.data.dataset import Dataset
from deeplab.errors import UserError
from deeplab.settings import setting


@dataclass(frozen=True)
class BuildFolderConfig:
    """Where images and masks lie, and how they are divided."""

    image_folder: str = setting("", "Folder of the images: .jpg, .jpeg and .png, mixed as you like.", required=True)
    mask_folder: str = setting("", "Folder of the masks, named as their images.", required=True)
    output_dir: str = setting("", "Folder of the records.", required=True)
    mask_suffix: str = setting(
        "", "What masks have after the image's name: `_segmentation` for ISIC_0001_segmentation.png."
    )
    train_pct: float = setting(0.8, "Share of the pairs in split train, above 0 to 1; the others make split val.")
    seed: int = setting(0, "Seed of that division.")
    list_files: str = setting(
        "", "Lists of your own instead, with commas: lists/train.txt,lists/val.txt give splits train and val."
    )

    def __post_init__(self) -> None:
        if not 0 < self.train_pct <= 1:
            meant = f"--train_pct={self.train_pct / 100:g} if you meant percent" if self.train_pct > 1 else ""
            raise UserError("--train_pct", f"is a share above 0 and at most 1, not {self.train_pct:g}", meant)


def build_folder(config: BuildFolderConfig, labels: LabelConfig, records: RecordConfig) -> Dataset:
    """Builds records of two folders, divided by seed and share or by lists; see `engine.build`.

    Raises:
      UserError: as `engine.build`, and for folders, lists or files that are missing or do not match.
    """
    require_folder(config.image_folder, "--image_folder")
    require_folder(config.mask_folder, "--mask_folder")
    same = pathlib.Path(config.image_folder).resolve() == pathlib.Path(config.mask_folder).resolve()
    images = Folder(config.image_folder, (".jpg", ".jpeg") if same and not config.mask_suffix else IMAGE_EXTENSIONS)
    masks = Folder(config.mask_folder, MASK_EXTENSIONS)
    splits = _listed(config, images, masks)
    if not splits:
        splits = divide(pair_folders(images, masks, config.mask_suffix), config.train_pct, config.seed)
    return build(splits, config.output_dir, labels, records)


def _listed(config: BuildFolderConfig, images: Folder, masks: Folder) -> dict[str, list[Pair]]:
    splits: dict[str, list[Pair]] = {}
    for name in filter(None, (part.strip() for part in config.list_files.split(","))):
        path = pathlib.Path(name)
        if path.stem in splits:
            raise UserError("--list_files", f"two lists are called {path.stem}", "the list's name names the split")
        splits[path.stem] = pair_by_names(read_list(path), images, masks, config.mask_suffix, name)
    return splits
