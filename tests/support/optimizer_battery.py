"""What every optimizer is tested for. An optimizer gets it all by a class of a few lines:

class TestMomentum(OptimizerBattery):
    config = OptimizerConfig(optimizer="momentum", momentum=0.8)
"""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab.checkpoint import names
from deeplab.config.training_config import OptimizerConfig
from deeplab.training import optimizers

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
WEIGHTS = {"Conv/weights": np.array([[1.0, -2.0], [0.5, 0.0]], np.float32), "biases": np.array([0.25], np.float32)}
GRADIENTS = [
    {"Conv/weights": np.array([[0.5, -1.0], [1e-4, 3.0]], np.float32), "biases": np.array([2.0], np.float32)},
    {"Conv/weights": np.array([[-0.5, 1.0], [0.0, 3.0]], np.float32), "biases": np.array([-1.0], np.float32)},
    {"Conv/weights": np.array([[0.1, 0.2], [0.3, 0.4]], np.float32), "biases": np.array([0.5], np.float32)},
]
RATES = [0.1, 0.05, 0.01]


class OptimizerBattery:
    """All tests; see the head of this file.

    Attributes:
      config: names the optimizer.
      small_steps: its own scaling makes steps ever smaller.
    """

    config = OptimizerConfig()
    small_steps = False

    def v1_optimizer(self, rate):
        """TensorFlow 1's own optimizer with the same settings; None = it has none."""
        return None

    @pytest.mark.parametrize("library", ["keras", "tensorflow"])
    def test_three_steps_equal_tensorflow_1(self, library):
        expected = self.states_of_tensorflow_1()
        if expected is None:
            pytest.skip("TensorFlow 1 has no such optimizer")
        variables = variables_of(library)
        optimizer = optimizers.make(self.config, variables)
        apply = tf.function(optimizer.apply)
        for state, gradients, rate in zip(expected, GRADIENTS, RATES, strict=True):
            apply({name: tf.constant(value) for name, value in gradients.items()}, tf.constant(rate))
            ours = {**variables, **optimizer.variables_by_name()}
            assert set(ours) == set(state)
            for name, value in state.items():
                np.testing.assert_allclose(np.asarray(ours[name]), value, rtol=1e-6, atol=1e-9, err_msg=name)

    def states_of_tensorflow_1(self):
        """After each step: name -> value of weights and slots, from the v1 optimizer in a v1 graph."""
        v1, states = tf.compat.v1, []
        with tf.Graph().as_default(), v1.Session() as session:
            rate = v1.placeholder(tf.float32, [])
            optimizer = self.v1_optimizer(rate)
            if optimizer is None:
                return None
            variables = {name: v1.get_variable(name, initializer=value) for name, value in WEIGHTS.items()}
            gradients = {name: v1.placeholder(tf.float32, value.shape) for name, value in WEIGHTS.items()}
            train = optimizer.apply_gradients([(gradients[name], variables[name]) for name in variables])
            session.run(v1.global_variables_initializer())
            everything = {variable.op.name: variable for variable in v1.global_variables()}
            for given, step_rate in zip(GRADIENTS, RATES, strict=True):
                session.run(train, {rate: step_rate, **{gradients[name]: given[name] for name in given}})
                states.append(session.run(everything))
        return states

    def test_slots_have_the_names_under_which_they_are_saved(self):
        slots = optimizers.make(self.config, variables_of("keras")).variables_by_name()
        if self.config.optimizer in optimizers.registry:  # those of Keras have names of their own within Keras
            assert {name: variable.name for name, variable in slots.items()} == {name: f"{name}:0" for name in slots}
        assert all(names.is_slot(name) for name in slots)
        assert not set(slots) & set(WEIGHTS)
        assert all(np.isfinite(slot.numpy()).all() for slot in slots.values())

    def test_it_goes_down_a_slope(self):
        variables = {"w": tf.Variable([4.0, -3.0])}
        optimizer = optimizers.make(self.config, variables)
        for _ in range(200):
            optimizer.apply({"w": tf.convert_to_tensor(variables["w"])}, 1.0 if self.small_steps else 0.05)
        assert np.abs(variables["w"].numpy()).max() < 0.2

    def test_a_multiplier_scales_a_variables_learning_rate(self):
        """Over a first step, a quarter of the rate moves a variable a quarter as far; the other is not affected."""
        whole, part = variables_of("keras"), variables_of("keras")
        for variables, multipliers in ((whole, {}), (part, {"Conv/weights": 0.25})):
            given = {name: tf.constant(value) for name, value in GRADIENTS[0].items()}
            optimizers.make(self.config, variables).apply(given, RATES[0], multipliers)
        np.testing.assert_array_equal(part["biases"].numpy(), whole["biases"].numpy())
        moved = [variables["Conv/weights"].numpy() - WEIGHTS["Conv/weights"] for variables in (whole, part)]
        assert np.abs(moved[0]).max() > 1e-6
        np.testing.assert_allclose(moved[1], 0.25 * moved[0], rtol=1e-5, atol=1e-7)

    def test_a_variable_without_gradient_stays_with_its_slots(self):
        variables = variables_of("tensorflow")
        optimizer = optimizers.make(self.config, variables)
        before = {name: slot.numpy() for name, slot in optimizer.variables_by_name().items()}
        optimizer.apply({"biases": None}, 0.1)
        optimizer.apply({"Conv/weights": tf.ones([2, 2])}, 0.1)
        np.testing.assert_array_equal(variables["biases"], WEIGHTS["biases"])
        for name, slot in optimizer.variables_by_name().items():
            if name.startswith("biases/"):
                np.testing.assert_array_equal(slot, before[name])
        assert np.all(variables["Conv/weights"].numpy() != WEIGHTS["Conv/weights"])

    def test_a_gradient_of_an_unknown_variable_is_refused(self):
        with pytest.raises(KeyError, match="stranger"):
            optimizers.make(self.config, variables_of("tensorflow")).apply({"stranger": tf.ones([1])}, 0.1)

    def test_saved_slots_continue_the_run(self):
        """Weights and slots copied into a new optimizer after one step give the second step."""
        variables, again = variables_of("tensorflow"), variables_of("tensorflow")
        optimizer, resumed = optimizers.make(self.config, variables), optimizers.make(self.config, again)
        step = [{name: tf.constant(value) for name, value in given.items()} for given in GRADIENTS]
        optimizer.apply(step[0], RATES[0])
        for name, variable in {**again, **resumed.variables_by_name()}.items():
            variable.assign({**variables, **optimizer.variables_by_name()}[name])
        optimizer.apply(step[1], RATES[1])
        resumed.apply(step[1], RATES[1])
        for name, variable in {**again, **resumed.variables_by_name()}.items():
            np.testing.assert_array_equal(variable, {**variables, **optimizer.variables_by_name()}[name])


def variables_of(library):
    if library == "keras":
        # Keras forbids slashes in its own names; the TensorFlow-1 name is the key.
        return {name: keras.Variable(value, name=name.replace("/", "_")) for name, value in WEIGHTS.items()}
    return {name: tf.Variable(value, name=name) for name, value in WEIGHTS.items()}


TWO_DEVICES = """
import numpy as np, tensorflow as tf
from deeplab.config.training_config import OptimizerConfig
from deeplab.training import optimizers
from support.optimizer_battery import GRADIENTS, RATES, variables_of

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for name in [*optimizers.registry.names(), "nadam", "adagrad"]:
    config = OptimizerConfig(optimizer=name)
    alone = variables_of("keras")
    single = optimizers.make(config, alone)
    with strategy.scope():
        shared = variables_of("keras")
        optimizer = optimizers.make(config, shared)

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


def require_equal_copies_on_two_devices():
    """For every registered optimizer, in a process of its own: devices can be split only before TensorFlow starts."""
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}"}
    command = [sys.executable, "-c", TWO_DEVICES]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "both copies equal", done.stderr[-2000:]
