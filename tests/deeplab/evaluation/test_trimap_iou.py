"""Trimap IoU: bands and values by hand, and against a plain dilation."""

import cv2
import numpy as np
import pytest
from support.accumulator_battery import AccumulatorBattery, pair, with_ignored

from deeplab.evaluation.metrics import class_iou
from deeplab.evaluation.trimap_iou import WIDTHS, TrimapIou, at_edges, distance_to_outlines


class TestTrimapIou(AccumulatorBattery):
    name = "trimap_iou"


def by_dilation(label, prediction, width, ignore=255):
    """Mean IoU in the dilated ignored pixels, as the paper words it."""
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    band = (cv2.dilate((label == ignore).astype(np.uint8), square) > 0) & (label != ignore)
    counts = np.zeros((3, 3), int)
    np.add.at(counts, (label[band], prediction[band]), 1)
    iou = class_iou(counts)
    return iou[np.isfinite(iou)].mean()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_equals_the_mean_iou_in_dilated_ignored_pixels(seed):
    label, prediction = pair(seed, 60, 80, 3)
    label = with_ignored(label)
    metric = TrimapIou(3, 255)
    metric.add(label, prediction)
    expected = [by_dilation(label, prediction, width) for width in WIDTHS]
    np.testing.assert_allclose(list(metric.overall().values()), expected, rtol=1e-12)
    assert metric.details() == {"trimap_width": list(WIDTHS), "trimap_mean_iou": list(metric.overall().values())}


def test_without_ignored_pixels_the_edges_between_classes_count():
    label = np.array([[0, 0, 0, 1, 1, 1, 1]])
    np.testing.assert_array_equal(at_edges(label), [[False, False, True, True, False, False, False]])
    np.testing.assert_array_equal(distance_to_outlines(label, 255), [[3, 2, 1, 1, 2, 3, 4]])
    metric = TrimapIou(2, 255)
    metric.add(label, np.array([[0, 0, 1, 1, 1, 0, 1]]))
    # Width 1: pixels 2 and 3, one of them right: IoU 0 and 1/2. Width 2: pixels 1..4: IoU 1/2 and 2/3.
    found = metric.overall()
    assert found["trimap_iou_1"] == pytest.approx((0 + 1 / 2) / 2)
    assert found["trimap_iou_2"] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_an_image_of_one_class_has_no_band():
    metric = TrimapIou(2, 255)
    metric.add(np.zeros((5, 5), int), np.ones((5, 5), int))
    assert all(np.isnan(value) for value in metric.overall().values())
