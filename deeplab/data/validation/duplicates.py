"""Pictures that stand where they should not: in two splits, or twice in one."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from deeplab.data.split_names import must_not_share
from deeplab.data.validation.check_report import Finding
from deeplab.data.validation.image_hashing import NEAR_LEVELS, differing_levels, near_pairs
from deeplab.data.validation.rules import finding
from deeplab.data.validation.statistics import Likes


@dataclass(frozen=True)
class Leak:
    """A finding about two images, and their places in the order of the check."""

    finding: Finding
    places: tuple[int, int]


def find_leaks(likes: Likes, labels_differ: bool) -> Iterator[Leak]:
    """Images that two splits share, by name, by bytes or nearly; those that stand in a split twice; shared labels.

    Args:
      likes: what is known of all images.
      labels_differ: not all labels are one and the same, which has been said otherwise.
    """
    named = list(_by_name(likes))
    yield from named
    same = list(_by_bytes(likes, {leak.places for leak in named if leak.finding.rule == "name-in-two-splits"}))
    yield from same
    yield from _nearly(likes, {leak.places for leak in [*named, *same]})
    if labels_differ:
        yield from _by_label(likes)


def _groups(keys: Sequence[object]) -> Iterator[list[int]]:
    """Places of equal keys, where there is more than one; empty keys do not count."""
    places: dict[object, list[int]] = collections.defaultdict(list)
    for place, key in enumerate(keys):
        if key:
            places[key].append(place)
    return (group for group in places.values() if len(group) > 1)


def _pairs(likes: Likes, group: Sequence[int]) -> Iterator[tuple[int, int, bool]]:
    """The pairs worth naming among images that are all alike, and whether they leak.

    The first of each split is held against the first of the other splits, and the others of a split against its first:
    a thousand like pictures make a thousand pairs, not a million.
    """
    first: dict[str, int] = {}
    for place in group:
        split = likes.splits[place]
        if split in first:
            yield first[split], place, False
            continue
        for other, other_place in first.items():
            if must_not_share(other, split):
                yield other_place, place, True
        first[split] = place


def _named(likes: Likes, place: int) -> str:
    return f"{likes.names[place]!r} in {likes.splits[place]}"


def _by_name(likes: Likes) -> Iterator[Leak]:
    for group in _groups(likes.names):
        for one, other, leaks in _pairs(likes, group):
            name, split = likes.names[one], likes.splits[one]
            if leaks:
                text = f"is in split {split!r} and in {likes.splits[other]!r}"
                yield Leak(finding("name-in-two-splits", name, text, split=likes.splits[other]), (one, other))
            else:
                text = f"stands in split {split!r} more than once"
                yield Leak(finding("name-repeated", name, text, split=split), (one, other))


def _by_bytes(likes: Likes, known: set[tuple[int, int]]) -> Iterator[Leak]:
    for group in _groups(likes.digests):
        for one, other, leaks in _pairs(likes, group):
            if (one, other) in known or (likes.names[one] == likes.names[other] and not leaks):
                continue
            rule = "picture-in-two-splits" if leaks else "picture-repeated"
            text = f"is the same file, byte for byte, as {_named(likes, one)}"
            yield Leak(finding(rule, likes.names[other], text, split=likes.splits[other]), (one, other))
        yield from _other_labels(likes, group)


def _other_labels(likes: Likes, group: Sequence[int]) -> Iterator[Leak]:
    """Like images whose labels differ from that of the first."""
    labeled = [place for place in group if likes.labels[place]]
    for other in labeled[1:]:
        one = labeled[0]
        if likes.labels[other] != likes.labels[one]:
            text = f"is the same picture as {_named(likes, one)}, but has another label"
            rule = "same-picture-other-label"
            yield Leak(finding(rule, likes.names[other], text, split=likes.splits[other]), (one, other))


def _nearly(likes: Likes, known: set[tuple[int, int]]) -> Iterator[Leak]:
    numbers = {split: number for number, split in enumerate(dict.fromkeys(likes.splits))}
    if len(numbers) < 2:
        return
    groups = np.array([numbers[split] for split in likes.splits])
    named: set[int] = set()
    for pair in near_pairs(likes.bits, likes.thumbnails, groups):
        one, other = pair.one, pair.other
        alike = likes.names[one] == likes.names[other] or likes.digests[one] == likes.digests[other]
        if alike or (one, other) in known or not must_not_share(likes.splits[one], likes.splits[other]):
            continue
        if other in named:  # the most alike is named, of all that a video holds
            continue
        named.add(other)
        way = ", mirrored left to right" if pair.mirrored else ""
        text = (
            f"is almost {_named(likes, one)}{way}: seen small, they differ by {pair.levels:.1f} gray levels on average"
        )
        rule = "near-picture-in-two-splits"
        yield Leak(finding(rule, likes.names[other], text, split=likes.splits[other]), (one, other))


def _by_label(likes: Likes) -> Iterator[Leak]:
    """Different pictures with the same label; a video that stands still has like pictures, too."""
    digests = [label if told else 0 for label, told in zip(likes.labels, likes.telling, strict=True)]
    for group in _groups(digests):
        one = group[0]
        others = [place for place in group[1:] if likes.digests[place] != likes.digests[one]]
        levels = differing_levels(
            likes.thumbnails, np.array([(one, other) for other in others], np.int64).reshape(-1, 2)
        )
        for other, level in zip(others, levels.tolist(), strict=True):
            if level >= 2 * NEAR_LEVELS and likes.digests[one] and likes.digests[other]:
                text = f"has the same label as {_named(likes, one)}, pixel for pixel, though the pictures differ"
                yield Leak(finding("label-repeated", likes.names[other], text, split=likes.splits[other]), (one, other))
