"""Bits of labels by classes and ignore label; classes never wrap around when they become labels."""

import numpy as np
import pytest
from support.errors import raises

from deeplab.data.label_bits import as_label, bits_of, usual_ignore_label


@pytest.mark.parametrize(
    ("num_classes", "ignore_label", "bits"),
    [(2, 255, 8), (256, 255, 8), (257, 0, 16), (1203, 65535, 16), (21, 256, 16), (None, 255, 8), (None, 65535, 16)],
)
def test_bits(num_classes, ignore_label, bits):
    assert bits_of(num_classes, ignore_label) == bits


def test_usual_ignore_labels():
    assert [usual_ignore_label(number) for number in (None, 2, 256, 257, 3000)] == [255, 255, 255, 65535, 65535]


def test_labels_have_the_type_that_the_classes_need():
    low, high = np.array([[0, 255]]), np.array([[0, 300]])
    assert as_label(low).dtype == as_label(low, 256).dtype == np.uint8
    assert as_label(low, 257).dtype == as_label(high).dtype == as_label(high, 1000).dtype == np.uint16
    assert as_label(high, 1000).tolist() == as_label(high.astype(np.uint16), 1000).tolist() == [[0, 300]]
    assert as_label(low.astype(np.uint8), 300).dtype == np.uint16
    same = low.astype(np.uint8)
    assert as_label(same, 3) is same
    assert as_label(np.zeros((0, 3), np.int64)).dtype == np.uint8


@pytest.mark.parametrize(
    ("values", "num_classes"), [([256], 256), ([-1], 3), ([-1], None), ([65536], None), ([65536], 999)]
)
def test_no_class_becomes_another_one(values, num_classes):
    with raises("label-out-of-range", where="label") as caught:
        as_label(np.array([values]), num_classes)
    assert caught.value.value == values[0]
