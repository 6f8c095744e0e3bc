"""Settings that all layouts share: what labels mean, and how records are written."""

from __future__ import annotations

from dataclasses import dataclass

from deeplab.config.fields import require_positive, setting
from deeplab.utils.errors import UserError
from deeplab.utils.parallel import worker_count


@dataclass(frozen=True)
class LabelConfig:
    """What the values or colors of masks mean, and which way up photos are."""

    dataset: str = setting(
        "", "Known dataset, or a dataset.yml, whose classes, colors and ignore label these masks have."
    )
    exif: str = setting(
        "auto",
        "Photos that their EXIF data turn: turned where that fits the mask, always, or never.",
        choices=("auto", "turn", "ignore"),
    )
    num_classes: int | None = setting(
        None,
        "Number of classes; the background counts, the ignore label does not (unset: from class names or palette, "
        "else the highest label + 1).",
    )
    class_names: str = setting("", "File of class names, one a line in the order of the classes; or names,with,commas.")
    palette: str = setting(
        "", "Colors of the classes: a file of lines `R G B name` or a dataset.yml; RGB masks need it."
    )
    ignore_label: int = setting(255, "Label value of pixels that do not count.")
    label_map: str = setting("", "Mask values to replace: OLD:NEW,OLD:NEW, e.g. 255:1,11:255.")
    on_bad_label: str = setting(
        "fail", "Values that are no class: stop, or take them for ignored.", choices=("fail", "ignore")
    )
    color_tolerance: float = setting(
        0.0, "RGB mask pixels take the nearest color of the palette within this distance (RGB 0 to 255); 0 = exact."
    )

    def __post_init__(self) -> None:
        require_positive(self, "num_classes")
        if not 0 <= self.ignore_label <= 255:
            raise UserError(
                "out-of-range", f"is a label value from 0 to 255, not {self.ignore_label}", field="ignore_label"
            )
        if (self.num_classes or 0) > 256:
            raise UserError(
                "out-of-range", f"labels have 8 bits: 256 classes at most, not {self.num_classes}", field="num_classes"
            )


@dataclass(frozen=True)
class RecordConfig:
    """How records are written."""

    output_dir: str = setting("", "Folder of the records (unset: that of the format).")
    num_shards: int | None = setting(None, "Shards of each split (unset: 4; Cityscapes 10).")
    num_workers: int = setting(0, "Pairs in work at the same time; 0 = one a processor core.")
    overwrite: bool = setting(False, "Replace splits that the output folder already holds.")
    resume: bool = setting(
        False, "Go on with a build of several parts, such as folds: leave those that are there already as they are."
    )
    verify_images: bool = setting(
        False,
        "Decode every image (off: follow its structure to the end, which finds truncated files, six times as fast).",
    )
    name: str = setting("", "What the dataset is called (unset: after the output folder).")
    check: bool = setting(True, "Check the records when they are written, as `deeplab check_data` does.")
    beam: bool = setting(False, "Convert in an Apache Beam pipeline (extra `beam`), for sets that outgrow one machine.")
    beam_options: str = setting("", "Options of the pipeline: `runner=FlinkRunner` `flink_master=host:8081`.")

    def __post_init__(self) -> None:
        require_positive(self, "num_shards")
        if self.resume and self.overwrite:
            rule = "keeps the records that are there, which `overwrite` replaces"
            raise UserError("conflicting-settings", rule, "leave the one or the other out", field="resume")
        if self.num_workers < 0:
            raise UserError("out-of-range", f"must be 0 or more, not {self.num_workers}", field="num_workers")

    @property
    def shards(self) -> int:
        """Number of shards of each split."""
        return self.num_shards or 4

    @property
    def workers(self) -> int:
        """Number of threads."""
        return worker_count(self.num_workers)
