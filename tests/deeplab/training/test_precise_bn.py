"""Batch-norm recalibration."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab.training import precise_bn
from deeplab.training.randomness import StepClock
from slim.layers import BatchNorm, Norm


def small_model(train_statistics=True):
    image = keras.Input((None, None, 2))
    norm = Norm(decay=0.9, epsilon=1e-3, train_statistics=train_statistics)
    return keras.Model(image, BatchNorm(norm, name="BatchNorm")(image))


def two_batches():
    first = np.zeros((1, 1, 2, 2), np.float32)
    first[0, 0, :, 0] = [1.0, 3.0]  # mean 2, unbiased variance 2
    second = np.zeros((1, 1, 2, 2), np.float32)
    second[0, 0, :, 0] = [4.0, 8.0]  # mean 6, unbiased variance 8
    return iter([tf.constant(first), tf.constant(second)])


def test_statistics_become_the_mean_over_batches():
    model = small_model()
    precise_bn.recalibrate(model, two_batches(), 2, StepClock(10))
    layer = precise_bn.batch_norm_layers(model)[0]
    np.testing.assert_allclose(layer.moving_mean.numpy(), [4.0, 0.0])
    np.testing.assert_allclose(layer.moving_variance.numpy(), [5.0, 0.0])


def test_decay_is_as_before_afterwards():
    model = small_model()
    precise_bn.recalibrate(model, two_batches(), 2, StepClock(10))
    assert precise_bn.batch_norm_layers(model)[0].norm.decay == 0.9
    model(np.full((1, 1, 2, 2), 14.0, np.float32), training=True)
    moved = precise_bn.batch_norm_layers(model)[0].moving_mean.numpy()
    np.testing.assert_allclose(moved, [4.0 * 0.9 + 14.0 * 0.1, 1.4], rtol=1e-6)


def test_frozen_statistics_stay():
    model = small_model(train_statistics=False)
    precise_bn.recalibrate(model, two_batches(), 2, StepClock(10))
    np.testing.assert_allclose(precise_bn.batch_norm_layers(model)[0].moving_mean.numpy(), [0.0, 0.0])


@pytest.mark.parametrize(
    ("decay", "steps", "wanted", "expected"),
    [
        (0.9, 10, None, 60),  # .9 ** 10 = .35 of the first value is left
        (0.9, 50, None, 0),  # .005 is left
        (0.9997, 15000, None, 60),
        (0.9997, 16000, None, 0),
        (0.9, 10, 0, 0),
        (0.9, 500, 7, 7),
    ],
)
def test_only_short_trainings_are_recalibrated(decay, steps, wanted, expected):
    layers = [BatchNorm(Norm(decay, 1e-3))]
    assert precise_bn.batches_needed(layers, steps, wanted) == expected


def test_frozen_batch_norm_needs_no_batches():
    assert precise_bn.batches_needed([BatchNorm(Norm(0.9, 1e-3, train_statistics=False))], 1, 60) == 0
