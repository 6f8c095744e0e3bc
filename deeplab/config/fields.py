"""Fields of config dataclasses: what each one allows, and how values are read.

One reader serves command-line words, YAML values and keyword arguments: a value becomes the field's type, or is refused
with a UserError that names the field. Floor 0; the modules beside this one declare the fields, one module per stage.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import math
import os
import re
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from deeplab.utils.errors import UserError, nearest
from deeplab.utils.remote_names import named

Ints = tuple[int, ...]
Floats = tuple[float, ...]
Texts = tuple[str, ...]
Size = tuple[int, int]  # height, width in pixels
Group = TypeVar("Group")

_KINDS = {Ints: "ints", Floats: "floats", Texts: "texts", Size: "size", bool: "bool", int: "int", float: "float"}
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_BETWEEN = r"[\s,;:/()\[\]{}'\"]*"
_MAX_EXPLAINED = 100  # characters of a value for which a hint is looked for
_MAX_INT = 2**31 - 1  # TensorFlow's and most file formats' whole numbers have 32 bits


def setting(
    default: Any,
    help: str,
    *,
    min: float | None = None,
    max: float | None = None,
    above: float | None = None,
    because: str = "",
    unit: str = "",
    choices: tuple[Any, ...] = (),
    required: bool = False,
    rare: bool = False,
    resumable: bool = False,
    shapes_weights: bool = False,
    retired: str = "",
    writes: str = "",
) -> Any:
    """Declares a field of a config dataclass.

    Args:
      default: value when none is given.
      help: one or two sentences; other settings between backquotes.
      min, max: smallest and largest number allowed; of a tuple, each of its numbers. Whole numbers without `max` must
        fit 32 bits.
      above: in place of `min`, a number that the value must exceed.
      because: reason for `max`, for the message: what a larger number would do.
      unit: unit of the number, for the help page: "pixels", "seconds", "steps".
      choices: the allowed values, if they are few.
      required: commands that have this field stop when it is not given.
      rare: only the help page of `helpfull` shows the field.
      resumable: the value may change when a training resumes.
      shapes_weights: a checkpoint trained with one value cannot be used with another.
      retired: the field no longer has an effect; this text says what replaces it.
      writes: what a command writes at this path: "folder", "file", or "either"; empty if the setting names no output.
    """
    metadata = {name: value for name, value in locals().items() if name != "default"}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Config:
    """Base of config dataclasses: reads and checks every field, then calls `validate`.

    Raises:
      UserError: a value of another type (`wrong-type`), out of bounds (`out-of-range`), or not one of the choices
        (`unknown-name`).
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, coerce(field, type(self), getattr(self, field.name)))
        self.validate()

    def validate(self) -> None:
        """Raises a UserError when values do not fit together; overridden where there are such rules."""


def fields_of(groups: Iterable[type]) -> dict[str, tuple[dataclasses.Field, type]]:
    """Return every field of config dataclasses by name, with its class."""
    return {field.name: (field, group) for group in groups for field in dataclasses.fields(group)}


def make(group: type[Group], values: Mapping[str, Any]) -> Group:
    """Return an instance of a config dataclass from those of `values` that belong to it; the rest are defaults."""
    fields = fields_of([group])
    return group(**{name: coerce(field, group, values[name]) for name, (field, _) in fields.items() if name in values})


