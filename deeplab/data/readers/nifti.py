"""NIfTI volumes and their label volumes, in two folders: each slice of a plane is an image. Needs the extra `medical`.

Volumes are turned to RAS+ (`nibabel.as_closest_canonical`), whatever way they are stored. Slices show up or front at
the top and the patient's right at the left, as radiologists look at them. All slices of a volume stay in one split.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from deeplab.config.fields import Config, setting
from deeplab.data.containers import PLANES, VOLUME_EXTENSIONS
from deeplab.data.readers import register_format
from deeplab.data.readers.name_lists import canonical, splits_in_folders
from deeplab.data.readers.source import Pair, Source
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import list_files, require_folder
from deeplab.utils.text import shorten


@dataclass(frozen=True)
class BuildNiftiConfig(Config):
    """Volumes."""

    image_folder: str = setting("", "Folder of the volumes, .nii or .nii.gz; subfolders count.", required=True)
    mask_folder: str = setting("", "Folder of the label volumes, named like them.", required=True)
    mask_suffix: str = setting("", "What label volumes have after the volume's name: `_seg` for case1_seg.nii.gz.")
    plane: str = setting("axial", "Plane of the slices.", choices=tuple(PLANES))
    slice_step: int = setting(1, "Take every n-th slice.", min=1, max=10000, because="no volume has more slices")


@register_format("nifti", BuildNiftiConfig)
def read_nifti(config: BuildNiftiConfig) -> Source:
    """Reads the pairs of two folders of volumes.

    Raises:
      UserError: a folder does not exist or has no volume, or volumes have no labels (`files-missing`).
    """
    require_folder(config.image_folder, "image_folder")
    require_folder(config.mask_folder, "mask_folder")
    masks = {_stem(name): name for name in _volumes(config.mask_folder)}
    images = {_stem(name): name for name in _volumes(config.image_folder)}
    if os.path.realpath(config.image_folder) == os.path.realpath(config.mask_folder) and config.mask_suffix:
        images = {stem: name for stem, name in images.items() if not stem.endswith(config.mask_suffix)}
    if not images:
        rule = f"contains no volume ({', '.join(VOLUME_EXTENSIONS)})"
        hint = "check the path; `dcm2niix` makes volumes of series of DICOM files"
        raise UserError("no-files", rule, hint, where=config.image_folder)
    missing = [stem for stem in images if f"{stem}{config.mask_suffix}" not in masks]
    if missing:
        rule = f"{len(missing)} of {len(images)} volumes have no labels in {config.mask_folder}: {shorten(missing)}"
        hint = "give `mask_suffix`, or remove the volumes"
        raise UserError("files-missing", rule, hint, where=config.image_folder, value=len(missing))
    part = config.plane if config.slice_step == 1 else f"{config.plane}:{config.slice_step}"
    pairs = [
        Pair(
            canonical(stem),
            f"{os.path.join(config.image_folder, images[stem])}#{part}",
            f"{os.path.join(config.mask_folder, masks[f'{stem}{config.mask_suffix}'])}#{part}",
        )
        for stem in sorted(images)
    ]
    console.note(f"{config.plane} slices, turned to RAS+: up or front at the top, the patient's right at the left")
    splits: dict[str, list[Pair]] = {}
    for pair, split in zip(pairs, splits_in_folders([pair.name for pair in pairs]), strict=True):
        splits.setdefault(split, []).append(pair)
    return Source(splits)


def _volumes(folder: str) -> list[str]:
    return [name for name in list_files(folder) if name.lower().endswith(VOLUME_EXTENSIONS)]


def _stem(name: str) -> str:
    return name[: name.lower().index(".nii")]
