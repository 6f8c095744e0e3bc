"""What to do about a fault of one mask, in the light of all masks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from deeplab.data.dataset import Dataset
from deeplab.data.labels import LabelRule
from deeplab.data.validation.check_report import Finding
from deeplab.data.validation.label_statistics import certain_map, fix_text, map_text, values_in
from deeplab.utils.text import counted

STRAY = 0.001  # share of all pixels, below which strange values are no classes
_FEW_MASKS = 0.05  # share of the masks, up to which those with strange values are likely damaged
_MOST_MAPPED = 6  # values in a proposed --label_map


@dataclass(frozen=True)
class Evidence:
    """What is known of all masks.

    Attributes:
      counts: pixels of each value, int64 [256].
      rule: what values and colors mean.
      masks: how many there are.
      strange: how many of them hold values that are no classes.
      palette: the known dataset whose colors the masks have; None where there is none.
    """

    counts: np.ndarray
    rule: LabelRule
    masks: int
    strange: int
    palette: Dataset | None


def better_hint(item: Finding, evidence: Evidence) -> Finding:
    """A finding with the hint that all masks together suggest; most stay as they are."""
    mapping = certain_map(values_in(evidence.counts), evidence.rule)
    if item.rule == "label-out-of-range" and mapping:
        hint = f"{map_text(mapping)}: all labels together hold just as many values as there are classes"
        return dataclasses.replace(item, hint=hint, fix=fix_text(mapping))
    if item.rule == "label-out-of-range":
        return dataclasses.replace(item, hint=_for_strange_values(item.hint, evidence))
    if item.rule == "mask-is-color" and evidence.palette:
        name = evidence.palette.name
        flag = f"`dataset={name}`" if name else "`palette=FILE` with the colors of the classes"
        hint = f"{flag}: all colors are those of {name or 'the classes'}"
        return dataclasses.replace(item, hint=hint, fix=f"reads the colors as those of {name or 'the classes'}")
    return item


def _for_strange_values(hint: str, evidence: Evidence) -> str:
    """Few pixels are no class, and in few masks they are damage."""
    strange = evidence.counts.copy()
    strange[: evidence.rule.num_classes] = 0
    strange[evidence.rule.ignore_label] = 0
    values, pixels = values_in(strange), int(strange.sum())
    if 0 < pixels < STRAY * evidence.counts.sum():
        few = len(values) <= _MOST_MAPPED
        flag = map_text(dict.fromkeys(values, evidence.rule.ignore_label)) if few else "`on_bad_label=ignore`"
        return f"export the mask again, or {flag}: {counted(pixels, 'pixel')} in all masks"
    if evidence.strange <= _FEW_MASKS * evidence.masks:
        sound = evidence.masks - evidence.strange
        return f"export the mask again, as {counted(sound, 'other')} have no such values; or {hint}"
    return hint