def typed(groups: Iterable[type], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by name, each in its field's type; of a config file, or keyword arguments of the Python API.

    Raises:
      UserError: an unknown name (`unknown-name`), or a value as in `Config`.
    """
    fields = fields_of(groups)
    for name in values:
        if name not in fields:
            near = nearest(name, list(fields))
            hint = near if near.startswith("did") else "the help page of `helpfull` lists the settings of a command"
            raise UserError("unknown-name", f"there is no setting {name!r}", hint, value=name)
    return {name: coerce(*fields[name], value) for name, value in values.items()}


def as_dict(config: Any) -> dict[str, Any]:
    """Return a config as plain values that YAML can hold, without the retired fields."""
    return {
        field.name: [_plain(part) for part in value] if isinstance(value, tuple) else _plain(value)
        for field in dataclasses.fields(config)
        if not field.metadata["retired"]
        for value in [getattr(config, field.name)]
    }


def _plain(value: Any) -> Any:
    """Return a value to save: paths of copies become the names of what was copied."""
    return named(value) if isinstance(value, str) else value


@functools.cache
def _hints(group: type) -> dict[str, Any]:
    return typing.get_type_hints(group)


def kind_of(field: dataclasses.Field, group: type) -> str:
    """Return one of bool, int, float, str, ints, floats, texts, size: how the field's values are read."""
    hint = _hints(group)[field.name]
    if _may_be_none(field, group):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    return _KINDS.get(hint, "str")


def _may_be_none(field: dataclasses.Field, group: type) -> bool:
    return type(None) in typing.get_args(_hints(group)[field.name])


# --- Reading ------------------------------------------------------------------------------------------------


def coerce(field: dataclasses.Field, group: type, value: Any) -> Any:
    """Return a command-line word, a YAML value or a keyword argument as the field's type.

    Raises:
      UserError: as `Config`.
    """
    if value is None and _may_be_none(field, group):
        return None
    kind = kind_of(field, group)
    try:
        result = _READERS[kind](value)
    except (TypeError, ValueError, OverflowError):
        rule = f"needs {_KIND_NAMES[kind]}, not {_shown(value)}"
        raise UserError("wrong-type", rule, _hint_for(field, kind, value), field=field.name, value=value) from None
    numbers = result if isinstance(result, tuple) else (result,)
    choices = field.metadata["choices"]
    if choices and any(number not in choices for number in numbers):
        code = "unknown-name" if isinstance(choices[0], str) else "out-of-range"
        allowed = ", ".join(str(choice) or "(empty)" for choice in choices)
        raise UserError(code, f"must be one of {allowed}, not {_shown(result)}", field=field.name, value=result)
    for number in numbers:
        if not isinstance(number, (str, bool)):
            _check_bounds(field, number)
    return result


def _check_bounds(field: dataclasses.Field, number: float) -> None:
    limits = field.metadata
    bottom, above, top = limits["min"], limits["above"], limits["max"]
    if isinstance(number, int):
        top = _MAX_INT if top is None else top
        bottom = -_MAX_INT if bottom is None and above is None else bottom
    too_low = (bottom is not None and number < bottom) or (above is not None and number <= above)
    if not too_low and (top is None or number <= top):
        return
    bounds = {"above": above, "at least": bottom, "at most": top}
    parts = [f"{words} {bound}" for words, bound in bounds.items() if bound is not None]
    because = f" ({limits['because']})" if limits["because"] and not too_low else ""
    rule = f"must be {' and '.join(parts)}{because}, not {_shown(number)}"
    is_percent = limits["max"] == 1 and 1 < number <= 100
    hint = f"`{field.name}={number / 100:g}` if you mean percent" if is_percent else ""
    raise UserError("out-of-range", rule, hint, field=field.name, value=number)


def _shown(value: Any) -> str:
    """Return a value for a message, at most 60 characters."""
    if value is None:
        return "an empty value"
    if isinstance(value, Mapping):
        return "a mapping"
    try:
        text = repr(value)
    except ValueError:  # whole numbers of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text)} characters)"


def _hint_for(field: dataclasses.Field, kind: str, value: Any) -> str:
    """Return what was probably meant by a value that cannot be read; empty if that is not clear."""
    if value is None:
        return "leave it out to get the default"
    if isinstance(value, (datetime.date, datetime.time)):
        return "put quotes around it, so that YAML does not read it as a date"
    if isinstance(value, bool) and kind in ("str", "texts"):
        return "put quotes around it, so that YAML does not read it as true or false"
    text = ",".join(value) if isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value) else value
    if not isinstance(text, str) or len(text) > _MAX_EXPLAINED:
        return ""
    meant = _meant_list(kind, text) if kind in ("ints", "floats", "size") else ""
    if kind in ("int", "float"):
        meant = _meant_number(text)
    if not meant:
        return ""
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        _READERS[kind](meant)
        unit = f", in {field.metadata['unit']}" if field.metadata["unit"] and re.search("[a-zA-Z]", text) else ""
        return f"`{field.name}={meant}`{unit}"
    return ""


