"""Two models on the same images: the difference of every metric with its interval, and where they disagree most.

Both are evaluated one after the other; the first one's labels are kept compressed, so that disagreement is counted
pixel by pixel. `comparison.html.j2` is the page.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplab.data import transforms
from deeplab.data.label_bits import as_label
from deeplab.evaluation import bootstrap, examples, metrics
from deeplab.evaluation.bootstrap import Intervals
from deeplab.evaluation.html_report import interval_text
from deeplab.evaluation.report import Report
from deeplab.evaluation.report_text import decimal, title
from deeplab.evaluation.split_images import SplitImages
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import transaction_in_turn, writing
from deeplab.utils.text import percent
from deeplab.visualization import html_page
from deeplab.visualization.html_page import Figure, jpeg
from deeplab.visualization.label_rendering import LabelColors

TEMPLATE = pathlib.Path(__file__).with_name("comparison.html.j2")
PAGE_FILE, JSON_FILE = "comparison.html", "comparison.json"
_SHOWN = 12  # images on the page


class KeptLabels:
    """The labels that a model predicted for each image, compressed; pass `keep` to `Evaluator`."""

    def __init__(self) -> None:
        self._data: dict[int, tuple[tuple[int, ...], np.dtype, bytes]] = {}

    def keep(self, position: int, label: np.ndarray, prediction: np.ndarray) -> None:
        """Add an image by its place in the split: integers [H, W]."""
        kept = as_label(prediction)
        self._data[position] = kept.shape, kept.dtype, zlib.compress(kept.tobytes(), 1)

    def of(self, index: int) -> np.ndarray:
        """Return the labels of an image: uint8 or uint16 [H, W]."""
        shape, dtype, data = self._data[index]
        return np.frombuffer(zlib.decompress(data), dtype).reshape(shape)


class Disagreement:
    """Counts the pixels in which another model's labels differ from kept ones; pass `count` to `Evaluator`.

    Args:
      kept: the labels of the first model.
      ignore_label: label value of pixels that do not count.

    """

    def __init__(self, kept: KeptLabels, ignore_label: int):
        self._fractions: dict[int, float] = {}
        self._kept, self._ignore_label = kept, ignore_label

    @property
    def fractions(self) -> list[float]:
        """Per image, the fraction of labeled pixels whose predictions differ, 0..1; NaN without such pixels."""
        return [self._fractions[position] for position in sorted(self._fractions)]

    def count(self, position: int, label: np.ndarray, prediction: np.ndarray) -> None:
        """Add an image by its place in the split: integers [H, W]."""
        first = self._kept.of(position)
        if first.shape != prediction.shape:  # the models resize images differently
            first = transforms.resize_nearest(first, prediction.shape).numpy()
        counted = label != self._ignore_label
        differing = float((first != prediction)[counted].mean()) if counted.any() else math.nan
        self._fractions[position] = differing


@dataclass(frozen=True, eq=False)
class Comparison:
    """The comparison of two reports on the same images; differences are the second minus the first.

    Attributes:
      first, second: the reports.
      disagreement: per image, the fraction of labeled pixels in which the models differ.

    Raises:
      UserError: the reports are about different images (`dataset-mismatch`).
    """

    first: Report
    second: Report
    disagreement: Sequence[float]

    def __post_init__(self) -> None:
        one, other = self.first.images, self.second.images
        if not one or not other or one.names != other.names:
            rule = "the two evaluations are about different images"
            raise UserError("dataset-mismatch", rule, "evaluate both on one split", where=self.second.checkpoint)

    def differences(self) -> dict[str, float]:
        """Return the difference of every metric that both have, by name."""
        one, other = self._values(self.first), self._values(self.second)
        return {name: other[name] - one[name] for name in one if name in other}

    @staticmethod
    def _values(report: Report) -> dict[str, float]:
        return report.overall() | {"image_mean_iou": report.image_mean_iou}

    def intervals(self) -> Intervals | None:
        """Return 95 % intervals of the differences: the same images are drawn for both; None for a single image."""
        if len(self.first.images.names) < 2:  # type: ignore[union-attr]
            return None
        drawn = [bootstrap.resample(one.images, one.accumulators) for one in (self.first, self.second)]  # type: ignore[arg-type]
        return drawn[1].minus(drawn[0]).intervals()

    def rows(self) -> list[tuple[str, str, str, str, str, str]]:
        """Return name, both values, difference, its interval and what that says, for every metric."""
        ends = self.intervals()
        one, other = self._values(self.first), self._values(self.second)
        found = []
        for name, difference in self.differences().items():
            interval = ends.overall.get(name) if ends else None
            shown = "-" if math.isnan(difference) else f"{difference:+.3f}"
            values = (decimal(one[name]), decimal(other[name]), shown, interval_text(interval), verdict(interval))
            found.append((title(name), *values))
        return found

    def class_rows(self) -> list[tuple[str, str, str, str, str, str]]:
        """Return the same as `rows` for the IoU of each class in the labels."""
        ends = self.intervals()
        ious = [metrics.class_iou(report.counts) for report in (self.first, self.second)]
        found = []
        for index, name in enumerate(self.first.class_names):
            if not math.isnan(ious[0][index]):
                interval = ends.class_iou[:, index] if ends else None
                shown = f"{ious[1][index] - ious[0][index]:+.3f}"
                values = (decimal(ious[0][index]), decimal(ious[1][index]), shown, interval_text(interval))
                found.append((name, *values, verdict(interval)))
        return found

    def most_different(self, number: int = _SHOWN) -> list[int]:
        """Return the images in which the models disagree most, most first; those without a difference are left out."""
        values = np.nan_to_num(np.array(self.disagreement))
        order = np.argsort(-values, kind="stable")
        return [int(index) for index in order if values[index] > 0][:number]

    def text(self) -> str:
        """Format the tables for the terminal."""
        header = ("metric", "first", "second", "difference", "95 % interval", "")
        models = [f"first:  {self.first.checkpoint}", f"second: {self.second.checkpoint}"]
        lines = [*models, "", console.table(self.rows(), header)]
        images = self.first.images.names  # type: ignore[union-attr]
        rows = [(images[index], percent(self.disagreement[index], 1)) for index in self.most_different(5)]
        if rows:
            lines += ["", console.table(rows, ("images where they disagree most", "pixels"))]
        return "\n".join(lines)

    def content(self) -> dict[str, Any]:
        """Return the content of `comparison.json`."""
        ends, differences = self.intervals(), self.differences()
        means = [report.images.mean_iou() for report in (self.first, self.second)]  # type: ignore[union-attr]

        def known(value: float) -> float | None:
            return float(value) if math.isfinite(value) else None

        return {
            "first": self.first.checkpoint,
            "second": self.second.checkpoint,
            "split": self.first.split,
            "num_images": self.first.num_images,
            "confidence": bootstrap.CONFIDENCE,
            "resamples": bootstrap.RESAMPLES,
            "seed": bootstrap.SEED,
            "metrics": {
                name: {
                    "first": known(self._values(self.first)[name]),
                    "second": known(self._values(self.second)[name]),
                    "difference": known(value),
                    "interval": [known(end) for end in ends.overall[name]] if ends and name in ends.overall else None,
                }
                for name, value in differences.items()
            },
            "images": [
                {
                    "image": name,
                    "different_pixels": known(self.disagreement[index]),
                    "mean_iou": [known(mean[index]) for mean in means],
                }
                for index, name in enumerate(self.first.images.names)  # type: ignore[union-attr]
            ],
        }


def verdict(interval: np.ndarray | None) -> str:
    """Say whether an interval of differences excludes 0: `second is higher`, `first is higher`, or nothing."""
    if interval is None or not np.isfinite(interval).all():
        return ""
    return "second is higher" if interval[0] > 0 else "first is higher" if interval[1] < 0 else ""


def write_comparison(
    comparison: Comparison,
    images: SplitImages,
    predicts: Sequence[Callable[[np.ndarray], np.ndarray]],
    folder: str | os.PathLike,
) -> list[pathlib.Path]:
    """Write `comparison.html` and `comparison.json` into a folder, both or neither.

    Args:
      comparison: what is written.
      images: the split, from which the examples are read again.
      predicts: for both models, the function from an image to its labels at its own size.
      folder: made if it does not exist.
    """
    folder = pathlib.Path(folder)
    colors = LabelColors.of(images.dataset)
    found = dict(
        examples.read(images, lambda image: np.stack([one(image) for one in predicts]), comparison.most_different())
    )
    figures = [
        _figure(found[index], colors, comparison.disagreement[index])
        for index in comparison.most_different()
        if index in found
    ]
    values = {"comparison": comparison, "figures": figures}
    page = html_page.render(TEMPLATE, values)
    content = json.dumps(comparison.content(), indent=2, allow_nan=False) + "\n"
    with transaction_in_turn(folder, "eval_logdir") as transaction, writing(folder):
        transaction.temporary(PAGE_FILE).write_text(page, encoding="utf-8")
        transaction.temporary(JSON_FILE).write_text(content, encoding="utf-8")
        return transaction.commit()


def _figure(example: examples.Example, colors: LabelColors, fraction: float) -> Figure:
    first, second = example.prediction
    views = [("image", example.image), ("label", colors.draw(example.label))]
    views += [("first", colors.draw(first)), ("second", colors.draw(second))]
    shown = tuple((name, jpeg(view, smooth=name == "image")) for name, view in views)
    return Figure(shown, f"{example.name}: {percent(fraction, 1)} of the pixels differ")
