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


class TestNesterov(OptimizerBattery):
    config = OptimizerConfig(optimizer="momentum", momentum=0.8, nesterov=True)

    def v1_optimizer(self, rate):
        return tf.compat.v1.train.MomentumOptimizer(rate, self.config.momentum, use_nesterov=True)


class TestRMSProp(OptimizerBattery):
    config = OptimizerConfig(optimizer="rmsprop", momentum=0.7, rmsprop_decay=0.8, rmsprop_epsilon=1e-3)

    def v1_optimizer(self, rate):
        config = self.config
        return tf.compat.v1.train.RMSPropOptimizer(
            rate, config.rmsprop_decay, config.momentum, epsilon=config.rmsprop_epsilon
        )


class TestAdamW(OptimizerBattery):
    config = OptimizerConfig(optimizer="adamw", adam_epsilon=1e-3)

    def v1_optimizer(self, rate):  # without weight decay, which the step applies, it is Adam
        return tf.compat.v1.train.AdamOptimizer(rate, epsilon=self.config.adam_epsilon)


class TestLion(OptimizerBattery):
    config = OptimizerConfig(optimizer="lion")

    def test_by_hand(self):
        """m is 0, then 0.02: the signs of 0.1 g, and of 0.9 * 0.02 + 0.1 * (-0.1)."""
        variable = tf.Variable([1.0])
        optimizer = optimizers.Lion({"w": variable})
        for gradient, weight, slot in ((2.0, 0.9, 0.02), (-0.1, 0.8, 0.99 * 0.02 - 0.001)):
            optimizer.apply({"w": tf.constant([gradient])}, 0.1)
            assert float(variable[0]) == pytest.approx(weight)
            assert float(optimizer.variables_by_name()["w/Lion"][0]) == pytest.approx(slot)


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
    with raises("unknown-name", "optimizer") as caught:
        optimizers.find("ftrll")
    assert "'ftrl'" in caught.value.hint


@pytest.mark.parametrize(("name", "decoupled"), [("adamw", True), ("lion", True), ("adam", False), ("nadam", False)])
def test_who_decays_weights_directly(name, decoupled):
    assert optimizers.make(OptimizerConfig(optimizer=name), variables_of("keras")).decoupled_decay is decoupled


def test_a_new_optimizer_is_a_class_and_a_registration(monkeypatch):
    monkeypatch.setattr(optimizers.registry, "_items", dict(optimizers.registry._items))
    optimizers.registry.register("heavy")(lambda config, variables: optimizers.Momentum(variables, 0.99))
    assert isinstance(optimizers.make(OptimizerConfig(optimizer="heavy"), {}), optimizers.Momentum)


def test_copies_on_two_devices_equal_one_device():
    require_equal_copies_on_two_devices()
