"""Checked access to the content of annotation files: JSON, CSV, and the values in them.

Nothing in an annotation file is trusted: every value is read with the type that it must have, and errors name the file,
the place in it and the rule. The readers call this module. It never opens a file that an annotation names.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from deeplab.utils.errors import UserError
from deeplab.utils.paths import read_text

_REQUIRED: Any = object()
_MAX_CELL = 2**31 - 1  # characters of a cell of a CSV file
_MAX_NUMBER = 1e15  # no count, size or coordinate is larger; above it, floats are not exact integers
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # half a character: JSON allows it, terminals and file systems do not
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_HEX_COLOR = re.compile(r"#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})(?:[0-9a-fA-F]{2})?")
_TYPE_WORDS = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    type(None): "null",
}


def read_json(path: str | os.PathLike) -> Any:
    """Reads a JSON file.

    Raises:
      UserError: it cannot be read, is not JSON, or contains NaN, Infinity, broken characters or endless nesting.
    """
    return parse_json(read_text(path), path)


def parse_json(text: str, path: str | os.PathLike) -> Any:
    """Parses JSON.

    Args:
      text: the content of a file, or of a line of it.
      path: its name, for messages.

    Raises:
      UserError: as `read_json`.
    """
    hint = "export it again, or copy it again"
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except RecursionError:
        raise UserError("invalid-json", "is nested too deeply", hint, where=path) from None
    except UnicodeEncodeError:
        rule = r"contains half a character (\ud800 to \udfff)"
        raise UserError("invalid-json", rule, "rename that class or file", where=path) from None
    except ValueError as error:
        raise UserError("invalid-json", f"is not JSON: {_json_reason(text, error)}", hint, where=path) from None


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number")


def _json_reason(text: str, error: ValueError) -> str:
    if not text.strip():
        return "it is empty"
    if text.lstrip().startswith("<"):
        return "it begins like XML or HTML"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg[0].lower()}{error.msg[1:].removesuffix(' at')} in line {error.lineno}, column {error.colno}"
    return "a number has thousands of digits" if "integer string conversion" in str(error) else str(error)


def read_csv(path: str | os.PathLike) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the number of the line, from 1, and the cells by column name of each row of a CSV file.

    The separator is a comma, a semicolon or a tab, whichever the first line has. Cells that are missing are empty.

    Raises:
      UserError: it cannot be read, or is not CSV.
    """
    text = read_text(path).removeprefix("#")
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    csv.field_size_limit(_MAX_CELL)  # polygons and run lengths are long
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        for row in rows:
            yield rows.line_num, {str(key): cell for key, value in row.items() if isinstance(cell := value or "", str)}
    except csv.Error as error:
        raise UserError("wrong-format", f"is not CSV: {error}", "export it again", where=path) from None


def require(holder: Any, key: str, kind: type | tuple[type, ...], where: str, default: Any = _REQUIRED) -> Any:
    """Returns the value of a key, of the type that it must have.

    Args:
      holder: what should be an object with that key.
      key: its name.
      kind: type or types; `float` accepts whole numbers too, and only finite ones; `int` accepts 3.0 as 3.
      where: file, image and shape, for messages.
      default: for keys that may be missing or null.

    Raises:
      UserError: not an object, no such key, or a value of another type.
    """
    if not isinstance(holder, dict):
        rule = f"must be an object with '{key}', not {in_words(holder)}"
        raise UserError("wrong-type", rule, "export it again", where=where)
    value = holder.get(key)
    if value is None and default is not _REQUIRED:
        return default
    if key not in holder:
        raise UserError("missing-key", f"'{key}' is missing", "export it again, or add it by hand", where=where)
    return checked(value, kind, f"'{key}'", where)


def checked(value: Any, kind: type | tuple[type, ...], what: str, where: str) -> Any:
    """Returns the value if it has the type that it must have; `what` names it in messages. See `require`.

    Raises:
      UserError: it has another type.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if float in kinds or int in kinds:
            return _checked_number(value, float in kinds, what, where)
    elif isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool)):
        return value
    wanted = " or ".join(_TYPE_WORDS.get(kind, kind.__name__) for kind in kinds)
    rule = f"{what} must be {wanted}, not {in_words(value)}"
    raise UserError("wrong-type", rule, "export it again, or correct it by hand", where=where)


def _checked_number(value: int | float, fractions: bool, what: str, where: str) -> int | float:
    if not abs(value) < _MAX_NUMBER:  # not `>=`: nan must not pass
        shown = f"{value:g}" if isinstance(value, float) else "one so large"
        rule = f"{what} must be a number of pixels or items, not {shown}"
        raise UserError("out-of-range", rule, "export it again", where=where)
    if not fractions and value != math.floor(value):
        raise UserError("wrong-type", f"{what} must be a whole number, not {value:g}", "export it again", where=where)
    return value if fractions else int(value)


def in_words(value: Any) -> str:
    """Describes a JSON value for a message, briefly whatever it is."""
    if isinstance(value, str):
        return f"the text {value[:40]!r}" + (" ..." if len(value) > 40 else "")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"the number {value:g}" if abs(value) < _MAX_NUMBER else "a number so large"
    return _TYPE_WORDS.get(type(value), type(value).__name__)


def yes_or_no(holder: Any, key: str, where: str, default: bool = False) -> bool:
    """Returns the value of a key that means true or false: a boolean, 0 or 1, or such a word as text.

    Raises:
      UserError: anything else.
    """
    value = require(holder, key, (bool, int, str), where, default)
    word = str(value).strip().lower()
    if word in ("true", "1", "yes"):
        return True
    if word in ("false", "0", "no", ""):
        return False
    rule = f"'{key}' must be true or false, not {in_words(value)}"
    raise UserError("wrong-type", rule, "export it again, or correct it by hand", where=where)


def class_name(holder: Any, key: str, where: str) -> str:
    """Returns the name of a class, without white space around it.

    Raises:
      UserError: missing, not text, empty, or with line breaks or other control characters.
    """
    name = str(require(holder, key, (str, int), where)).strip()
    if not name:
        raise UserError("empty-name", f"'{key}' is empty", "give the shape a class", where=where)
    require_plain(name, f"'{key}'", where)
    return name


def require_plain(name: str, what: str, where: str = "", field: str | None = None) -> None:
    """Raises a UserError at control characters, which neither a list of names nor a terminal can show."""
    if CONTROL.search(name):
        rule = f"{what} contains control characters: {name[:40]!r}"
        raise UserError("control-characters", rule, "rename the class", where=where, field=field)


def image_size(holder: Any, height_key: str, width_key: str, where: str) -> tuple[int, int] | None:
    """Returns height and width that an annotation states; None if it states none.

    Raises:
      UserError: they are not whole numbers above 0.
    """
    size = tuple(require(holder, key, int, where, None) for key in (height_key, width_key))
    if None in size:
        return None
    if min(size) < 1:
        rule = f"'{height_key}' and '{width_key}' must be above 0, not {size[0]} and {size[1]}"
        raise UserError("out-of-range", rule, "export it again, or remove them", where=where, value=size)
    return size[0], size[1]


def read_color(value: Any) -> tuple[int, int, int] | None:
    """Reads a color, `#ff8000` or [255, 128, 0]; None for anything else, since colors are only decoration."""
    if isinstance(value, str) and (match := _HEX_COLOR.fullmatch(value.strip())):
        return int(match[1], 16), int(match[2], 16), int(match[3], 16)
    parts = value if isinstance(value, list) else []
    if len(parts) in (3, 4) and all(type(part) is int and 0 <= part <= 255 for part in parts):
        return parts[0], parts[1], parts[2]
    return None
