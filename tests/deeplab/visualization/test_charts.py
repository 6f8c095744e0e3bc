"""Places in line charts, by hand."""

import pytest

from deeplab.visualization.charts import LineChart, round_step


def test_round_steps():
    assert [round_step(value) for value in (1.0, 4.9, 5.1, 520)] == pytest.approx([0.2, 1, 2, 200])


def test_places():
    chart = LineChart("IoU", {"val": [(0, 0.25), (100, 0.75)]}, y_limits=(0, 1))
    assert (chart.x(0), chart.x(100), chart.y(0), chart.y(1)) == (64, 604, 288, 28)
    assert chart.y(2) == 28  # at the end of the axis
    (curve,) = chart.curves()
    assert curve[0] == "val" and curve[2] == "64.0,223.0 604.0,93.0"
    assert [text for *_, text in chart.dots()] == ["val: 0, 0.25", "val: 100, 0.75"]
    assert list(chart.guides()) == []


def test_round_ends_around_the_values():
    chart = LineChart("loss", {"a": [(1, 0.31), (3, 0.97)]})
    numbers = [text for _, _, anchor, text in chart.texts() if anchor == "end"]
    assert numbers[0] == "0.2" and numbers[-2] == "1"


def test_values_that_are_not_finite_are_left_out():
    chart = LineChart("loss", {"a": [(1, float("nan")), (2, 0.5)], "b": [], "c": [(3, float("inf"))]})
    assert [points for *_, points in chart.curves()] == [f"{chart.x(2)},{chart.y(0.5)}", "", ""]


@pytest.mark.parametrize("series", [{}, {"a": []}, {"a": [(5, 0.3)]}, {"a": [(5, 0.3), (6, 0.3)]}])
def test_few_points_still_have_axes(series):
    chart = LineChart("loss", series)
    assert len(list(chart.lines())) >= 4 and len(list(chart.texts())) >= 6


def test_diagonal_and_many_points():
    chart = LineChart("r", {"a": [(i, i) for i in range(100)]}, x_limits=(0, 1), y_limits=(0, 1), diagonal=True)
    assert list(chart.guides()) == ["64.0,288.0 604.0,28.0"] and list(chart.dots()) == []
