"""Output on the terminal: notes, tables, and progress with the time left.

Results go to standard output; notes, warnings and progress go to standard error, so that output can be piped. On a
terminal Rich draws colors and progress bars (`NO_COLOR` switches colors off); elsewhere everything is plain lines.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from deeplab.utils.errors import UserError
from deeplab.utils.remote_names import named

if TYPE_CHECKING:
    import rich.console
    import rich.progress

_SECONDS_BETWEEN_LINES = 10.0  # of progress, away from a terminal
_STYLES = {"warning": "bold yellow", "error": "bold red"}
_spell: Callable[[str], str] = str
_quiet = False  # nothing but errors is printed
_display: rich.progress.Progress | None = None  # the bars on the terminal, all in one


def spell_settings(spell: Callable[[str], str]) -> None:
    """Sets how settings between backquotes are shown in what is printed from now on; the command line shows flags."""
    global _spell
    _spell = spell


def only_errors(quiet: bool = True) -> None:
    """Leaves out notes, warnings and progress from now on: of several processes with one task, one says it all."""
    global _quiet
    _quiet = quiet


def spelled(text: str) -> str:
    """Return a text as this program shows it: settings between its backquotes, remote names in place of copies."""
    return named(_spell(text))


# --- Lines --------------------------------------------------------------------------------------------------


def note(text: str) -> None:
    """Prints one line that says what happens."""
    _print_line(spelled(text))


def warning(text: str) -> None:
    """Prints one line on something that works but is likely not what the user wants."""
    _print_line(spelled(text), "warning")


def error(error: UserError | str) -> None:
    """Prints the last lines of a command that failed; a UserError with its code, as `error: TEXT [code]`."""
    text = error.text(_spell, with_code=True) if isinstance(error, UserError) else _spell(error)
    _print_line(named(text), "error")


def result(text: str, stream: TextIO | None = None) -> None:
    """Prints what a command was called for; unlike other output, its loss is an error.

    Raises:
      UserError: there is no room for it (`unwritable-file`).
    """
    stream = getattr(stream or sys.stdout, "strict", stream or sys.stdout)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        print(spelled(text).encode(encoding, "replace").decode(encoding), file=stream, flush=True)
    except BrokenPipeError:  # the reader has seen enough
        pass
    except OSError as problem:
        rule = f"cannot be written: {problem.strerror}"
        raise UserError("unwritable-file", rule, "free space on the disk", where="standard output") from None


def _print_line(text: str, kind: str = "") -> None:
    if _quiet and kind != "error":
        return
    if _is_terminal(sys.stderr):
        from rich.text import Text

        shown = Text.assemble((f"{kind}: ", _STYLES[kind]), text) if kind else Text(text)
        _terminal().print(shown, soft_wrap=True)
    else:
        print(f"{kind}: {text}" if kind else text, file=sys.stderr, flush=True)


def _is_terminal(stream: TextIO) -> bool:
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def is_terminal() -> bool:
    """Whether notes and progress go to a terminal, where lines can be replaced."""
    return _is_terminal(sys.stderr) and not _quiet


def _terminal() -> rich.console.Console:
    """Return the terminal behind standard error, above the progress bars if there are any."""
    from rich.console import Console

    return _display.console if _display is not None else Console(stderr=True, highlight=False)


# --- Tables -------------------------------------------------------------------------------------------------


def table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """Return rows as aligned text: numbers to the right, words to the left; the header bold on a terminal."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[str(cell) for cell in row] for row in rows]
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, title in enumerate(header):
        is_numeric = all(map(_is_numeric, (row[index] for row in cells)))
        grid.add_column(Text(title), justify="right" if is_numeric else "left", no_wrap=True)
    grid.add_row(*("-" * max(map(cell_len, column)) for column in zip(header, *cells, strict=True)))
    for row in cells:
        grid.add_row(*map(Text, row))
    color = None if _is_terminal(sys.stdout) else False
    console = Console(file=io.StringIO(), width=10_000, force_terminal=color is None, no_color=color is False or None)
    console.print(grid)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]


def _is_numeric(cell: str) -> bool:
    return cell.strip("%-").replace(".", "").replace(",", "").isdigit() or cell in "-"


# --- Progress -----------------------------------------------------------------------------------------------


