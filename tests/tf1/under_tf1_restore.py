"""Restores the latest checkpoint of a folder by name with `tf.train.Saver`, as a TensorFlow 1 user would.

Run by the tests with a Python 3.7; see tf1_runner.py.
"""

import tensorflow as tf
import under_tf1_train


def run(inputs):
    """Returns every variable of the model and its optimizer after restoring, and the checkpoint's path."""
    under_tf1_train.build(under_tf1_train.shapes_of(inputs), str(inputs["optimizer"]))
    path = tf.train.latest_checkpoint(str(inputs["folder"]))
    listed = tf.train.get_checkpoint_state(str(inputs["folder"])).all_model_checkpoint_paths
    with tf.Session() as session:
        tf.train.Saver().restore(session, path)
        values = {"value:" + variable.op.name: session.run(variable) for variable in tf.global_variables()}
    return dict(values, path=path, listed=list(listed))
