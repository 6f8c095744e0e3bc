"""Config of the data: which dataset, how its images are resized, and where public and sample datasets come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deeplab.config.fields import Config, setting
from deeplab.utils.errors import UserError

IMAGE_SIDE: dict[str, Any] = {"min": 1, "max": 32768, "because": "a square image of that side takes 12 GB as float32"}


@dataclass(frozen=True)
class ResizeConfig(Config):
    """Resizing of images, before they are cropped or padded."""

    min_resize_value: int | None = setting(
        None, "Length of the shorter image side (unset: images keep their size).", **IMAGE_SIDE, unit="pixels"
    )
    max_resize_value: int | None = setting(
        None, "Upper limit of the longer image side; needs `min_resize_value`.", **IMAGE_SIDE, unit="pixels"
    )
    resize_factor: int | None = setting(
        None, "Round the sides to multiples of this, plus one.", **IMAGE_SIDE, unit="pixels", rare=True
    )
    keep_aspect_ratio: bool = setting(
        True, "Keep the aspect ratio.", retired="images always keep their aspect ratio, as in the reference"
    )

    def validate(self) -> None:
        if self.max_resize_value and not self.min_resize_value:
            hint = f"add `min_resize_value={self.max_resize_value}` to limit the longer side alone"
            raise UserError("missing-setting", "needs `min_resize_value` as well", hint, field="max_resize_value")


@dataclass(frozen=True)
class DatasetConfig(Config):
    """Dataset."""

    dataset_dir: str = setting("", "Folder of the TFRecord shards.", required=True, resumable=True)
    dataset: str = setting(
        "",
        "A known dataset (pascal_voc_seg, cityscapes, ade20k ...) or a dataset.yml "
        "(unset: the dataset.yml in `dataset_dir`, else pascal_voc_seg).",
        resumable=True,
    )


@dataclass(frozen=True)
class DownloadConfig(Config):
    """Download of a public dataset."""

    name: str = setting("", "Dataset; the first word of the command line may name it as well.", required=True)
    output_dir: str = setting("", "Folder for its files.", required=True, writes="folder")
    archives: str = setting(
        "", "Folder of archives that you have, under their published names; they are read there and kept."
    )
    addresses: str = setting(
        "",
        "YAML file of addresses, checksums and file counts that replace the published ones, for mirrors.",
        rare=True,
    )
    keep_archives: bool = setting(False, "Keep downloaded archives in OUTPUT_DIR/archives.")


@dataclass(frozen=True)
class SampleConfig(Config):
    """Generated portraits with hair, skin and background."""

    output_dir: str = setting(
        "", "Folder for images, masks and lists; it must not contain a sample.", required=True, writes="folder"
    )
    count: int = setting(
        200,
        "Number of portraits; four fifths of them become the split train.",
        min=2,
        max=9999,
        because="their names have four digits",
        unit="images",
    )
    seed: int = setting(0, "Seed; the same seed draws the same portraits.", min=0)
