"""Splits of a dataset: those of its format, those of list files, or a division by a seed.

A division respects fractions, the classes in each image, groups that stay in one split, and folds. It is drawn by
Python's own generator from sorted names, so the same names and seed give the same splits on every machine, in
whatever order a file system lists them.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import os
import pathlib
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from deeplab.config.conversion_config import TRAIN_FRACTION, LabelConfig, SplitConfig, compiled_pattern
from deeplab.data.conversion.encode import Recipe, read_label_of
from deeplab.data.conversion.stratify import Unit, place_units, units_of
from deeplab.data.readers import FORMATS
from deeplab.data.readers.classes import classes_from
from deeplab.data.readers.name_lists import read_names
from deeplab.data.readers.packed_pairs import chosen, packed
from deeplab.data.readers.source import UNDIVIDED, Pair, Source, Splits
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.parallel import ordered_map
from deeplab.utils.paths import split_paths
from deeplab.utils.text import counted, shorten

_TRAIN, _VAL = "train", "val"
_UNEVEN = 0.1  # fraction by which groups may change a split's size without a warning
_LIKELY_PATTERNS = ("^(.+)/", "^(.+)[_-]", "^([^_-]+)[_-]", "^(.*?)[0-9]+$")  # of the names in many datasets


def read_sources(format_name: str, config: Any, labels: LabelConfig, splits: SplitConfig) -> dict[str, Source]:
    """Read a dataset and divide it into splits: one source, or one per fold.

    Args:
      format_name: a name in FORMATS.
      config: an instance of that format's config class.
      labels: what mask values mean; needed to divide by the classes present.
      splits: lists, fractions, groups, folds.

    Returns:
      Sources by the subfolder for their records: "" for a single one, else "fold_0", "fold_1" ...

    Raises:
      UserError: files or lists are missing, or a division is impossible.
    """
    source = FORMATS.get(format_name).read(config)
    _require_usable_pairs(source)
    source = _packed(source)
    if splits.folds:
        folds = _folds(source, labels, splits)
        if splits.fold >= 0:
            return {"": folds[splits.fold]}
        return {f"fold_{number}": fold for number, fold in enumerate(folds)}
    skip_missing = getattr(config, "on_missing", "fail") == "skip"
    return {"": _packed(_divided(source, labels, splits, skip_missing))}


def _packed(source: Source) -> Source:
    """The source with its pairs in the compact form."""
    return dataclasses.replace(source, splits={split: packed(pairs) for split, pairs in source.splits.items()})


def _require_usable_pairs(source: Source) -> None:
    """Stops at a split without a pair, and at file names that are not UTF-8, which records cannot hold."""
    for split, pairs in source.splits.items():
        if not pairs:
            raise UserError("empty-split", "has no pair of image and label", where=split or "the dataset")
        for pair in pairs:
            try:
                pair.name.encode()
            except UnicodeEncodeError:
                shown = os.fsencode(pair.image).decode(errors="replace")
                rule = "has a name that is not UTF-8"
                raise UserError("not-utf-8", rule, "rename it, e.g. with `convmv`", where=shown) from None


def _divided(source: Source, labels: LabelConfig, config: SplitConfig, skip_missing: bool) -> Source:
    if config.list_files:
        return dataclasses.replace(source, splits=_listed(source, config.list_files, skip_missing))
    asked = config.train_pct is not None or config.test_pct > 0 or config.stratify or config.group_by
    if UNDIVIDED not in source.splits and not asked:
        return source
    pairs = pooled(source)
    _note_lost_splits(source)
    train = TRAIN_FRACTION if config.train_pct is None else config.train_pct
    fractions = {"train": train, "val": 1 - train - config.test_pct, "test": config.test_pct}
    fractions = {split: fraction for split, fraction in fractions.items() if fraction > 1e-9}
    names, groups, classes = _units(pairs, source, labels, config)
    divided = _with_splits(source, pairs, divide(names, fractions, config.seed, groups, classes))
    sizes = ", ".join(f"{split} {len(members)}" for split, members in divided.splits.items())
    console.note(f"{_amount(names, groups)} divided by seed {config.seed}: {sizes}")
    return divided


def _folds(source: Source, labels: LabelConfig, config: SplitConfig) -> list[Source]:
    pairs = pooled(source)
    _note_lost_splits(source)
    names, groups, classes = _units(pairs, source, labels, config)
    folds = fold_splits(names, config.folds, config.seed, groups, classes)
    console.note(f"{_amount(names, groups)} divided by seed {config.seed} into {config.folds} folds")
    return [_with_splits(source, pairs, fold) for fold in folds]


def pooled(source: Source) -> Sequence[Pair]:
    """All pairs of all splits, each once; images with the same name get the name of their split as a prefix."""
    if len(source.splits) == 1:
        (pairs,) = source.splits.values()
        if len({pair.name for pair in pairs}) == len(pairs):
            return pairs
    found: dict[tuple[str, str], tuple[str, Pair]] = {}
    for split, pairs in source.splits.items():
        for pair in pairs:
            found.setdefault((pair.name, pair.image), (split, pair))
    images = collections.Counter(name for name, _ in found)
    return [
        pair if images[pair.name] == 1 else dataclasses.replace(pair, name=f"{split}/{pair.name}")
        for split, pair in found.values()
    ]


def _note_lost_splits(source: Source) -> None:
    if UNDIVIDED not in source.splits:
        console.note(f"the splits of the dataset ({', '.join(source.splits)}) are replaced by new ones")


def _amount(names: Sequence[str], groups: Sequence[str] | None) -> str:
    images = counted(len(names), "image")
    return images if groups is None else f"{images} in {counted(len(set(groups)), 'group')}"


def _with_splits(source: Source, pairs: Sequence[Pair], places: Mapping[str, Sequence[int]]) -> Source:
    splits = {split: chosen(pairs, members) for split, members in places.items()}
    return dataclasses.replace(source, splits=splits)


def _units(
    pairs: Sequence[Pair], source: Source, labels: LabelConfig, config: SplitConfig
) -> tuple[list[str], list[str] | None, list[frozenset[int]] | None]:
    names = [pair.name for pair in pairs]
    groups = group_keys(names, config.group_by) if config.group_by else None
    return names, groups, classes_present(pairs, source, labels) if config.stratify else None


def classes_present(pairs: Sequence[Pair], source: Source, labels: LabelConfig) -> list[frozenset[int]]:
    """The classes in the label of each pair; this reads all labels.

    Raises:
      UserError: a label cannot be read.
    """
    classes = classes_from(labels, source, tell=False)
    work = functools.partial(_classes_of, recipe=Recipe(classes.painter, labels.exif))
    results = ordered_map(work, pairs)
    return list(console.progress(results, total=len(pairs), what="looking at classes", unit="pair"))


def _classes_of(pair: Pair, recipe: Recipe) -> frozenset[int]:
    counts = read_label_of(pair, recipe).counts
    return frozenset(np.flatnonzero(counts).tolist()) - {recipe.painter.ignore_label}


# --- Lists --------------------------------------------------------------------------------------------------


def _listed(source: Source, list_files: str, skip_missing: bool) -> Splits:
    by_name = {pair.name: pair for pair in pooled(source)}
    splits: dict[str, list[Pair]] = {}
    for path in map(pathlib.Path, split_paths(list_files)):
        if path.stem in splits:
            rule, hint = f"two lists are called {path.stem}", "the name of a list is the name of its split"
            raise UserError("duplicate-names", rule, hint, field="list_files", value=path.stem)
        splits[path.stem] = _of_list(path, by_name, skip_missing)
    if not splits:
        raise UserError("missing-setting", "names no list", "e.g. `list_files=train.txt,val.txt`", field="list_files")
    listed = {pair.name for pairs in splits.values() for pair in pairs}
    others = [name for name in by_name if name not in listed]
    if others:
        console.note(f"{len(others)} of {len(by_name)} images are on no list and are left out: {shorten(others)}")
    return splits


def _of_list(path: pathlib.Path, by_name: Mapping[str, Pair], skip_missing: bool) -> list[Pair]:
    names = read_names(path, by_name.__contains__)
    stems = [name if name in by_name else os.path.splitext(name)[0] for name in names]
    missing = [name for name, stem in zip(names, stems, strict=True) if stem not in by_name]
    if missing and skip_missing and len(missing) < len(names):
        console.warning(f"{path}: {len(missing)} names have no pair and are left out: {shorten(missing)}")
    elif missing:
        rule = f"{len(missing)} of its {len(names)} names have no pair of image and label: {shorten(missing, 10)}"
        hint = f"use the names of the images in their folder, such as {next(iter(by_name))!r}"
        raise UserError("unknown-image", rule, hint, where=path, value=missing)
    return [by_name[stem] for stem in stems if stem in by_name]


# --- Groups -------------------------------------------------------------------------------------------------


def group_keys(names: Sequence[str], pattern: str) -> list[str]:
    """The group of each name: the part of it that a regular expression matches.

    Args:
      names: image names without extension, with their subfolders.
      pattern: searched anywhere in the name; its first group is the key, or without groups the whole match.

    Raises:
      UserError: not a regular expression (`bad-pattern`), or it does not match a name, gives every name a group of its
        own, or puts all names into one group (`bad-groups`).
    """
    expression = compiled_pattern(pattern, "group_by")
    matches = [expression.search(name) for name in names]
    keys = [match and match[1 if expression.groups else 0] for match in matches]
    missed = [name for name, key in zip(names, keys, strict=True) if key is None]
    if missed:
        rule = f"{pattern!r} does not match {len(missed)} of {len(names)} names: {', '.join(missed[:5])}"
        raise UserError("bad-groups", rule, _other_pattern(names, pattern), field="group_by", value=pattern)
    number = len(set(keys))
    if number in (1, len(names)):
        rule = f"{pattern!r} puts all {len(names)} names into one group, {keys[0]!r}"
        if number > 1:
            rule = f"{pattern!r} gives each of {len(names)} names a group of its own, such as {keys[0]!r}"
        raise UserError("bad-groups", rule, _other_pattern(names, pattern), field="group_by", value=pattern)
    return [key for key in keys if key is not None]


def _other_pattern(names: Sequence[str], pattern: str) -> str:
    """A hint with the first of the likely patterns that makes groups of these names."""
    for likely in _LIKELY_PATTERNS:
        found = [re.search(likely, name) for name in names]
        keys = [match[1] for match in found if match]
        if likely != pattern and len(keys) == len(names) and 1 < len(set(keys)) < len(names):
            return f"`group_by={likely!r}` would make {len(set(keys))} groups, such as {keys[0]!r} for {names[0]!r}"
    return f"put in parentheses what images of one group have in common, in names like {names[0]!r}" if names else ""


# --- Divisions ----------------------------------------------------------------------------------------------


def divide(
    names: Sequence[str],
    fractions: Mapping[str, float],
    seed: int,
    groups: Sequence[str] | None = None,
    classes: Sequence[frozenset[int]] | None = None,
) -> dict[str, list[int]]:
    """Divide images into splits of given sizes.

    Args:
      names: image names; their order does not matter.
      fractions: fraction of each split, 0 to 1, sum 1. Sizes are rounded to whole images, and are at smallest 1.
      seed: of the draw.
      groups: the group of each name; groups stay in one split, so sizes are only near the fractions.
      classes: the classes in each image; every split gets its fraction of the images of each.

    Returns:
      Indices into `names` by split, each once: split train in drawn order (neighbors in a shard are not neighbors in
      the folder), others sorted by name. Splits of fraction 0 are left out.

    Raises:
      UserError: fewer images or groups than splits (`too-few-images`).
    """
    fractions = {split: fraction for split, fraction in fractions.items() if fraction > 0}
    what, number = ("image", len(names)) if groups is None else ("group", len(set(groups)))
    if number < len(fractions):
        rule = f"{counted(number, what)} cannot make the {len(fractions)} splits {', '.join(fractions)}"
        hint = _finer(groups) or "`train_pct=1` puts all images into split train"
        raise UserError("too-few-images", rule, hint, field="train_pct", value=number)
    drawn = _drawn(names, seed)
    places = _places(drawn, fractions, seed, groups, classes)
    return {split: _members(drawn, places, {place}, names, split) for place, split in enumerate(fractions)}


def fold_splits(
    names: Sequence[str],
    folds: int,
    seed: int,
    groups: Sequence[str] | None = None,
    classes: Sequence[frozenset[int]] | None = None,
) -> list[dict[str, list[int]]]:
    """Divide images into the splits train and val of each fold: an image is in split val once, else in split train.

    Args: as `divide`. Without groups the folds' sizes differ by at most one image.

    Raises:
      UserError: fewer images or groups than folds (`too-few-images`).
    """
    what, number = ("images", len(names)) if groups is None else ("groups", len(set(groups)))
    if number < folds:
        rule = f"{number} {what} cannot make {folds} folds"
        hint = _finer(groups) or f"use at most `folds={number}`"
        raise UserError("too-few-images", rule, hint, field="folds", value=number)
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
    random.Random(seed).shuffle(drawn)  # nosec B311  # shuffles data, no secrets
    return drawn


def _members(
    drawn: Sequence[int], places: Mapping[int, int], wanted: set[int], names: Sequence[str], split: str
) -> list[int]:
    members = [index for index in drawn if places[index] in wanted]
    return members if split == _TRAIN else sorted(members, key=names.__getitem__)


def _sizes(total: int, fractions: Iterable[float]) -> list[int]:
    """Whole numbers above 0 that add up to the total."""
    ends = [round(total * end) for end in itertools.accumulate(fractions)]
    ends[-1] = total
    sizes = [end - start for start, end in itertools.pairwise([0, *ends])]
    for place, size in enumerate(sizes):
        if size == 0:
            sizes[sizes.index(max(sizes))] -= 1
            sizes[place] = 1
    return sizes


def _places(
    drawn: Sequence[int],
    fractions: Mapping[str, float],
    seed: int,
    groups: Sequence[str] | None,
    classes: Sequence[frozenset[int]] | None,
) -> dict[int, int]:
    """Position among `fractions` of the split of every index."""
    sizes = _sizes(len(drawn), fractions.values())
    if groups is None and classes is None:
        ordered = itertools.chain.from_iterable(itertools.repeat(place, size) for place, size in enumerate(sizes))
        return dict(zip(drawn, ordered, strict=True))
    units = units_of(drawn, groups, classes)
    chosen = place_units(units, sizes, random.Random(seed))  # nosec B311  # shuffles data, no secrets
    if groups is not None:
        _warn_of_uneven_sizes(units, chosen, dict(zip(fractions, sizes, strict=True)), groups)
    return {member: place for unit, place in zip(units, chosen, strict=True) for member in unit.members}


def _warn_of_uneven_sizes(
    units: Sequence[Unit], chosen: Sequence[int], sizes: Mapping[str, int], groups: Sequence[str]
) -> None:
    """Warns where groups change the sizes of splits much, and about a group that is too large for its split."""
    got = [0] * len(sizes)
    for unit, place in zip(units, chosen, strict=True):
        got[place] += len(unit.members)
    uneven = {split: number for number, (split, size) in zip(got, sizes.items(), strict=True) if _far(number, size)}
    if not uneven:
        return
    shown = shorten([f"{split} has {number} images instead of {sizes[split]}" for split, number in uneven.items()], 3)
    largest = max(units, key=lambda unit: len(unit.members))
    number, smallest = len(largest.members), min(sizes, key=sizes.__getitem__)
    text = f"groups stay whole: {shown}"
    if number > sizes[smallest]:
        key = groups[largest.members[0]]
        text += f"; group {key!r} alone has {number}, more than all that belong in {smallest} ({sizes[smallest]})"
    console.warning(text)


def _far(number: int, size: int) -> bool:
    return abs(number - size) > max(1, _UNEVEN * size)
