"""What a person sees on the terminal: notes, tables and progress with the time left.

Everything that commands print goes through here, so that it looks the same everywhere. Results go to
standard output; notes, warnings and progress go to standard error, so that output can be piped.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from tqdm import tqdm

from deeplab.utils.errors import UserError

_spell: Callable[[str], str] = str


def spell_settings(spell: Callable[[str], str]) -> None:
    """Sets how settings between backquotes are shown in what is printed from now on; the command line shows flags."""
    global _spell
    _spell = spell


def spelled(text: str) -> str:
    """A text with the settings between its backquotes as this program shows them."""
    return _spell(text)


def note(text: str) -> None:
    """One line that says what happens."""
    _print_beside_progress(text)


def warning(text: str) -> None:
    """One line on something that works but is likely not what the user wants."""
    _print_beside_progress(f"warning: {text}")


def error(error: UserError | str) -> None:
    """The last lines of a command that failed; a UserError is shown with its code, as `error: TEXT [code]`."""
    text = error.text(_spell, with_code=True) if isinstance(error, UserError) else error
    _print_beside_progress(f"error: {text}")


def _print_beside_progress(text: str) -> None:
    tqdm.write(_spell(text), file=sys.stderr)
    sys.stderr.flush()


def table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """Rows as aligned text: numbers to the right, words to the left."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(header), *cells]) for i in range(len(header))]
    numeric = [_is_numeric_column([row[i] for row in cells]) for i in range(len(header))]

    def line(values: Sequence[str]) -> str:
        padded = (
            value.rjust(width) if right else value.ljust(width)
            for value, width, right in zip(values, widths, numeric, strict=True)
        )
        return "  ".join(padded).rstrip()

    return "\n".join([line(list(header)), "  ".join("-" * width for width in widths), *map(line, cells)])


def _is_numeric_column(cells: Sequence[str]) -> bool:
    return all(cell.strip("%-").replace(".", "").replace(",", "").isdigit() or cell in "-" for cell in cells)


def progress(items: Iterable[Any] | None = None, total: int | None = None, what: str = "", unit: str = "it") -> tqdm:
    """A progress bar with rate and time left; away from a terminal one line every ten seconds."""
    terminal = sys.stderr.isatty()
    return tqdm(
        items,
        total=total,
        desc=what,
        unit=unit,
        unit_scale=unit == "B",  # bytes as 1.0M
        file=sys.stderr,
        dynamic_ncols=terminal,
        mininterval=0.2 if terminal else 10.0,
        ascii=None if terminal else " -#",
        leave=True,
    )


def duration(seconds: float) -> str:
    """Seconds as `1:02:03` or `02:03`."""
    return tqdm.format_interval(max(0.0, seconds))


def import_tensorflow() -> None:
    """Imports TensorFlow without the lines its native code prints before any log level is heeded."""
    with _native_messages_off():
        import tensorflow

        tensorflow.config.list_physical_devices()  # the first look for a GPU complains where there is none


@contextlib.contextmanager
def _native_messages_off() -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
