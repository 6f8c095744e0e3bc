"""A layout's pairs as splits: its own, or those that lists, shares, groups and folds make."""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deeplab.config.conversion_config import TRAIN_FRACTION, LabelConfig, SplitConfig
from deeplab.data.conversion.encode import Recipe, read_pair
from deeplab.data.conversion.splits import divide, fold_splits, group_keys
from deeplab.data.readers import FORMATS
from deeplab.data.readers.classes import classes_from
from deeplab.data.readers.pairs import read_list
from deeplab.data.readers.source import UNDIVIDED, Pair, Source, Splits
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.parallel import ordered_map
from deeplab.utils.paths import shorten, split_paths


def read_sources(format_name: str, config: Any, labels: LabelConfig, splits: SplitConfig) -> dict[str, Source]:
    """What a dataset holds, divided into splits: one source, or one for each fold.

    Args:
      format_name: a name in FORMATS.
      config: an instance of that format's settings group.
      labels: what mask values mean; needed to divide by the classes present.
      splits: lists, shares, groups, folds.

    Returns:
      Sources by the subfolder in which their records belong: "" for a single one, else "fold_0", "fold_1" ...

    Raises:
      UserError: files or lists that are missing, or shares that cannot be had.
    """
    source = FORMATS.get(format_name).read(config)
    _require_usable_pairs(source)
    if splits.folds:
        folds = _folds(source, labels, splits)
        if splits.fold >= 0:
            return {"": folds[splits.fold]}
        return {f"fold_{number}": fold for number, fold in enumerate(folds)}
    return {"": _divided(source, labels, splits)}


def _require_usable_pairs(source: Source) -> None:
    """Stops at a split without a pair, and at file names of another encoding, which no record can hold."""
    for split, pairs in source.splits.items():
        if not pairs:
            raise UserError("unclassified", "holds no pair of image and label", where=split or "the dataset")
        for pair in pairs:
            try:
                pair.name.encode()
            except UnicodeEncodeError:
                shown = os.fsencode(pair.image).decode(errors="replace")
                raise UserError(
                    "unclassified", "has a name that is not UTF-8", "rename it, e.g. with `convmv`", where=shown
                ) from None


def _divided(source: Source, labels: LabelConfig, config: SplitConfig) -> Source:
    if config.list_files:
        return dataclasses.replace(source, splits=_listed(source, config.list_files))
    asked = config.train_pct is not None or config.test_pct > 0 or config.stratify or config.group_by
    if UNDIVIDED not in source.splits and not asked:
        return source
    pairs = pooled(source)
    _tell_of_lost_splits(source)
    train = TRAIN_FRACTION if config.train_pct is None else config.train_pct
    shares = {"train": train, "val": 1 - train - config.test_pct, "test": config.test_pct}
    shares = {split: share for split, share in shares.items() if share > 1e-9}
    names, groups, classes = _units(pairs, source, labels, config)
    divided = _with_splits(source, pairs, divide(names, shares, config.seed, groups, classes))
    sizes = ", ".join(f"{split} {len(members)}" for split, members in divided.splits.items())
    console.note(f"{_amount(names, groups)} divided by seed {config.seed}: {sizes}")
    return divided


def _folds(source: Source, labels: LabelConfig, config: SplitConfig) -> list[Source]:
    pairs = pooled(source)
    _tell_of_lost_splits(source)
    names, groups, classes = _units(pairs, source, labels, config)
    folds = fold_splits(names, config.folds, config.seed, groups, classes)
    console.note(f"{_amount(names, groups)} divided by seed {config.seed} into {config.folds} folds")
    return [_with_splits(source, pairs, fold) for fold in folds]


def pooled(source: Source) -> list[Pair]:
    """All pairs, each once, whichever splits they were in; images of one name get that of their split before it."""
    found: dict[tuple[str, str], tuple[str, Pair]] = {}
    for split, pairs in source.splits.items():
        for pair in pairs:
            found.setdefault((pair.name, pair.image), (split, pair))
    images = collections.Counter(name for name, _ in found)
    return [
        pair if images[pair.name] == 1 else dataclasses.replace(pair, name=f"{split}/{pair.name}")
        for split, pair in found.values()
    ]


def _tell_of_lost_splits(source: Source) -> None:
    if UNDIVIDED not in source.splits:
        console.note(f"the splits that the dataset has ({', '.join(source.splits)}) give way to new ones")


def _amount(names: Sequence[str], groups: Sequence[str] | None) -> str:
    return f"{len(names)} images" if groups is None else f"{len(names)} images in {len(set(groups))} groups"


def _with_splits(source: Source, pairs: Sequence[Pair], places: Mapping[str, Sequence[int]]) -> Source:
    splits = {split: [pairs[place] for place in members] for split, members in places.items()}
    return dataclasses.replace(source, splits=splits)


def _units(
    pairs: Sequence[Pair], source: Source, labels: LabelConfig, config: SplitConfig
) -> tuple[list[str], list[str] | None, list[frozenset[int]] | None]:
    names = [pair.name for pair in pairs]
    groups = group_keys(names, config.group_by) if config.group_by else None
    return names, groups, classes_present(pairs, source, labels) if config.stratify else None


def classes_present(pairs: Sequence[Pair], source: Source, labels: LabelConfig) -> list[frozenset[int]]:
    """For every pair the classes that its label holds; all labels are read for it.

    Raises:
      UserError: one of them cannot be.
    """
    classes = classes_from(labels, source, tell=False)
    work = functools.partial(_classes_of, recipe=Recipe(classes.painter, labels.exif))
    results = ordered_map(work, pairs)
    return list(console.progress(results, total=len(pairs), what="looking at classes", unit="pair"))


def _classes_of(pair: Pair, recipe: Recipe) -> frozenset[int]:
    counts = read_pair(pair, recipe)[1].counts
    return frozenset(np.flatnonzero(counts).tolist()) - {recipe.painter.ignore_label}


# --- Lists --------------------------------------------------------------------------------------------------


def _listed(source: Source, list_files: str) -> Splits:
    by_name = {pair.name: pair for pair in pooled(source)}
    splits: dict[str, list[Pair]] = {}
    for path in map(pathlib.Path, split_paths(list_files)):
        if path.stem in splits:
            raise UserError(
                "unclassified",
                f"two lists are called {path.stem}",
                "the list's name names the split",
                field="list_files",
            )
        splits[path.stem] = _of_list(path, by_name)
    if not splits:
        raise UserError("unclassified", "names no list", "`list_files=train.txt`,val.txt", field="list_files")
    listed = {pair.name for pairs in splits.values() for pair in pairs}
    others = [name for name in by_name if name not in listed]
    if others:
        console.note(f"{len(others)} of {len(by_name)} images are on no list, and left out: {shorten(others)}")
    return splits


def _of_list(path: pathlib.Path, by_name: Mapping[str, Pair]) -> list[Pair]:
    names = read_list(path)
    stems = [name if name in by_name else os.path.splitext(name)[0] for name in names]
    missing = [name for name, stem in zip(names, stems, strict=True) if stem not in by_name]
    if missing:
        rule = f"{len(missing)} of its {len(names)} names have no pair of image and label: {shorten(missing, 10)}"
        near = next(iter(by_name))
        raise UserError(
            "unclassified", rule, f"names are those of the images in their folder, such as {near!r}", where=path
        )
    return [by_name[stem] for stem in stems]
