"""Two parallel folders: an image and its mask have the same name, or names that a pattern relates."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deeplab.config.fields import Config, setting
from deeplab.data.image_files import IMAGE_EXTENSIONS, JPEG_EXTENSIONS
from deeplab.data.readers import register_format
from deeplab.data.readers.folder_files import Folder
from deeplab.data.readers.name_lists import paths_by_split, splits_in_folders
from deeplab.data.readers.packed_pairs import chosen
from deeplab.data.readers.pairs import (
    MASK_EXTENSIONS,
    FolderMatch,
    classes_beside,
    match_folders,
    pair_folders,
    read_pair_list,
)
from deeplab.data.readers.source import UNDIVIDED, Pair, Source
from deeplab.data.split_names import split_in
from deeplab.utils.errors import UserError
from deeplab.utils.paths import require_folder


@dataclass(frozen=True)
class BuildFolderConfig(Config):
    """Where images and masks are."""

    image_folder: str = setting(
        "", "Folder of the images; subfolders count. JPEG, PNG, TIFF, BMP, WebP and others.", required=True
    )
    mask_folder: str = setting(
        "", "Folder of the masks, named like their images, in the same subfolders.", required=True
    )
    mask_suffix: str = setting(
        "", "What masks have after the image's name: `_segmentation` for ISIC_0001_segmentation.png."
    )
    image_pattern: str = setting(
        "", "How images are named: {name}_sat.jpg, where {name} is what an image and its mask have in common."
    )
    mask_pattern: str = setting("", "How masks are named: {name}_mask.png, or masks/{name}/label.png.")
    pair_list: str = setting(
        "", "File with an image and its mask per line, relative to the two folders; train:FILE,val:FILE for splits."
    )

    on_missing: str = setting(
        "fail", "Files in lists that do not exist: stop, or leave them out.", choices=("fail", "skip")
    )

    def validate(self) -> None:
        if self.mask_suffix and self.mask_pattern:
            rule = "excludes `mask_pattern`, which says how masks are named, too"
            raise UserError("conflicting-settings", rule, "leave one of them out", field="mask_suffix")


@register_format("folder", BuildFolderConfig)
def read_folder(config: BuildFolderConfig) -> Source:
    """Reads the pairs of two folders. Subfolders that are all named after splits are the splits.

    Raises:
      UserError: a folder does not exist or is empty, nothing matches, or a name has two files.
    """
    _require_folders(config)
    if config.pair_list:
        return Source(_listed_pairs(config))
    pairs = pair_folders(*_folders(config), *_patterns(config))
    masks = pathlib.Path(config.mask_folder)
    inside = sorted(map(pathlib.Path, {os.path.dirname(pair.mask_file) for pair in pairs}))
    return Source(by_subfolder(pairs), **classes_beside(masks, masks.parent, *inside))


def match_config(config: BuildFolderConfig) -> FolderMatch:
    """Returns what belongs together in the two folders of a config, and what has no partner.

    Raises:
      UserError: as `read_folder`.
    """
    _require_folders(config)
    return match_folders(*_folders(config), *_patterns(config))


def _require_folders(config: BuildFolderConfig) -> None:
    for field, pattern, ending in (
        ("image_folder", "image_pattern", ""),
        ("mask_folder", "mask_pattern", config.mask_suffix),
    ):
        folder = getattr(config, field)
        if not os.path.isdir(folder):
            _refuse_several(folder, field, pattern, f"{{name}}{ending}")
        require_folder(folder, field)


def _refuse_several(text: str, field: str, pattern: str, name: str) -> None:
    """Refuses train:FOLDER,val:FOLDER, as other formats take it, with the pattern that means the same.

    Raises:
      UserError: the text names splits (`not-supported`).
    """
    parts = paths_by_split(text, field) if text else []
    if len(parts) < 2 or not parts[0][0]:
        return
    paths = [os.path.normpath(path) for _, path in parts]
    root = os.path.commonpath(paths)
    inside = [os.path.relpath(path, root).split(os.sep) for path in paths]
    steps = ["{split}" if len(set(step)) > 1 else step[0] for step in zip(*inside, strict=False)]
    if len({len(path) for path in inside}) > 1 or steps.count("{split}") != 1:
        steps = ["{split}", "images" if field == "image_folder" else "masks"]
    rule = "takes one folder, in which the folders of the splits are"
    hint = f"`{field}={root}` `{pattern}={'/'.join([*steps, name])}`, and both in the same way for the other folder"
    raise UserError("not-supported", rule, hint, field=field, value=text)


def _folders(config: BuildFolderConfig) -> tuple[Folder, Folder]:
    same = pathlib.Path(config.image_folder).resolve() == pathlib.Path(config.mask_folder).resolve()
    only_jpeg = same and not any(_patterns(config))
    images = Folder(config.image_folder, JPEG_EXTENSIONS if only_jpeg else IMAGE_EXTENSIONS)
    masks = Folder(config.mask_folder, MASK_EXTENSIONS)
    if not same and not masks.wanted_stems():  # masks are JPEG only if there is nothing better
        masks = Folder(config.mask_folder, (*MASK_EXTENSIONS, *JPEG_EXTENSIONS))
    return images, masks


def _patterns(config: BuildFolderConfig) -> tuple[str, str]:
    suffix = f"{{name}}{config.mask_suffix}" if config.mask_suffix else ""
    return config.image_pattern, config.mask_pattern or suffix


def _listed_pairs(config: BuildFolderConfig) -> Mapping[str, Sequence[Pair]]:
    lists = paths_by_split(config.pair_list, "pair_list")
    if not lists[0][0]:
        stems = [os.path.splitext(os.path.basename(path))[0] for _, path in lists]
        lists = [(split_in(stem) or UNDIVIDED, path) for stem, (_, path) in zip(stems, lists, strict=True)]
    splits: dict[str, list[Pair]] = {}
    skip = config.on_missing == "skip"
    for split, path in lists:
        splits.setdefault(split, []).extend(read_pair_list(path, config.image_folder, config.mask_folder, skip))
    return splits if UNDIVIDED not in splits else {UNDIVIDED: [pair for pairs in splits.values() for pair in pairs]}


def by_subfolder(pairs: Sequence[Pair]) -> Mapping[str, Sequence[Pair]]:
    """Returns pairs as splits if the first part of every name is the name of a split; else undivided."""
    places: dict[str, list[int]] = {}
    for place, split in enumerate(splits_in_folders([pair.name for pair in pairs])):
        places.setdefault(split, []).append(place)
    return {split: chosen(pairs, members) for split, members in places.items()}
