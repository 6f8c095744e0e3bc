"""Settings of the data: which dataset, and how its images are resized.

One dataclass per group of flags, one field per flag; see `fields.py`. No TensorFlow here.
"""

from __future__ import annotations

from dataclasses import dataclass

from deeplab.config.fields import require_positive, setting
from deeplab.utils.errors import UserError


@dataclass(frozen=True)
class ResizeConfig:
    """How images are resized before they are cropped or padded; off unless min_resize_value is set."""

    min_resize_value: int | None = setting(None, "Wanted length of the shorter image side, in pixels.")
    max_resize_value: int | None = setting(None, "Upper limit of the longer image side, in pixels.")
    resize_factor: int | None = setting(None, "Sides become multiples of this, plus one.")
    keep_aspect_ratio: bool = setting(
        True,
        "Images keep their aspect ratio.",
        retired="images always keep their aspect ratio, as in the reference",
    )

    def __post_init__(self) -> None:
        require_positive(self, "min_resize_value", "max_resize_value", "resize_factor")
        if self.max_resize_value and not self.min_resize_value:
            raise UserError(
                "missing-setting",
                "needs `min_resize_value` as well",
                f"add `min_resize_value={self.max_resize_value}` to bound the longer side alone",
                field="max_resize_value",
            )


@dataclass(frozen=True)
class DatasetConfig:
    """Which dataset, and where its records lie."""

    dataset: str = setting(
        "",
        "A known dataset (pascal_voc_seg, cityscapes, ade20k ...) or a dataset.yml "
        "(unset: the dataset.yml in `dataset_dir`, else pascal_voc_seg).",
    )
    dataset_dir: str = setting("", "Folder of the TFRecord shards.", required=True)
