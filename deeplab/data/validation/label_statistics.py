"""Checks of all labels together: gray levels instead of classes, a class too many, classes that are absent or rare."""

from __future__ import annotations

import collections
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from deeplab.data import dataset as datasets
from deeplab.data.class_names import near_equal
from deeplab.data.colormaps import rgb_text
from deeplab.data.dataset import Dataset
from deeplab.data.labels import LabelSpec, are_gray_levels, spread_map
from deeplab.data.merged_classes import proposal
from deeplab.data.validation.check_report import Finding, Severity
from deeplab.data.validation.repair import (
    certain_map,
    map_setting,
    map_text,
    numbered,
    values_in,
)
from deeplab.data.validation.rules import DATASET_CHECKS, append_counted, finding
from deeplab.data.validation.statistics import Summary
from deeplab.losses.class_balance import MAX_RATIO, RARE, ratio, recommended_weights, setting_text
from deeplab.utils.text import shorten

LABELS = "labels"  # where a finding on all of them is
_MAX_SINGLE = 0.1  # fraction of the labels that may be of one class and still be worth a note
_MIN_IMAGES = 4  # from which identical labels are no coincidence
_MANY_TONES = 64  # values of blurred masks that are hardly all classes
_MEANS_NONE = re.compile(r"(ignored?|void|none|unlabell?ed|unknown|do_?n'?t_?care)", re.IGNORECASE)
_UNNAMED = re.compile(r"class_\d+")


# --- Values -------------------------------------------------------------------------------------------------


def present_values(counts: np.ndarray, ignore_label: int) -> list[int]:
    """Values that occur and are not the ignore label, of int64 [values]."""
    return [value for value in values_in(counts) if value != ignore_label]


def judge_values(counts: np.ndarray, spec: LabelSpec, are_blurred: bool = False) -> Finding | None:
    """What is wrong with the values of all labels, before they are taken for classes.

    Args:
      counts: pixels of each value over all splits, int64 [values].
      spec: what they should be.
      are_blurred: whether most masks have values in between, of JPEG or smooth resizing, which are no classes.
    """
    present, ignore = present_values(counts, spec.ignore_label), spec.ignore_label
    if not counts.any():
        return None
    if not present:
        return finding("nothing-labeled", LABELS, f"every pixel has the ignore label {ignore}")
    if len(present) == 1:
        return _one_class(present[0], counts, spec)
    if spec.num_classes is None and are_blurred and (are_gray_levels(present) or len(present) > _MANY_TONES):
        return _blurred_levels(present)
    if spec.num_classes is None and are_gray_levels(present):
        return _gray_levels(present, counts, spec)
    return _from_one(present) if present[0] > 0 and ignore != 0 else None


def _one_class(only: int, counts: np.ndarray, spec: LabelSpec) -> Finding:
    ignore = spec.ignore_label
    if not counts[ignore]:
        return finding("one-class", LABELS, f"every pixel is class {only}")
    percent = 100 * counts[ignore] / counts.sum()
    text = (
        f"hold only {only} and {ignore} ({percent:.3g} % of the pixels), and {ignore} is the ignore label: only class "
        f"{only} would be learned"
    )
    hint = f"`label_map={ignore}:{1 if only == 0 else 0}` if {ignore} means a class"
    repair = map_setting(certain_map(values_in(counts), spec))
    return finding("foreground-ignored", LABELS, text, hint=hint, repair=repair)


def _gray_levels(present: Sequence[int], counts: np.ndarray, spec: LabelSpec) -> Finding:
    ignore, certain = spec.ignore_label, certain_map(values_in(counts), spec)
    mapping = certain or numbered(present)
    shown = shorten(list(map(str, values_in(counts) if ignore in mapping else present)), 8)
    text = f"hold the values {shown}: as class indices, these mean {present[-1] + 1} classes"
    hint = f"number them with `label_map={map_text(mapping)}`, or set `num_classes={present[-1] + 1}` if that is meant"
    if counts[ignore] and ignore not in mapping:
        text += f"; {ignore} stays the ignore label"
        hint += f"; add {ignore}:{len(present)} to the map if {ignore} is a class, too"
    return finding("labels-are-gray-levels", LABELS, text, hint=hint, repair=map_setting(certain))


def _blurred_levels(present: Sequence[int]) -> Finding:
    text = f"hold {len(present)} values, most of which JPEG or smooth resizing made: they are between the classes"
    hint = "export the masks again as PNG without antialiasing, and resize masks by nearest neighbor only"
    return finding("labels-are-gray-levels", LABELS, text, hint=hint)


