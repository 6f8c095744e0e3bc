"""Which image goes to which split: by shares, by the classes present, in groups that stay whole, in folds.

All of it is drawn by a seed with Python's own generator, and names are sorted first: the same names and seed give the
same splits on every machine, in whatever order a file system lists them.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterable, Mapping, Sequence

from deeplab.config.conversion_config import compiled_pattern
from deeplab.data.conversion.stratify import Unit, place_units, units_of
from deeplab.data.readers.pairs import shorten
from deeplab.utils import console
from deeplab.utils.errors import UserError

_TRAIN, _VAL = "train", "val"
_UNEVEN = 0.1  # groups that move a split's size by more than this share of it are worth a word
_LIKELY_PATTERNS = ("^(.+)/", "^(.+)[_-]", "^([^_-]+)[_-]", "^(.*?)[0-9]+$")  # what names are usually made of


# --- Groups -------------------------------------------------------------------------------------------------


def group_keys(names: Sequence[str], pattern: str) -> list[str]:
    """The group of every name: what a regular expression finds in it.

    Args:
      names: image names without extension, with their subfolders.
      pattern: its first pair of brackets is the key, or without brackets all that it matches; anywhere in the name.

    Raises:
      UserError: no regular expression, names in which it finds nothing, or groups that divide nothing: one name each,
        or all names in one.
    """
    expression = compiled_pattern(pattern, "group_by")
    matches = [expression.search(name) for name in names]
    keys = [match and match[1 if expression.groups else 0] for match in matches]
    missed = [name for name, key in zip(names, keys, strict=True) if key is None]
    if missed:
        rule = f"{pattern!r} finds nothing in {len(missed)} of {len(names)} names: {', '.join(missed[:5])}"
        raise UserError("unclassified", rule, _other_pattern(names, pattern), field="group_by")
    number = len(set(keys))
    if number in (1, len(names)):
        rule = f"{pattern!r} puts all {len(names)} names into one group, {keys[0]!r}"
        if number > 1:
            rule = f"{pattern!r} gives each of {len(names)} names a group of its own, such as {keys[0]!r}"
        raise UserError("unclassified", rule, _other_pattern(names, pattern), field="group_by")
    return [key for key in keys if key is not None]


def _other_pattern(names: Sequence[str], pattern: str) -> str:
    """The first of the likely patterns that makes groups of these names."""
    for likely in _LIKELY_PATTERNS:
        found = [re.search(likely, name) for name in names]
        keys = [match[1] for match in found if match]
        if likely != pattern and len(keys) == len(names) and 1 < len(set(keys)) < len(names):
            return f"`group_by={likely!r}` would make {len(set(keys))} groups, such as {keys[0]!r} for {names[0]!r}"
    return f"put into brackets what images of one group have in common in names like {names[0]!r}" if names else ""


# --- Divisions ----------------------------------------------------------------------------------------------


def divide(
    names: Sequence[str],
    shares: Mapping[str, float],
    seed: int,
    groups: Sequence[str] | None = None,
    classes: Sequence[frozenset[int]] | None = None,
) -> dict[str, list[int]]:
    """Splits of given shares.

    Args:
      names: image names; their order does not matter.
      shares: share of each split, 0 to 1, together 1. Sizes are rounded to whole images, but none of them to nothing.
      seed: of the draw.
      groups: the group of each name, which stays whole: sizes are then only near the shares.
      classes: the classes in each image, of which every split gets its share, too.

    Returns:
      Indices into `names` by split, each once: split train in drawn order (neighbors in a shard are no neighbors in
      the folder), others sorted by name. Splits of share 0 are left out.

    Raises:
      UserError: fewer images or groups than splits.
    """
    shares = {split: share for split, share in shares.items() if share > 0}
    what, number = ("images", len(names)) if groups is None else ("groups", len(set(groups)))
    if number < len(shares):
        rule = f"{number} {what} cannot make the {len(shares)} splits {', '.join(shares)}"
        raise UserError(
            "unclassified", rule, _finer(groups) or "`train_pct=1` puts all images into split train", field="train_pct"
        )
    drawn = _drawn(names, seed)
    places = _places(drawn, shares, seed, groups, classes)
    return {split: _members(drawn, places, {place}, names, split) for place, split in enumerate(shares)}


def fold_splits(
    names: Sequence[str],
    folds: int,
    seed: int,
    groups: Sequence[str] | None = None,
    classes: Sequence[frozenset[int]] | None = None,
) -> list[dict[str, list[int]]]:
    """Splits train and val for each of `folds` folds: every image is in split val once, and in train otherwise.

    Args: as `divide`. Without groups the folds' sizes differ by one image at most.

    Raises:
      UserError: fewer images or groups than folds.
    """
    what, number = ("images", len(names)) if groups is None else ("groups", len(set(groups)))
    if number < folds:
        rule = f"{number} {what} cannot make {folds} folds"
        raise UserError("unclassified", rule, _finer(groups) or f"`folds={number}` at most", field="folds")
    drawn = _drawn(names, seed)
    places = _places(drawn, {f"fold {fold}": 1 / folds for fold in range(folds)}, seed, groups, classes)
    everywhere = set(range(folds))
    return [
        {
            _TRAIN: _members(drawn, places, everywhere - {fold}, names, _TRAIN),
            _VAL: _members(drawn, places, {fold}, names, _VAL),
        }
        for fold in range(folds)
    ]


def _finer(groups: Sequence[str] | None) -> str:
    return "choose a `group_by` that makes smaller groups" if groups is not None else ""


def _drawn(names: Sequence[str], seed: int) -> list[int]:
    drawn = sorted(range(len(names)), key=names.__getitem__)
    random.Random(seed).shuffle(drawn)
    return drawn


def _members(
    drawn: Sequence[int], places: Mapping[int, int], wanted: set[int], names: Sequence[str], split: str
) -> list[int]:
    members = [index for index in drawn if places[index] in wanted]
    return members if split == _TRAIN else sorted(members, key=names.__getitem__)


def _sizes(total: int, shares: Iterable[float]) -> list[int]:
    """Whole numbers that add up to the total, none of them 0."""
    ends = [round(total * end) for end in itertools.accumulate(shares)]
    ends[-1] = total
    sizes = [end - start for start, end in itertools.pairwise([0, *ends])]
    for place, size in enumerate(sizes):
        if size == 0:
            sizes[sizes.index(max(sizes))] -= 1
            sizes[place] = 1
    return sizes


def _places(
    drawn: Sequence[int],
    shares: Mapping[str, float],
    seed: int,
    groups: Sequence[str] | None,
    classes: Sequence[frozenset[int]] | None,
) -> dict[int, int]:
    """Position among `shares` of the split of every index."""
    sizes = _sizes(len(drawn), shares.values())
    if groups is None and classes is None:
        ordered = itertools.chain.from_iterable(itertools.repeat(place, size) for place, size in enumerate(sizes))
        return dict(zip(drawn, ordered, strict=True))
    units = units_of(drawn, groups, classes)
    chosen = place_units(units, sizes, random.Random(seed))
    if groups is not None:
        _warn_of_uneven_sizes(units, chosen, dict(zip(shares, sizes, strict=True)), groups)
    return {member: place for unit, place in zip(units, chosen, strict=True) for member in unit.members}


def _warn_of_uneven_sizes(
    units: Sequence[Unit], chosen: Sequence[int], sizes: Mapping[str, int], groups: Sequence[str]
) -> None:
    """Says by how much whole groups move the sizes, and which group is too large to be helped."""
    got = [0] * len(sizes)
    for unit, place in zip(units, chosen, strict=True):
        got[place] += len(unit.members)
    uneven = {split: number for number, (split, size) in zip(got, sizes.items(), strict=True) if _far(number, size)}
    if not uneven:
        return
    shown = shorten([f"{split} has {number} images instead of {sizes[split]}" for split, number in uneven.items()], 3)
    largest = max(units, key=lambda unit: len(unit.members))
    number, least = len(largest.members), min(sizes, key=sizes.__getitem__)
    text = f"groups stay whole: {shown}"
    if number > sizes[least]:
        key = groups[largest.members[0]]
        text += f"; group {key!r} alone has {number}, more than the whole share of {least} ({sizes[least]})"
    console.warning(text)


def _far(number: int, size: int) -> bool:
    return abs(number - size) > max(1, _UNEVEN * size)
