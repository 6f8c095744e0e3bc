"""Pairs of files in thirty bytes each, for datasets of millions of images.

As an object with three texts a pair takes 350 bytes. Owns the compact form alone: readers and the division into splits
make it, everything else reads it as the sequence of `Pair` that it is. It looks at no file.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np

from deeplab.data.readers.source import Pair

_ENCODING = ("utf-8", "surrogateescape")  # file names need not be UTF-8
_Form = tuple[Any, ...]


class PackedPairs(Sequence[Pair]):
    """Pairs of an image file and a mask file, made when they are looked at.

    What is kept of a pair is its name, and the number of its form: what its two paths have before and after the name,
    which is the same for most pairs of a folder. A path without the name in it is kept whole.

    Args:
      pairs: the pairs; each mask is a path, and there are no windows.
    """

    def __init__(self, pairs: Iterable[Pair]):
        names, ends, forms = bytearray(), array("Q", [0]), array("L")
        known: dict[_Form, int] = {}
        for pair in pairs:
            names += pair.name.encode(*_ENCODING)
            ends.append(len(names))
            forms.append(known.setdefault((_around(pair.image, pair.name), _around(pair.mask, pair.name)), len(known)))
        self._names = names
        self._ends = _small(ends)
        self._form_of = _small(forms)
        self._forms = list(known)
        self._places = np.arange(len(forms), dtype=np.uint32)

    def taken(self, places: Sequence[int] | np.ndarray) -> PackedPairs:
        """The pairs at some places, in that order; what is kept of the pairs is shared."""
        other = PackedPairs(())
        other._names, other._ends, other._form_of, other._forms = self._names, self._ends, self._form_of, self._forms
        other._places = self._places[places if isinstance(places, np.ndarray) else np.array(places, np.int64)]
        return other

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> Pair: ...

    @overload
    def __getitem__(self, place: slice) -> PackedPairs: ...

    def __getitem__(self, place: int | slice) -> Pair | PackedPairs:
        if isinstance(place, slice):
            return self.taken(np.arange(len(self))[place])
        index = int(self._places[place])
        name = self._names[int(self._ends[index]) : int(self._ends[index + 1])].decode(*_ENCODING)
        image, mask = self._forms[int(self._form_of[index])]
        return Pair(name, _path(image, name), _path(mask, name))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # as of lists


def packed(pairs: Sequence[Pair]) -> Sequence[Pair]:
    """The pairs in the compact form, where that can hold them; else as they are."""
    if isinstance(pairs, PackedPairs) or any(not isinstance(pair.mask, str) or pair.window for pair in pairs):
        return pairs
    return PackedPairs(pairs)


def chosen(pairs: Sequence[Pair], places: Sequence[int]) -> Sequence[Pair]:
    """The pairs at some places, in that order, in the form that they have."""
    return pairs.taken(places) if isinstance(pairs, PackedPairs) else [pairs[place] for place in places]


def _around(path: Any, name: str) -> _Form:
    """What a path has before and after the last occurrence of a name; the path alone without one."""
    before, found, after = path.rpartition(name) if name else ("", "", path)
    return (before, after) if found else (path,)


def _path(form: _Form, name: str) -> str:
    return form[0] if len(form) == 1 else f"{form[0]}{name}{form[1]}"


def _small(numbers: array[int]) -> np.ndarray:
    """Numbers from 0 up in the smallest type that holds them."""
    found = np.array(numbers)
    return found.astype(np.min_scalar_type(int(found.max(initial=0))))
