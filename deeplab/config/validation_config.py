"""Config of dataset checks."""

from __future__ import annotations

from dataclasses import dataclass

from deeplab.config.conversion_config import LEAK_TEXT, MAX_LEAK, NUM_WORKERS
from deeplab.config.data_config import IMAGE_SIDE
from deeplab.config.fields import Config, Size, setting, split_words
from deeplab.config.training_config import SCALE_FACTOR
from deeplab.utils.errors import UserError
from deeplab.utils.parallel import worker_count


@dataclass(frozen=True)
class CheckConfig(Config):
    """Check."""

    split: str = setting("", "Splits to check, separated by commas: train,val (unset: all).")
    html: str = setting("", "File for a report with charts, and images of the findings.", writes="file")
    json: str = setting("", "File for the findings as JSON; - = standard output.", writes="file")
    train_crop_size: Size | None = setting(
        None, "Height,width of the training crop to judge (unset: none).", **IMAGE_SIDE, unit="pixels"
    )
    train_batch_size: int | None = setting(
        None,
        "Images per training step to judge (unset: none).",
        min=1,
        max=65536,
        because="such a batch does not fit into memory",
        unit="images",
    )
    eval_crop_size: Size | None = setting(
        None, "Height,width of the evaluation crop to judge (unset: none).", **IMAGE_SIDE, unit="pixels"
    )
    min_scale_factor: float = setting(
        0.5, "Smallest augmentation scale of the planned training.", **SCALE_FACTOR, rare=True
    )
    max_scale_factor: float = setting(
        2.0, "Largest augmentation scale of the planned training.", **SCALE_FACTOR, rare=True
    )
    output_stride: int = setting(16, "Output stride of the planned model.", choices=(8, 16, 32))
    bands: str = setting("", "For files: bands to be stored in the records, as for `build_data` (unset: 8-bit RGB).")
    max_leak: int = setting(MAX_LEAK, LEAK_TEXT, min=0, unit="images", rare=True)
    max_images: int = setting(0, "Number of images to check per split, evenly spaced; 0 = all.", min=0, unit="images")
    num_workers: int = setting(
        0,
        "Images that are checked at the same time; 0 = as many as make it faster, at most one per processor core.",
        **NUM_WORKERS,
    )

    def validate(self) -> None:
        if self.min_scale_factor > self.max_scale_factor:
            rule = f"{self.min_scale_factor:g} is above `max_scale_factor={self.max_scale_factor:g}`"
            raise UserError("conflicting-settings", rule, field="min_scale_factor")

    @property
    def workers(self) -> int:
        """Number of threads."""
        return worker_count(self.num_workers)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits to check; none = all."""
        return tuple(split_words(self.split))


@dataclass(frozen=True)
class RecordsToCheck(Config):
    """Records to check."""

    dataset_dir: str = setting("", "Folder of the TFRecord shards.")
    dataset: str = setting(
        "", "Known dataset, dataset.yml, or a folder of records (unset: the dataset.yml in `dataset_dir`)."
    )
    num_classes: int | None = setting(
        None,
        "Number of classes; the background counts, the ignore label does not (unset: as described).",
        min=1,
        max=65535,
        because="labels have at most 16 bits",
    )
