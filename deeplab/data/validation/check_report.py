"""The result of a check: the one object that all renderers (terminal, HTML, JSON) read."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from deeplab.data.dataset import Dataset, SizeRange

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One problem of one file, of a split, or of the whole dataset.

    Attributes:
      rule: name of the rule in `rules.RULES`.
      severity: "error": training must not start; "warning": it may, but look at this; "note": a fact.
      where: the file, the record of a shard, or the split.
      split: the split it belongs to; empty for the whole dataset.
      text: what was found, with the value.
      hint: what to do now.
      repair: settings of `build-data` that repair it, by name; empty where none does so for certain.
      places: numbers of the images in the order of the check that a preview should show.
      preview: a small JPEG of the pair with its label overlaid; empty where nothing can be shown.
    """

    rule: str
    severity: Severity
    where: str
    split: str
    text: str
    hint: str
    repair: Mapping[str, str] = field(default_factory=dict)
    places: tuple[int, ...] = ()
    preview: bytes = b""


@dataclass(frozen=True)
class SplitFacts:
    """What was counted in one split.

    Attributes:
      images: number of pairs, unreadable ones included.
      pixels: pixels of each class.
      ignored_pixels: pixels with the ignore label.
      images_with: for each class the number of images in which it occurs.
      sizes: number of images of each (height, width).
      kinds: number of images of each kind, such as "jpeg, RGB".
    """

    images: int
    pixels: tuple[int, ...]
    ignored_pixels: int
    images_with: tuple[int, ...]
    sizes: Mapping[tuple[int, int], int]
    kinds: Mapping[str, int]

    @property
    def size_range(self) -> SizeRange | None:
        """Range of the image sizes; None where no image could be read."""
        if not self.sizes:
            return None
        heights, widths = zip(*self.sizes, strict=True)
        return SizeRange(min(heights), max(heights), min(widths), max(widths))


@dataclass(frozen=True)
class Sample:
    """A pair to look at.

    Attributes:
      name: the image's name.
      split: its split.
      image: a small JPEG of the image.
      overlay: a small JPEG of the image with its label overlaid in colors.
    """

    name: str
    split: str
    image: bytes
    overlay: bytes


@dataclass(frozen=True)
class CropAdvice:
    """Crop sizes that suit the images: (height, width), each a multiple of the output stride plus 1.

    Attributes:
      train: for `train_crop_size`.
      eval: for `eval_crop_size`: the smallest that holds every image of the other splits.
      why: the reason, in one or two sentences.
    """

    train: tuple[int, int]
    eval: tuple[int, int]
    why: str


@dataclass(frozen=True)
class CheckReport:
    """The result of a check.

    Attributes:
      checked: what was checked, as the user called it.
      dataset: classes, colors, ignore label.
      splits: facts by split.
      findings: errors first, then warnings, then notes; of each rule at most `rules.MAX_LISTED`.
      numbers: how often each rule was violated, findings that are not listed included.
      weights: class weights by scheme, one number per class, None for classes without a pixel in the training split.
      crop: recommended crop sizes; None where no image could be read.
      samples: some pairs to look at.
      label_map: what the values of all masks must be replaced by, where that is certain; empty where it is not, or
        where nothing has to be replaced.
      command: the `build-data` command line that repairs the dataset; empty where no setting does, or where it is not
        known how the records were built.
    """

    checked: str
    dataset: Dataset
    splits: Mapping[str, SplitFacts]
    findings: Sequence[Finding] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    crop: CropAdvice | None = None
    samples: Sequence[Sample] = ()
    label_map: Mapping[int, int] = field(default_factory=dict)
    command: str = ""

    @property
    def may_train(self) -> bool:
        """Whether training may start."""
        return not any(finding.severity == "error" for finding in self.findings)

    def errors_of(self, split: str) -> tuple[str, ...]:
        """Rules of errors in a split, or in the whole dataset."""
        errors = (finding for finding in self.findings if finding.severity == "error")
        return tuple(dict.fromkeys(finding.rule for finding in errors if finding.split in ("", split)))

    @property
    def repair(self) -> dict[str, str]:
        """Settings of `build-data` that together repair what settings can repair."""
        found: dict[str, str] = {}
        for finding in self.findings:
            for name, value in finding.repair.items():
                is_larger = name == "color_tolerance" and name in found and float(found[name]) > float(value)
                found[name] = found[name] if is_larger else value
        return found

    @property
    def unrepaired(self) -> list[str]:
        """Rules whose errors no setting repairs."""
        errors = [finding for finding in self.findings if finding.severity == "error" and not finding.repair]
        return list(dict.fromkeys(finding.rule for finding in errors))

    def number_of(self, severity: Severity) -> int:
        """Findings of a severity, unlisted ones included; a rule counts under its most severe finding."""
        most_severe: dict[str, str] = {}
        for finding in self.findings:  # errors come first
            most_severe.setdefault(finding.rule, finding.severity)
        listed = collections.Counter(finding.rule for finding in self.findings)
        rules = (rule for rule, kind in most_severe.items() if kind == severity)
        return sum(max(self.numbers.get(rule, 0), listed[rule]) for rule in rules)


def size_text(size: Sequence[int]) -> str:
    """`375x500` for a height of 375 and a width of 500, in the order of the crop settings."""
    return f"{size[0]}x{size[1]}"
