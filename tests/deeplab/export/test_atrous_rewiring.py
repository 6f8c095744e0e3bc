"""The order of activation and BatchToSpaceND in hand-made graphs."""

import numpy as np
import tensorflow as tf

from deeplab.export.atrous import activate_before_batch_to_space

tf1 = tf.compat.v1


def atrous_graph(second_reader: bool = False):
    """x -> SpaceToBatchND -> depthwise -> BatchToSpaceND -> BiasAdd -> Relu6 -> times 2."""
    with tf.Graph().as_default() as graph:
        x = tf1.placeholder(tf.float32, [1, None, None, 2], name="x")
        inside = tf.raw_ops.SpaceToBatchND(input=x, block_shape=[2, 2], paddings=[[2, 2], [2, 2]])
        kernel = tf.constant(np.arange(18, dtype=np.float32).reshape(3, 3, 2, 1) - 8)
        inside = tf.raw_ops.DepthwiseConv2dNative(input=inside, filter=kernel, strides=[1] * 4, padding="VALID")
        outside = tf.raw_ops.BatchToSpaceND(input=inside, block_shape=[2, 2], crops=[[0, 0], [0, 0]], name="restored")
        active = tf.nn.relu6(tf.nn.bias_add(outside, [0.5, -0.5], name="biased"), name="active")
        tf.multiply(active, 2.0, name="y")
        if second_reader:
            tf.negative(outside, name="other")
        return graph.as_graph_def()


def answer(definition):
    x = np.linspace(-1, 1, 1 * 6 * 4 * 2, dtype=np.float32).reshape(1, 6, 4, 2)
    with tf.Graph().as_default() as graph:
        tf1.import_graph_def(definition, name="")
        with tf1.Session(graph=graph) as session:
            return session.run("y:0", {"x:0": x})


def inputs(definition, name):
    return next(list(node.input) for node in definition.node if node.name == name)


def test_the_activation_comes_before_batch_to_space():
    definition = atrous_graph()
    expected = answer(definition)
    assert 0 < expected.mean() < 12  # neither all cut off below nor all above
    assert activate_before_batch_to_space(definition) == 1
    assert inputs(definition, "restored")[0] == "active"
    assert inputs(definition, "active") == ["biased"]
    assert inputs(definition, "biased")[0] == "DepthwiseConv2dNative"
    assert inputs(definition, "y")[0] == "restored"
    np.testing.assert_array_equal(answer(definition), expected)


def test_nothing_changes_where_another_reads_the_inner_result():
    definition = atrous_graph(second_reader=True)
    before = definition.SerializeToString(deterministic=True)
    assert activate_before_batch_to_space(definition) == 0
    assert definition.SerializeToString(deterministic=True) == before
