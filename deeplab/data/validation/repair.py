"""Which settings of `build-data` repair a dataset, judged from all masks together.

Two things can be certain: how values that are no class indices are numbered (`certain_map`), and that masks have the
colors of a known dataset (`known_palette`). A few stray values can be ignored. Everything else stays a hint.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deeplab.data import dataset as datasets
from deeplab.data.colormaps import table_of
from deeplab.data.dataset import Dataset
from deeplab.data.labels import LabelSpec, are_gray_levels
from deeplab.data.readers.classes import DatasetClasses
from deeplab.data.validation.check_report import Finding
from deeplab.utils.text import counted

STRAY = 0.001  # fraction of all pixels below which unknown values are no classes
MAX_COLORS = 512  # of all masks; more are not those of classes
_FEW_MASKS = 0.05  # fraction of the masks up to which those with unknown values are probably damaged
_MAX_MAPPED = 6  # values in a proposed `label_map`
_MIN_COLORS = 3  # from which a palette can be recognized: two colors occur in many
_ONE_SETTING = re.compile(r"`([a-z_]+)=([^`]+)`")


# --- Values -------------------------------------------------------------------------------------------------


def certain_map(values: Iterable[int], spec: LabelSpec) -> dict[int, int]:
    """What the values of all masks must be replaced by, where that is certain; else empty.

    Certain are: one class beside the ignore label, which then can only be the other class; gray levels, as many as
    there are classes, with or without the ignore label; and labels that count the classes from 1. Where the number of
    classes is not known, gray levels are taken for all classes. A single value out of range among good ones is damage,
    and says nothing about the others, even if their number is right.

    Args:
      values: all that occur in the masks of the dataset.
      spec: what they should be; where it maps values or colors already, nothing is certain.

    Returns:
      For values that change: {255: 1}.
    """
    if spec.mapping or spec.table:
        return {}
    every, ignore = sorted(values), spec.ignore_label
    present = [value for value in every if value != ignore]
    if present == [0] and ignore in every and spec.num_classes in (None, 2):
        return {ignore: 1}
    if spec.num_classes is None:
        levels = every if _evenly_spread(every) else present
        return numbered(levels) if are_gray_levels(present) and _have_no_index(levels) else {}
    for candidates in (present, every):  # the ignore label may be a class that should not be ignored
        from_one = candidates == list(range(1, len(candidates) + 1))
        if len(candidates) == spec.num_classes and (_have_no_index(candidates) or from_one):
            return numbered(candidates)
    return {}


def _evenly_spread(values: Sequence[int]) -> bool:
    """Whether values divide the grays from black to white evenly, as 0, 128, 255 do."""
    steps = len(values) - 1
    return steps > 1 and all(abs(value - 255 * place / steps) <= 1 for place, value in enumerate(values))


def _have_no_index(candidates: Sequence[int]) -> bool:
    """Whether no value but 0 could be a class index, or all are multiples of one step, as 0, 10, 20 are."""
    no_index = all(value == 0 or value >= len(candidates) for value in candidates)
    steps = set(np.diff(candidates).tolist())
    return len(candidates) > 1 and (no_index or (candidates[0] == 0 and len(steps) == 1 and len(candidates) > 2))


def numbered(values: Sequence[int]) -> dict[int, int]:
    """A map of values to their places in the order, those that change."""
    return {value: place for place, value in enumerate(values) if value != place}


def values_in(counts: np.ndarray) -> list[int]:
    """The values that occur, of int64 [values]."""
    return np.flatnonzero(counts).tolist()


def map_text(mapping: Mapping[int, int]) -> str:
    """The value of `label_map`: `150:1,250:2`."""
    return ",".join(f"{old}:{new}" for old, new in sorted(mapping.items()))


def map_setting(mapping: Mapping[int, int]) -> dict[str, str]:
    """`label_map` as a repair; empty where the map is."""
    return {"label_map": map_text(mapping)} if mapping else {}


# --- Colors -------------------------------------------------------------------------------------------------


def known_palette(colors: Sequence[int], classes: DatasetClasses, mixed: bool = False) -> Dataset | None:
    """The one dataset that has all these colors; None where there is none, or more than one.

    Args:
      colors: 0xRRGGBB of all masks.
      classes: number, names and colors that are known. Where there are colors, these are the only candidate; names
        must be the candidate's, in its order.
      mixed: other masks hold values. Whether these count the classes in the order of a recognized palette is not
        known.
    """
    if classes.names and len(set(classes.colors)) == classes.num_classes:
        own = Dataset(_known_name(classes), classes.names, classes.colors)
        return own if _has_all(own, colors, classes.rule.tolerance) else None
    if mixed or len(colors) < _MIN_COLORS:
        return None
    candidates = [datasets.load_known(name) for name in datasets.known_names()]
    fitting = [
        known
        for known in candidates
        if len(set(known.colors)) == known.num_classes
        and classes.num_classes in (None, known.num_classes)
        and classes.names in ((), known.class_names)
        and _has_all(known, colors, classes.rule.tolerance)
    ]
    return fitting[0] if len(fitting) == 1 else None


def _known_name(classes: DatasetClasses) -> str:
    """Name of the known dataset that has these classes and colors; empty where none has."""
    for name in datasets.known_names():
        known = datasets.load_known(name)
        if (known.class_names, known.colors) == (classes.names, classes.colors):
            return name
    return ""


def _has_all(known: Dataset, colors: Sequence[int], tolerance: float) -> bool:
    return bool((distance_to_palette(colors, table_of(known).colors) <= tolerance).all())


def distance_to_palette(colors: Iterable[int], palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Euclidean RGB distance of each color 0xRRGGBB to the nearest of a palette, float64 [n]."""
    ours = np.array([(code >> 16, code >> 8 & 255, code & 255) for code in colors], np.float64).reshape(-1, 3)
    theirs = np.array(palette, np.float64)
    return np.linalg.norm(ours[:, None] - theirs[None], axis=-1).min(1)


