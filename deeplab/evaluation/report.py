"""`Report`: the result of one evaluation."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from deeplab.evaluation import bootstrap, diagnosis, metrics, report_text
from deeplab.evaluation.bootstrap import Intervals
from deeplab.evaluation.cell_counts import CellCounts
from deeplab.evaluation.confusion import ConfusionMatrix
from deeplab.evaluation.image_counts import ImageCounts
from deeplab.utils.errors import UserError


@dataclass(frozen=True, eq=False)
class Report:
    """One evaluation of one checkpoint on one split.

    Attributes:
      matrix: the confusion matrix over all images of the split.
      class_names: one name per class, in the order of the class numbers.
      checkpoint: the checkpoint's prefix.
      step: its global step.
      split: name of the split.
      num_images: images counted.
      settings: every setting by name as resolved, flat: `{"eval_scales": (1.0,), "dataset_dir": ...}`.
        `eval_scales` and `add_flipped_images` go into the tags, folders into the commands that warnings name.
      seconds: wall time of the evaluation.
      colors: uint8 [classes, 3] RGB of the classes for plots; None = one color for all.
      images: counts per image, for `per_image.csv` and intervals; None = unknown.
      accumulators: metrics that were measured image by image, by name.
      shown: names of the metrics to show; empty = all. The mean IoU and the IoU per class are always stored.
      excluded: classes that further means leave out.
      group_by: regular expression over the images' names, whose groups are measured apart; empty = none.

    Raises:
      UserError: the number of names or colors is not the number of classes.

    Example:
      report = Report(matrix, ("background", "skin"), "train_log/model.ckpt-500", 500, "val", 142)
      print(report.text())
      for warning in report.warnings():
          console.warning(warning)
      paths = write_report(report, "eval_log")
    """

    matrix: ConfusionMatrix
    class_names: Sequence[str]
    checkpoint: str
    step: int
    split: str
    num_images: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    colors: np.ndarray | None = None
    images: ImageCounts | None = None
    accumulators: Mapping[str, metrics.Accumulator] = field(default_factory=dict)
    shown: Sequence[str] = ()
    excluded: Sequence[int] = ()
    group_by: str = ""

    def __post_init__(self) -> None:
        _require_one_per_class("class_names", self.class_names, self.matrix.num_classes)
        if self.colors is not None:
            _require_one_per_class("colors", self.colors, self.matrix.num_classes)

    @property
    def counts(self) -> np.ndarray | CellCounts:
        """int64 [classes, classes], rows = label, columns = prediction; beyond 256 classes `CellCounts`."""
        return self.matrix.counts

    @property
    def passes(self) -> str:
        """Scales and flips that were averaged, as in the research DeepLab's tags: `0.5_1.0_flipped`."""
        scales = "_".join(str(float(scale)) for scale in self.settings.get("eval_scales") or (1.0,))
        return scales + ("_flipped" if self.settings.get("add_flipped_images") else "")

    @property
    def absent_classes(self) -> list[str]:
        """Names of the classes that occur nowhere in the labels."""
        return self.names_of(~metrics.present_classes(self.counts))

    @property
    def ignored_class(self) -> str | None:
        """Name of the class whose number is the ignore label, if there is one (ADE20K's class 0)."""
        ignored = self.matrix.ignore_label
        return self.class_names[ignored] if 0 <= ignored < self.matrix.num_classes else None

    def overall(self) -> dict[str, float]:
        """Return the metrics of the whole split by name; NaN if no pixel was counted."""
        plain = {name: metrics.OVERALL.get(name)(self.counts) for name in metrics.OVERALL if self._shows(name)}
        return plain | {name: value for one in self.accumulators.values() for name, value in one.overall().items()}

    def per_class(self) -> dict[str, np.ndarray]:
        """Return the metrics per class by name: float64 [classes]; NaN where a class has no such metric."""
        plain = {name: metrics.PER_CLASS.get(name)(self.counts) for name in metrics.PER_CLASS if self._shows(name)}
        return plain | {name: row for one in self.accumulators.values() for name, row in one.per_class().items()}

    def _shows(self, name: str) -> bool:
        """Whether a metric is wanted: by its name, as the mean of one, or as the one of a mean."""
        names = {name, f"mean_{name}", name.removeprefix("mean_")}
        return not self.shown or name in ("iou", "mean_iou") or bool(names & set(self.shown))

    @cached_property
    def intervals(self) -> Intervals | None:
        """95 % bootstrap intervals over images; None without counts of at least two images."""
        return self.images.intervals(accumulators=self.accumulators) if self.images else None

    def without(self) -> dict[str, float]:
        """Return the means over the classes that are not `excluded`, by name; empty if none is.

        Pixels of the excluded classes still count in the metrics of the other classes, as false positives.
        """
        if not len(self.excluded):
            return {}
        kept = metrics.present_classes(self.counts)
        kept[list(self.excluded)] = False
        means = {f"mean_{name}" for name in metrics.PER_CLASS} & set(metrics.OVERALL)
        names = {name for one in self.accumulators.values() for name in one.per_class()}
        return {
            f"mean_{name}": metrics.mean_of_known(values[kept])
            for name, values in self.per_class().items()
            if f"mean_{name}" in means or name in names
        }

    def groups(self) -> dict[str, dict[str, Any]]:
        """Return metrics of the groups of `group_by`, by name; empty without.

        Each has `images`, the metrics of the confusion matrix, and `interval`, the ends of that of the mean IoU (None
        for a single image).

        Raises:
          UserError: `group_by` is no regular expression (`bad-pattern`).
        """
        if not self.group_by or not self.images:
            return {}
        found = {}
        for name, indices in self.images.groups(self.group_by).items():
            part = self.images.subset(indices)
            counts = part.total()
            values = {metric: metrics.OVERALL.get(metric)(counts) for metric in metrics.OVERALL if self._shows(metric)}
            several = len(indices) > 1
            drawn = bootstrap.resample(part, {}, only=["mean_iou"]).intervals() if several else None
            found[name] = {"images": len(indices), **values, "interval": drawn and drawn.mean_iou.tolist()}
        return found

    @property
    def image_mean_iou(self) -> float:
        """Mean over images of their mean IoU; NaN without counts per image."""
        return metrics.mean_of_known(self.images.mean_iou() if self.images and self.images.names else np.zeros(0))

    def reference_scalars(self) -> dict[str, float]:
        """Return the research DeepLab's tags with values by its rule: `eval/miou_1.0_overall`, `..._class_0`."""
        prefix = f"eval/miou_{self.passes}"
        by_class = metrics.reference_class_iou(self.counts).tolist()
        scalars = {f"{prefix}_overall": metrics.reference_mean_iou(self.counts)}
        return scalars | {f"{prefix}_class_{index}": value for index, value in enumerate(by_class)}

    @property
    def mean_iou(self) -> float:
        """Mean IoU of the classes that occur in the labels; NaN when no pixel was counted."""
        return metrics.mean_iou(self.counts)

    def save(self, folder: str | os.PathLike, page: str = "") -> list[pathlib.Path]:
        """Write `metrics.json`, plots and TensorBoard scalars into a folder, created if missing; returns the paths.

        Args:
          folder: where they go.
          page: an HTML document that belongs to them, from `html_report.page`; empty = none.
        """
        from deeplab.evaluation.report_files import write_report  # here: it imports Matplotlib

        return write_report(self, folder, page)

    def rule(self) -> str:
        """Return one line that says what the numbers mean."""
        return report_text.rule(self)

    def text(self) -> str:
        """Return the table for the terminal: one line per class, the means, the rule."""
        return report_text.table(self)

    def warnings(self) -> list[str]:
        """Return warnings about suspicious numbers; empty if there are none."""
        return diagnosis.warnings(self)

    def names_of(self, which: np.ndarray) -> list[str]:
        """Return the names of the classes where `which` (bool [classes]) is true."""
        return [name for name, chosen in zip(self.class_names, which, strict=True) if chosen]


def _require_one_per_class(what: str, values: Sequence | np.ndarray, num_classes: int) -> None:
    if len(values) != num_classes:
        rule = f"there must be one for each of the {num_classes} classes, not {len(values)}"
        raise UserError("class-count-mismatch", rule, where=what)