def _meant_list(kind: str, text: str) -> str:
    """Return the numbers of `513x513`, `[6 12 18]` or `"6;12"` with commas between; empty for anything else."""
    if kind == "size":
        text = re.sub(r"(?<=\d)\s*[x×*]\s*(?=\d)", ",", text).replace("px", " ")
    numbers, between = re.findall(_NUMBER, text), re.sub(_NUMBER, "", text)
    return ",".join(numbers) if re.fullmatch(_BETWEEN, between) else ""


def _meant_number(text: str) -> str:
    """Return the number of `30,000`, `0,007`, `10k`, `25%`, `"4"` or `513px`; empty for anything else."""
    bare = text.strip().strip("'\"").strip()
    if re.fullmatch(r"[1-9]\d{0,2}([, ]\d{3})+", bare):
        return re.sub("[, ]", "", bare)
    if match := re.fullmatch(r"([+-]?\d*),(\d+)", bare):
        return f"{match[1] or 0}.{match[2]}"
    if match := re.fullmatch(rf"({_NUMBER})\s*%", bare):
        return f"{float(match[1]) / 100:g}"
    if match := re.fullmatch(rf"({_NUMBER})\s*([kKM])", bare):
        return f"{float(match[1]) * (10**6 if match[2] == 'M' else 1000):.0f}"
    match = re.fullmatch(rf"({_NUMBER})(\s*(?:px|pixels?|f|steps?|images?))?", bare)
    return match[1] if match and (match[2] or bare != text) else ""


def split_words(texts: str | Iterable[str]) -> list[str]:
    """Return the words of one or more texts with commas: `"a,b,c"` and `("a, b", "c")` give `["a", "b", "c"]`."""
    parts = ",".join([texts] if isinstance(texts, str) else texts).split(",")
    return [part.strip() for part in parts if part.strip()]


def _words(value: Any) -> list[Any]:
    """Return the parts of a value as a flat list, whether it is written `"513, 513"`, `["513,513"]` or `[513, 513]`."""
    words: list[Any] = []
    for item in value if isinstance(value, (list, tuple)) else [value]:
        words += split_words(item) if isinstance(item, str) else [item]
    return words


def _read_bool(value: Any) -> bool:
    words = dict.fromkeys(("true", "1", "t", "yes", "y", "on"), True)
    words |= dict.fromkeys(("false", "0", "f", "no", "n", "off"), False)
    if not isinstance(value, (bool, int, str)) or str(value).lower() not in words:
        raise ValueError
    return words[str(value).lower()]


def _read_float(value: Any) -> float:
    number = math.nan if isinstance(value, bool) else float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _read_int(value: Any) -> int:
    if isinstance(value, str) and value.strip().lstrip("+-").isdigit():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = _read_float(value)
    if number != int(number):
        raise ValueError
    return int(number)


def _read_size(value: Any) -> Size:
    numbers = [_read_int(word) for word in _words(value)]
    if len(numbers) not in (1, 2):
        raise ValueError
    return numbers[0], numbers[-1]


def _read_str(value: Any) -> str:
    text = str(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float, os.PathLike)) or "\0" in text:
        raise ValueError
    return text


_READERS: dict[str, Any] = {
    "bool": _read_bool,
    "int": _read_int,
    "float": _read_float,
    "str": _read_str,
    "ints": lambda value: tuple(_read_int(word) for word in _words(value)),
    "floats": lambda value: tuple(_read_float(word) for word in _words(value)),
    "texts": lambda value: tuple(map(_read_str, value if isinstance(value, (list, tuple)) else [value])),
    "size": _read_size,
}
_KIND_NAMES = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "ints": "whole numbers (repeated, or separated by commas)",
    "floats": "numbers (repeated, or separated by commas)",
    "texts": "text (repeated)",
    "size": "height,width in pixels",
}
