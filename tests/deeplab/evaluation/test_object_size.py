"""Recall by the size of objects, by hand."""

import numpy as np
import pytest
from support.accumulator_battery import AccumulatorBattery

from deeplab.evaluation.object_size import SIZES, ObjectSize


class TestObjectSize(AccumulatorBattery):
    name = "object_size"


def test_by_hand():
    label = np.zeros((200, 300), int)
    label[10:20, 10:20] = 1  # small, found
    label[50:60, 10:20] = 1  # small, 40 of 100 pixels: not found
    label[20:70, 100:150] = 1  # medium, all found
    label[80:190, 100:290] = 2  # large, missed
    prediction = np.where(label == 1, 1, 0)
    prediction[54:60, 10:20] = 2
    metric = ObjectSize(3, 255)
    metric.add(label, prediction)
    found, by_class = metric.overall(), metric.per_class()
    np.testing.assert_allclose(by_class["accuracy_small"], [np.nan, 140 / 200, np.nan])
    np.testing.assert_allclose(by_class["accuracy_medium"], [np.nan, 1, np.nan])
    np.testing.assert_allclose(by_class["accuracy_large"], [1, np.nan, 0])
    assert found["mean_found_small"] == 0.5 and found["mean_found_medium"] == 1 and found["mean_found_large"] == 0.5
    assert found["mean_accuracy_small"] == pytest.approx(0.7)
    assert metric.details() == {"objects": {"small": 2, "medium": 1, "large": 2}}


def test_half_of_an_object_is_not_found():
    label = np.zeros((40, 40), int)
    label[5:15, 5:15] = 1
    for rows, found in ((5, 0.0), (6, 1.0)):
        prediction = np.zeros_like(label)
        prediction[5 : 5 + rows, 5:15] = 1
        metric = ObjectSize(2, 0)
        metric.add(label, prediction)
        assert metric.overall()["mean_found_small"] == found


@pytest.mark.parametrize(("side", "size"), [(32, "small"), (33, "medium"), (96, "medium"), (97, "large")])
def test_limits_are_those_of_coco(side, size):
    label = np.full((120, 120), 255)
    label[5 : 5 + side, 5 : 5 + side] = 0
    metric = ObjectSize(1, 255)
    metric.add(label, np.zeros_like(label))
    assert metric.details()["objects"] == {name: int(name == size) for name in SIZES}


def test_pixels_that_touch_at_a_corner_are_one_object():
    label = np.eye(4, dtype=int)
    metric = ObjectSize(2, 0)
    metric.add(label, label)
    assert metric.details()["objects"]["small"] == 1