def sufficient_tolerance(colors: Iterable[int], spec: LabelSpec) -> dict[str, str]:
    """`color_tolerance` as a repair, where it is small enough that no color could belong to another class."""
    assert spec.table is not None
    palette = np.array(spec.table.colors, np.float64)
    apart = np.linalg.norm(palette[:, None] - palette[None], axis=-1)
    enough = int(np.ceil(distance_to_palette(colors, spec.table.colors).max()))
    return {"color_tolerance": str(enough)} if 2 * enough < apart[apart > 0].min(initial=np.inf) else {}


# --- Hints in the light of all masks ------------------------------------------------------------------------


@dataclass(frozen=True)
class Evidence:
    """What is known of all masks.

    Attributes:
      counts: pixels of each value, int64 [values].
      spec: what values and colors mean.
      masks: number of masks.
      masks_outside: number of masks with values that are no classes.
      palette: the known dataset whose colors the masks have; None where there is none.
    """

    counts: np.ndarray
    spec: LabelSpec
    masks: int
    masks_outside: int
    palette: Dataset | None


def with_evidence(item: Finding, evidence: Evidence) -> Finding:
    """A finding with the hint and the repair that all masks together suggest; most stay as they are."""
    if item.rule == "label-out-of-range":
        return _of_values(item, evidence)
    if item.rule == "mask-is-color" and evidence.palette:
        name = evidence.palette.name
        setting = f"`dataset={name}`" if name else "`palette=FILE` with the colors of the classes"
        hint = f"{setting}: all colors are those of {name or 'the classes'}"
        return dataclasses.replace(item, hint=hint, repair={"dataset": name} if name else {})
    if item.rule == "listing-unusable" and (match := _ONE_SETTING.fullmatch(item.hint)):
        return dataclasses.replace(item, repair={match[1]: match[2]})
    return item


def _of_values(item: Finding, evidence: Evidence) -> Finding:
    spec = evidence.spec
    mapping = certain_map(values_in(evidence.counts), spec)
    if mapping:
        hint = f"`label_map={map_text(mapping)}`: all labels together hold as many values as there are classes"
        return dataclasses.replace(item, hint=hint, repair=map_setting(mapping))
    outside = evidence.counts * spec.is_outside(np.arange(len(evidence.counts)))
    values, pixels = values_in(outside), int(outside.sum())
    if 0 < pixels < STRAY * evidence.counts.sum():  # few pixels are no class
        few = len(values) <= _MAX_MAPPED and not spec.mapping
        stray = map_setting(dict.fromkeys(values, spec.ignore_label)) if few else {"on_bad_label": "ignore"}
        ((name, value),) = stray.items()
        hint = f"export the mask again, or ignore {counted(pixels, 'pixel')} in all masks with `{name}={value}`"
        return dataclasses.replace(item, hint=hint, repair=stray)
    if evidence.masks_outside <= _FEW_MASKS * evidence.masks:  # few masks are damaged
        others = counted(evidence.masks - evidence.masks_outside, "other")
        return dataclasses.replace(item, hint=f"export the mask again, as {others} have no such values; or {item.hint}")
    return item
