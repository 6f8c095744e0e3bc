"""Stratified division: images, or groups of images, are placed so that each split gets its fraction of each class."""

from __future__ import annotations

import collections
import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_NOWHERE, _NO_UNIT = -1, -1
_ROUNDS = 8  # orders of the units to try while a class does not reach all splits, or sizes are not met
_MAX_TRIED = 20  # units to try for an exchange


@dataclass(frozen=True)
class Unit:
    """Images that stay together, by index, and how many of them show each class."""

    members: tuple[int, ...]
    counts: Mapping[int, int]


def units_of(
    drawn: Sequence[int], groups: Sequence[str] | None, classes: Sequence[frozenset[int]] | None
) -> list[Unit]:
    """Units in drawn order: single images, or the images of one group."""
    together: dict[object, list[int]] = {}
    for index in drawn:
        together.setdefault(index if groups is None else groups[index], []).append(index)
    units = []
    for members in together.values():
        shown = itertools.chain.from_iterable(classes[index] for index in members) if classes else ()
        units.append(Unit(tuple(members), collections.Counter(shown)))
    return units


def place_units(units: Sequence[Unit], sizes: Sequence[int], draw: random.Random) -> list[int]:
    """The split of every unit, by its position in `sizes`.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, "On the Stratification of Multi-Label Data",
    algorithm 1), with groups of images as units, and with fixed sizes: units of one image fill the splits to the
    wanted sizes exactly, larger ones as nearly as possible.

    The class with the fewest units left is placed first: a common class has enough units to choose from later, while
    the few units of a rare one cannot be corrected. Each unit goes to the split that lacks most, among those with room
    for it. Unlike in the paper, all classes of the unit are considered, which divides common classes more evenly.
    Where the units left are just enough for the splits that have none of the class, these splits get them. At the end,
    exchanges bring classes to splits that still lack them. So a class with at least as many units as there are splits
    is in every split, wherever such an exchange is possible.

    Args:
      units: at least as many as splits.
      sizes: wanted images of each split, all above 0.
      draw: breaks ties.
    """
    best: list[int] = []
    fewest = (sum(sizes) * len(units), 0)
    order = list(range(len(units)))
    for _ in range(_ROUNDS):
        placement = _Placement([units[index] for index in order], sizes, draw)
        placement.run()
        problems = placement.lacking(), placement.overflow()
        if not best or problems < fewest:
            best, fewest = [place for _, place in sorted(zip(order, placement.places, strict=True))], problems
        if problems == (0, 0):
            break
        draw.shuffle(order)
    return best


