"""What a person sees: tables, durations, progress away from a terminal."""

from deeplab.utils import console


def test_tables_put_numbers_to_the_right_and_words_to_the_left():
    text = console.table([("hair", "1.5"), ("background", "12.25")], ["class", "IoU"])
    assert text == "class         IoU\n----------  -----\nhair          1.5\nbackground  12.25"


def test_a_table_may_have_no_rows():
    assert console.table([], ["a", "b"]) == "a  b\n-  -"


def test_durations_are_clock_times():
    assert [console.duration(seconds) for seconds in (5, 65, 3665, -1)] == ["00:05", "01:05", "1:01:05", "00:00"]


def test_notes_go_to_standard_error(capsys):
    console.note("a note")
    console.warning("odd")
    console.error("bad")
    out, err = capsys.readouterr()
    assert out == "" and err == "a note\nwarning: odd\nerror: bad\n"


def test_progress_counts_to_its_end(capsys):
    assert list(console.progress(range(3), what="steps")) == [0, 1, 2]
    assert "3/3" in capsys.readouterr().err
