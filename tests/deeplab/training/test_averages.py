"""Running averages of the weights, beside TensorFlow 1's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab.training.averages import Averages


def variables():
    return {
        "Conv/weights": keras.Variable(np.array([[1.0, -2.0]], np.float32), name="weights"),
        "Conv/BatchNorm/moving_mean": keras.Variable(np.array([0.5], np.float32), trainable=False, name="mean"),
    }


VALUES = {
    "Conv/weights": [np.array([[1.0 + number, -2.0 * number]], np.float32) for number in range(6)],
    "Conv/BatchNorm/moving_mean": [np.array([0.5 * number**2], np.float32) for number in range(6)],
}


def averages_of_tensorflow_1(decay):
    """After each of five updates: name -> average."""
    v1, states = tf.compat.v1, []
    with tf.Graph().as_default(), v1.Session() as session:
        theirs = {name: v1.get_variable(name, initializer=given[0]) for name, given in VALUES.items()}
        step = v1.placeholder(tf.int64, [])
        average = v1.train.ExponentialMovingAverage(decay, num_updates=step)
        apply = average.apply(list(theirs.values()))
        session.run(v1.global_variables_initializer())
        for number in range(5):
            session.run([theirs[name].assign(given[number + 1]) for name, given in VALUES.items()])
            session.run(apply, {step: number})
            states.append({average.average_name(v): session.run(average.average(v)) for v in theirs.values()})
    return states


@pytest.mark.parametrize("decay", [0.3, 0.99])
def test_five_updates_equal_tensorflow_1(decay):
    """With `num_updates`, whose smaller decays hold in the first steps."""
    own = {name: keras.Variable(given[0], name="value") for name, given in VALUES.items()}
    averages = Averages(own, decay)
    update = tf.function(averages.update)
    for number, expected in enumerate(averages_of_tensorflow_1(decay)):
        for name, variable in own.items():
            variable.assign(VALUES[name][number + 1])
        update(tf.constant(number, tf.int64))
        found = averages.variables_by_name()
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name].numpy(), value, rtol=1e-6, err_msg=name)


def test_reset_and_set():
    own = variables()
    averages = Averages(own, decay=0.9)
    own["Conv/weights"].assign([[7.0, 8.0]])
    averages.reset()
    np.testing.assert_array_equal(averages.values()["Conv/weights"], [[7.0, 8.0]])
    averages.set({"Conv/BatchNorm/moving_mean": np.array([3.0], np.float32)})
    np.testing.assert_array_equal(averages.values()["Conv/BatchNorm/moving_mean"], [3.0])
    np.testing.assert_array_equal(own["Conv/BatchNorm/moving_mean"].numpy(), [0.5])