def _from_one(present: Sequence[int]) -> Finding:
    down = ",".join(f"{value}:{value - 1}" for value in present)
    text = f"go from {present[0]} to {present[-1]}, and no pixel is 0"
    hint = f"`label_map={down}` if {present[0]} is the first class; nothing to do if class 0 just does not occur"
    if present[0] != 1:
        hint = f"`label_map={spread_map(present)}` if these are the classes in order"
    return finding("labels-start-at-one", LABELS, text, hint=hint)


@DATASET_CHECKS.register("label values")
def check_label_values(summary: Summary) -> Iterator[Finding]:
    """Values that cannot be meant as class indices."""
    if summary.about_values:
        yield summary.about_values


# --- Classes ------------------------------------------------------------------------------------------------


def is_known(dataset: Dataset) -> bool:
    """Whether the classes are those of a known dataset."""
    return datasets.are_known_classes(dataset.class_names)


@DATASET_CHECKS.register("class names")
def check_class_names(summary: Summary) -> Iterator[Finding]:
    """Names that two classes have, and a real class that is ignored."""
    dataset = summary.dataset
    if not summary.values_are_classes:
        return
    names = list(dataset.class_names)
    repeated = sorted(name for name, number in collections.Counter(names).items() if number > 1)
    if repeated:
        text = f"{shorten(repeated)} is the name of {names.count(repeated[0])} classes"
        yield finding("class-names-repeated", LABELS, text)
    alike = near_equal(names)
    if alike and not is_known(dataset):
        shown = shorten([f"{first!r} and {second!r}" for first, second in alike])
        hint = f"`classes={shlex.quote(proposal(names))}` if they are one class"
        yield finding("class-names-alike", LABELS, f"{shown} differ little", hint=hint)
    ignore, ignored = dataset.ignore_label, sum(dataset.ignored_pixels.values())
    if ignore < len(names) and ignored and not _MEANS_NONE.fullmatch(names[ignore]) and not is_known(dataset):
        percent = 100 * ignored / (ignored + sum(map(sum, dataset.pixels.values())))
        text = f"{names[ignore]} ({ignore}) has {percent:.3g} % of the pixels, but {ignore} is the ignore label"
        yield finding("class-ignored", LABELS, text)


@DATASET_CHECKS.register("absent classes")
def check_absent_classes(summary: Summary) -> Iterator[Finding]:
    """Classes without pixels; see `absent_classes`."""
    if summary.values_are_classes:
        from_one = summary.about_values is not None and summary.about_values.rule == "labels-start-at-one"
        yield from absent_classes(summary.dataset, summary.training, without=(0,) if from_one else ())


def absent_classes(dataset: Dataset, training: str, without: Sequence[int] = ()) -> Iterator[Finding]:
    """Classes that are absent everywhere, from training, or from another split.

    Args:
      dataset: classes and their pixels in each split, as dataset.yml has them or as a check counted them.
      training: the split that is trained.
      without: classes that are not judged.
    """
    pixels = {split: np.array(counts, np.int64) for split, counts in dataset.pixels.items() if any(counts)}
    if not pixels:
        return
    totals = np.sum(list(pixels.values()), axis=0)
    counted = _ignore_counted(dataset, totals)
    if counted:
        yield counted
    # The classes of a known dataset are right; a part of it need not hold them all.
    severity: Severity | None = "note" if is_known(dataset) else None
    unjudged = {dataset.ignore_label, *without, *([dataset.num_classes - 1] if counted else [])}
    absent = [index for index in np.flatnonzero(totals == 0).tolist() if index not in unjudged]
    if absent:
        hint = "nothing to do, if these images are a part of that dataset" if severity else ""
        text = f"no pixel anywhere of {_named(dataset, absent)}"
        yield finding("class-absent", LABELS, text, severity=severity, hint=hint)
    trained = pixels.pop(training, None)
    if trained is None:
        return
    for split, counts in pixels.items():
        unlearned = np.flatnonzero((trained == 0) & (counts > 0)).tolist()
        if unlearned:
            text = f"{_named(dataset, unlearned)}: in {split}, but without a pixel in {training}"
            yield finding("class-not-trained", split, text, split=split, severity=severity)
        missing = np.flatnonzero((trained > 0) & (counts == 0)).tolist()
        if missing:
            text = f"no pixel of {_named(dataset, missing)}"
            yield finding("class-absent-from-split", split, text, split=split)


