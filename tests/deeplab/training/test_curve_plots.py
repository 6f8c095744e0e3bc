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
