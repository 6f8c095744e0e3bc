"""Crops of records equal the operations on decoded images, from the cache as well as without it."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab.config.data_config import ResizeConfig
from deeplab.data import decoding, records, remapping, transforms
from deeplab.data.augmentation.scale_crop_flip import ScaleCropFlip
from deeplab.data.bands import ImageBands
from deeplab.data.labels import LabelSpec
from deeplab.data.mask_files import encode_label
from deeplab.data.record_crops import RecordCrops

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (37, 53, 3), np.uint8)
LABEL = RNG.integers(0, 5, (37, 53), np.uint8)


def example(kind):
    encode = tf.io.encode_png if kind == "png" else tf.io.encode_jpeg
    serialized = records.encode_example(encode(IMAGE).numpy(), kind, "a", 37, 53, encode_label(LABEL))
    return decoding.parse(serialized)


@pytest.mark.parametrize("kind", ["png", "jpeg"])
@pytest.mark.parametrize("resize", [ResizeConfig(), ResizeConfig(min_resize_value=50, max_resize_value=90)])
@pytest.mark.parametrize("exact", [False, True])
def test_the_fast_path_equals_the_operation_on_the_decoded_image(kind, resize, exact, monkeypatch):
    """Bit for bit in TensorFlow; by OpenCV, where the installed one is exact, but for rounding."""
    if exact and not remapping.is_exact():
        pytest.skip("the installed OpenCV rounds points to 1/32 pixel, and is not used")
    monkeypatch.setattr(remapping, "is_exact", lambda: exact)
    operation = ScaleCropFlip((33, 41), (1.0, 2.0, 3.0), ignore_label=9, scale_factor_step_size=0.0)
    parsed = example(kind)
    image = transforms.resize_to_range(decoding.decode_image(parsed[records.IMAGE]), resize)
    label = transforms.resize_label_to_range(LABEL, resize)
    for number in range(20):
        seed = tf.constant([3, number], tf.int64)
        fast = RecordCrops(operation, LabelSpec(5, 9), resize).of_record(parsed, tf.constant([37, 53]), seed)
        expected = operation(image, label, seed)
        np.testing.assert_allclose(fast[0], expected[0], rtol=0, atol=remapping.TOLERANCE if exact else 0)
        np.testing.assert_array_equal(fast[1], expected[1])


def test_raw_values_are_scaled_as_in_tensorflow():
    """Numbers that are none, infinite and out of range among them."""
    bands = ImageBands(2, "float32", (), (0.0, 10.0), (1000.0, 900.0))
    values = RNG.uniform(-50, 1100, (37, 53, 2)).astype(np.float32)
    values[0, :3, 0] = np.nan, np.inf, -np.inf
    serialized = records.encode_example(
        records.encode_values(values), records.VALUES, "a", 37, 53, encode_label(LABEL), values=(2, "float32")
    )
    operation = ScaleCropFlip((37, 53), (1.0, 2.0), 9, min_scale_factor=1.0, max_scale_factor=1.0)
    crops = RecordCrops(operation, LabelSpec(5, 9), bands=bands)
    image, label = crops.of_record(decoding.parse(serialized), tf.constant([37, 53]), tf.constant([3, 1], tf.int64))
    mirrored = not np.array_equal(label, LABEL)
    expected = transforms.scale_values(values, bands).numpy()
    np.testing.assert_array_equal(image, expected[:, ::-1] if mirrored else expected)
