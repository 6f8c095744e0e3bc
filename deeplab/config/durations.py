"""Durations of a training: steps, epochs or fractions of it, all turned into steps by `Length.steps`; and times.

Settings hold durations as text: `500` or `500 steps`, `2 epochs`, `0.05` or `5%` of the training; times as
`30min`. Used by the config of training, which checks the texts, and by the training, which knows its length. It never
reads data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from deeplab.utils.errors import UserError

EXAMPLES = "`500 steps`, `2 epochs`, or 0.05 for a twentieth of the training"
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+) *(steps?|epochs?|%|)", re.ASCII)
_TIME = re.compile(r"(\d+(?:\.\d*)?|\.\d+) *(s|sec|seconds?|min|minutes?|h|hours?|d|days?)", re.ASCII)
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MAX_DAYS = 365


@dataclass(frozen=True)
class Length:
    """The length of a training.

    Attributes:
      total_steps: step at which it ends.
      steps_per_epoch: steps in which every training image is seen once.
    """

    total_steps: int
    steps_per_epoch: float = 1.0

    def steps(self, text: str, field: str = "") -> int:
        """Return a duration in steps, at least 1; 0 for an empty text and for 0.

        Raises:
          UserError: the text is no duration (`wrong-type`), see `parse`.
        """
        if not text.strip():
            return 0
        number, unit = parse(text, field)
        scale = {"step": 1.0, "epoch": self.steps_per_epoch, "part": float(self.total_steps)}[unit]
        return max(1, round(number * scale)) if number else 0


def parse(text: str, field: str = "") -> tuple[float, str]:
    """Return a duration as a number and its unit: "step", "epoch" or "part" (of the training, 0 to 1).

    A whole number is a number of steps; one with a decimal point is a fraction of the training.

    Raises:
      UserError: it is no duration; a fraction above 1, a fraction of a step, or a number beyond 32 bits.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise _no_duration(text, field)
    digits, word = found.groups()
    number = float(digits)
    unit = word.rstrip("s") or ("part" if "." in digits else "step")
    if unit == "%":
        number, unit = number / 100, "part"
    if (unit == "part" and number > 1) or (unit == "step" and number != int(number)) or number >= 2**31:
        raise _no_duration(text, field)
    return number, unit


def require(text: str, field: str, *, above_zero: bool = False) -> None:
    """Refuses a text that is neither empty nor a duration; with `above_zero`, also one of length 0.

    Raises:
      UserError: as `parse`.
    """
    if text.strip() and not parse(text, field)[0] and above_zero:
        raise _no_duration(text, field)


def _no_duration(text: str, field: str) -> UserError:
    rule = f"needs a number of steps, epochs or a fraction of the training, not {text!r}"
    return UserError("wrong-type", rule, EXAMPLES, field=field or None, value=text)


def seconds(text: str, field: str = "") -> float:
    """Return a time such as `90s`, `30min`, `1.5h` or `2 days` in seconds, above 0.

    Raises:
      UserError: it is not a time or has no unit (`wrong-type`), or is 0 or longer than a year (`out-of-range`).
    """
    found = _TIME.fullmatch(text.strip().lower())
    if found is None:
        rule = f"needs a number and its unit, not {text!r}"
        raise UserError("wrong-type", rule, "`30min`, `2h` or `90s`", field=field or None, value=text)
    number, word = found.groups()
    result = float(number) * _SECONDS[word[0]]
    if not 0 < result <= _MAX_DAYS * 86400:
        rule = f"must be above 0 and at most {_MAX_DAYS} days, not {text!r}"
        raise UserError("out-of-range", rule, field=field or None, value=text)
    return result
