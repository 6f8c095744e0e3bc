"""Values of labels: which are allowed, how they are mapped and counted."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.errors import raises

from deeplab.data import labels, mask_files
from deeplab.data.labels import LabelSpec, parse_label_map, spread_map
from deeplab.data.mask_files import decode_label

LABEL = np.array([[0, 1, 2], [255, 2, 1]], np.uint8)
MANY = np.array([[0, 255, 256], [299, 65535, 44]], np.uint16)  # 300 classes; 299 % 256 = 43, 300 % 256 = 44


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def decode(data: bytes, rule: LabelSpec = LabelSpec()) -> np.ndarray:  # noqa: B008
    return decode_label(data, "mask.png", rule).label


def test_values_are_replaced_all_at_once():
    data = encoded(Image.fromarray(np.array([[0, 1, 255]], np.uint8)))
    np.testing.assert_array_equal(decode(data, LabelSpec(2, mapping={0: 1, 1: 0})), [[1, 0, 255]])
    np.testing.assert_array_equal(decode(data, LabelSpec(2, mapping={255: 1, 1: 255})), [[0, 255, 1]])


@pytest.mark.parametrize(
    ("values", "num_classes", "bad", "hint"),
    [
        ([0, 150, 250], 3, [150, 250], "`label_map=150:1,250:2`"),
        ([0, 1, 3], 3, [3], "`num_classes=4` if 3 is a class"),
        ([0, 1, 3], 3, [3], "`label_map=3:255`"),
        ([0, 1, 2, 3, 4, 9], 3, [3, 4, 9], "`num_classes=10`"),
    ],
)
def test_values_outside_the_classes(values, num_classes, bad, hint):
    with raises("label-out-of-range", where="mask.png") as caught:
        decode(encoded(Image.fromarray(np.array([values], np.uint8))), LabelSpec(num_classes))
    assert caught.value.value == bad
    assert hint in caught.value.hint


def test_the_judge_of_label_values():
    """One text for files, records, losses and the confusion matrix."""
    label = np.array([[0, 7, 7], [255, 9, 2]])
    assert LabelSpec(3).is_outside(label).tolist() == [[False, True, True], [False, True, False]]
    assert LabelSpec(3).is_outside(tf.constant(label, tf.uint8)).numpy().tolist() == [
        [False, True, True],
        [False, True, False],
    ]
    LabelSpec(3).check(np.array([0, 1, 2, 255]))
    LabelSpec().check(np.arange(256))
    LabelSpec(847, ignore_label=1000).check(np.array([846, 1000]))
    LabelSpec(2, ignore_label=-1).check(np.array([-1, 0, 1]))
    with raises("label-out-of-range", where="a.png") as caught:
        LabelSpec(3).check(label, "a.png")
    assert caught.value.rule == "label values must be 0..2 or 255 (ignored); found 7 on 2 pixels, 9 on 1 pixel"
    assert LabelSpec(3, ignore_label=0).allowed == "0..2"
    with raises("label-out-of-range") as caught:
        LabelSpec(3).check(np.arange(20))
    assert caught.value.rule.endswith("8 on 1 pixel and 11 more values")


def test_bad_values_can_be_ignored():
    decoded = decode_label(
        encoded(Image.fromarray(np.array([[0, 7, 255]], np.uint8))), "m", LabelSpec(2, ignore_bad=True)
    )
    assert decoded.label.tolist() == [[0, 255, 255]]
    assert decoded.counts[[0, 7, 255]].tolist() == [1, 0, 2]


def test_label_map_text():
    assert parse_label_map(" 255:1, 11:255,") == {255: 1, 11: 255}
    assert spread_map([0, 150, 250]) == "150:1,250:2"
    for bad in ("255", "a:1", "1:65536", "65536:1", "-1:0", "1:2,1:3", "9" * 5000 + ":1"):
        with raises("invalid-label-map", field="label_map"):
            parse_label_map(bad)


def test_labels_of_many_classes_have_16_bits():
    spec = LabelSpec(300, 65535)
    for data in (mask_files.encode_label(MANY), encoded(Image.fromarray(MANY)), encoded(Image.fromarray(MANY), "TIFF")):
        decoded = decode_label(data, "a.png", spec)
        assert decoded.label.dtype == np.uint16 and len(decoded.counts) == 65536
        np.testing.assert_array_equal(decoded.label, MANY)
        np.testing.assert_array_equal(tf.io.decode_png(decoded.gray_png, dtype=tf.uint16)[..., 0], MANY)
        assert decoded.counts[[0, 43, 44, 255, 256, 299, 65535]].tolist() == [1, 0, 1, 1, 1, 1, 1]
    # 8 bits are enough for this file, but all labels of a dataset have 16.
    small = decode_label(mask_files.encode_label(LABEL), "b.png", spec)
    assert small.label.dtype == np.uint16 and small.label.tolist() == LABEL.tolist()
    np.testing.assert_array_equal(tf.io.decode_png(small.gray_png, dtype=tf.uint16)[..., 0], LABEL)


def test_values_outside_many_classes_are_refused():
    with raises("label-out-of-range", where="a.png") as caught:
        labels.to_label(MANY, "a.png", LabelSpec(299, 65535))
    assert caught.value.value == [299]
    label, counts = labels.to_label(MANY, "a.png", LabelSpec(299, 65535, ignore_bad=True))
    assert label[1, 0] == 65535 and counts[65535] == 2 and counts[299] == 0
    with raises("label-out-of-range") as caught:  # few classes: not 299 - 256
        labels.to_label(MANY, "a.png", LabelSpec(45, 255))
    assert caught.value.value == [256, 299, 65535]
    with raises("label-out-of-range"):
        labels.to_label(np.array([[0, 1]], np.uint8), "a.png", LabelSpec(2, mapping={1: 256}))


def test_8_bit_values_are_mapped_beyond_them():
    label, counts = labels.to_label(
        np.array([[0, 255]], np.uint8), "a.png", LabelSpec(300, 65535, mapping={255: 65535})
    )
    assert label.tolist() == [[0, 65535]] and counts[[0, 65535]].tolist() == [1, 1]


def test_counts_are_added():
    eight, sixteen = np.ones(256, np.int64), np.ones(65536, np.int64)
    assert labels.add_counts(eight, eight.copy()) is eight and eight.sum() == 512
    total = labels.add_counts(eight, sixteen)
    assert len(total) == 65536 and total[:257].tolist() == [3] * 256 + [1] and sixteen[0] == 1
    assert labels.add_counts(sixteen, eight) is sixteen and sixteen[0] == 3


def test_counting_large_values_and_small():
    assert labels.count_values(np.array([[3, 3, 700]], np.uint16))[[3, 700]].tolist() == [2, 1]
    assert labels.count_values(LABEL)[[0, 1, 2, 255]].tolist() == [1, 2, 2, 1]


@pytest.mark.parametrize("highest", [0, 1, 2, 4, 7, 8, 255])
def test_few_and_many_values_are_counted_alike(highest):
    values = np.random.default_rng(highest).integers(0, highest + 1, (37, 53)).astype(np.uint8)
    for image in (values, values[::2, 3:40], np.zeros((0, 5), np.uint8)):
        expected = np.bincount(image.ravel(), minlength=256)
        np.testing.assert_array_equal(labels.count_values(image), expected)
        np.testing.assert_array_equal(labels.count_values(image, 65536)[:256], expected)


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ([0, 150, 250], "`label_map=150:1,250:2` if these are the classes in order"),
        ([0, 2, 3], "`num_classes=4` if 3 is a class"),
        ([0, 1, 77], "`num_classes=78` if all are classes, `label_map=77:255` if these are to be ignored"),
        ([0, 1, 2, 9, 11], "`num_classes=12` if all are classes, `label_map=9:255,11:255` if these are to be ignored"),
    ],
)
def test_hint_for_values_that_are_no_classes(values, hint):
    """One strange value among class indices must not number the good ones anew."""
    with raises("label-out-of-range") as caught:
        labels.to_label(np.array([values], np.uint8), "a.png", LabelSpec(3))
    assert caught.value.hint.startswith(hint)