def _ignore_counted(dataset: Dataset, totals: np.ndarray) -> Finding | None:
    """The highest class has no pixel and no name of its own, or one that means "no class"."""
    highest, ignored = dataset.num_classes - 1, sum(dataset.ignored_pixels.values())
    name = dataset.class_names[highest]
    means_none = bool(_MEANS_NONE.fullmatch(name)) or (bool(_UNNAMED.fullmatch(name)) and ignored > 0)
    if totals[highest] or not means_none or not totals[:highest].all() or highest == dataset.ignore_label:
        return None
    held = shorten([str(value) for value in (*range(highest), *([dataset.ignore_label] if ignored else []))], 12)
    text = (
        f"hold {held}: num_classes={dataset.num_classes} leaves class {highest} ({name}) without a single pixel; was "
        "the ignore label counted as a class?"
    )
    return finding("ignore-counted-as-class", LABELS, text, hint=f"`num_classes={highest}`")


def _named(dataset: Dataset, indices: Sequence[int]) -> str:
    return shorten([f"{dataset.class_names[index]} ({index})" for index in indices], 12)


@DATASET_CHECKS.register("class balance")
def check_balance(summary: Summary) -> Iterator[Finding]:
    """Classes that are rare in the training split, and inverse weights that would be far apart."""
    dataset, training = summary.dataset, summary.training
    if not summary.values_are_classes or not summary.weights:
        return
    facts = summary.splits[training]
    recommended = recommended_weights(facts.pixels)
    fraction, hint = np.array(facts.pixels) / sum(facts.pixels), setting_text(recommended)
    rare = np.flatnonzero((fraction > 0) & (fraction < RARE)).tolist()
    if rare:
        found = [_rarity(dataset, index, fraction[index], facts.images_with[index]) for index in rare]
        text = shorten(found, 8) if len(found) == 1 else f"{len(found)} classes: {shorten(found, 8)}"
        severity: Severity | None = "note" if is_known(dataset) else None
        yield finding("class-rare", training, text, split=training, hint=hint, severity=severity)
    if ratio(summary.weights["inverse"]) > MAX_RATIO:
        text = (
            f"inverse weights differ by a factor of {ratio(summary.weights['inverse']):.0f}, the recommended ones by "
            f"{ratio(recommended):.0f}"
        )
        yield finding("weights-far-apart", training, text, split=training, hint=hint)


def _rarity(dataset: Dataset, index: int, fraction: float, images: int) -> str:
    places = f"in {images} image{'s' if images != 1 else ''}"
    return f"{dataset.class_names[index]} ({index}) has {100 * fraction:.2g} % of the pixels that count, {places}"


# --- Labels -------------------------------------------------------------------------------------------------


@DATASET_CHECKS.register("identical labels")
def check_identical_labels(summary: Summary) -> Iterator[Finding]:
    """Labels that are all the same."""
    digests: set[int] = set().union(*(totals.label_digests for totals in summary.totals.values()))
    if len(digests) == 1 and summary.readable >= _MIN_IMAGES:
        yield finding("labels-all-same", LABELS, f"all {summary.readable} labels are the same, pixel for pixel")


@DATASET_CHECKS.register("labels of one class")
def check_labels_of_one_class(summary: Summary) -> Iterator[Finding]:
    """Labels that hold one class only, where nearly all others have several."""
    dataset = summary.dataset
    if sum(len(totals.of_one_class) for totals in summary.totals.values()) > _MAX_SINGLE * summary.readable:
        return
    for split, totals in summary.totals.items():
        for where, value in totals.of_one_class:
            name = f" ({dataset.class_names[value]})" if value < dataset.num_classes else ""
            yield finding("label-one-class", where, f"is {value}{name} everywhere", split=split)


class Palettes:
    """The palettes of all palette masks: a color that has two indices shows that each mask has a palette of its own."""

    def __init__(self) -> None:
        self._first: dict[int, tuple[int, str]] = {}  # of each color: its index, and the mask in which it was met
        self.findings: list[Finding] = []

    def add(self, palette: Mapping[int, int], where: str, split: str) -> None:
        """Adds one mask: 0xRRGGBB of each index that it uses."""
        colors = list(palette.values())
        for index, color in palette.items():
            if colors.count(color) > 1:  # says nothing
                continue
            known, other = self._first.setdefault(color, (index, where))
            if known != index:
                text = f"{rgb_text(color)} is its index {index}, but {known} in {other}"
                append_counted(self.findings, finding("mask-palettes-differ", where, text, split=split))
                return


@DATASET_CHECKS.register("palettes")
def check_palettes(summary: Summary) -> Iterator[Finding]:
    """Masks whose palette differs from that of the first that has the color."""
    yield from summary.palettes
