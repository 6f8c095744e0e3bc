"""What a check found out: the one thing that all renderers (terminal, HTML, JSON) read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from deeplab.data.dataset import Dataset, SizeRange

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One fault of one file, or of the whole set.

    Attributes:
      rule: its short name, e.g. "label-out-of-range"; `rules.RULES` explains each.
      severity: "error": training must not start; "warning": it may, but look at this; "note": a fact, no fault.
      where: the file, the record of a shard, or the split.
      split: the split it belongs to; empty for the whole set.
      text: the rule that is broken, with the value met.
      hint: what to do now.
      fix: what `fix` does about it; empty where the hint is not certain.
      picture: a small JPEG of the pair with its label laid over it; empty where nothing can be shown.
    """

    rule: str
    severity: Severity
    where: str
    split: str
    text: str
    hint: str
    fix: str = ""
    picture: bytes = b""


@dataclass(frozen=True)
class SplitFacts:
    """What was counted in one split.

    Attributes:
      images: number of pairs, those that cannot be read included.
      pixels: pixels of each class.
      ignored_pixels: pixels with the ignore label.
      images_with: for each class the number of images in which it occurs.
      sizes: number of images of each (height, width).
      kinds: number of images of each kind, e.g. "jpeg, RGB".
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
      overlay: a small JPEG of the image with its label in colors laid over it.
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
      why: one sentence.
    """

    train: tuple[int, int]
    eval: tuple[int, int]
    why: str


@dataclass(frozen=True)
class Report:
    """All that a check found out.

    Attributes:
      checked: what was looked at, as the user called it.
      dataset: classes, colors, ignore label.
      splits: facts by split.
      findings: the faults, errors first, then warnings, then notes; of each rule at most `rules.MOST_SHOWN`.
      numbers: how often each rule was broken, the faults left out of `findings` included.
      weights: class weights by scheme, one number a class, None for classes without a pixel in the training split.
      crop: recommended crop sizes; None where no image could be read.
      samples: some pairs to look at.
      label_map: what the values of all masks must be replaced by, where that is certain; empty where it is not, or
        where nothing is to be replaced.
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

    @property
    def errors(self) -> int:
        """Number of findings that forbid training, as far as they are listed."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def may_train(self) -> bool:
        """Whether training may start."""
        return self.errors == 0
