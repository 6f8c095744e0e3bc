"""The error that bad input raises, and the search for the nearest valid name.

Owns `UserError`. Raised by every package; caught by the command line (`deeplab/config/command_line.py`), which prints
it without a traceback. The library never spells a command-line flag: a setting is named by its field, in `field` or
between backquotes in a text (`train_crop_size=513,513`), and the command line prints it as a flag.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

LOST = 75  # exit code of a worker that ended because another one did: "try again", as EX_TEMPFAIL of sysexits.h

_SETTING = re.compile(r"`([a-z][a-z0-9_]*)((?:=[^`]*)?)`")


class UserError(Exception):
    """Bad input: a file, a setting or a value that breaks a rule.

    Args:
      code: kebab-case name of the kind of error; `docs/errors.md` explains each code. Tests assert it.
      rule: what must hold and what was found instead, without the name of the place.
      hint: what to do now, worked out for the user; empty where nothing helps but the rule itself.
      field: name of the setting at fault (`train_crop_size`).
      where: the file, record or object at fault (`masks/0007.png`). An error has a field or a place, rarely both.
      value: the offending value, for programs that catch the error.
    """

    def __init__(
        self,
        code: str,
        rule: str,
        hint: str = "",
        *,
        field: str | None = None,
        where: object = None,
        value: Any = None,
    ):
        self.code, self.rule, self.hint = code, rule, hint
        self.field, self.where, self.value = field, "" if where is None else str(where), value
        super().__init__(self.text())

    def text(self, spell: Callable[[str], str] = str, with_code: bool = False) -> str:
        """The message: place and rule, and a second line with the hint.

        Args:
          spell: turns a text with settings between backquotes into the text to show; see `spell_as_flags`.
          with_code: add the code in square brackets at the end of the first line, as the command line does.
        """
        place = ", ".join(filter(None, [spell(f"`{self.field}`") if self.field else "", self.where]))
        first, *more = (f"{place}: {spell(self.rule)}" if place else spell(self.rule)).split("\n")
        lines = [f"{first} [{self.code}]" if with_code else first, *more]
        return "\n".join([*lines, f"  hint: {spell(self.hint)}"] if self.hint else lines)

    def __reduce__(self) -> tuple[Any, ...]:  # errors of worker processes reach the parent whole
        return _rebuilt, (type(self), self.__dict__.copy())


def _rebuilt(kind: type[UserError], state: dict[str, Any]) -> UserError:
    error = kind.__new__(kind)
    error.__dict__.update(state)
    error.args = (error.text(),)
    return error


MAX_ERRORS = 10  # of one kind, after which a command that collects them stops


def joined(errors: Sequence[UserError], what: str) -> UserError:
    """One error for several: the first with its hint, and each of the others in a line, with its hint if it differs.

    Args:
      errors: at least one, in the order in which they were found.
      what: text after the number of the others, such as "more pairs cannot be used".
    """
    first, *rest = errors
    if not rest:
        return first
    own = [f"; {error.hint}" if error.hint not in ("", first.hint) else "" for error in rest]
    others = "".join(f"\n    {error.where}: {error.rule}{hint}" for error, hint in zip(rest, own, strict=True))
    more = " (and perhaps more: the rest was not checked)" if len(errors) == MAX_ERRORS else ""
    rule = f"{first.rule}\n  and {len(rest)} {what}{more}:{others}"
    return UserError(first.code, rule, first.hint, field=first.field, where=first.where, value=first.value)


def spell_as_flags(text: str, fields: Iterable[str]) -> str:
    """A text with its settings as command-line flags: "`train_crop_size=513`" becomes "--train_crop_size=513".

    Args:
      text: any text; what changes is a backquoted name of `fields`, and any backquoted `name=value`.
      fields: the names of all settings.
    """
    known = frozenset(fields)
    return _SETTING.sub(lambda match: f"--{match[1]}{match[2]}" if match[2] or match[1] in known else match[0], text)


def nearest(word: str, choices: Iterable[str]) -> str:
    """`did you mean 'X'?` for a misspelled name, or the list of choices when none is near."""
    choices = list(choices)
    swapped = [choice for choice in choices if sorted(choice) == sorted(word)]  # which difflib rates low
    near = swapped or difflib.get_close_matches(word, choices, n=1)
    return f"did you mean {near[0]!r}?" if near else "choose from " + ", ".join(sorted(choices))
