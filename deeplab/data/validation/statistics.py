"""What a check counts while pairs pass by, and the summary of it that the checks of a whole dataset get."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from deeplab.config.validation_config import CheckConfig
from deeplab.data.dataset import Dataset
from deeplab.data.labels import LabelSpec
from deeplab.data.split_names import training_split
from deeplab.data.validation.check_report import CropAdvice, Finding, SplitFacts
from deeplab.data.validation.duplicates import ImageIndex
from deeplab.data.validation.pair_checks import SeenPair
from deeplab.data.validation.rules import append_counted
from deeplab.data.validation.subject import Subject
from deeplab.losses.class_balance import ClassCounts, ClassWeights


@dataclass
class SplitTotals:
    """Sums over the pairs of one split.

    Attributes:
      images: pairs.
      unread: pairs of which image or label could not be read.
      counts: pixels of each label value, int64 [256], or [65536] of labels of 16 bits.
      images_with: images in which each value occurs, int64 as long.
      pixels_around: labeled pixels in those images, int64 as long.
      sizes: images of each (height, width).
      kinds: images of each kind.
      highest, widest: the largest height with its image, and the largest width.
      label_digests: of the labels; at most two different ones are kept.
      of_one_class: labels that hold a single class: where, and which; the last one stands for those beyond a report.
    """

    images: int = 0
    unread: int = 0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    images_with: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    pixels_around: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    sizes: collections.Counter[tuple[int, int]] = field(default_factory=collections.Counter)
    kinds: collections.Counter[str] = field(default_factory=collections.Counter)
    highest: tuple[int, str] = (0, "")
    widest: tuple[int, str] = (0, "")
    label_digests: set[int] = field(default_factory=set)
    of_one_class: list[tuple[str, int]] = field(default_factory=list)

    @classmethod
    def of(cls, num_values: int) -> SplitTotals:
        """Empty sums, for labels of this many values."""
        counts, images_with, pixels_around = np.zeros((3, num_values), np.int64)
        return cls(counts=counts, images_with=images_with, pixels_around=pixels_around)

    def add(self, pair: SeenPair, label_digest: int) -> None:
        """Adds one pair."""
        size, counts = pair.image.size, pair.label.counts
        self.images += 1
        self.unread += size is None or counts is None
        if size:
            self.sizes[size] += 1
            self.kinds[pair.image.kind] += 1
            self.highest = max(self.highest, (size[0], pair.loaded.where), key=lambda item: item[0])
            self.widest = max(self.widest, (size[1], pair.loaded.where), key=lambda item: item[0])
        if counts is not None:
            counts = np.pad(counts, (0, len(self.counts) - len(counts)))  # they differ where classes were merged
            present = counts > 0
            classes = [value for value in np.flatnonzero(present).tolist() if value != pair.spec.ignore_label]
            if len(classes) == 1:
                append_counted(self.of_one_class, (pair.loaded.mask_where, classes[0]))
            self.counts += counts
            self.images_with += present
            self.pixels_around += present * (counts.sum() - counts[pair.spec.ignore_label])
            if len(self.label_digests) < 2:
                self.label_digests.add(label_digest)

    def renumbered(self, mapping: Mapping[int, int]) -> SplitTotals:
        """The same with other label values, no two of which become one."""

        def moved(sums: np.ndarray) -> np.ndarray:
            result = np.zeros_like(sums)
            for value in np.flatnonzero(sums).tolist():
                result[mapping.get(value, value)] = sums[value]
            return result

        return dataclasses.replace(
            self,
            counts=moved(self.counts),
            images_with=moved(self.images_with),
            pixels_around=moved(self.pixels_around),
        )

    def facts(self, num_classes: int, ignore_label: int) -> SplitFacts:
        """The sums as a report has them; an ignore label within the classes counts as ignored."""
        counts, images_with = self.counts.copy(), self.images_with.copy()
        ignored = int(counts[ignore_label])
        counts[ignore_label] = images_with[ignore_label] = 0
        return SplitFacts(
            self.images,
            tuple(counts[:num_classes].tolist()),
            ignored,
            tuple(images_with[:num_classes].tolist()),
            dict(sorted(self.sizes.items())),
            dict(self.kinds.most_common()),
        )


@dataclass(frozen=True)
class Summary:
    """All that was counted. Checks of `DATASET_CHECKS` get it.

    Attributes:
      subject, config: what was checked, and how.
      counts: pixels of each label value over all splits, as the masks have them, int64 [values].
      label_map: what these values must be replaced by, where that is certain.
      about_values: what is wrong with the values before they are taken for classes; None where nothing is.
      totals: sums by split, of label values after `label_map`.
      dataset: the classes, with what was counted of them.
      splits: facts by split.
      weights: class weights by scheme.
      crop: recommended crop sizes.
      images: what is known of every image.
      palettes: findings on palette masks that contradict each other.
    """

    subject: Subject
    config: CheckConfig
    counts: np.ndarray
    label_map: Mapping[int, int]
    about_values: Finding | None
    totals: Mapping[str, SplitTotals]
    dataset: Dataset
    splits: Mapping[str, SplitFacts]
    weights: Mapping[str, ClassWeights]
    crop: CropAdvice | None
    images: ImageIndex
    palettes: list[Finding]

    @property
    def spec(self) -> LabelSpec:
        """What label values should be."""
        return self.subject.classes.rule

    @property
    def training(self) -> str:
        """Name of the split that is trained."""
        return training_split(list(self.splits))

    @property
    def readable(self) -> int:
        """Number of pairs that could be read."""
        return sum(totals.images - totals.unread for totals in self.totals.values())

    @property
    def values_are_classes(self) -> bool:
        """Whether it makes sense to judge single classes."""
        if self.spec.ignore_label in self.label_map:
            return False
        problem = self.about_values.rule if self.about_values else ""
        unnumbered = problem == "labels-are-gray-levels" and not self.label_map
        return problem not in ("nothing-labeled", "one-class", "foreground-ignored") and not unnumbered


def class_counts(totals: SplitTotals, facts: SplitFacts) -> ClassCounts:
    """What class weights are computed from."""
    around = totals.pixels_around.tolist()[: len(facts.pixels)]
    return ClassCounts(facts.pixels, facts.images_with, around, facts.images)
