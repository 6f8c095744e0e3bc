"""What a split is for, told by its name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_EVALUATED = ("val", "test", "dev", "eval")
_NUMBER = re.compile(r"\d+")


def is_training(split: str) -> bool:
    """Whether a split is for training alone: train, train_aug, training; not trainval."""
    return "train" in split.lower() and not _is_evaluated(split)


def _is_evaluated(split: str) -> bool:
    return any(word in split.lower().replace("train", "") for word in _EVALUATED)


def training_split(splits: Sequence[str]) -> str:
    """The split whose pixels weights are worked out from: train, else the first that is called so, else the first."""
    by_name = [split for split in splits if split == "train"] or [split for split in splits if is_training(split)]
    by_name = by_name or [split for split in splits if "train" in split.lower()]
    return (by_name or list(splits) or [""])[0]


def in_order(splits: Iterable[str]) -> list[str]:
    """Splits as people name them: those for training first, then val, then the others by name."""
    return sorted(splits, key=lambda split: (not is_training(split), "val" not in split.lower(), split))


def must_not_share(one: str, other: str) -> bool:
    """Whether a picture in both splits spoils figures: one is for training, the other for evaluation.

    trainval holds both on purpose. Splits of different folds (train_0, val_1) overlap on purpose, too. Where names
    say nothing, no two splits may share.
    """
    if one == other or ("train" in one.lower() and "train" in other.lower()):
        return False
    numbers = _NUMBER.findall(one), _NUMBER.findall(other)
    if all(numbers) and numbers[0] != numbers[1]:
        return False
    training, evaluated = map(is_training, (one, other)), map(_is_evaluated, (one, other))
    return any(training) or not any(evaluated)
