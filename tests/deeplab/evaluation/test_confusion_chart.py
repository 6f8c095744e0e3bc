"""Places and numbers of the drawn confusion matrix."""

import numpy as np
import pytest

from deeplab.evaluation.confusion_chart import ConfusionCell, ConfusionChart


def test_cells():
    chart = ConfusionChart(np.array([[3, 1], [0, 0]]), ("a", "b"))
    assert list(chart.cells()) == [ConfusionCell(0, 0, 0.75, 3), ConfusionCell(0, 1, 0.25, 1)]
    assert chart.numbered and chart.side == 80 and chart.size == chart.margin + 88


def test_many_classes_are_named_on_all_sides():
    names = [f"name {index}" for index in range(150)]
    chart = ConfusionChart(np.eye(150, dtype=int), names)
    assert not chart.numbered and chart.size == 150 * 13 + 2 * chart.margin + 8
    assert ConfusionChart(np.eye(1, dtype=int), ["x" * 99]).name(0) == "x" * 21 + "… 0"


@pytest.mark.parametrize(
    ("fraction", "percent"), [(1.0, "100"), (0.9999, ">99"), (0.123, "12"), (0.001, "<1"), (0.995, ">99")]
)
def test_percentages(fraction, percent):
    assert ConfusionCell(0, 0, fraction, 1).percent == percent


@pytest.mark.parametrize(
    ("pixels", "short"), [(345, "345"), (1234, "1.2k"), (9960, "10k"), (12345, "12k"), (3.44e6, "3.4M"), (5e9, "5.0G")]
)
def test_numbers_of_pixels(pixels, short):
    assert ConfusionCell(0, 0, 1.0, int(pixels)).short == short


def test_small_fractions_are_visible():
    assert ConfusionCell(0, 0, 0.0001, 1).opacity == 0.06 and ConfusionCell(0, 0, 0.25, 1).opacity == 0.5
