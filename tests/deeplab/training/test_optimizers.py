"""Optimizers: step by step beside TensorFlow 1's own, their slots' names, and equal copies on two devices."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab.config.training_config import OptimizerConfig
from deeplab.training import optimizers
from deeplab.utils.errors import UserError

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
WEIGHTS = {"Conv/weights": np.array([[1.0, -2.0], [0.5, 0.0]], np.float32), "biases": np.array([0.25], np.float32)}
GRADIENTS = [
    {"Conv/weights": np.array([[0.5, -1.0], [1e-4, 3.0]], np.float32), "biases": np.array([2.0], np.float32)},
    {"Conv/weights": np.array([[-0.5, 1.0], [0.0, 3.0]], np.float32), "biases": np.array([-1.0], np.float32)},
    {"Conv/weights": np.array([[0.1, 0.2], [0.3, 0.4]], np.float32), "biases": np.array([0.5], np.float32)},
]
RATES = [0.1, 0.05, 0.01]
SETTINGS = {
    "momentum": OptimizerConfig(optimizer="momentum", momentum=0.8),
    "adam": OptimizerConfig(optimizer="adam", adam_epsilon=1e-3),
}


def tensorflow_1(kind):
    """After each step: name -> value of weights, slots and beta powers, from the v1 optimizer in a v1 graph."""
    v1, states = tf.compat.v1, []
    with tf.Graph().as_default(), v1.Session() as session:
        rate = v1.placeholder(tf.float32, [])
        variables = {name: v1.get_variable(name, initializer=value) for name, value in WEIGHTS.items()}
        gradients = {name: v1.placeholder(tf.float32, value.shape) for name, value in WEIGHTS.items()}
        config = SETTINGS[kind]
        optimizer = (
            v1.train.MomentumOptimizer(rate, config.momentum)
            if kind == "momentum"
            else v1.train.AdamOptimizer(rate, epsilon=config.adam_epsilon)
        )
        train = optimizer.apply_gradients([(gradients[name], variables[name]) for name in variables])
        session.run(v1.global_variables_initializer())
        everything = {variable.op.name: variable for variable in v1.global_variables()}
        for given, step_rate in zip(GRADIENTS, RATES, strict=True):
            session.run(train, {rate: step_rate, **{gradients[name]: given[name] for name in given}})
            states.append(session.run(everything))
    return states


def variables_of(library):
    if library == "keras":
        # Keras forbids slashes in its own names; the TensorFlow-1 name is the key.
        return {name: keras.Variable(value, name=name.replace("/", "_")) for name, value in WEIGHTS.items()}
    return {name: tf.Variable(value, name=name) for name, value in WEIGHTS.items()}


@pytest.mark.parametrize("library", ["keras", "tensorflow"])
@pytest.mark.parametrize("kind", ["momentum", "adam"])
def test_three_steps_equal_tensorflow_1(kind, library):
    variables = variables_of(library)
    optimizer = optimizers.make(SETTINGS[kind], variables)
    apply = tf.function(optimizer.apply)
    for expected, gradients, rate in zip(tensorflow_1(kind), GRADIENTS, RATES, strict=True):
        apply({name: tf.constant(value) for name, value in gradients.items()}, tf.constant(rate))
        ours = {**variables, **optimizer.variables_by_name()}
        assert set(ours) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(np.asarray(ours[name]), value, rtol=1e-6, atol=1e-9, err_msg=name)


def test_momentum_by_hand():
    variable = tf.Variable([1.0])
    optimizer = optimizers.Momentum({"w": variable}, momentum=0.5)
    for expected_slot, expected_weight in ((2.0, 0.8), (3.0, 0.5)):
        optimizer.apply({"w": tf.constant([2.0])}, 0.1)
        assert float(optimizer.variables_by_name()["w/Momentum"][0]) == pytest.approx(expected_slot)
        assert float(variable[0]) == pytest.approx(expected_weight)


def test_slots_start_as_in_tensorflow_1():
    slots = optimizers.make(SETTINGS["adam"], variables_of("keras")).variables_by_name()
    assert {name: variable.name for name, variable in slots.items()} == {name: f"{name}:0" for name in slots}
    for name in WEIGHTS:
        for slot in (slots[f"{name}/Adam"], slots[f"{name}/Adam_1"]):
            np.testing.assert_array_equal(slot, np.zeros_like(WEIGHTS[name]))
    powers = [slots["beta1_power"], slots["beta2_power"]]
    assert [power.shape for power in powers] == [[], []]
    assert [float(power) for power in powers] == pytest.approx([0.9, 0.999])


@pytest.mark.parametrize("kind", ["momentum", "adam"])
def test_a_variable_without_gradient_stays_with_its_slots(kind):
    variables = variables_of("tensorflow")
    optimizer = optimizers.make(SETTINGS[kind], variables)
    optimizer.apply({"biases": None}, 0.1)
    optimizer.apply({"Conv/weights": tf.ones([2, 2])}, 0.1)
    np.testing.assert_array_equal(variables["biases"], WEIGHTS["biases"])
    still = [slot for name, slot in optimizer.variables_by_name().items() if name.startswith("biases/")]
    assert still and all(not np.any(slot.numpy()) for slot in still)
    assert np.all(variables["Conv/weights"].numpy() != WEIGHTS["Conv/weights"])


def test_gradient_of_a_stranger_is_refused():
    with pytest.raises(KeyError, match="stranger"):
        optimizers.make(SETTINGS["momentum"], variables_of("tensorflow")).apply({"stranger": tf.ones([1])}, 0.1)


def test_unknown_optimizer_names_the_nearest():
    with pytest.raises(UserError, match=r"--optimizer: .*'adma'\n.*did you mean 'adam'"):
        optimizers.make(OptimizerConfig(optimizer="adma"), {})


TWO_DEVICES = """
import keras, numpy as np, tensorflow as tf
from deeplab.training import optimizers
from tests.deeplab.training.test_optimizers import GRADIENTS, RATES, SETTINGS, variables_of

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for kind in ("momentum", "adam"):
    alone = variables_of("keras")
    single = optimizers.make(SETTINGS[kind], alone)
    with strategy.scope():
        shared = variables_of("keras")
        optimizer = optimizers.make(SETTINGS[kind], shared)

    @tf.function
    def step(gradients, rate):
        strategy.run(optimizer.apply, (gradients, rate))

    for gradients, rate in zip(GRADIENTS, RATES):
        gradients = {name: tf.constant(value) for name, value in gradients.items()}
        single.apply(gradients, rate)
        step(gradients, tf.constant(rate))
    expected = {**alone, **single.variables_by_name()}
    for name, variable in {**shared, **optimizer.variables_by_name()}.items():
        copies = strategy.experimental_local_results(getattr(variable, "_value", variable))
        assert len(copies) == 2, name
        for copy in copies:
            np.testing.assert_allclose(copy.numpy(), np.asarray(expected[name]), rtol=1e-6, err_msg=name)
print("both copies equal")
"""


def test_copies_on_two_devices_equal_one_device():
    """In its own process, because devices can be split only before TensorFlow starts."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", TWO_DEVICES]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "both copies equal", done.stderr[-2000:]
