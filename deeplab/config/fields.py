"""Fields of settings groups: what they know of themselves, and how they are read from text and YAML.

Floor 0, beside the modules that list the groups, one per stage.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, TypeVar

from deeplab.utils.errors import UserError

Ints = tuple[int, ...]
Floats = tuple[float, ...]
Texts = tuple[str, ...]
Size = tuple[int, int]  # height, width in pixels
Group = TypeVar("Group")


def setting(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    shapes_weights: bool = False,
    required: bool = False,
    retired: str = "",
) -> Any:
    """A field with what the command line needs to know of it.

    Args:
      default: value when nobody sets it.
      help: one sentence, with the unit.
      choices: the allowed words, when they are few.
      shapes_weights: a checkpoint trained with one value cannot be used with another.
      required: commands that have this field stop when it is not given.
      retired: the field has lost its meaning; this line says what stands in its place.
    """
    metadata = {
        "help": help,
        "choices": choices,
        "shapes_weights": shapes_weights,
        "required": required,
        "retired": retired,
    }
    return dataclasses.field(default=default, metadata=metadata)


def kind_of(field: dataclasses.Field, group: type) -> str:
    """One of bool, int, float, str, ints, floats, texts, size: how a field is read from text."""
    hint = typing.get_type_hints(group)[field.name]
    alternatives = [part for part in typing.get_args(hint) if part is not type(None)]
    if type(None) in typing.get_args(hint):
        hint = alternatives[0]
    kinds = {Ints: "ints", Floats: "floats", Texts: "texts", Size: "size"}
    return kinds.get(hint) or hint.__name__


def coerce(field: dataclasses.Field, group: type, value: Any) -> Any:
    """A value from YAML or the command line as the field's type.

    Raises:
      UserError: the value cannot be read as that type, or is not among the choices.
    """
    if value is None:
        return None
    kind = kind_of(field, group)
    try:
        result = _READERS[kind](value)
    except (TypeError, ValueError):
        raise UserError("wrong-type", f"needs {_KIND_NAMES[kind]}, not {value!r}", field=field.name) from None
    choices = field.metadata["choices"]
    if choices and result not in choices:
        raise UserError(
            "unknown-name",
            f"must be one of {', '.join(c or '(empty)' for c in choices)}, not {result!r}",
            field=field.name,
        )
    return result


def make(group: type[Group], values: dict[str, Any]) -> Group:
    """An instance of a settings group from those of `values` that belong to it; the rest are defaults."""
    fields = {field.name: field for field in dataclasses.fields(group)}  # type: ignore[arg-type]
    return group(**{name: coerce(fields[name], group, values[name]) for name in fields if name in values})


def as_dict(settings: Any) -> dict[str, Any]:
    """A settings group as plain values that YAML can hold, without the retired fields."""
    return {
        field.name: list(value) if isinstance(value, tuple) else value
        for field in dataclasses.fields(settings)
        if not field.metadata["retired"]
        for value in [getattr(settings, field.name)]
    }


def require_positive(settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        values = value if isinstance(value, tuple) else (value,)
        if any(v is not None and v <= 0 for v in values):
            raise UserError("out-of-range", f"must be above 0, not {value}", field=name)


def _words(value: Any) -> list[Any]:
    """`"513, 513"`, `["513,513"]` and `[513, 513]` all as a flat list of words or numbers."""
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    if isinstance(value, (list, tuple)):
        return [word for item in value for word in _words(item)]
    return [value]


def _read_bool(value: Any) -> bool:
    words = {
        "true": True,
        "1": True,
        "t": True,
        "yes": True,
        "false": False,
        "0": False,
        "f": False,
        "no": False,
    }
    if isinstance(value, bool):
        return value
    if str(value).lower() not in words:
        raise ValueError(value)
    return words[str(value).lower()]


def _read_int(value: Any) -> int:
    number = float(value)
    if isinstance(value, bool) or number != int(number):
        raise ValueError(value)
    return int(number)


def _read_size(value: Any) -> Size:
    numbers = [_read_int(word) for word in _words(value)]
    if len(numbers) not in (1, 2):
        raise ValueError(value)
    return numbers[0], numbers[-1]


def _read_str(value: Any) -> str:
    if not isinstance(value, (str, int, float)):
        raise ValueError(value)
    return str(value)


_READERS: dict[str, Any] = {
    "bool": _read_bool,
    "int": _read_int,
    "float": float,
    "str": _read_str,
    "ints": lambda value: tuple(_read_int(word) for word in _words(value)),
    "floats": lambda value: tuple(float(word) for word in _words(value)),
    "texts": lambda value: tuple(map(_read_str, [value] if isinstance(value, (str, int, float)) else value)),
    "size": _read_size,
}
_KIND_NAMES = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "ints": "whole numbers (repeated, or with commas)",
    "floats": "numbers (repeated, or with commas)",
    "texts": "text (repeated, or with commas)",
    "size": "height,width in pixels",
}
