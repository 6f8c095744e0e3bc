"""What a person sees: lines, tables, durations and progress, on a terminal and away from one."""

import contextlib
import io
import os
import sys

import pytest
from support.errors import raises

from deeplab.utils import console
from deeplab.utils.errors import UserError


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Standard error as a terminal with colors."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")

    def start() -> Terminal:  # in the test itself: pytest puts its own stream back after a fixture
        monkeypatch.setattr(sys, "stderr", stream := Terminal())
        return stream

    return start


def test_tables_put_numbers_to_the_right_and_words_to_the_left():
    text = console.table([("hair", "1.5"), ("background", "12.25")], ["class", "IoU"])
    assert text == "class         IoU\n----------  -----\nhair          1.5\nbackground  12.25"


def test_tables_show_texts_as_they_are():
    text = console.table([("[red]a", "1"), ("\u6f22\u5b57", "-")], ["x[b]", "n"])
    assert text == "x[b]    n\n------  -\n[red]a  1\n\u6f22\u5b57    -"


def test_a_table_may_have_no_rows():
    assert console.table([], ["a", "b"]) == "a  b\n-  -"


def test_a_table_on_a_terminal_has_a_bold_header(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "\033[1m" in console.table([("a", "1")], ["name", "number"]).splitlines()[0]


def test_durations_are_clock_times():
    assert [console.duration(seconds) for seconds in (5, 65, 3665, -1)] == ["00:05", "01:05", "1:01:05", "00:00"]


def test_notes_go_to_standard_error(capsys):
    console.note("a note")
    console.warning("odd")
    console.error("bad")
    console.error(UserError("a-code", "a rule", "a hint", where="here"))
    out, err = capsys.readouterr()
    assert out == "" and err == "a note\nwarning: odd\nerror: bad\nerror: here: a rule [a-code]\n  hint: a hint\n"


def test_a_terminal_has_colors(terminal):
    stream = terminal()
    console.note("a [note] on a/b/c.png: 3")
    console.error("bad")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "a [note] on a/b/c.png: 3" and lines[1].startswith("\033[1;31merror: \033[0m")


def test_no_color_is_honored(terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    stream = terminal()
    console.error("bad")
    assert "31m" not in stream.getvalue()


def test_progress_counts_to_its_end(capsys):
    assert list(console.progress(range(3), what="reading", unit="image")) == [0, 1, 2]
    assert capsys.readouterr().err == "reading: 3/3 images in 00:00\n"
    with console.progress(total=2_500_000, what="unpacking", unit="B") as bar:
        bar.update(1_000_000)
        assert bar.n == 1_000_000
    assert capsys.readouterr().err == "unpacking: 1.0/2.5 MB in 00:00\n"
    assert list(console.progress(iter("ab"), what="reading", unit="file")) == ["a", "b"]
    assert capsys.readouterr().err == "reading: 2 files in 00:00\n"


def test_progress_says_the_time_left_now_and_then(capsys, monkeypatch):
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    list(console.progress(range(6), what="reading", unit="image"))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 2 and lines[0].startswith("reading: ") and lines[0].endswith(" left")


def test_the_time_left_is_not_that_of_the_start(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with console.progress(total=100, what="reading", unit="image") as bar:
        for seconds in (60, 4, 4, 4):  # workers start before the first image
            clock[0] += seconds
            bar.update()
    first, second, _ = capsys.readouterr().err.splitlines()
    assert first == "reading: 1/100 images" and second == "reading: 4/100 images, 06:24 left"


def test_bars_on_a_terminal_share_a_display(terminal):
    stream = terminal()
    for _ in console.progress(range(2), what="outer", unit="image"):
        console.warning("odd")
        list(console.progress(range(3), what="inner", unit="file"))
    shown = stream.getvalue()
    assert "2/2 images" in shown and "3/3 files" in shown and "odd" in shown
    assert console._display is None and shown.endswith("\033[?25h")  # the cursor is back


def test_a_loop_that_stops_early_ends_its_bar(terminal):
    terminal()
    for _ in console.progress(range(9), what="outer"):
        break
    with pytest.raises(RuntimeError), console.progress(total=3, what="block"):
        raise RuntimeError
    assert console._display is None


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full disk to write to")
def test_a_result_that_is_lost_is_an_error():
    full = open("/dev/full", "w")  # noqa: SIM115 - closing it is an error as well
    with raises("unwritable-file", where="standard output"):
        console.result("text", full)
    with contextlib.suppress(OSError):
        full.close()


def test_settings_are_spelled(capsys):
    console.spell_settings(str.upper)
    try:
        console.note("a")
        console.result("b")
    finally:
        console.spell_settings(str)
    assert capsys.readouterr() == ("B\n", "A\n")


def test_progress_uses_the_plural_of_its_unit(capsys):
    assert list(console.progress(range(2), what="reading", unit="batch")) == [0, 1]
    assert "2/2 batches" in capsys.readouterr().err