class progress:
    """The progress of a loop or of a block, with the time left.

        for image in progress(images, what="reading", unit="image"): ...
        with progress(total=len(images), what="reading", unit="image") as bar: bar.update()

    On a terminal a bar; elsewhere a line every ten seconds and one at the end.

    Args:
      items: what the loop goes over; None for a block.
      total: number of steps (default: the number of items, if that is known).
      what: what is done, as a participle.
      unit: what is counted, in the singular; "B" = bytes.

    Attributes:
      n: steps done.
    """

    def __init__(self, items: Iterable[Any] = (), total: int | None = None, what: str = "", unit: str = "step"):
        self._items, self._what, self._unit = items, what, unit
        self.total = getattr(items, "__len__", lambda: None)() if total is None else total
        self.n = 0
        self._task: Any = None
        self._first: tuple[float, int] | None = None  # when the first steps were done, and how many
        self._start = self._shown = time.monotonic()

    def __iter__(self) -> Generator[Any, None, None]:
        with self:
            for item in self._items:
                yield item
                self.update()

    def __enter__(self) -> progress:
        self._start = self._shown = time.monotonic()
        if is_terminal():
            self._task = _shared_display().add_task(self._what, total=self.total, counted=self._counted())
        return self

    def update(self, steps: int = 1) -> None:
        """Counts steps that are done."""
        self.n += steps
        now = time.monotonic()
        if self._first is None:
            self._first = now, self.n
        if self._task is not None and _display is not None:
            _display.update(self._task, completed=self.n, counted=self._counted())
        elif now - self._shown > _SECONDS_BETWEEN_LINES and self._task is None:
            self._shown = now
            note(f"{self._what}: {self._counted()}{self._left()}")

    def describe(self, text: str) -> None:
        """Replaces the words before the bar; away from a terminal they appear in the next line."""
        self._what = text
        if self._task is not None and _display is not None:
            _display.update(self._task, description=text)

    def close(self) -> None:
        """Ends the display."""
        global _display
        if self._task is None:
            note(f"{self._what}: {self._counted()} in {duration(time.monotonic() - self._start)}")
        elif _display is not None:
            _display.stop_task(self._task)
            self._task = None
            if all(task.stop_time is not None for task in _display.tasks):
                _display.stop()
                _display = None

    def __exit__(self, *_: object) -> None:
        self.close()

    def _counted(self) -> str:
        if self._unit == "B":
            size = f"{self.n / 1e6:.1f}"
            return f"{size}/{self.total / 1e6:.1f} MB" if self.total else f"{size} MB"
        number = self.total if self.total is not None else self.n
        plural = "es" if self._unit.endswith("ch") else "s"
        unit = self._unit if number == 1 else self._unit + plural
        return f"{self.n}/{self.total} {unit}" if self.total is not None else f"{self.n} {unit}"

    def _left(self) -> str:
        """The time left by the steps after the first ones, before which workers start and graphs are built."""
        begun, count = self._first or (self._start, 0)
        if not self.total or self.n <= count:
            return ""
        return f", {duration((self._shown - begun) / (self.n - count) * (self.total - self.n))} left"


def _shared_display() -> rich.progress.Progress:
    """Return the display of all bars, started if there is none yet."""
    global _display
    if _display is None:
        from rich import progress as bars

        columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.TextColumn("{task.fields[counted]}"))
        _display = bars.Progress(*columns, bars.TimeRemainingColumn(), console=_terminal())
        _display.start()
    return _display


def duration(seconds: float) -> str:
    """Return seconds as `1:02:03` or `02:03`."""
    minutes, seconds = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


# --- TensorFlow ---------------------------------------------------------------------------------------------


def import_tensorflow() -> None:
    """Imports TensorFlow without the lines its native code prints before any log level is heeded."""
    with native_messages_off():
        import tensorflow

        tensorflow.config.list_physical_devices()  # the first look for a GPU complains where there is none


@contextlib.contextmanager
def library_messages_off() -> Iterator[None]:
    """Keeps what libraries log about themselves (deprecations, versions) off the terminal; errors are still raised."""
    kept = logging.root.manager.disable
    logging.disable(max(kept, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(kept)


@contextlib.contextmanager
def native_messages_off() -> Iterator[None]:
    """Keeps what native code writes to standard error off the terminal, such as LiteRT's line about its delegate."""
    try:
        kept = os.dup(2)
    except OSError:  # standard error is closed
        yield
        return
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
