"""Texts for the terminal: numbers with their nouns, wrapped sentences, and foreign texts made harmless."""

from __future__ import annotations

import re
import textwrap

WIDTH = 100  # columns; only sentences are wrapped: lines that name files and flags can be searched and copied
_HARMFUL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")  # controls, line ends, changes of direction


def counted(number: int, noun: str) -> str:
    """Return `1 error`, `3 errors`, `no errors`."""
    return f"{number or 'no'} {noun}{'s' if number != 1 else ''}"


def harmless(text: str) -> str:
    """Return a text of unknown origin on one line, without anything that moves the cursor or changes colors."""
    return _HARMFUL.sub("\ufffd", text).encode("utf-8", "replace").decode()


def broken(text: str, indent: str = "") -> str:
    """Return a sentence on lines of at most `WIDTH` columns, the further ones indented; words and flags stay whole."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
