"""Names of classes: which of them mean the background or ignored pixels, and files that list classes.

Such files come in many forms: one name per line, CSV with a header (Roboflow's `_classes.csv`, Kaggle's
`class_dict.csv`), CVAT's `labelmap.txt`, CamVid's `label_colors.txt`, or lines `R G B name`.
"""

from __future__ import annotations

import csv
import difflib
import itertools
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from deeplab.config.fields import split_words
from deeplab.utils.errors import UserError, nearest
from deeplab.utils.paths import read_text

BACKGROUND = "background"
IGNORED_NAME = "ignore"  # always means pixels that do not count
CLASS_FILES = ("labelmap.txt", "class_dict.csv", "label_colors.txt", "_classes.csv")  # what tools write beside masks
MANY_CLASSES = 160  # tables, plots and pages show only some of more classes, or fold them
_IGNORED_NAMES = frozenset({"ignore", "ignored", "void", "neutral"})  # in any case, with or without underscores

_COMMENT = re.compile(  # not the one in the class C#, nor a color such as #ff0000 after a name
    r"^\s*#.*|\s#(?!(?:[0-9a-fA-F]{3}){1,2}(?:[\s,;]|$)).*"
)
_COLUMNS = {
    "name": ("name", "names", "class", "classes", "class name", "class_name", "label", "label_name", "category"),
    "value": ("value", "pixel value", "pixel_value", "pixel", "id", "idx", "index", "class_id", "class id", "label_id"),
    "red": ("r", "red"),
    "green": ("g", "green"),
    "blue": ("b", "blue"),
    "hex": ("color", "colour", "hex", "rgb"),
}
_LABELMAP = re.compile(r"(?P<name>[^:]+):(?P<red>\d+),(?P<green>\d+),(?P<blue>\d+)(?::[^:]*){0,2}")
_INDEXED_COLOR = re.compile(
    r"(?P<value>\d+)[\s,;]+(?P<red>\d+)[\s,;]+(?P<green>\d+)[\s,;]+(?P<blue>\d+)[\s,;]+(?P<name>[^\d\s].*)"
)
_WITH_ALPHA = re.compile(
    r"(?P<red>\d+)[\s,;]+(?P<green>\d+)[\s,;]+(?P<blue>\d+)[\s,;]+(?:0|255)[\s,;]+(?P<name>[^\d\s].*)"
)
_NAME_AND_PLACE = re.compile(r"(?P<name>\S.*?)\s+(?P<value>\d+)")
_FORMS = (  # of lines without a header, in the order in which they are tried; all lines must have the same one
    _LABELMAP,
    _INDEXED_COLOR,
    _WITH_ALPHA,
    re.compile(r"(?P<red>\d+)[\s,;]+(?P<green>\d+)[\s,;]+(?P<blue>\d+)(?:[\s,;]+(?P<name>\S.*))?"),
    re.compile(r"(?P<name>\S.*?)[\s,;]+(?P<red>\d+)[\s,;]+(?P<green>\d+)[\s,;]+(?P<blue>\d+)"),
    re.compile(r"(?P<value>\d+)\s*[,;:=\t]\s*(?P<name>\S.*)"),
    re.compile(r"(?P<name>\S.*?)\s*[,;:=\t]\s*(?P<value>\d+)"),
    re.compile(r"(?P<value>\d+)\s+(?P<name>[^\d\s].*)"),
    _NAME_AND_PLACE,
)
_STRICT = (_INDEXED_COLOR, _NAME_AND_PLACE)  # whose values must be 0, 1, 2 ..., as they might be something else
_HEX = re.compile(r"#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")
_SHORT_HEX = re.compile(r"#([0-9a-fA-F])([0-9a-fA-F])([0-9a-fA-F])")
_TRIPLE = re.compile(r"(?:rgb)?[(\[]?\s*(\d+)[\s,;]+(\d+)[\s,;]+(\d+)\s*[)\]]?")
_GIMP = "GIMP Palette"  # first line of a .gpl file, whose next lines are such as `Name: mine` and `Columns: 3`
_SEPARATORS = (",", ";", "\t")
_MIN_TYPO = 6  # letters of a name from which one wrong letter counts as a slip


