"""Boundary IoU: boundaries and values by hand, ignored pixels, and the evaluation that reports it."""

import dataclasses
import json

import numpy as np
import pytest
from support.accumulator_battery import AccumulatorBattery, pair
from support.errors import raises
from support.threshold_predictor import ByRed

from deeplab.evaluation.boundary_iou import BoundaryIou, boundary, boundary_width
from deeplab.evaluation.evaluator import Evaluator, Measures
from deeplab.evaluation.metrics import ACCUMULATORS


class TestBoundaryIou(AccumulatorBattery):
    name = "boundary_iou"


def test_equals_the_code_of_the_paper(golden):
    """Pixels of boundaries, intersections and unions, as bowenc0221/boundary-iou-api counts them."""
    for case in json.loads((golden / "boundary_iou.json").read_text())["cases"]:
        label, prediction = pair(case["seed"], case["height"], case["width"], case["classes"])
        metric = BoundaryIou(case["classes"], 255)
        metric.add(label, prediction)
        intersection, union, of_label, of_prediction = np.array(case["intersection_union_label_prediction"]).T
        np.testing.assert_array_equal(metric.total(), [intersection, union, of_label])
        expected = np.where(of_label > 0, intersection / union, np.nan)  # a class only predicted has none here
        np.testing.assert_allclose(metric.per_class()["boundary_iou"], expected, rtol=0, atol=1e-6)
        width = boundary_width(*label.shape)
        found = [boundary(prediction == index, width).sum() for index in range(case["classes"])]
        assert found == of_prediction.tolist()


def square(size, top, left, side):
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(1, 1, 1), (30, 40, 1), (513, 513, 15), (375, 500, 12), (1024, 2048, 46)]
)
def test_width(height, width, expected):
    assert boundary_width(height, width) == expected  # 0.02 * 725.5 = 14.5; 0.02 * 625 = 12.5 rounds to even, as there


def test_boundary_by_hand():
    mask = square(7, 1, 1, 5)
    np.testing.assert_array_equal(boundary(mask, 1), mask & ~square(7, 2, 2, 3))
    np.testing.assert_array_equal(boundary(mask, 2), mask & ~square(7, 3, 3, 1))
    np.testing.assert_array_equal(boundary(mask, 3), mask)


def test_the_border_of_the_image_is_part_of_the_outline():
    full = np.ones((5, 5), bool)
    np.testing.assert_array_equal(boundary(full, 1), full & ~square(5, 1, 1, 3))
    np.testing.assert_array_equal(boundary(full, 2), full & ~square(5, 2, 2, 1))


def test_boundary_equals_the_distance_to_the_outside():
    """Chebyshev distance: a mask's pixel is in the boundary if a pixel outside is at most `width` away."""
    mask = np.random.default_rng(2).random((20, 24)) < 0.9
    padded = np.pad(mask, 3)
    near = np.zeros_like(mask)
    for row, column in np.ndindex(7, 7):
        near |= ~padded[row : row + 20, column : column + 24]
    np.testing.assert_array_equal(boundary(mask, 3), mask & near)


def test_values_by_hand():
    """A square of 5 shifted by one column in 10x10 pixels; the width is 1, rings have 16 pixels."""
    label, prediction = square(10, 2, 2, 5).astype(int), square(10, 2, 3, 5).astype(int)
    metric = BoundaryIou(3, 255)
    metric.add(label, prediction)
    # The rings share 2 * 4 pixels of their upper and lower sides; no column of one is a column of the other but
    # for these rows.
    assert metric.total()[0, 1] == 8 and metric.total()[1, 1] == 16 + 16 - 8
    # Background has 36 pixels at the image's border and those around the square: 7 * 7 - 25 = 24, all inside 10x10.
    first, second = boundary(label == 0, 1), boundary(prediction == 0, 1)
    assert first.sum() == second.sum() == 36 + 24
    assert metric.total()[0, 0] == (first & second).sum()
    np.testing.assert_allclose(
        metric.per_class()["boundary_iou"], [(first & second).sum() / (first | second).sum(), 8 / 24, np.nan]
    )


def test_images_add_up_and_perfect_predictions_give_one():
    draw, metric = np.random.default_rng(1), BoundaryIou(4, 255)
    for _ in range(3):
        label = np.kron(draw.integers(0, 3, (4, 4)), np.ones((9, 9), int))
        metric.add(label, label)
    assert metric.per_class()["boundary_iou"][:3].tolist() == [1, 1, 1] and np.isnan(
        metric.per_class()["boundary_iou"][3]
    )


def test_ignored_pixels_belong_to_no_class():
    label = square(8, 1, 1, 4).astype(int)
    label[:, 5:] = 255
    results = []
    for ignored in (0, 1, 2):
        prediction = square(8, 1, 1, 4).astype(int)
        prediction[:, 5:] = ignored
        metric = BoundaryIou(3, 255)
        metric.add(label, prediction)
        results.append(metric.per_class()["boundary_iou"])
    np.testing.assert_array_equal(results, [[1, 1, np.nan]] * 3)


def test_an_ignore_label_among_the_classes():
    metric = BoundaryIou(3, 0)
    metric.add(np.array([[0, 1, 1, 2]]), np.array([[1, 1, 0, 2]]))
    np.testing.assert_array_equal(metric.per_class()["boundary_iou"], [np.nan, 0.5, 1])


def test_a_class_that_is_only_predicted_has_no_value():
    metric = BoundaryIou(2, 255)
    metric.add(np.zeros((6, 6), int), square(6, 1, 1, 2).astype(int))
    assert np.isnan(metric.per_class()["boundary_iou"][1]) and metric.per_class()["boundary_iou"][0] < 1


def test_evaluation_reports_it(disc_images, tmp_path):
    report = Evaluator(ByRed(), disc_images, Measures(extra=["boundary_iou"])).evaluate()
    assert report.per_class()["boundary_iou"].tolist() == [1, 1, 1] and report.overall()["mean_boundary_iou"] == 1
    assert "mean boundary IoU       1.000" in report.text()
    content = json.loads(report.save(tmp_path)[0].read_text())
    assert content["mean_boundary_iou"] == 1 and content["classes"][1]["boundary_iou"] == 1
    assert "boundary_iou" not in Evaluator(ByRed(), disc_images).evaluate().per_class()


def test_unknown_names_are_refused_before_the_first_image(disc_images):
    with raises("unknown-name", "extra_metrics") as caught:
        Evaluator(ByRed(), dataclasses.replace(disc_images, folder="/none"), Measures(extra=["boundary"]))
    assert caught.value.value == "boundary" and "boundary_iou" in caught.value.hint
    assert list(ACCUMULATORS) == ["boundary_iou", "trimap_iou", "calibration", "object_size"]
