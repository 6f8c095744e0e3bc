"""Settings of a check."""

from __future__ import annotations

from dataclasses import dataclass

from deeplab.config.fields import Size, require_positive, setting
from deeplab.utils.errors import UserError
from deeplab.utils.parallel import worker_count


@dataclass(frozen=True)
class CheckConfig:
    """What to check, and where to write what was found."""

    split: str = setting("", "Splits to look at, with commas: train,val (unset: all).")
    html: str = setting("", "Write a report to this file: charts, pairs to look at, every fault with its picture.")
    json: str = setting("", "Write the findings as JSON to this file; - = standard output.")
    fix: str = setting("", "Write a mended copy into this folder, as far as the hint is certain; must be new or empty.")
    train_crop_size: Size | None = setting(None, "Training crop to judge, height,width in pixels (unset: none).")
    eval_crop_size: Size | None = setting(None, "Evaluation crop to judge, height,width in pixels (unset: none).")
    min_scale_factor: float = setting(0.5, "Smallest augmentation scale of the training that is planned.")
    max_scale_factor: float = setting(2.0, "Largest augmentation scale of the training that is planned.")
    output_stride: int = setting(16, "Output stride of the network that is planned: 8, 16 or 32.")
    max_images: int = setting(0, "Look at so many images of each split, evenly spread; 0 = all.")
    num_workers: int = setting(0, "Images in work at the same time; 0 = one a processor core.")

    def __post_init__(self) -> None:
        require_positive(self, "train_crop_size", "eval_crop_size", "min_scale_factor", "max_scale_factor")
        if self.output_stride not in (8, 16, 32):
            raise UserError("out-of-range", f"must be 8, 16 or 32, not {self.output_stride}", field="output_stride")
        if self.min_scale_factor > self.max_scale_factor:
            rule = f"{self.min_scale_factor:g} is above `max_scale_factor={self.max_scale_factor:g}`"
            raise UserError("conflicting-settings", rule, field="min_scale_factor")
        for name in ("max_images", "num_workers"):
            if getattr(self, name) < 0:
                raise UserError("out-of-range", f"must be 0 or more, not {getattr(self, name)}", field=name)

    @property
    def workers(self) -> int:
        """Number of threads."""
        return worker_count(self.num_workers)

    @property
    def splits(self) -> tuple[str, ...]:
        """The wanted splits; none = all."""
        return tuple(part.strip() for part in self.split.split(",") if part.strip())


@dataclass(frozen=True)
class RecordsToCheck:
    """Which records."""

    dataset_dir: str = setting("", "Folder of the TFRecord shards.")
    dataset: str = setting(
        "", "Known dataset, dataset.yml, or a folder of records (unset: the dataset.yml in `dataset_dir`)."
    )
    num_classes: int | None = setting(
        None, "Number of classes to check for; the background counts, the ignore label does not (unset: as described)."
    )

    def __post_init__(self) -> None:
        require_positive(self, "num_classes")
