"""Words for the terminal: numbers with their nouns, lines of a readable length, and names that cannot do harm."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence

WIDTH = 100  # columns to which sentences are broken; lines that name files and flags stay whole, to be found and copied
_HARMFUL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")  # controls, line ends, turned directions


def counted(number: int, noun: str) -> str:
    """`1 error`, `3 errors`, `no errors`."""
    return f"{number or 'no'} {noun}{'s' if number != 1 else ''}"


def shorten(names: Sequence[object], most: int = 5) -> str:
    """The first names, and the number of the others: `a, b, c and 17 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


def percent(fraction: float, digits: int = 2, unit: str = "%") -> str:
    """A fraction as a percentage: `12.35%`, `0.0012%`, `<0.0001%`; `-` for NaN. Only what is 0 looks like 0."""
    number = 100 * fraction
    if math.isnan(number):
        return "-"
    if 0 < number < 5 * 0.1 ** (digits + 1):  # it would be rounded to 0
        if number < 5e-5:
            return f"<0.0001{unit}"
        digits = min(4, 1 - math.floor(math.log10(number)))
    return f"{number:.{digits}f}{unit}"


def byte_text(size: float) -> str:
    """Bytes in readable units: `1.9 GB`, `253 MB`, `2.5 MB`, `12 kB`."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    if size >= 1e6:
        return f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB"
    return f"{math.ceil(size / 1e3)} kB"


def harmless(text: str) -> str:
    """A text that users made, on one line: nothing in it moves the cursor, changes colors or cannot be printed."""
    return _HARMFUL.sub("\ufffd", text).encode("utf-8", "replace").decode()


def broken(text: str, indent: str = "") -> str:
    """A sentence on lines of at most `WIDTH` columns, the further ones indented; words and flags stay whole."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
