"""Finds the purpose of a split by its name: training, validation or test."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

_VALIDATION = ("val", "valid", "validation", "dev", "eval", "evaluation", "default")
_TEST = ("test", "testing", "holdout")
_TRAINING = ("train", "training")
_NUMBER = re.compile(r"\d+")
_USUAL = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "trainval": "trainval",
}


def usual_name(split: str) -> str:
    """The name that the commands use for a split: val for `valid` and `Validation`; other names stay as they are."""
    return _USUAL.get(split.lower(), split)


def split_in(name: str) -> str:
    """The split that a file or folder is for by the words of its name: `instances_train2017` -> train; else empty.

    Only whole words count: `trainval` is no train, `contest` is no test, and `train_test` says nothing.
    """
    words = {_USUAL[word] for word in re.findall("[a-z]+", name.lower()) if word in _USUAL}
    if words == {"train", "val"}:
        return "trainval"
    return words.pop() if len(words) == 1 else ""


def is_training(split: str) -> bool:
    """Whether a split is for training alone: train, train_aug, training; not trainval."""
    return "train" in split.lower() and not _is_evaluated(split)


def _is_evaluated(split: str) -> bool:
    return any(word in split.lower().replace("train", "") for word in ("val", "test", "dev"))


def training_split(splits: Sequence[str]) -> str:
    """The split that class weights are computed from: train, else the first with such a name, else the first."""
    by_name = [split for split in splits if split == "train"] or [split for split in splits if is_training(split)]
    by_name = by_name or [split for split in splits if "train" in split.lower()]
    return (by_name or list(splits) or [""])[0]


def in_order(splits: Iterable[str]) -> list[str]:
    """Splits as people list them: those for training first, then val, then the others by name."""
    return sorted(splits, key=lambda split: (not is_training(split), "val" not in split.lower(), split))


def synonym_in(split: str, splits: Iterable[str]) -> str | None:
    """The split of the same purpose among others: "val" for "validation", "training" for "train"; None without one."""
    own = next((words for words in (_TRAINING, _VALIDATION, _TEST) if split.lower() in words), None)
    return next((other for other in splits if own and other.lower() in own), None)


def suggestion(split: str, splits: Iterable[str]) -> str:
    """A hint for a split that does not exist: the one that was meant, or the list of those that exist.

    A training split is proposed for nothing but a misspelled name of one: a model that is measured on the images it
    was trained on looks better than it is.
    """
    splits = sorted(splits)
    near = list(filter(None, [synonym_in(split, splits)]))
    near = near or difflib.get_close_matches(split, [other for other in splits if "train" not in other.lower()], n=1)
    near = near or difflib.get_close_matches(split, splits, n=1, cutoff=0.6 if is_training(split) else 0.75)
    return f"did you mean split {near[0]!r}?" if near else "choose from " + ", ".join(splits)


def must_not_share(one: str, other: str) -> bool:
    """Whether an image in both splits falsifies results: one is for training, the other for evaluation.

    trainval holds both on purpose. Splits of different folds (train_0, val_1) overlap on purpose, too. Where names
    say nothing, no two splits may share images.
    """
    if one == other or ("train" in one.lower() and "train" in other.lower()):
        return False
    numbers = _NUMBER.findall(one), _NUMBER.findall(other)
    if all(numbers) and numbers[0] != numbers[1]:
        return False
    training, evaluated = map(is_training, (one, other)), map(_is_evaluated, (one, other))
    return any(training) or not any(evaluated)
