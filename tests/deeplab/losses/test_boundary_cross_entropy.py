"""Cross-entropy with more weight near class borders."""

import numpy as np
import tensorflow as tf
from support.loss_battery import LossBattery

from deeplab.losses.boundary_cross_entropy import borders, boundary_cross_entropy


class TestBoundary(LossBattery):
    loss = "boundary_cross_entropy"
    golden = True


def test_borders_are_on_both_sides_and_not_at_ignored_pixels():
    labels = tf.constant([[[0, 0, 0, 1, 1, -1, 2]] * 3])
    np.testing.assert_array_equal(borders(labels)[0], [[0, 0, 1, 1, 0, 0, 0]] * 3)


def test_weights_fall_with_the_distance():
    labels = tf.constant([[[0] * 8 + [1] * 2] * 3])
    values = boundary_cross_entropy(tf.zeros([1, 3, 10, 2]), labels, strength=4.0, width=3) / np.log(2)
    near, next_to, two = 5.0, 1 + 4 * np.exp(-1 / 4.5), 1 + 4 * np.exp(-4 / 4.5)
    np.testing.assert_allclose(values[0, 1], [1, 1, 1, 1, 1, two, next_to, near, near, next_to], rtol=1e-5)