class _Placement:
    """State of `place_units`: what is placed, and what is left."""

    def __init__(self, units: Sequence[Unit], sizes: Sequence[int], draw: random.Random):
        self.units, self.sizes, self.draw = units, sizes, draw
        self.everywhere = range(len(sizes))
        self.fractions = [size / sum(sizes) for size in sizes]
        self.places = [_NOWHERE] * len(units)
        self.room = list(sizes)
        self.empty = set(self.everywhere)
        self.left = len(units)
        self.of_class: dict[int, list[int]] = {}
        for index, unit in enumerate(units):
            for label in unit.counts:
                self.of_class.setdefault(label, []).append(index)
        self.left_of_class = {label: len(indices) for label, indices in self.of_class.items()}
        self.has_groups = any(len(unit.members) > 1 for unit in units)
        self.total = {
            label: sum(units[index].counts[label] for index in self.of_class[label]) for label in self.of_class
        }
        self.images = {label: [0] * len(sizes) for label in self.of_class}  # with the class, in each split
        self.held = {label: [0] * len(sizes) for label in self.of_class}  # units with the class, in each split

    def run(self) -> None:
        """Fills `places`."""
        while any(self.left_of_class.values()):
            label = min((number, label) for label, number in self.left_of_class.items() if number)[1]
            for index in self.of_class[label]:
                if self.places[index] == _NOWHERE:
                    self._place(index, self._needing(label))
        for index in range(len(self.units)):
            if self.places[index] == _NOWHERE:
                self._place(index, self.everywhere)
        self._cover()
        self._even_out()

    def lacking(self) -> int:
        """Number of pairs of split and class where the split has none of a class that is due to it."""
        return sum(held.count(0) for label, held in self.held.items() if self._is_due(label))

    def overflow(self) -> int:
        """Images above the wanted sizes."""
        return -sum(room for room in self.room if room < 0)

    def _needing(self, label: int) -> Sequence[int]:
        """The preferred splits: those without the class if its units left are just enough for them, else all."""
        lacking = [place for place in self.everywhere if not self.held[label][place]]
        return lacking if self.left_of_class[label] <= len(lacking) else self.everywhere

    def _place(self, index: int, preferred: Sequence[int]) -> None:
        place = self._best(self.units[index], preferred)
        self._move(index, place)
        self.empty.discard(place)
        self.left -= 1
        for label in self.units[index].counts:
            self.left_of_class[label] -= 1

    def _best(self, unit: Unit, preferred: Sequence[int]) -> int:
        size = len(unit.members)
        allowed = sorted(self.empty) if self.left <= len(self.empty) else self.everywhere  # no split may stay empty
        roomy = [place for place in allowed if size <= self.room[place]]
        if not roomy:
            return max(allowed, key=lambda place: (self.room[place], self.draw.random()))
        roomy = [place for place in roomy if place in preferred] or roomy
        return min(roomy, key=lambda place: self._fullness(place, unit)) if len(roomy) > 1 else roomy[0]

    def _fullness(self, place: int, unit: Unit) -> tuple[float, ...]:
        """How full a split would be of the unit's classes, relative to what it should hold of each, so that rare
        classes weigh most; half of the unit is counted, as in Webster's method of apportionment."""
        fraction = self.fractions[place]
        wanted = {label: fraction * self.total[label] for label in unit.counts}
        # fsum adds up to the same in every version of Python; sum does not, and ties must be the same ties everywhere.
        full = math.fsum((self.images[label][place] + n / 2) / wanted[label] for label, n in unit.counts.items())
        taken = self.sizes[place] - self.room[place] + len(unit.members) / 2
        return full, taken / self.sizes[place], -fraction, self.draw.random()

    def _move(self, index: int, place: int) -> None:
        for at, sign in ((self.places[index], -1), (place, 1)):
            if at != _NOWHERE:
                self.room[at] -= sign * len(self.units[index].members)
                for label, number in self.units[index].counts.items():
                    self.images[label][at] += sign * number
                    self.held[label][at] += sign
        self.places[index] = place

    # --- Classes that a split still lacks -------------------------------------------------------------------

    def _cover(self) -> None:
        """Brings each class with enough units for all splits to the splits that have none of it."""
        for label, indices in sorted(self.of_class.items(), key=lambda item: (len(item[1]), item[0])):
            for place in self.everywhere:
                if self._is_due(label) and not self.held[label][place]:
                    givers = [index for index in indices if self.held[label][self.places[index]] > 1]
                    givers.sort(key=self._size)
                    any(self._bring(giver, place) for giver in givers[:_MAX_TRIED])

    def _is_due(self, label: int) -> bool:
        return len(self.of_class[label]) >= len(self.sizes)

    def _size(self, index: int) -> int:
        return 0 if index == _NO_UNIT else len(self.units[index].members)

    def _bring(self, giver: int, place: int) -> bool:
        """Moves a unit to a split in exchange for one of similar size; groups also without exchange."""
        there = [index for index, at in enumerate(self.places) if at == place]
        there.sort(key=lambda index: abs(self._size(index) - self._size(giver)))
        return any(self._swap(giver, taker, place) for taker in there[: _MAX_TRIED**2]) or (
            self.has_groups and self._swap(giver, _NO_UNIT, place)
        )

    def _swap(self, one: int, other: int, place: int) -> bool:
        """Moves a unit to a split and another one back, unless a split would lose a class that is due to it."""
        origin = self.places[one]
        self._move(one, place)
        if other != _NO_UNIT:
            self._move(other, origin)
        if self._has_lost(one, origin) or (other != _NO_UNIT and self._has_lost(other, place)):
            self._move(one, origin)
            if other != _NO_UNIT:
                self._move(other, place)
            return False
        return True

    def _has_lost(self, index: int, place: int) -> bool:
        return any(self._is_due(label) and not self.held[label][place] for label in self.units[index].counts)

    # --- Sizes that groups exceed --------------------------------------------------------------------------

    def _even_out(self) -> None:
        """Moves or exchanges units between the fullest and the roomiest split while that improves the sizes."""
        while min(self.room) < 0 and self._even_out_once():
            pass

    def _even_out_once(self) -> bool:
        fullest = min(self.everywhere, key=self.room.__getitem__)
        roomiest = max(self.everywhere, key=self.room.__getitem__)
        over, room = -self.room[fullest], self.room[roomiest]
        large, small = self._by_size(fullest), self._by_size(roomiest)
        if self.places.count(fullest) > 1:
            small[0] = [_NO_UNIT]
        better = [
            (abs(over - goes + comes) + abs(room - goes + comes), goes, comes)
            for goes, comes in itertools.product(large, small)
            if 0 < goes - comes < max(over, room)
        ]
        return any(
            self._swap(one, other, roomiest)
            for _, goes, comes in sorted(better)
            for one, other in itertools.product(large[goes][:_MAX_TRIED], small[comes][:_MAX_TRIED])
        )

    def _by_size(self, place: int) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for index, at in enumerate(self.places):
            if at == place:
                found.setdefault(self._size(index), []).append(index)
        return found
