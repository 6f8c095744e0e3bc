"""Config of the conversion to records: what labels mean, which image goes to which split, how records are written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from deeplab.config.fields import Config, Floats, Texts, setting
from deeplab.utils.errors import UserError

TRAIN_FRACTION = 0.8  # of the images, unless `train_pct` is given
MAX_LEAK = 5  # images in a training and an evaluation split that are a slip; more are a mistake
LEAK_TEXT = (
    "Images that a training split shares with an evaluation split, by name, by bytes or as copies that were saved "
    "again: up to so many are warned about, more are an error."
)
NUM_WORKERS: dict[str, Any] = {"min": 0, "max": 1024, "because": "each is a thread", "unit": "threads"}
_IGNORE_LABEL: dict[str, Any] = {"min": 0, "max": 65535, "because": "labels have at most 16 bits"}
_COLOR_TOLERANCE: dict[str, Any] = {"min": 0, "max": 442, "because": "no two RGB colors are further apart"}
_OVERWRITE_MASKS = "Replace masks that the output folder already contains."
_MASK_WORKERS = (
    "Masks that are converted at the same time; 0 = as many as make it faster, at most one per processor core."
)


@dataclass(frozen=True)
class LabelConfig(Config):
    """Labels and images."""

    class_names: str = setting(
        "", "File of class names, one per line in the order of the classes; or the names, separated by commas."
    )
    classes: Texts = setting(
        (),
        "Merges, renames, reorders and drops classes by name: road,car=car|truck|bus,ignore=void,background=* makes "
        "two classes and the background, which is always class 0; NEW=* takes all classes that no entry names, * alone "
        "keeps them.",
    )
    num_classes: int | None = setting(
        None,
        "Number of classes; the background counts, the ignore label does not (unset: from class names or palette, "
        "else the highest label + 1).",
        min=1,
        max=65535,
        because="labels have at most 16 bits",
    )
    palette: str = setting(
        "", "Colors of the classes: a file of lines `R G B name`, or a dataset.yml; RGB masks need it."
    )
    ignore_label: int = setting(
        255,
        "Label of pixels that do not count; beyond 256 classes, where 255 is a class, the default becomes 65535.",
        **_IGNORE_LABEL,
    )
    label_map: str = setting("", "Mask values to replace, as OLD:NEW,OLD:NEW, e.g. 255:1,11:255.")
    on_bad_label: str = setting(
        "fail", "What to do with values that are no class: stop, or ignore these pixels.", choices=("fail", "ignore")
    )
    dataset: str = setting(
        "", "Known dataset, or a dataset.yml, whose classes, colors and ignore label these masks have."
    )
    color_tolerance: float = setting(
        0.0,
        "RGB mask pixels get the nearest color of the palette within this distance; 0 = exact.",
        **_COLOR_TOLERANCE,
        unit="RGB levels",
    )
    exif: str = setting(
        "auto",
        "What to do with photos whose EXIF data rotate them: rotate if that fits the mask, always, or never.",
        choices=("auto", "turn", "ignore"),
        rare=True,
    )


@dataclass(frozen=True)
class SplitConfig(Config):
    """Splits, if those of the format are not wanted or there are none."""

    list_files: str = setting(
        "", "Your own lists, separated by commas: lists/train.txt,lists/val.txt give the splits train and val."
    )
    train_pct: float | None = setting(
        None, "Fraction of the images in split train; the rest becomes split val (unset: 0.8).", above=0, max=1
    )
    test_pct: float = setting(0.0, "Fraction of the images in a third split, test; below 1.", min=0, max=1)
    seed: int = setting(0, "Seed of the division.", min=0)
    stratify: bool = setting(
        False, "Give each split its fraction of the images of each class; this reads all masks a second time."
    )
    group_by: str = setting(
        "",
        "What images of one patient, video or tile have in common: a regular expression whose first group matches it "
        "in their names, e.g. ^(patient[0-9]+)_ ; images of one group stay in one split.",
    )
    folds: int = setting(
        0,
        "Number of folds for cross-validation: each is split val once, the others are split train; 0 = none.",
        min=0,
        max=1000,
        because="each fold writes all images again",
    )
    fold: int = setting(
        -1, "The only fold to build, counted from 0; -1 = all, each in its own folder fold_0, fold_1 ...", min=-1
    )

    def validate(self) -> None:
        self._check_fractions()
        self._check_folds()
        if self.group_by:
            compiled_pattern(self.group_by, "group_by")
        others = ["train_pct", "test_pct", "stratify", "group_by", "folds"]
        given = [f"`{name}`" for name in others if getattr(self, name) not in (None, 0, False, "")]
        if self.list_files and given:
            rule = f"says which image goes to which split, which leaves nothing for {', '.join(given)}"
            raise UserError("conflicting-settings", rule, "leave one of them out", field="list_files")

    def _check_fractions(self) -> None:
        if self.test_pct == 1:
            raise UserError("out-of-range", "must be below 1", field="test_pct", value=self.test_pct)
        used = TRAIN_FRACTION if self.train_pct is None else self.train_pct
        if used + self.test_pct > 1 + 1e-9:
            said = " (its default)" if self.train_pct is None else ""
            rule = f"{self.test_pct:g} and the {used:g} of split train{said} are more than all images"
            fits = max(1 - 2 * self.test_pct, (1 - self.test_pct) / 2)
            hint = f"`train_pct={fits:g}` leaves some for split val"
            raise UserError("conflicting-settings", rule, hint, field="test_pct")

    def _check_folds(self) -> None:
        if self.folds == 1:
            hint = "`train_pct` makes a single division"
            raise UserError("out-of-range", "must be at least 2, or 0, not 1", hint, field="folds", value=1)
        if self.fold != -1 and not self.folds:
            rule = f"{self.fold} needs the number of folds"
            raise UserError("missing-setting", rule, "add `folds`, e.g. `folds=5`", field="fold")
        if self.folds and self.fold >= self.folds:
            rule = f"must be from 0 to {self.folds - 1}, or -1 for all folds, not {self.fold}"
            raise UserError("out-of-range", rule, "folds are counted from 0", field="fold", value=self.fold)
        if self.folds and (self.train_pct is not None or self.test_pct):
            rule = f"gives split val one part in {self.folds}, so that fractions have no meaning"
            hint = "leave `train_pct` and `test_pct` out; keep test images in a separate folder"
            raise UserError("conflicting-settings", rule, hint, field="folds")


@dataclass(frozen=True)
class RecordConfig(Config):
    """Records."""

    output_dir: str = setting("", "Folder of the records (unset: that of the format).", writes="folder")
    name: str = setting("", "Name of the dataset (unset: that of the output folder).")
    num_shards: int | None = setting(
        None,
        "Number of shards per split (unset: 4; Cityscapes 10).",
        min=1,
        max=99999,
        because="shard names have five digits",
    )
    overwrite: bool = setting(False, "Replace splits that the output folder already contains.")
    resume: bool = setting(False, "Resume a build of several parts, such as folds: keep those that are complete.")
    check: bool = setting(True, "Check the records after they are written, as `deeplab check_data` does.")
    max_leak: int = setting(MAX_LEAK, LEAK_TEXT, min=0, unit="images", rare=True)
    verify_images: bool = setting(
        False,
        "Decode each image (off: check its structure up to the end, which finds truncated files six times as fast).",
        rare=True,
    )
    num_workers: int = setting(
        0,
        "Pairs that are converted at the same time; 0 = as many as make it faster, at most one per processor core.",
        **NUM_WORKERS,
    )
    tile_size: int | None = setting(
        None,
        "Cut images that are larger into square tiles of this side; all tiles of an image stay in its split.",
        min=33,
        max=16384,
        because="training decodes a whole image for each crop",
        unit="pixels",
    )
    tile_overlap: int = setting(
        0, "Minimum overlap of neighboring tiles.", min=0, max=8192, because="tiles are small images", unit="pixels"
    )
    empty_tile_fraction: float = setting(
        1.0,
        "Fraction of the tiles without an object (background and ignored pixels only) that are kept.",
        min=0,
        max=1,
    )
    bands: str = setting(
        "",
        "Bands to store in the records with their original values (8 or 16 bits, or float32): 4,3,2, counted from 1, "
        "or all (unset: 8-bit RGB).",
    )
    scale_from: Floats = setting(
        (),
        "With `bands`: values that become 0 and 255 for the model: LOW,HIGH, or those of each band in turn (unset: "
        "0,255 of 8 bits, else the 1st and 99th percentile of split train).",
    )
    beam: bool = setting(
        False, "Convert in an Apache Beam pipeline (extra beam), for datasets too large for one machine.", rare=True
    )
    beam_options: str = setting(
        "", "Options of the pipeline, e.g. `runner=FlinkRunner` `flink_master=host:8081`.", rare=True
    )

    def validate(self) -> None:
        if self.resume and self.overwrite:
            rule = "keeps the existing records, which `overwrite` replaces"
            raise UserError("conflicting-settings", rule, "leave one of them out", field="resume")
        if self.tile_overlap and not self.tile_size:
            rule = f"an overlap of {self.tile_overlap} needs the size of the tiles"
            raise UserError("missing-setting", rule, "add `tile_size`, e.g. `tile_size=1025`", field="tile_overlap")
        if self.tile_size and self.tile_overlap >= self.tile_size:
            rule = f"must be below `tile_size={self.tile_size}`, not {self.tile_overlap}"
            raise UserError("out-of-range", rule, field="tile_overlap", value=self.tile_overlap)
        if self.empty_tile_fraction < 1 and not self.tile_size:
            rule = f"{self.empty_tile_fraction:g} needs the size of the tiles"
            hint = "add `tile_size`, e.g. `tile_size=1025`"
            raise UserError("missing-setting", rule, hint, field="empty_tile_fraction")
        if self.scale_from and not self.bands:
            hint = "add `bands`, e.g. `bands=all`"
            raise UserError("missing-setting", "needs the bands that are scaled", hint, field="scale_from")

    @property
    def shards(self) -> int:
        """Number of shards per split."""
        return self.num_shards or 4


@dataclass(frozen=True)
class DrawnConfig(Config):
    """Masks that are drawn from shapes."""

    skip_empty: bool = setting(False, "Leave out images without a shape (off: they are background everywhere).")
    overlap: str = setting(
        "file",
        "Which of two overlapping shapes covers the other: the later one in the file (or layer), or the smaller one.",
        choices=("file", "area"),
    )
    line_width: float = setting(
        0.0,
        "Width with which lines are drawn (0: lines are left out; closed ones are always polygons).",
        min=0,
        max=32768,
        because="no image is wider",
        unit="pixels",
    )
    on_missing: str = setting(
        "fail", "Images that annotations name but that do not exist: stop, or leave them out.", choices=("fail", "skip")
    )
    scale_annotations: bool = setting(
        False, "Scale the shapes of images that have another size than the annotation file states."
    )
    annotation_scale: float = setting(
        1.0,
        "Factor for all shapes, for images that were resized after annotating: 0.5 for halved ones.",
        above=0,
        max=1000,
        because="shapes would be larger than any image",
    )
    on_outside: str = setting(
        "fail",
        "Shapes that reach far outside many of the images, which were probably resized: stop, or cut them off.",
        choices=("fail", "cut"),
    )


@dataclass(frozen=True)
class FilePerImageConfig(DrawnConfig):
    """Where annotation files and images are, of formats with one file per image."""

    annotation_folder: str = setting(
        "",
        "Folder of the annotation files, one per image. Subfolders count; they are the splits if they are called "
        "train, val or test. train:FOLDER,val:FOLDER names the splits.",
        required=True,
    )
    image_folder: str = setting("", "Folder of the images (unset: that of the annotation files).")


@dataclass(frozen=True)
class ColorMaskConfig(Config):
    """Color masks to index masks."""

    mask_folder: str = setting("", "Folder of the color masks.", required=True)
    output_dir: str = setting(
        "", "Folder for the index masks: palette PNGs of the same names.", required=True, writes="folder"
    )
    palette: str = setting("", "Colors of the classes: a file of lines `R G B name`, or a dataset.yml.", required=True)
    ignore_label: int = setting(255, "Label of the palette's colors that are called `ignore`.", **_IGNORE_LABEL)
    color_tolerance: float = setting(
        0.0,
        "Pixels get the nearest color of the palette within this distance; 0 = exact.",
        **_COLOR_TOLERANCE,
        unit="RGB levels",
    )
    num_workers: int = setting(0, _MASK_WORKERS, **NUM_WORKERS)
    overwrite: bool = setting(False, _OVERWRITE_MASKS)


@dataclass(frozen=True)
class RemoveColormapConfig(Config):
    """Palette masks to gray masks."""

    original_gt_folder: str = setting("./VOCdevkit/VOC2012/SegmentationClass", "Folder of the palette PNGs.")
    output_dir: str = setting("./VOCdevkit/VOC2012/SegmentationClassRaw", "Folder for the gray PNGs.", writes="folder")
    segmentation_format: str = setting("png", "Extension of the masks.")
    num_workers: int = setting(0, _MASK_WORKERS, **NUM_WORKERS)
    overwrite: bool = setting(False, _OVERWRITE_MASKS)


def compiled_pattern(text: str, field: str) -> re.Pattern[str]:
    """Return a regular expression of a setting, compiled.

    Raises:
      UserError: it is not one (`bad-pattern`).
    """
    try:
        return re.compile(text)
    except re.error as problem:
        rule = f"{text!r} is not a regular expression: {problem}"
        raise UserError("bad-pattern", rule, "quote it for the shell, e.g. '^(.+)_'", field=field) from None
