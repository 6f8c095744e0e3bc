"""Scaling, cropping and mirroring: the points, and how often what happens."""

import numpy as np
import tensorflow as tf

from deeplab.data.augmentation.scale_crop_flip import ScaleCropFlip

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (37, 53, 3), np.uint8)
LABEL = RNG.integers(0, 5, (37, 53), np.uint8)


def test_points_are_those_of_the_arithmetic_in_tensorflow():
    """Scale, place and mirroring as TensorFlow computes them from the same numbers, bit for bit."""
    draw = np.random.default_rng(0)
    for grid in (0.25, 0.0):
        operation = ScaleCropFlip((33, 41), (0.0, 0.0, 0.0), scale_factor_step_size=grid)
        scales = np.linspace(0.5, 2.0, 7, dtype=np.float32)
        for _ in range(60):
            size, draws = draw.integers(1, 200, 2).astype(np.int32), draw.random(4, np.float32)
            scale = (
                0.5 + tf.constant(draws[0]) * 1.5 if not grid else tf.gather(scales, tf.cast(draws[0] * 7, tf.int32))
            )
            scaled = tf.maximum(tf.cast(tf.cast(size, tf.float32) * scale, tf.int32), 1)
            count = tf.minimum(scaled, (33, 41))
            room = scaled - count
            start = tf.minimum(tf.cast(draws[1:3] * tf.cast(room + 1, tf.float32), tf.int32), room)
            *points, mirrored = operation.points(np.zeros(size, np.uint8), draws, (0, 0))
            assert bool(mirrored) == bool(draws[3] <= 0.5)
            for side, found in enumerate(points):
                pixels = tf.range(start[side], start[side] + count[side])
                pixels = pixels[::-1] if side and mirrored else pixels
                spacing = tf.cast(size[side] - 1, tf.float32) / tf.cast(tf.maximum(scaled[side] - 1, 1), tf.float32)
                assert found.dtype == np.float32
                np.testing.assert_array_equal(found, tf.cast(pixels, tf.float32) * spacing)


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
