"""The help page: what it shows in which order, and that examples keep their line breaks."""

import dataclasses

import pytest

from deeplab import train
from deeplab.config.fields import Config, Size, Texts, setting
from deeplab.config.help_page import help_page

PURPOSE = r"""Does something.

Example:

    deeplab do --folder=a \
        --size=3

Notes.
"""


@dataclasses.dataclass(frozen=True)
class ShownConfig(Config):
    """Things that are shown."""

    folder: str = setting("", "A folder.", required=True)
    size: Size = setting((3, 4), "Its size.", unit="pixels")
    kind: str = setting("a", "Its kind.", choices=("a", "b"))
    long_list: str = setting("", "One of many.", choices=("", *(f"choice_{n}" for n in range(9))))
    names: Texts = setting((), "Names.")
    switch: bool = setting(True, "On or off.")
    unusual: int = setting(1, "Rarely used.", rare=True)
    old: int = setting(0, "Old.", retired="new replaces it")


@pytest.fixture(autouse=True)
def columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")


def test_the_order_is_summary_usage_required_groups_notes():
    page = help_page("deeplab do", PURPOSE, [ShownConfig])
    parts = [
        "Does something.",
        "Usage: deeplab do --folder=... [--flag",
        "Required",
        "Things that are shown",
        "General",
    ]
    places = [page.index(part) for part in [*parts, "Example:", "Notes."]]
    assert places[0] == 0 and places == sorted(places)


def test_examples_keep_their_line_breaks():
    assert "\n    deeplab do --folder=a \\\n        --size=3\n" in help_page("deeplab do", PURPOSE, [ShownConfig])
    assert " \\\n        --tf_initial_checkpoint" in help_page("deeplab train", train.__doc__, train.GROUPS)


def test_flags_show_type_unit_choices_and_default():
    lines = [" ".join(line.split()) for line in help_page("deeplab do", PURPOSE, [ShownConfig]).splitlines()]
    assert "--size=HEIGHT,WIDTH Its size. [pixels; default 3,4]" in lines
    assert "--kind=a|b Its kind. [default a]" in lines
    assert "--[no]switch On or off. [default true]" in lines
    assert "--names=TEXT Names." in lines
    assert any(line.startswith("--long_list=TEXT One of many. [one of choice_0, choice_1") for line in lines)


def test_rare_and_retired_flags_are_shown_on_request():
    page = help_page("deeplab do", PURPOSE, [ShownConfig])
    assert "--unusual" not in page and "--old" not in page and "Show 1 rarely used flags as well." in page
    full = help_page("deeplab do", PURPOSE, [ShownConfig], full=True)
    assert "--unusual=N" in full and "--helpfull" not in full
    assert "No effect: new replaces it." in full


def test_words_are_listed():
    page = help_page("deeplab do WORD", PURPOSE, [], choices={"one": "the first", "two": "the second"})
    assert "\n  one" in page and "the second" in page and "General" not in page


def test_no_line_is_wider_than_the_page():
    page = help_page("deeplab train", "Trains.", train.GROUPS, full=True)
    assert max(map(len, page.splitlines())) <= 100
