"""Decoding of images and labels, whole and in part, and the checks that name the image."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.errors import raises

from deeplab.data import decoding, records
from deeplab.data.labels import LabelSpec
from deeplab.data.mask_files import encode_label
from deeplab.utils.errors import UserError

HEIGHT, WIDTH = 71, 93  # odd, and no multiple of a JPEG's 8 or 16 pixels


def image_of(mode="RGB"):
    """An image with hard edges, where partial decoding could go wrong."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    noise = np.random.default_rng(0).integers(0, 256, [HEIGHT, WIDTH, 3])
    stripes = np.stack([rows * 3 % 256, columns * 5 % 256, (rows // 7 + columns // 7) % 2 * 255], -1)
    return Image.fromarray(((noise + 3 * stripes) // 4).astype(np.uint8)).convert(mode)


def encoded(image, kind="PNG", **settings):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **settings)
    return buffer.getvalue()


def example(image, label=b"", name="a"):
    """A parsed record."""
    return {
        records.IMAGE: tf.constant(image),
        records.LABEL: tf.constant(label),
        records.FILENAME: tf.constant(name.encode()),
    }


def error_of(function, *arguments):
    """The UserError that a check inside a tf.function reports."""
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        tf.function(function)(*arguments)
    report = decoding.reported(caught.value)
    assert isinstance(report, UserError)
    return report


JPEGS = {
    "4:2:0": {"subsampling": 2},
    "4:2:2": {"subsampling": 1},
    "4:4:4": {"subsampling": 0},
    "progressive": {"progressive": True},
}


@pytest.mark.parametrize("kind", JPEGS)
def test_partly_decoded_jpeg_equals_the_part_of_the_whole(kind):
    data = encoded(image_of(), "JPEG", quality=85, **JPEGS[kind])
    whole = decoding.decode_image(data).numpy()
    decode = tf.function(lambda *box: decoding.decode_box(data, decoding.Box(*box), tf.constant([HEIGHT, WIDTH])))
    draw = np.random.default_rng(1)
    for _ in range(40):
        height, width = draw.integers(1, [HEIGHT, WIDTH])
        top, left = draw.integers(0, [HEIGHT - height + 1, WIDTH - width + 1])
        part = decode(*(tf.constant(number, tf.int32) for number in (top, left, height, width)))
        np.testing.assert_array_equal(part, whole[top : top + height, left : left + width])


def test_part_of_a_png():
    box = decoding.Box(*(tf.constant(number) for number in (3, 5, 20, 30)))
    part = decoding.decode_box(tf.constant(encoded(image_of())), box, tf.constant([HEIGHT, WIDTH]))
    np.testing.assert_array_equal(part, np.asarray(image_of())[3:23, 5:35])


def test_box_by_hand():
    box = decoding.Box(*(tf.constant(number) for number in (1, 2, 3, 4)))
    wide = box.widened(2, tf.constant([5, 9]))
    assert [int(n) for n in (wide.top, wide.left, wide.height, wide.width)] == [0, 0, 5, 8]


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "L"), ("PNG", "L"), ("PNG", "RGBA"), ("PNG", "P"), ("JPEG", "RGB")]
)
def test_every_image_becomes_rgb(kind, mode):
    image = image_of(mode)
    data = tf.constant(encoded(image, kind, **({"quality": 95, "subsampling": 0} if kind == "JPEG" else {})))
    decoded = decoding.decode_image(data)
    assert decoded.shape == (HEIGHT, WIDTH, 3) and decoded.dtype == tf.uint8
    tolerance = 0 if kind == "PNG" else 30  # JPEG is lossy, most so on noise
    assert np.abs(np.asarray(image.convert("RGB"), int) - decoded.numpy()).max() <= tolerance
    np.testing.assert_array_equal(decoding.image_size(example(data)), [HEIGHT, WIDTH])


def test_neither_jpeg_nor_png():
    bitmap = example(encoded(image_of(), "BMP"), name='käse "1\\2"')
    report = error_of(lambda: decoding.image_size(bitmap))
    assert (report.code, report.where) == ("unsupported-format", 'käse "1\\2"')


# --- Labels -------------------------------------------------------------------------------------------------


def decode_label(label, size=(1, 4), num_classes=3, ignore=255):
    spec, labeled = LabelSpec(num_classes, ignore), example(b"", label, "a.jpg")
    return lambda: decoding.decode_label(labeled, tf.constant(size), spec)


def test_label_values():
    label = np.uint8([[0, 1, 2, 255]])
    np.testing.assert_array_equal(tf.function(decode_label(encoded(label)))(), label)


def test_values_outside_the_classes_are_named():
    """With the same text as everywhere else that label values are judged."""
    report = error_of(decode_label(encoded(np.uint8([[0, 150, 3, 150]]))))
    with raises("label-out-of-range", where="a.jpg") as caught:
        LabelSpec(3).check(np.uint8([[0, 150, 3, 150]]), "a.jpg", in_records=True)
    assert (report.code, str(report), report.value) == (caught.value.code, str(caught.value), [3, 150])
    assert "found 3 on 1 pixel, 150 on 2 pixels" in report.rule


def test_ignore_label_among_the_classes():
    label = np.uint8([[0, 1, 2, 2]])
    np.testing.assert_array_equal(tf.function(decode_label(encoded(label), ignore=0))(), label)
    assert error_of(decode_label(encoded(np.uint8([[0, 1, 2, 255]])), ignore=0)).value == [255]


def test_without_classes_values_are_not_checked():
    label = np.uint8([[0, 77, 254, 255]])
    np.testing.assert_array_equal(tf.function(decode_label(encoded(label), num_classes=None))(), label)


def palette_label():
    image = Image.fromarray(np.uint8([[0, 1, 2, 0]]))
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    return image


@pytest.mark.parametrize(
    "label",
    [
        encoded(palette_label()),
        encoded(np.uint8([[[0, 0, 0]] * 4])),
        encoded(np.uint16([[0, 1, 2, 0]])),
        encoded(np.uint8([[0, 1, 2, 0]]), "BMP"),
        b"\x89PNG",
    ],
    ids=["palette", "RGB", "16 bit", "BMP", "four bytes"],
)
def test_labels_that_tensorflow_would_misread(label):
    assert error_of(decode_label(label)).code == "not-a-mask"


def test_no_label():
    assert error_of(decode_label(b"")).code == "missing-label"


MANY = np.array([[0, 255, 299, 65535]], np.uint16)


def many(label, key, num_classes=300, ignore=65535):
    record = {records.IMAGE: b"", records.LABEL: b"", records.LABEL_16: b"", records.FILENAME: b"a.jpg", key: label}
    spec = LabelSpec(num_classes, ignore)
    return lambda: decoding.decode_label({name: tf.constant(value) for name, value in record.items()}, (1, 4), spec)


def test_labels_of_16_bits():
    label = tf.function(many(encode_label(MANY), records.LABEL_16))()
    assert label.dtype == tf.uint16 and label.numpy().tolist() == MANY.tolist()
    report = error_of(many(encode_label(MANY), records.LABEL_16, num_classes=299))
    assert (report.code, report.where, report.value) == ("label-out-of-range", "a.jpg", [299])


def test_bits_that_the_dataset_does_not_mean():
    eight = encode_label(MANY.astype(np.uint8))
    assert error_of(many(b"", records.LABEL)).code == "missing-label"
    for bytes_of, key, classes in ((eight, records.LABEL, 300), (encode_label(MANY), records.LABEL_16, 3)):
        report = error_of(many(bytes_of, key, classes, 65535 if classes == 300 else 255))
        assert (report.code, report.where) == ("wrong-dtype", "a.jpg")
    for bytes_of, key, classes in ((eight, records.LABEL_16, 300), (encode_label(MANY), records.LABEL, 3)):
        report = error_of(many(bytes_of, key, classes, 65535 if classes == 300 else 255))
        assert (report.code, report.where) == ("not-a-mask", "a.jpg")


def test_label_of_another_size():
    report = error_of(decode_label(encoded(np.zeros([1, 4], np.uint8)), size=(4, 1)))
    assert report.code == "size-mismatch"
    assert report.rule == "the image is 4x1 pixels, its label 1x4"


def test_other_errors_report_nothing():
    assert decoding.reported(ValueError("assertion failed: [x]")) is None
