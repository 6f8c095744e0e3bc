"""What the values of all labels together tell: gray levels, a class too many, classes that are missing or rare."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from deeplab.data import dataset as datasets
from deeplab.data.colormaps import rgb_text
from deeplab.data.dataset import Dataset
from deeplab.data.labels import LabelRule, spread_map
from deeplab.data.split_names import training_split
from deeplab.data.validation.check_report import Finding, Severity, SplitFacts
from deeplab.data.validation.rules import finding
from deeplab.data.validation.statistics import SplitTally
from deeplab.losses.class_balance import MAX_RATIO, RARE, ClassWeights, ratio, recommended_weights, setting_text
from deeplab.utils.paths import shorten

LABELS = "labels"  # where a finding on all of them is
NO_CLASSES = frozenset(
    {"nothing-labeled", "one-class", "foreground-ignored"}
)  # rules that leave nothing to say of them
_MOST_SINGLE = 0.1  # share of the labels that may be of one class and still be worth a word
_LEAST_IMAGES = 4  # from which labels that are all the same are no coincidence
_SMALL = 8  # highest value below which gaps are classes that do not occur
_NAMED_AS_NONE = re.compile(r"(ignored?|void|none|unlabell?ed|unknown|do_?n'?t_?care)", re.IGNORECASE)
_UNNAMED = re.compile(r"class_\d+")


# --- Values -------------------------------------------------------------------------------------------------


def present_values(counts: np.ndarray, ignore_label: int) -> list[int]:
    """Values that occur and are not the ignore label, of int64 [256]."""
    return [int(value) for value in np.flatnonzero(counts) if value != ignore_label]


def are_gray_levels(present: Sequence[int], num_classes: int | None) -> bool:
    """Whether values are tones, such as 0, 150, 250: far more classes would have to be absent than there are."""
    return num_classes is None and _far_between(present)


def _far_between(present: Sequence[int]) -> bool:
    return bool(present) and present[-1] >= _SMALL and 2 * len(present) < present[-1]


def certain_map(values: Iterable[int], rule: LabelRule) -> dict[int, int]:
    """What the values of all masks must be replaced by, where that is certain; else empty.

    Certain are: one class beside the ignore label, which then can only be the other class; tones of gray, as many as
    there are classes, the ignore label among them or not; and labels that count the classes from 1. Where nobody has
    said how many classes there are, tones of gray are taken for all of them. A single value out of range among good
    ones is damage, and tells nothing of the others, even if their number is right.

    Args:
      values: all that occur in the masks of the set.
      rule: what they should be; where it maps values or colors already, nothing is certain.

    Returns:
      For values that change: 255 -> 1. The hints and `fix` go by it.
    """
    if rule.mapping or rule.table:
        return {}
    every, ignore = sorted(values), rule.ignore_label
    present = [value for value in every if value != ignore]
    if present == [0] and ignore in every and rule.num_classes in (None, 2):
        return {ignore: 1}
    if rule.num_classes is None:
        tones = every if _evenly_spread(every) else present
        return _numbered(tones) if are_gray_levels(present, None) and _are_tones(tones) else {}
    for candidates in (present, every):  # the ignore label may be a class that nobody meant to be ignored
        from_one = candidates == list(range(1, len(candidates) + 1))
        if len(candidates) == rule.num_classes and (_are_tones(candidates) or from_one):
            return _numbered(candidates)
    return {}


def _evenly_spread(values: Sequence[int]) -> bool:
    """Whether values divide the grays from black to white evenly, as 0, 128, 255 do."""
    steps = len(values) - 1
    return steps > 1 and all(abs(value - 255 * place / steps) <= 1 for place, value in enumerate(values))


def _are_tones(candidates: Sequence[int]) -> bool:
    """Whether no value but 0 could be a class index, or all are multiples of one step, as 0, 10, 20 are."""
    no_index = all(value == 0 or value >= len(candidates) for value in candidates)
    steps = set(np.diff(candidates).tolist())
    return len(candidates) > 1 and (no_index or (candidates[0] == 0 and len(steps) == 1 and len(candidates) > 2))


def _numbered(values: Sequence[int]) -> dict[int, int]:
    return {value: place for place, value in enumerate(values) if value != place}


def values_in(counts: np.ndarray) -> list[int]:
    """The values that occur, of int64 [256]."""
    return np.flatnonzero(counts).tolist()


def map_text(mapping: Mapping[int, int]) -> str:
    """`label_map=150:1,250:2`."""
    return "`label_map=`" + ",".join(f"{old}:{new}" for old, new in sorted(mapping.items()))


def look_at_values(counts: np.ndarray, rule: LabelRule) -> Iterator[Finding]:
    """What is wrong with the values of all labels, before they are taken for classes.

    Args:
      counts: pixels of each value over all splits, int64 [256].
      rule: what they should be.
    """
    present, ignore = present_values(counts, rule.ignore_label), rule.ignore_label
    if not counts.any():
        return
    if not present:
        yield finding("nothing-labeled", LABELS, f"every pixel has the ignore label {ignore}")
    elif len(present) == 1:
        yield _one_class(present[0], counts, rule)
    elif are_gray_levels(present, rule.num_classes):
        yield _gray_levels(present, counts, rule)
    elif present[0] > 0 and ignore != 0:
        yield _from_one(present, rule)


def _one_class(only: int, counts: np.ndarray, rule: LabelRule) -> Finding:
    ignore = rule.ignore_label
    if not counts[ignore]:
        return finding("one-class", LABELS, f"every pixel is class {only}")
    share = 100 * counts[ignore] / counts.sum()
    text = (
        f"hold only {only} and {ignore} ({share:.3g} % of the pixels), and {ignore} is the ignore label: nothing but "
        f"class {only} would be learned"
    )
    hint = f"`label_map={ignore}:{1 if only == 0 else 0}` if {ignore} means a class"
    return finding("foreground-ignored", LABELS, text, hint=hint, fix=fix_text(certain_map(values_in(counts), rule)))


def _gray_levels(present: Sequence[int], counts: np.ndarray, rule: LabelRule) -> Finding:
    ignore, certain = rule.ignore_label, certain_map(values_in(counts), rule)
    mapping = certain or _numbered(present)
    shown = shorten(list(map(str, values_in(counts) if ignore in mapping else present)), 8)
    text = f"hold the values {shown}: as class indices, these mean {present[-1] + 1} classes"
    hint = f"{map_text(mapping)} numbers them, or `num_classes={present[-1] + 1}` if that is meant"
    if counts[ignore] and ignore not in mapping:
        text += f"; {ignore} stays the ignore label"
        hint += f"; with {ignore}:{len(present)} in the map if {ignore} is a class, too"
    return finding("labels-are-gray-levels", LABELS, text, hint=hint, fix=fix_text(certain))


def _from_one(present: Sequence[int], rule: LabelRule) -> Finding:
    down = ",".join(f"{value}:{value - 1}" for value in present)
    text = f"go from {present[0]} to {present[-1]}, and no pixel is 0"
    hint = f"`label_map={down}` if {present[0]} is the first class; nothing if class 0 merely does not occur"
    if present[0] != 1:
        hint = f"`label_map={spread_map(present)}` if these are the classes in order"
    return finding("labels-start-at-one", LABELS, text, hint=hint)


def fix_text(mapping: Mapping[int, int]) -> str:
    """What `fix` does where a map is certain; empty where none is."""
    return f"replaces values: {map_text(mapping)}" if mapping else ""


# --- Palettes -----------------------------------------------------------------------------------------------


class Palettes:
    """The palettes of all masks that have one: a color that stands for two indices betrays that each has its own."""

    def __init__(self) -> None:
        self._first: dict[int, tuple[int, str]] = {}  # of each color: its index, and the mask in which it was met
        self._found: list[Finding] = []

    def add(self, palette: Mapping[int, int], where: str, split: str) -> None:
        """Takes one mask: 0xRRGGBB of each index that it uses."""
        colors = list(palette.values())
        for index, color in palette.items():
            if colors.count(color) > 1:  # says nothing
                continue
            known, other = self._first.setdefault(color, (index, where))
            if known != index:
                text = f"{rgb_text(color)} is its index {index}, but {known} in {other}"
                self._found.append(finding("mask-palettes-differ", where, text, split=split))
                return

    def findings(self) -> Sequence[Finding]:
        """Masks whose palette differs from that of the first that has the color."""
        return self._found


# --- Classes ------------------------------------------------------------------------------------------------


def look_at_classes(dataset: Dataset, splits: Mapping[str, SplitFacts], from_one: bool) -> Iterator[Finding]:
    """Classes that are absent everywhere, from training, or from another split; names that make no sense.

    Args:
      dataset: the classes.
      splits: what was counted.
      from_one: it has been said already that no label holds 0.
    """
    yield from _odd_names(dataset, splits)
    totals = np.sum([facts.pixels for facts in splits.values()], axis=0)
    if not totals.any():
        return
    ignored = sum(facts.ignored_pixels for facts in splits.values())
    counted = _ignore_counted(dataset, totals, ignored)
    if counted:
        yield counted
    # The classes of a known dataset are right; a part of it need not hold them all.
    severity: Severity | None = "note" if is_known(dataset) else None
    absent = [index for index in np.flatnonzero(totals == 0).tolist() if index != dataset.ignore_label]
    absent = absent[:-1] if counted else absent
    absent = absent[1:] if from_one and absent[:1] == [0] else absent
    if absent:
        text = f"no pixel anywhere of {_names(dataset, absent)}"
        hint = "nothing, if these images are a part of that dataset" if severity else ""
        yield finding("class-absent", LABELS, text, severity=severity, hint=hint)
    yield from _uneven(dataset, splits, totals, severity)


def _odd_names(dataset: Dataset, splits: Mapping[str, SplitFacts]) -> Iterator[Finding]:
    names = list(dataset.class_names)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        text = f"{shorten(repeated)} is the name of {names.count(repeated[0])} classes"
        yield finding("class-names-repeated", LABELS, text)
    ignore, ignored = dataset.ignore_label, sum(facts.ignored_pixels for facts in splits.values())
    if ignore < len(names) and ignored and not _NAMED_AS_NONE.fullmatch(names[ignore]) and not is_known(dataset):
        share = 100 * ignored / (ignored + sum(sum(facts.pixels) for facts in splits.values()))
        text = f"{names[ignore]} ({ignore}) has {share:.3g} % of the pixels, but {ignore} is the ignore label"
        yield finding("class-ignored", LABELS, text)


def is_known(dataset: Dataset) -> bool:
    """Whether the classes are those of a known dataset."""
    return any(datasets.load_known(name).class_names == dataset.class_names for name in datasets.known_names())


def _ignore_counted(dataset: Dataset, totals: np.ndarray, ignored: int) -> Finding | None:
    """The highest class has no pixel and no name of its own, or one that means "no class"."""
    highest = dataset.num_classes - 1
    name = dataset.class_names[highest]
    none_named = bool(_NAMED_AS_NONE.fullmatch(name)) or (bool(_UNNAMED.fullmatch(name)) and ignored > 0)
    if totals[highest] or not none_named or totals[:highest].min() == 0 or highest == dataset.ignore_label:
        return None
    held = shorten([str(value) for value in (*range(highest), *([dataset.ignore_label] if ignored else []))], 12)
    text = (
        f"hold {held}: num_classes={dataset.num_classes} leaves class {highest} ({name}) without a single pixel; was "
        "the ignore label counted as a class?"
    )
    return finding("ignore-counted-as-class", LABELS, text, hint=f"`num_classes={highest}`")


def _uneven(
    dataset: Dataset, splits: Mapping[str, SplitFacts], totals: np.ndarray, severity: Severity | None
) -> Iterator[Finding]:
    training = training_split(list(splits))
    trained = np.array(splits[training].pixels)
    if not trained.any():
        return
    for split, facts in splits.items():
        pixels = np.array(facts.pixels)
        if split == training or not pixels.any():
            continue
        unlearned = np.flatnonzero((trained == 0) & (pixels > 0)).tolist()
        if unlearned:
            text = f"{_names(dataset, unlearned)}: in {split}, but without a pixel in {training}"
            yield finding("class-not-trained", split, text, split=split, severity=severity)
        missing = np.flatnonzero((trained > 0) & (pixels == 0)).tolist()
        if missing:
            text = f"no pixel of {_names(dataset, missing)}"
            yield finding("class-absent-from-split", split, text, split=split)


def _names(dataset: Dataset, indices: Sequence[int]) -> str:
    return shorten([f"{dataset.class_names[index]} ({index})" for index in indices], 12)


def look_at_balance(
    dataset: Dataset, splits: Mapping[str, SplitFacts], weights: Mapping[str, ClassWeights]
) -> Iterator[Finding]:
    """Classes that are rare in the training split, and weights that would be far apart."""
    training = training_split(list(splits))
    pixels = np.array(splits[training].pixels, np.float64) if splits else np.zeros(0)
    if not weights:
        return
    share, hint = pixels / pixels.sum(), setting_text(recommended_weights(splits[training].pixels))
    rare = np.flatnonzero((share > 0) & (share < RARE)).tolist()
    if rare:
        found = [_rarity(dataset, index, share[index], splits[training].images_with[index]) for index in rare]
        text = shorten(found, 8) if len(found) == 1 else f"{len(found)} classes: {shorten(found, 8)}"
        severity: Severity | None = "note" if is_known(dataset) else None
        yield finding("class-rare", training, text, split=training, hint=hint, severity=severity)
    if ratio(weights["inverse"]) > MAX_RATIO:
        recommended = ratio(recommended_weights(splits[training].pixels))
        text = (
            f"inverse weights differ by a factor of {ratio(weights['inverse']):.0f}, the recommended ones by "
            f"{recommended:.0f}"
        )
        yield finding("weights-far-apart", training, text, split=training, hint=hint)


def _rarity(dataset: Dataset, index: int, share: float, images: int) -> str:
    places = f"in {images} image{'s' if images != 1 else ''}"
    return f"{dataset.class_names[index]} ({index}) has {100 * share:.2g} % of the pixels that count, {places}"


def look_at_sameness(tallies: Mapping[str, SplitTally]) -> Iterator[Finding]:
    """Labels that are all one and the same."""
    digests: set[int] = set().union(*(tally.label_digests for tally in tallies.values()))
    images = sum(tally.images - tally.unread for tally in tallies.values())
    if len(digests) == 1 and images >= _LEAST_IMAGES:
        yield finding("labels-all-same", LABELS, f"all {images} labels are the same, pixel for pixel")


def look_at_single_classes(dataset: Dataset, tallies: Mapping[str, SplitTally]) -> Iterator[Finding]:
    """Labels that are one class all over, where nearly all others have several."""
    number = sum(tally.images - tally.unread for tally in tallies.values())
    if sum(len(tally.of_one_class) for tally in tallies.values()) > _MOST_SINGLE * number:
        return
    for split, tally in tallies.items():
        for where, value in tally.of_one_class:
            name = f" ({dataset.class_names[value]})" if value < dataset.num_classes else ""
            yield finding("label-one-class", where, f"is {value}{name} all over", split=split)
