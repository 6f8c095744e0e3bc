"""Builds a model of given variables, trains it a little and saves it, as a TensorFlow 1 user would.

Run by the tests with a Python 3.7; see tf1_runner.py.
"""

import tensorflow as tf


def build(shapes, optimizer):
    """Variables of the given names, a loss that moves the trainable ones, and the optimizer's slots.

    Returns the operation of one training step.
    """
    losses = []
    for name in sorted(shapes):
        trainable = "moving_" not in name
        variable = tf.get_variable(
            name, shapes[name], initializer=tf.random_normal_initializer(seed=len(name)), trainable=trainable
        )
        if trainable:
            losses.append(tf.nn.l2_loss(variable))
    step = tf.train.get_or_create_global_step()
    make = {"momentum": lambda: tf.train.MomentumOptimizer(0.1, 0.9), "adam": lambda: tf.train.AdamOptimizer(0.01)}
    return make[optimizer]().minimize(tf.add_n(losses), global_step=step)


def shapes_of(inputs):
    """The variables' shapes, which come as `shape:NAME`."""
    return {key[6:]: tuple(value) for key, value in inputs.items() if key.startswith("shape:")}


def run(inputs):
    """Trains for `steps`, saving after each; returns all variables at the end by name."""
    train = build(shapes_of(inputs), str(inputs["optimizer"]))
    saver = tf.train.Saver(max_to_keep=2)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for step in range(1, int(inputs["steps"]) + 1):
            session.run(train)
            saver.save(session, str(inputs["prefix"]), global_step=step)
        return {variable.op.name: session.run(variable) for variable in tf.global_variables()}
