"""Optimizers of Keras: the same steps as Keras' own `apply`, stable slot names, one rate per variable."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.optimizer_battery import GRADIENTS, WEIGHTS, OptimizerBattery, variables_of

from deeplab.checkpoint import names
from deeplab.config.training_config import OptimizerConfig
from deeplab.training import keras_optimizers, optimizers


class TestNadam(OptimizerBattery):
    config = OptimizerConfig(optimizer="nadam")


class TestAdagrad(OptimizerBattery):
    config = OptimizerConfig(optimizer="Adagrad")
    small_steps = True


@pytest.mark.parametrize("name", ["adadelta", "adafactor", "adagrad", "adamax", "ftrl", "lamb", "nadam", "sgd"])
def test_three_steps_equal_keras(name):
    rate = 0.05
    own, theirs = variables_of("keras"), variables_of("keras")
    optimizer = optimizers.make(OptimizerConfig(optimizer=name), own)
    reference = keras_optimizers.find(name)(learning_rate=rate)
    reference.build(list(theirs.values()))
    apply = tf.function(optimizer.apply)
    for gradients in GRADIENTS:
        apply({key: tf.constant(value) for key, value in gradients.items()}, tf.constant(rate))
        reference.apply([tf.constant(gradients[key]) for key in theirs], list(theirs.values()))
    for key, variable in theirs.items():
        np.testing.assert_allclose(own[key].numpy(), variable.numpy(), rtol=1e-6, err_msg=key)


@pytest.mark.parametrize("name", keras_optimizers.names())
def test_slots_have_stable_names_that_checkpoints_know_as_slots(name):
    first, second = (
        optimizers.KerasOptimizer(variables_of("keras"), keras_optimizers.find(name)).variables_by_name()
        for _ in range(2)
    )
    assert list(first) == list(second) and f"keras_{name}_iterations" in first
    assert all(names.is_slot(slot) for slot in first)
    own = [slot for slot in first if slot.rpartition("/")[0] in WEIGHTS]
    assert len(own) % len(WEIGHTS) == 0 and (own or name in ("sgd",))


def test_wrappers_and_bases_are_no_names():
    assert not {"optimizer", "lossscaleoptimizer", "multioptimizer", "muon"} & set(keras_optimizers.names())
    assert keras_optimizers.find("nothing") is None
    assert keras_optimizers.find("NAdam") is keras.optimizers.Nadam
