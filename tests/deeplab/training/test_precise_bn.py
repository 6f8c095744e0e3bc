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
    precise_bn.Recalibrator(StepClock(10))(model, two_batches(), 2)
    layer = precise_bn.batch_norm_layers(model)[0]
    np.testing.assert_allclose(layer.moving_mean.numpy(), [4.0, 0.0])
    np.testing.assert_allclose(layer.moving_variance.numpy(), [5.0, 0.0])


def test_decay_is_as_before_afterwards():
    model = small_model()
    precise_bn.Recalibrator(StepClock(10))(model, two_batches(), 2)
    assert precise_bn.batch_norm_layers(model)[0].norm.decay == 0.9
    model(np.full((1, 1, 2, 2), 14.0, np.float32), training=True)
    moved = precise_bn.batch_norm_layers(model)[0].moving_mean.numpy()
    np.testing.assert_allclose(moved, [4.0 * 0.9 + 14.0 * 0.1, 1.4], rtol=1e-6)


def test_frozen_statistics_stay():
    model = small_model(train_statistics=False)
    precise_bn.Recalibrator(StepClock(10))(model, two_batches(), 2)
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


@pytest.mark.parametrize(("epoch", "expected"), [(0.5, 10), (10.2, 11), (37.0, 37), (60.5, 60), (1e6, 60)])
def test_evaluations_take_an_epoch_at_most(epoch, expected):
    layers = [BatchNorm(Norm(0.9997, 1e-3))]
    assert precise_bn.batches_needed(layers, 100, None, epoch) == expected
    assert precise_bn.batches_needed(layers, 100, 3, epoch) == 3


def test_the_pass_is_traced_once_until_batch_norms_are_frozen(monkeypatch):
    traced, make = [], precise_bn._measuring_function
    monkeypatch.setattr(precise_bn, "_measuring_function", lambda *args: traced.append(args[0]) or make(*args))
    models, recalibrate = [small_model(), small_model()], precise_bn.Recalibrator(StepClock(10))
    for _ in range(2):
        for model in models:
            recalibrate(model, two_batches(), 2)
            np.testing.assert_allclose(precise_bn.batch_norm_layers(model)[0].moving_mean.numpy(), [4.0, 0.0])
    assert traced == models
    layer = precise_bn.batch_norm_layers(models[0])[0]
    layer.norm, before = Norm(0.9, 1e-3, train_statistics=False), layer.moving_mean.numpy()
    recalibrate(models[0], iter([tf.ones([1, 1, 2, 2])]), 1)
    assert traced == [*models, models[0]]
    np.testing.assert_array_equal(layer.moving_mean.numpy(), before)


def test_frozen_batch_norm_needs_no_batches():
    assert precise_bn.batches_needed([BatchNorm(Norm(0.9, 1e-3, train_statistics=False))], 1, 60) == 0
