"""The help page of a command: usage, required and everyday flags in groups, then examples and notes."""

from __future__ import annotations

import dataclasses
import shutil
import textwrap
from collections.abc import Mapping, Sequence

from deeplab.config.fields import kind_of

_FIELD_COLUMNS = 30
_PLACEHOLDERS = {
    "int": "N",
    "float": "X",
    "str": "TEXT",
    "ints": "N,N,...",
    "floats": "X,X,...",
    "texts": "TEXT",
    "size": "HEIGHT,WIDTH",
}
_GENERAL = {
    "--config=FILE": "YAML file with values of these flags; flags on the command line win.",
    "--flagfile=FILE": "File of flags, one per line.",
}


def help_page(
    program: str, purpose: str, groups: Sequence[type], full: bool = False, choices: Mapping[str, str] | None = None
) -> str:
    """Return the help page of a command.

    Args:
      program: how the command is called: "deeplab train".
      purpose: text on the command; its first paragraph opens the page, the rest (examples, notes) ends it.
      groups: the command's config dataclasses.
      full: show rarely used and retired flags as well.
      choices: words that may follow the command, with one line on each; for commands whose flags depend on the word.
    """
    summary, _, notes = purpose.strip().partition("\n\n")
    fields = [(field, group) for group in groups for field in dataclasses.fields(group)]
    shown = [(field, group) for field, group in fields if not field.metadata["retired"]]
    required = [(field, group) for field, group in shown if field.metadata["required"]]
    words = [f"--{field.name}=..." for field, _ in required]
    usage = " ".join(["Usage:", program, *words, "[--flag=value ...]"])
    lines = [summary, "", textwrap.fill(usage, _width(), subsequent_indent=" " * 8, break_on_hyphens=False)]
    if choices:
        lines += ["", *_table({f"  {word}": text for word, text in choices.items()})]
    if required:
        lines += ["", "Required", *_rows(required)]
    for group in groups:
        own = [each for each in shown if each[1] is group and not each[0].metadata["required"]]
        rows = _rows([each for each in own if full or not each[0].metadata["rare"]])
        if rows:
            lines += ["", (group.__doc__ or "").strip().splitlines()[0].rstrip("."), *rows]
    if groups:
        hidden = sum(field.metadata["rare"] for field, _ in shown)
        more = {"--helpfull": f"Show {hidden} rarely used flags as well."} if hidden and not full else {}
        lines += ["", "General", *_table({f"  {name}": text for name, text in {**_GENERAL, **more}.items()})]
    retired = {f"  --{f.name}": f"No effect: {f.metadata['retired']}." for f, _ in fields if f.metadata["retired"]}
    if retired and full:
        lines += ["", "Accepted for old command lines", *_table(retired)]
    return "\n".join([*lines, "", notes] if notes else lines)


def _rows(fields: Sequence[tuple[dataclasses.Field, type]]) -> list[str]:
    return _table({f"  {_flag(field, group)}": _explanation(field, group) for field, group in fields})


def _table(rows: Mapping[str, str]) -> list[str]:
    """Return names and texts in two columns; a long name gets a line of its own."""
    lines = []
    indent = " " * (_FIELD_COLUMNS + 4)
    wrapper = textwrap.TextWrapper(
        _width(), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )
    for name, text in rows.items():
        wrapped = wrapper.wrap(text)
        if wrapped and len(name) < len(indent) - 1:
            wrapped[0] = name.ljust(len(indent)) + wrapped[0].lstrip()
        else:
            wrapped.insert(0, name)
        lines += wrapped
    return lines


def _flag(field: dataclasses.Field, group: type) -> str:
    is_switch = kind_of(field, group) == "bool"
    return f"--[no]{field.name}" if is_switch else f"--{field.name}={_placeholder(field, group)}"


def _placeholder(field: dataclasses.Field, group: type) -> str:
    choices = [str(choice) for choice in field.metadata["choices"] if choice != ""]
    text = "|".join(choices)
    return text if choices and len(text) < _FIELD_COLUMNS else _PLACEHOLDERS[kind_of(field, group)]


def _explanation(field: dataclasses.Field, group: type) -> str:
    choices = [str(choice) for choice in field.metadata["choices"] if choice != ""]
    default = field.default
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    notes = [field.metadata["unit"]]
    if choices and _placeholder(field, group) != "|".join(choices):
        notes.append("one of " + ", ".join(choices))
    if default not in (None, "") and not field.metadata["required"]:
        notes.append(f"default {str(default).lower() if isinstance(default, bool) else default}")
    remark = "; ".join(filter(None, notes))
    return field.metadata["help"] + (f" [{remark}]" if remark else "")


def _width() -> int:
    """Return the columns of the page: those of the terminal up to 120; 100 away from one."""
    return max(60, min(120, shutil.get_terminal_size((100, 24)).columns))
