"""Words for messages."""

import pytest

from deeplab.utils.text import byte_text, counted, shorten


@pytest.mark.parametrize(
    ("names", "most", "expected"),
    [([], 2, ""), (["a", "b"], 2, "a, b"), (["a", "b", "c"], 2, "a, b and 1 more"), ((0, 7, 255), 1, "0 and 2 more")],
)
def test_lists_are_shortened(names, most, expected):
    assert shorten(names, most) == expected


def test_numbers_have_nouns():
    assert [counted(number, "error") for number in (0, 1, 2)] == ["no errors", "1 error", "2 errors"]


@pytest.mark.parametrize(
    ("size", "expected"), [(0, "0 kB"), (999, "1 kB"), (2_500_000, "2.5 MB"), (253e6, "253 MB"), (1.94e9, "1.9 GB")]
)
def test_sizes_have_units(size, expected):
    assert byte_text(size) == expected
