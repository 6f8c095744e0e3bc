"""Optimizers: step by step beside TensorFlow 1's own, their slots' names, and equal copies on two devices."""

import numpy as np
import pytest
import tensorflow as tf
from support.errors import raises
from support.optimizer_battery import WEIGHTS, OptimizerBattery, require_equal_copies_on_two_devices, variables_of

from deeplab.config.training_config import OptimizerConfig
from deeplab.training import optimizers


class TestMomentum(OptimizerBattery):
    config = OptimizerConfig(optimizer="momentum", momentum=0.8)

    def v1_optimizer(self, rate):
        return tf.compat.v1.train.MomentumOptimizer(rate, self.config.momentum)

    def test_by_hand(self):
        variable = tf.Variable([1.0])
        optimizer = optimizers.Momentum({"w": variable}, momentum=0.5)
        for expected_slot, expected_weight in ((2.0, 0.8), (3.0, 0.5)):
            optimizer.apply({"w": tf.constant([2.0])}, 0.1)
            assert float(optimizer.variables_by_name()["w/Momentum"][0]) == pytest.approx(expected_slot)
            assert float(variable[0]) == pytest.approx(expected_weight)


class TestAdam(OptimizerBattery):
    config = OptimizerConfig(optimizer="adam", adam_epsilon=1e-3)

    def v1_optimizer(self, rate):
        return tf.compat.v1.train.AdamOptimizer(rate, epsilon=self.config.adam_epsilon)

    def test_slots_start_as_in_tensorflow_1(self):
        slots = optimizers.make(self.config, variables_of("keras")).variables_by_name()
        for name in WEIGHTS:
            for slot in (slots[f"{name}/Adam"], slots[f"{name}/Adam_1"]):
                np.testing.assert_array_equal(slot, np.zeros_like(WEIGHTS[name]))
        powers = [slots["beta1_power"], slots["beta2_power"]]
        assert [power.shape for power in powers] == [[], []]
        assert [float(power) for power in powers] == pytest.approx([0.9, 0.999])


def test_unknown_optimizer_names_the_nearest():
    with raises("unknown-name", "optimizer") as caught:
        optimizers.make(OptimizerConfig(optimizer="adma"), {})
    assert caught.value.value == "adma" and "'adam'" in caught.value.hint


def test_a_new_optimizer_is_a_class_and_a_registration(monkeypatch):
    monkeypatch.setattr(optimizers.registry, "_items", dict(optimizers.registry._items))
    optimizers.registry.register("heavy")(lambda config, variables: optimizers.Momentum(variables, 0.99))
    assert isinstance(optimizers.make(OptimizerConfig(optimizer="heavy"), {}), optimizers.Momentum)


def test_copies_on_two_devices_equal_one_device():
    require_equal_copies_on_two_devices()
