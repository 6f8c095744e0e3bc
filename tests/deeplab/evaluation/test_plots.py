"""The plots show every class in its place and color, whatever the names."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from deeplab.evaluation import metrics, plots


def decoded(png: bytes) -> np.ndarray:
    """uint8 [H, W, 3] image of a PNG file's bytes."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.mark.parametrize("classes", [1, 2, 3, 21])
def test_plots_are_drawn_and_grow_with_the_classes(make_report, classes):
    counts = np.full((classes, classes), 2) + 30 * np.eye(classes, dtype=int)
    report = make_report(counts, class_names=[f"class {number}" for number in range(classes)])
    confusion, iou = decoded(plots.confusion_png(report)), decoded(plots.iou_png(report))
    assert min(confusion.shape[:2]) >= plots.DPI * max(3.8, 0.42 * classes)
    assert iou.shape[0] >= plots.DPI * 0.2 * classes
    assert (confusion < 128).mean() > 0.005
    assert (iou < 128).mean() > 0.005


def test_151_classes_stay_legible(make_report):
    """A name needs about 20 pixels of height on the matrix and 30 beside its bar."""
    report = make_report(np.eye(151, dtype=int), class_names=[f"class {number}" for number in range(151)])
    assert min(decoded(plots.confusion_png(report)).shape[:2]) > 151 * 20
    height, width, _ = decoded(plots.iou_png(report)).shape
    assert height > 151 / 3 * 30  # three columns
    assert width < 3000


def test_bars_have_the_colors_of_the_classes(make_report):
    colors = np.array([[0, 0, 255], [0, 255, 0], [255, 0, 0]], np.uint8)
    image = decoded(plots.iou_png(make_report([[50, 0, 0], [0, 25, 25], [10, 0, 0]], colors=colors)))
    areas = [(image == color).all(axis=-1).sum() for color in colors]
    assert areas[0] > areas[1] > 1000  # IoU 50/60 and 25/50
    assert areas[2] == 0  # IoU 0: no bar
    rows = [np.flatnonzero((image == color).all(axis=-1).any(axis=1)).mean() for color in colors[:2]]
    assert rows[0] < rows[1]  # the best class on top


def test_rows_are_labels_and_columns_predictions(make_report):
    """All of class 0 was taken for class 2: one dark cell, right in the upper row; the other rows are gray."""
    image = decoded(plots.confusion_png(make_report([[0, 0, 9], [0, 0, 0], [0, 0, 0]])))
    dark = (image == [8, 48, 107]).all(axis=-1)  # the upper end of the color scale
    gray = (image == [0xEC, 0xEC, 0xEC]).all(axis=-1)
    gray_columns = np.flatnonzero(gray.sum(axis=0) > 100)  # not the soft edges of letters
    dark_rows, dark_columns = np.nonzero(dark[:, : gray_columns.max()])  # the color bar beside it is dark as well
    assert dark_rows.size > 5000
    assert dark_rows.max() < np.flatnonzero(gray.sum(axis=1) > 100).min()
    assert dark_columns.min() > np.median(gray_columns)


def test_order_of_bars():
    assert metrics.best_and_worst(np.array([0.2, np.nan, 0.9, 0.2]), 4).tolist() == [2, 0, 3, 1]


@pytest.mark.parametrize(
    ("fraction", "digits", "text"),
    [
        (0.25, 1, "25.0"),
        (1.0, 1, "100.0"),
        (0.99996, 1, ">99.9"),
        (0.0004, 1, "<0.1"),
        (0.0006, 1, "0.1"),
        (0.996, 0, ">99"),
        (0.004, 0, "<1"),
        (0.5, 0, "50"),
    ],
)
def test_text_of_a_cell(fraction, digits, text):
    assert plots._cell_text(fraction, digits) == text


@pytest.mark.filterwarnings("error")
def test_names_that_are_awkward_to_draw(make_report):
    report = make_report([[1, 0], [0, 0]], class_names=["costs $5 or $6_x^2", "道路 " + "very " * 20])
    assert decoded(plots.confusion_png(report)).shape[0] > 0
    assert decoded(plots.iou_png(report)).shape[0] > 0


def test_nothing_counted(make_report):
    report = make_report(np.zeros((3, 3), int))
    assert decoded(plots.confusion_png(report)).shape[0] > 0
    assert decoded(plots.iou_png(report)).shape[0] > 0


def test_no_display_and_no_notebook_backend_are_needed():
    """A notebook's MPLBACKEND, handed down to a command, names a module that need not be installed."""
    environment = os.environ | {"MPLBACKEND": "module://not_installed_here.backend_inline", "DISPLAY": ""}
    code = "import deeplab.evaluation.plots, sys; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
