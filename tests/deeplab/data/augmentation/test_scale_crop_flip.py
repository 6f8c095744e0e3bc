"""Scaling, cropping and mirroring: the fast path over records equals the operation on decoded images."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab.config.data_config import ResizeConfig
from deeplab.data import decoding, records, remapping, transforms
from deeplab.data.augmentation.scale_crop_flip import ScaleCropFlip
from deeplab.data.labels import LabelSpec, encode_label

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
        fast = operation.of_record(parsed, tf.constant([37, 53]), seed, LabelSpec(5, 9), resize)
        expected = operation(image, label, seed)
        np.testing.assert_allclose(fast[0], expected[0], rtol=0, atol=remapping.TOLERANCE if exact else 0)
        np.testing.assert_array_equal(fast[1], expected[1])


def test_half_of_the_images_are_mirrored_and_all_scales_occur():
    operation = ScaleCropFlip((80, 110), (0.0, 0.0, 0.0), ignore_label=9)
    columns, heights = [], []
    for number in range(200):
        _, label = operation(IMAGE, LABEL, tf.constant([1, number], tf.int64))
        inside = label.numpy() != 9
        columns.append(bool(inside[0, 0]))  # the padding of a mirrored image is at the left
        heights.append(int(inside[:, [0, -1]].any(axis=1).sum()))
    assert set(heights) == {int(37 * scale) for scale in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)}
    assert 70 < columns.count(True) < 130
