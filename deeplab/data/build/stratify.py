"""Images, or groups of them, on their way into splits that all hold their share of every class."""

from __future__ import annotations

import collections
import itertools
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_NOWHERE = -1
_ROUNDS = 8  # orders of the units that are tried where classes do not reach all splits, or sizes are not met
_MOST_TRIED = 20  # units that are tried for an exchange


@dataclass(frozen=True)
class Unit:
    """Images that stay together, by index, and how many of them show each class."""

    members: tuple[int, ...]
    counts: Mapping[int, int]


def units_of(
    drawn: Sequence[int], groups: Sequence[str] | None, classes: Sequence[frozenset[int]] | None
) -> list[Unit]:
    """Units in drawn order, large ones first by powers of two: what is placed last evens out the sizes."""
    together: dict[object, list[int]] = {}
    for index in drawn:
        together.setdefault(index if groups is None else groups[index], []).append(index)
    units = []
    for members in together.values():
        shown = itertools.chain.from_iterable(sorted(classes[index]) for index in members) if classes else ()
        units.append(Unit(tuple(members), collections.Counter(shown)))
    return sorted(units, key=lambda unit: -_scale(unit))


def _scale(unit: Unit) -> int:
    return len(unit.members).bit_length()


def place_units(units: Sequence[Unit], sizes: Sequence[int], draw: random.Random) -> list[int]:
    """The split of every unit, by its position in `sizes`.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, "On the Stratification of Multi-Label Data",
    algorithm 1), with groups of images as units and with sizes that are kept: units of one image fill the splits to
    the wanted sizes exactly, larger ones as nearly as they allow.

    The class with the fewest units left is dealt out first: a common class has enough units to choose from later on, a
    rare one's few cannot be corrected any more. Each unit goes to the split that lacks most images of the class, among
    those with room for it. Where the units left are only just enough for the splits that have none of the class, these
    get them; and what many classes in one image still push out is brought back by exchange at the end. So a class with
    at least as many units as there are splits stands in every one, unless the sizes leave no place for it.

    Args:
      units: at least as many as splits.
      sizes: wanted images of each split, all above 0.
      draw: breaks ties.
    """
    best: list[int] = []
    least = (sum(sizes) * len(units), 0)
    order = list(range(len(units)))
    for _ in range(_ROUNDS):
        placement = _Placement([units[index] for index in order], sizes, draw)
        placement.run()
        faults = placement.lacking(), placement.overflow()
        if not best or faults < least:
            best, least = [place for _, place in sorted(zip(order, placement.places, strict=True))], faults
        if faults == (0, 0):
            break
        draw.shuffle(order)
        order.sort(key=lambda index: -_scale(units[index]))
    return best


class _Placement:
    """What `place_units` has placed so far, and what is left."""

    def __init__(self, units: Sequence[Unit], sizes: Sequence[int], draw: random.Random):
        self.units, self.sizes, self.draw = units, sizes, draw
        self.everywhere = range(len(sizes))
        self.shares = [size / sum(sizes) for size in sizes]
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
                    self._place(index, label)
        for index in range(len(self.units)):
            if self.places[index] == _NOWHERE:
                self._place(index, None)
        self._cover()
        self._even_out()

    def lacking(self) -> int:
        """How often a split has none of a class that is due to it."""
        return sum(held.count(0) for label, held in self.held.items() if self._is_due(label))

    def overflow(self) -> int:
        """Images above the wanted sizes."""
        return -sum(room for room in self.room if room < 0)

    def _place(self, index: int, label: int | None) -> None:
        place = self._best(len(self.units[index].members), label)
        self._move(index, place)
        self.empty.discard(place)
        self.left -= 1
        for label in self.units[index].counts:
            self.left_of_class[label] -= 1

    def _best(self, size: int, label: int | None) -> int:
        allowed = self.empty if self.left <= len(self.empty) else self.everywhere  # no split may stay empty
        fitting = [place for place in self._needing(label) if place in allowed and size <= self.room[place]]
        fitting = fitting or [place for place in allowed if size <= self.room[place]]
        if not fitting:
            return max(allowed, key=lambda place: (self.room[place], self.draw.random()))
        return min(fitting, key=lambda place: self._fullness(place, label)) if len(fitting) > 1 else fitting[0]

    def _needing(self, label: int | None) -> Iterable[int]:
        """The splits that come first: those without the class, where its units left are just enough for them."""
        if label is None:
            return self.everywhere
        lacking = [place for place in self.everywhere if not self.held[label][place]]
        return lacking if self.left_of_class[label] <= len(lacking) else self.everywhere

    def _fullness(self, place: int, label: int | None) -> tuple[float, ...]:
        """Lowest where most images of the class are missing. Groups are weighed against the split's size, for there
        the order of placing matters: all large ones would go to the largest split."""
        share = self.shares[place]
        weight = share if self.has_groups else 1.0
        missing = 0.0 if label is None else share * self.total[label] - self.images[label][place]
        return -missing / weight, -self.room[place] / weight, -share, self.draw.random()

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
        """Exchanges units where a split has none of a class that has enough of them for all splits."""
        for label, indices in sorted(self.of_class.items(), key=lambda item: (len(item[1]), item[0])):
            for place in self.everywhere:
                if self._is_due(label) and not self.held[label][place]:
                    givers = [index for index in indices if self.held[label][self.places[index]] > 1]
                    givers.sort(key=lambda index: len(self.units[index].members))
                    any(self._exchange(giver, place) for giver in givers[:_MOST_TRIED])

    def _is_due(self, label: int) -> bool:
        return len(self.of_class[label]) >= len(self.sizes)

    def _exchange(self, giver: int, place: int) -> bool:
        """Moves a unit and as many images back, if no split loses a class by it that is due to it."""
        origin = self.places[giver]
        moved = [giver]
        self._move(giver, place)
        lost = {label for label in self.units[giver].counts if self._is_due(label) and not self.held[label][origin]}
        missing = len(self.units[giver].members)
        there = [index for index, at in enumerate(self.places) if at == place and index != giver]
        for taker in sorted(there, key=lambda index: not lost <= self.units[index].counts.keys()):
            if len(self.units[taker].members) <= missing and self._can_go(taker):
                missing -= len(self.units[taker].members)
                moved.append(taker)
                self._move(taker, origin)
            if not missing:
                break
        kept = all(self.held[label][origin] for label in lost)
        if kept and (not missing or self.has_groups):
            return True
        for index in moved:
            self._move(index, origin if index == giver else place)
        return False

    def _can_go(self, index: int) -> bool:
        place = self.places[index]
        return all(self.held[label][place] > 1 or not self._is_due(label) for label in self.units[index].counts)

    def _even_out(self) -> None:
        """Moves units from splits that are too large to the smallest one, large units first."""
        for index, unit in enumerate(self.units):
            fullest = self.places[index]
            roomiest = max(self.everywhere, key=self.room.__getitem__)
            if len(unit.members) <= min(-self.room[fullest], self.room[roomiest]) and self._can_go(index):
                self._move(index, roomiest)
