"""The scale of the loss: gradients stay the same, bad steps change nothing, the scale adapts."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab.training import loss_scale
from deeplab.training.loss_scale import LossScale


def state(scale):
    return {name: float(variable.numpy()) for name, variable in scale.variables_by_name().items()}


def step(scale, gradient):
    """Whether the update ran, in a graph as in a training."""
    ran = tf.Variable(0)

    @tf.function
    def one(gradient):
        scale.guard([None, tf.constant([1.0]), gradient], lambda: ran.assign_add(1))

    one(tf.constant(gradient))
    return bool(ran.numpy())


def test_gradients_are_those_of_the_loss_itself():
    scale = LossScale()
    assert float(scale.scaled(tf.constant(2.0))) == 2.0 * loss_scale.FIRST
    unscaled = scale.unscaled([None, tf.constant([loss_scale.FIRST, 1.0])])
    assert unscaled[0] is None
    np.testing.assert_allclose(unscaled[1], [1.0, 1.0 / loss_scale.FIRST])


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_bad_step_changes_nothing_and_halves_the_scale(bad):
    scale = LossScale()
    assert step(scale, [1.0, 2.0]) and state(scale)["loss_scale/good_steps"] == 1
    assert not step(scale, [1.0, bad])
    assert state(scale) == {"loss_scale/value": loss_scale.FIRST / 2, "loss_scale/good_steps": 0}


def test_it_doubles_after_many_good_steps_and_has_limits(monkeypatch):
    monkeypatch.setattr(loss_scale, "STEPS_TO_DOUBLE", 2)
    scale = LossScale()
    assert step(scale, [1.0]) and step(scale, [1.0])
    assert state(scale) == {"loss_scale/value": 2 * loss_scale.FIRST, "loss_scale/good_steps": 0}
    scale.variables_by_name()["loss_scale/value"].assign(loss_scale.LARGEST)
    assert step(scale, [1.0]) and step(scale, [1.0]) and state(scale)["loss_scale/value"] == loss_scale.LARGEST
    scale.variables_by_name()["loss_scale/value"].assign(1.0)
    assert not step(scale, [np.nan]) and state(scale)["loss_scale/value"] == 1.0