def frequent_and_rare(pixels: Sequence[int], number: int = 40) -> list[int]:
    """The classes with the most and with the fewest pixels, half of `number` each, in the order of the classes."""
    order = sorted(range(len(pixels)), key=lambda index: -pixels[index])
    return sorted({*order[: number // 2], *order[-(number // 2) :]})


def is_background(name: str) -> bool:
    """Whether a class name means the background: `background`, `Background`, labelme's `_background_`."""
    return name.strip("_").lower() == BACKGROUND


def is_ignored(name: str) -> bool:
    """Whether a class name marks pixels that do not count: `void`, `Ignore`, `neutral`, labelme's `__ignore__`."""
    return name.strip("_").lower() in _IGNORED_NAMES


def with_background(names: Iterable[str]) -> tuple[str, ...]:
    """Class names of drawn masks: the background first, names of ignored pixels left out, no name twice."""
    kept = [name for name in names if not is_background(name) and not is_ignored(name)]
    return (BACKGROUND, *dict.fromkeys(kept))


def class_numbers(texts: Sequence[str], class_names: Sequence[str], field: str) -> list[int]:
    """Return the numbers of classes given by name or number; a text may hold several, separated by commas.

    Args:
      texts: names or numbers.
      class_names: one per class.
      field: the setting that they come from, for messages.

    Raises:
      UserError: no such class (`unknown-name`).
    """
    numbers = []
    for word in split_words(texts):
        if word in class_names:
            numbers.append(list(class_names).index(word))
        elif word.isdigit() and int(word) < len(class_names):
            numbers.append(int(word))
        else:
            rule = f"there is no class called {word!r}"
            raise UserError("unknown-name", rule, nearest(word, class_names), field=field, value=word)
    return sorted(set(numbers))


def near_equal(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that probably mean the same class: `Cat` and `cat`, `Cats` and `Cat`, `cel` and `cell`."""
    plain = [_plain(name) for name in names]
    groups: dict[str, list[int]] = {}  # of places: names of a group may be the same one, others never are
    for place, text in enumerate(plain):
        groups.setdefault(text if any(map(str.isdigit, text)) else text[:1], []).append(place)
    pairs = sorted(pair for places in groups.values() for pair in itertools.combinations(places, 2))
    return [
        (names[place], names[other])
        for place, other in pairs
        if names[place] != names[other] and _is_slip(*sorted((plain[place], plain[other]), key=len))
    ]


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name.casefold())


def _is_slip(short: str, long: str) -> bool:
    """Whether two names in lower case, without separators, differ in a plural ending or a single letter."""
    if short == long:
        return True
    if len(short) < 3 or len(long) > len(short) + 2 or any(map(str.isdigit, short + long)):
        return False
    if long in (f"{short}s", f"{short}es"):
        return True
    half = len(short) // 2
    if not (long.startswith(short[:half]) or long.endswith(short[half:])):  # one letter cannot change both halves
        return False
    steps = difflib.SequenceMatcher(None, short, long, autojunk=False).get_opcodes()
    changes = [step for step in steps if step[0] != "equal"]
    kind, first, last, start, stop = changes[0]
    if len(changes) > 1 or max(last - first, stop - start) > 1 or short[0] != long[0]:
        return False
    letter = long[start:stop]
    doubled = kind == "insert" and letter in (long[start - 1 : start], long[stop : stop + 1])
    return doubled or len(short) >= _MIN_TYPO


# --- Files --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ListedClass:
    """A class as a file lists it.

    Attributes:
      name: empty if the file gives only colors.
      value: its label value, if the file gives one.
      color: its color, red, green, blue from 0 to 255, if the file gives one.
      line: number of its line in the file, from 1.
    """

    name: str
    value: int | None = None
    color: tuple[int, int, int] | None = None
    line: int = field(default=0, compare=False)


def read_class_file(path: str | os.PathLike) -> list[ListedClass]:
    """Reads a file that lists classes, in any of the usual forms.

    Raises:
      UserError: the file cannot be read, lists no class (`missing-class-names`), or has a line that its header does not
        fit (`invalid-class-file`).
    """
    lines = [_COMMENT.sub("", line).strip() for line in read_text(path).splitlines()]
    numbered = [(number, row) for number, row in enumerate(lines, 1) if row]
    if numbered and numbered[0][1] == _GIMP:
        numbered = [(number, row) for number, row in numbered[1:] if not row.startswith(("Name:", "Columns:"))]
    rows = [row for _, row in numbered]
    found = _by_header(rows, path) or _by_form(rows) or [ListedClass(row) for row in rows]
    if not found:
        raise UserError("missing-class-names", "names no class", "write one name per line", where=path)
    of_classes = numbered[len(numbered) - len(found) :]  # a header may come before them
    return [replace(entry, line=number) for entry, (number, _) in zip(found, of_classes, strict=True)]


def _by_header(rows: Sequence[str], path: str | os.PathLike) -> list[ListedClass]:
    """Returns the classes of a file whose first line names its columns; none if it does not.

    Raises:
      UserError: a line has not the cells that the first one names (`invalid-class-file`).
    """
    for separator in _SEPARATORS:
        columns = [_column(cell) for cell in rows[0].split(separator)] if rows else []
        if "name" not in columns or not (len(columns) > 1 or len(rows) > 2):
            continue
        cells = [_cells(row, separator, columns) for row in rows[1:]]
        short = next((row for row, line in zip(rows[1:], cells, strict=True) if len(line) < len(columns)), None)
        if short is None:
            return [_listed(dict(zip(columns, line, strict=False))) for line in cells]
        if sum(map(bool, columns)) > 1:
            rule = f"its first line names {len(columns)} columns, which {short[:60]!r} does not have"
            raise UserError("invalid-class-file", rule, "correct that line", where=path, value=short)
    return []


def _cells(row: str, separator: str, columns: Sequence[str]) -> list[str]:
    """Returns the cells of a line; a name at its end may contain the separator."""
    try:
        cells = [cell.strip() for cell in next(csv.reader([row], delimiter=separator, skipinitialspace=True))]
    except csv.Error:
        return []
    if len(cells) > len(columns) and columns[-1] == "name":
        cells[len(columns) - 1 :] = [f"{separator} ".join(cells[len(columns) - 1 :])]
    return cells


def _column(cell: str) -> str:
    word = cell.strip().strip('"').lower()
    return next((column for column, words in _COLUMNS.items() if word in words), "")


def _by_form(rows: Sequence[str]) -> list[ListedClass]:
    for form in _FORMS:
        matches = [form.fullmatch(row) for row in rows]
        if all(matches):
            found = [_listed(match.groupdict()) for match in matches if match]
            colors, values = [entry.color for entry in found], [entry.value for entry in found]
            is_colored = "red" in form.groupindex and None not in colors
            if form in _STRICT and (values != list(range(len(found))) or len({e.name for e in found}) < len(found)):
                continue
            if is_colored or ("value" in form.groupindex and len(set(values)) == len(values) > 1):
                return found
    return []


def _listed(cells: dict[str, str | None]) -> ListedClass:
    parts = [cells.get(channel) or "" for channel in ("red", "green", "blue")]
    color = (cells.get("hex") or "").strip()
    if match := _HEX.fullmatch(color) or _SHORT_HEX.fullmatch(color):
        parts = [str(int(part if len(part) == 2 else 2 * part, 16)) for part in match.groups()]
    elif match := _TRIPLE.fullmatch(color):
        parts = list(match.groups())
    channels = [int(part) if part.isdecimal() and len(part) < 4 else 256 for part in parts]
    value = cells.get("value") or ""
    return ListedClass(
        (cells.get("name") or "").strip(),
        int(value) if value.isdecimal() and len(value) < 6 else None,
        (channels[0], channels[1], channels[2]) if max(channels) < 256 else None,
    )


def _refuse_odd_lines(names: Sequence[str], path: str | os.PathLike) -> None:
    """Refuses names that are whole lines because a few lines of a palette or a labelmap.txt are damaged."""
    for form in _FORMS:
        odd = [name for name in names if not form.fullmatch(name)]
        if "red" in form.groupindex and len(odd) <= len(names) / 2:
            rule = f"its lines have a color, but {(odd or names)[0][:60]!r} has none from 0 to 255"
            raise UserError("invalid-class-file", rule, "correct that line", where=path, value=(odd or names)[0])


def names_in(path: str | os.PathLike) -> tuple[str, ...]:
    """Reads the class names of a file, by label value if it gives values; names of ignored pixels are left out.

    Raises:
      UserError: the file cannot be read or lists no class (`missing-class-names`), its label values have gaps, or most
        lines have a color and others do not (`invalid-class-file`).
    """
    listed = read_class_file(path)
    _refuse_odd_lines([entry.name for entry in listed], path)
    values = [entry.value for entry in listed]
    if None in values:
        return tuple(dict.fromkeys(entry.name for entry in listed) if listed[0].color else (e.name for e in listed))
    by_value = {entry.value: entry.name for entry in listed if not is_ignored(entry.name)}
    by_value.setdefault(0, BACKGROUND)
    missing = [value for value in range(len(by_value)) if value not in by_value]
    if missing or len(set(values)) < len(values):
        wrong = f"there is no {missing[0]}" if missing else "one is listed twice"
        rule = f"its label values must be 0, 1, 2 ... without gaps, but {wrong}"
        hint = "number the classes without gaps, and map the values of the masks with `label_map`"
        raise UserError("invalid-class-file", rule, hint, where=path, value=tuple(values))
    return tuple(by_value[value] for value in range(len(by_value)))
