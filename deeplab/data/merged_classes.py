"""The setting `classes`, which merges, renames, reorders and drops the classes of a dataset by name.

Owns the syntax of the setting, which class of a dataset becomes which, and the table that shows it.
`readers/classes.py` calls it; it reads no files and no pixels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from deeplab.data.class_names import BACKGROUND, IGNORED_NAME, is_background, is_ignored, near_equal
from deeplab.utils import console
from deeplab.utils.errors import UserError, nearest
from deeplab.utils.text import percent, shorten

_FIELD = "classes"
_OTHERS = "*"  # every class that no other entry names
_EXAMPLE = "write it like `classes='road,car=car|truck|bus,background=*'`"
_HINT_NUMBERS = (
    "its classes have only numbers: name them in the order of their label values by class_names, "
    "such as class_names=background,road,car, or write NAME=NUMBER"
)
_MAX_SHOWN = 60  # characters of a cell of the table


@dataclass(frozen=True)
class MergedClasses:
    """The classes of a dataset after merging.

    Attributes:
      names: the new classes, in the order of their label values; the background first, if there is one.
      values: the new label value of each old class; None where its pixels are ignored.
      members: the old classes of each new one, in the order in which they were named.
      ignored: the old classes whose pixels are ignored.
    """

    names: tuple[str, ...]
    values: Mapping[str, int | None]
    members: tuple[tuple[str, ...], ...]
    ignored: tuple[str, ...] = ()

    def first_member(self, place: int, known: Iterable[str]) -> str | None:
        """Returns the member of a class that gives it its color: that of its own name, else the first; None without."""
        found = [name for name in self.members[place] if name in set(known)]
        return self.names[place] if self.names[place] in found else next(iter(found), None)

    def table(self, pixels: Sequence[int], ignored_pixels: int) -> str:
        """Returns a table of the classes: label value, name, what it is made of, pixels.

        Args:
          pixels: of each class.
          ignored_pixels: those that do not count.
        """
        total = max(1, sum(pixels) + ignored_pixels)
        rows: list[list[object]] = [
            [value, name, _made_of(name, members), f"{number:,}", percent(number / total)]
            for value, (name, members, number) in enumerate(zip(self.names, self.members, pixels, strict=True))
        ]
        ignored = percent(ignored_pixels / total)
        rows.append(["", "(ignored)", _made_of("", self.ignored), f"{ignored_pixels:,}", ignored])
        return console.table(rows, ["label", "class", "made of", "pixels", "of all"])


def _made_of(name: str, members: Sequence[str]) -> str:
    if tuple(members) == (name,):
        return ""
    text = ", ".join(members)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 4]} ..."


def merge(entries: Sequence[str], old: Sequence[str], numbered: bool = False) -> MergedClasses:
    """Returns the classes that the setting `classes` makes of those of a dataset.

    An entry is `NEW=OLD|OLD`, or a name, which stays. `NEW=*` takes every class that no entry names, `*` alone keeps
    them. The background is never one of the others: it is class 0 unless an entry names it. `ignore=OLD|OLD` makes
    pixels that do not count. A backslash before a comma, an equals sign, a bar or a star takes it as part of a name.

    Args:
      entries: the setting: texts with one or several entries, separated by commas.
      old: the classes of the dataset, in the order of their label values; those of ignored pixels may be left out.
      numbered: they are mere numbers, of which most do not occur, so that no entry needs to name them.

    Raises:
      UserError: an entry that cannot be read (`invalid-classes`), a class that the dataset does not have
        (`unknown-class`), is named twice (`duplicate-name`), or is not named (`unnamed-classes`).
    """
    parsed = _parsed(entries)
    others = [name for name, members in parsed if members is None]
    if len(others) > 1:
        rule = f"has several entries for all other classes: {', '.join(map(repr, others))}"
        raise UserError("invalid-classes", rule, "keep one of them", field=_FIELD)
    found = [(name, None if members is None else _known(members, old, numbered)) for name, members in parsed]
    taken = _owners(found)
    rest = [name for name in old if name not in taken and not is_background(name)]
    if rest and not others and not numbered:
        rule = f"no entry names {shorten(list(map(repr, rest)), 8)}"
        hint = "add background=* or ignore=* to drop them, or * to keep them"
        raise UserError("unnamed-classes", rule, hint, field=_FIELD, value=tuple(rest))
    groups: dict[str, list[str]] = {}
    own = next((name for name in old if is_background(name)), None)
    if own and own not in taken:
        groups[BACKGROUND] = [own]
    for name, members in found:
        if members is None and name == _OTHERS:
            for other in rest:
                groups.setdefault(other, []).append(other)
        else:
            groups.setdefault(_canonical(name), []).extend(rest if members is None else members)
    return _numbered(groups)


def _numbered(groups: Mapping[str, Sequence[str]]) -> MergedClasses:
    names = [name for name in groups if name not in (BACKGROUND, IGNORED_NAME)]
    if not names:
        raise UserError("invalid-classes", "leaves no class but the background", _EXAMPLE, field=_FIELD)
    names = [BACKGROUND, *names] if BACKGROUND in groups else names
    values: dict[str, int | None] = {old: value for value, name in enumerate(names) for old in groups[name]}
    ignored = tuple(groups.get(IGNORED_NAME, ()))
    return MergedClasses(
        tuple(names), values | dict.fromkeys(ignored), tuple(tuple(groups[name]) for name in names), ignored
    )


def _canonical(name: str) -> str:
    return BACKGROUND if is_background(name) else IGNORED_NAME if is_ignored(name) else name


def _owners(found: Sequence[tuple[str, Sequence[str] | None]]) -> dict[str, str]:
    """Returns the new class of each old one that is named.

    Raises:
      UserError: a class is named twice (`duplicate-name`).
    """
    owners: dict[str, str] = {}
    for name, members in found:
        for member in members or ():
            other = owners.setdefault(member, name)
            if other != name or list(members or ()).count(member) > 1:
                rule = f"names {member!r} twice, for {other!r} and for {name!r}"
                raise UserError("duplicate-name", rule, "name each class once", field=_FIELD, value=member)
    return owners


def _known(members: Sequence[str], old: Sequence[str], numbered: bool) -> list[str]:
    """Returns the names as the dataset writes them; case does not matter where it is the only difference.

    Raises:
      UserError: the dataset has no such class (`unknown-class`).
    """
    found = []
    for member in members:
        alike = [name for name in old if name.casefold() == member.casefold()]
        if member in old or (is_ignored(member) and not alike):
            found.append(member)
        elif len(alike) == 1:
            found.append(alike[0])
        elif is_background(member) and any(map(is_background, old)):
            found.append(next(filter(is_background, old)))
        else:
            rule = f"the dataset has no class {member!r}"
            hint = _HINT_NUMBERS if numbered else nearest(member, old)
            raise UserError("unknown-class", rule, hint, field=_FIELD, value=member)
    return found


def _parsed(entries: Sequence[str]) -> list[tuple[str, list[str] | None]]:
    """Returns the name of each entry and its members; None for all other classes."""
    parts = [part for text in entries for part in _split(text, ",") if part.strip()]
    if not parts:
        raise UserError("invalid-classes", "names no class", _EXAMPLE, field=_FIELD)
    found: list[tuple[str, list[str] | None]] = []
    for part in parts:
        name, *members = (piece.strip() for piece in _split(part, "="))
        olds = [piece.strip() for piece in _split(members[0], "|")] if members else [name]
        if len(members) > 1 or not name or not all(olds) or (name == _OTHERS and members):
            raise UserError("invalid-classes", f"{part.strip()!r} is not NEW=OLD|OLD", _EXAMPLE, field=_FIELD)
        if _OTHERS in olds and len(olds) > 1:
            rule = f"{part.strip()!r} mixes names and *, which means all other classes"
            raise UserError("invalid-classes", rule, "leave one of them out, or write two entries", field=_FIELD)
        plain = [_without_backslashes(piece) for piece in olds]
        found.append((_without_backslashes(name), None if olds == [_OTHERS] else plain))
    return found


def _split(text: str, separator: str) -> list[str]:
    """Splits at a separator that has no backslash before it."""
    return re.split(rf"(?<!\\)\{separator}", text)


def _without_backslashes(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name)


def proposal(names: Sequence[str]) -> str:
    """Returns the setting that merges classes whose names differ little; empty if there are none."""
    groups: dict[str, list[str]] = {}
    owner: dict[str, str] = {}
    for first, second in near_equal(names):
        name = owner.setdefault(first, first)
        if second not in owner:
            owner[second] = name
            groups.setdefault(name, [name]).append(second)
    if not groups:
        return ""
    return ",".join([*(f"{_quoted(n)}={'|'.join(map(_quoted, olds))}" for n, olds in groups.items()), _OTHERS])


def _quoted(name: str) -> str:
    return re.sub(r"([\\,=|*])", r"\\\1", name)
