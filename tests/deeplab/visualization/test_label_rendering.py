"""Labels as images: colors for classes, patterns for everything that is none, legends that say how much of each."""

import numpy as np
import pytest

from deeplab.data.dataset import Dataset
from deeplab.visualization.label_rendering import IGNORED, MAX_KEYS, NO_CLASS, PADDING, LabelColors, percent

COLORS = ((1, 2, 3), (200, 0, 0), (0, 200, 0))
LABEL_COLORS = LabelColors.of(Dataset("set", ("ground", "disc", "square"), COLORS))


def counts(**numbers):
    found = np.zeros(256, np.int64)
    for value, number in numbers.items():
        found[int(value[1:])] = number
    return found


def test_classes_have_their_colors_and_nothing_else_has():
    label = np.full([60, 80], 1)
    label[:, 20:40], label[:, 40:60], label[:, 60:] = 2, 255, 7
    padding = np.zeros([60, 80], bool)
    padding[50:] = True
    drawn = LABEL_COLORS.draw(label, padding)
    assert (drawn[:50, :20] == COLORS[1]).all() and (drawn[:50, 20:40] == COLORS[2]).all()
    for columns, pattern in ((slice(40, 60), IGNORED), (slice(60, 80), NO_CLASS)):
        np.testing.assert_array_equal(drawn[:50, columns], pattern.drawn(60, 80)[:50, columns])
    np.testing.assert_array_equal(drawn[50:], PADDING.drawn(60, 80)[50:])


@pytest.mark.parametrize("pattern", [IGNORED, PADDING, NO_CLASS])
def test_patterns_have_lines(pattern):
    drawn = pattern.drawn(30, 40)
    on_line = (drawn == pattern.lines).all(-1)
    assert (on_line | (drawn == pattern.ground).all(-1)).all()
    assert on_line.any(0).all() and on_line.any(1).all() and not on_line.all(1).any()
    assert (on_line.mean() > 0.35) == pattern.crossed


def test_an_ignore_label_among_the_classes_is_hatched():
    other = LabelColors(("other", "wall"), LABEL_COLORS.colors, ignore_label=0)
    np.testing.assert_array_equal(other.draw(np.zeros([9, 9], int)), IGNORED.drawn(9, 9))
    assert [key.text for key in other.legend(counts(_0=30, _1=10))] == ["1 wall 100.0 %", "0 ignored 75.0 %"]


def test_legend():
    keys = LABEL_COLORS.legend(counts(_0=30, _1=10, _255=40, _9=5, _11=5), padding=10)
    assert [key.text for key in keys] == [
        "0 ground 75.0 %",
        "1 disc 25.0 %",
        "2 square 0",
        "255 ignored 40.0 %",
        "padding 10.0 %",
        "no class: 9, 11 10.0 %",
    ]
    assert (keys[1].swatch == COLORS[1]).all()
    np.testing.assert_array_equal(keys[3].swatch, IGNORED.drawn(14, 14))


def test_legend_of_many_classes_names_those_that_occur():
    names = [f"class_{index}" for index in range(MAX_KEYS + 1)]
    keys = LabelColors(names, LABEL_COLORS.colors, 255).legend(counts(_3=1))
    assert [key.text for key in keys] == ["3 class_3 100.0 %"]


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (1, "100.0 %"),
        (0.1234, "12.3 %"),
        (0.01234, "1.23 %"),
        (0.001234, "0.12 %"),
        (0.00001234, "0.0012 %"),
        (1e-7, "< 0.0001 %"),
        (0, "0"),
    ],
)
def test_percent(fraction, text):
    assert percent(fraction) == text
