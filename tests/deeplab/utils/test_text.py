"""Words for messages."""

import math

import pytest

from deeplab.utils.text import byte_text, counted, percent, shorten


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


@pytest.mark.parametrize(
    ("fraction", "two", "one"),
    [
        (0.0, "0.00%", "0.0%"),
        (1.0, "100.00%", "100.0%"),
        (0.12345, "12.35%", "12.3%"),
        (0.0004, "0.04%", "0.040%"),
        (2e-5, "0.0020%", "0.0020%"),
        (2e-6, "0.0002%", "0.0002%"),
        (4.9e-7, "<0.0001%", "<0.0001%"),
        (1e-300, "<0.0001%", "<0.0001%"),
        (math.nan, "-", "-"),
    ],
)
def test_only_what_is_zero_looks_like_zero(fraction, two, one):
    assert (percent(fraction), percent(fraction, 1)) == (two, one)
    if fraction > 0:
        for exponent in range(1, 12):
            assert float(percent(fraction * 0.37**exponent, unit="").lstrip("<")) > 0
