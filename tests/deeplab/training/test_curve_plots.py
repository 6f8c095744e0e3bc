"""The plot of the curves, of complete and of missing values."""

import io

import numpy as np
import pytest
from PIL import Image

from deeplab.training import curve_plots

LOSSES = [
    {"step": step, "total_loss": 2 / step, "task_loss": 1 / step, "regularization_loss": 1 / step, "learning_rate": 0.1}
    for step in range(1, 9)
]
HISTORY = [{"step": step, "mean_iou": 0.1 * step, "iou/hair": 0.1 * step, "iou/skin": 0.5} for step in (2, 4)]


def size(losses, history, names=("hair", "skin"), colors=()):
    return Image.open(io.BytesIO(curve_plots.png(losses, history, names, colors))).size


def test_evaluations_add_a_row():
    width, height = size(LOSSES, [])
    assert size(LOSSES, HISTORY) == (width, 2 * height)
    assert size(LOSSES, HISTORY, colors=((255, 255, 255), (0, 0, 0))) == (width, 2 * height)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("history", [[], [{"step": 1, "mean_iou": np.nan}]])
def test_nothing_and_numbers_that_are_not_finite_can_be_drawn(bad, history):
    for losses in ([], [{**LOSSES[0], "total_loss": bad}]):
        assert size(losses, history, names=[f"class {index}" for index in range(40)])[0] > 500


def test_of_hundreds_of_classes_the_best_and_the_worst_are_drawn():
    names = [f"thing {index}" for index in range(200)]
    last = {f"iou/{name}": index / 200 for index, name in enumerate(names[:150])}  # 50 were never labeled
    axis = curve_plots.Figure().subplots()
    curve_plots._classes(axis, [{"step": 1}, {"step": 2, **last}], names, ())
    assert sorted(int(line.get_label().split()[1]) for line in axis.lines) == [*range(20), *range(130, 150)]
    assert axis.get_title("left") == "IoU of the best and the worst 40 of 200 classes"
    assert size(LOSSES, [{"step": 2, "mean_iou": 0.5}], names)[0] > 500  # an evaluation without any class
