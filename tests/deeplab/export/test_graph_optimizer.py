"""The algebra on hand-made graphs: the pattern is found, the answers stay, and near misses are left alone."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab.export.graph_optimizer import speed_up, speed_up_for_others

tf1 = tf.compat.v1
DRAW = np.random.default_rng(0)


def constant(*shape, name=None):
    return tf.constant(DRAW.normal(size=shape).astype(np.float32), name=name)


def built(build, channels):
    """The GraphDef of `build(x)`, x an image of unknown size, whose result is called y."""
    with tf.Graph().as_default() as graph:
        tf.identity(build(tf1.placeholder(tf.float32, [1, None, None, channels], name="x")), name="y")
        return graph.as_graph_def()


def answer(definition, channels):
    x = np.linspace(-1, 1, 6 * 4 * channels, dtype=np.float32).reshape(1, 6, 4, channels)
    with tf.Graph().as_default() as graph:
        tf1.import_graph_def(definition, name="")
        with tf1.Session(graph=graph) as session:
            return session.run("y:0", {"x:0": x})


def sped_up(build, channels):
    """Nodes before and after, and whether the answers are the same within rounding."""
    definition = built(build, channels)
    before = {node.name: node.SerializeToString(deterministic=True) for node in definition.node}
    expected = answer(definition, channels)
    speed_up(definition)
    np.testing.assert_allclose(answer(definition, channels), expected, rtol=1e-4, atol=1e-5)
    return before, {node.name: node for node in definition.node}


def unchanged(build, channels) -> bool:
    before, after = sped_up(build, channels)
    return before == {name: node.SerializeToString(deterministic=True) for name, node in after.items()}


def pointwise(x, channels, name):
    """A 1x1 convolution with bias."""
    weights = constant(1, 1, x.shape[-1], channels, name=f"{name}/weights")
    outputs = tf.nn.conv2d(x, weights, 1, "SAME", name=f"{name}/convolution")
    return tf.nn.bias_add(outputs, constant(channels, name=f"{name}/biases"), name=f"{name}/BiasAdd")


# ---- atrous depthwise convolutions ---------------------------------------------------------------------


def atrous(x, second_reader=False):
    inside = tf.raw_ops.SpaceToBatchND(input=x, block_shape=[2, 2], paddings=[[2, 2], [2, 2]])
    inside = tf.nn.depthwise_conv2d(inside, constant(3, 3, 2, 1), [1] * 4, "VALID", name="depthwise")
    outside = tf.raw_ops.BatchToSpaceND(input=inside, block_shape=[2, 2], crops=[[0, 0], [0, 0]], name="restored")
    active = tf.nn.relu6(tf.nn.bias_add(outside, [0.5, -0.5], name="biased"), name="active")
    return active * outside if second_reader else active * 2.0


def test_the_activation_comes_before_batch_to_space():
    _, after = sped_up(atrous, 2)
    assert after["restored"].input[0] == "active"
    assert list(after["active"].input) == ["biased"]
    assert after["biased"].input[0] == "depthwise"
    assert after["mul"].input[0] == "restored"


def test_nothing_changes_where_another_reads_the_atrous_result():
    assert unchanged(lambda x: atrous(x, second_reader=True), 2)


# ---- a linear projection before image pooling and a 1x1 convolution ------------------------------------


def pooled_head(x, projected=6, second_reader=False):
    features = pointwise(x, projected, "project")
    mean = tf.reduce_mean(features, [1, 2], keepdims=True, name="mean")
    result = pointwise(features, 2, "aspp0") + pointwise(mean, 2, "pooling")
    return result + tf.reduce_max(features) if second_reader else result


def test_the_projection_is_composed_with_the_next_convolution():
    _, after = sped_up(pooled_head, 3)
    assert list(after["aspp0/convolution"].input) == ["x", "aspp0/weights_composed"]
    assert after["mean"].input[0] == "x"
    assert after["mean/projection"].input[0] == "mean"
    assert after["pooling/convolution"].input[0] == "mean/projection/BiasAdd"


@pytest.mark.parametrize(
    "build",
    [
        lambda x: pooled_head(x, projected=1),  # two small kernels are less work than the composed one
        lambda x: pooled_head(x, second_reader=True),
        lambda x: pointwise(tf.nn.relu(pointwise(x, 6, "project")), 2, "aspp0"),
    ],
    ids=["no-gain", "another-reader", "not-linear"],
)
def test_other_projections_stay(build):
    assert unchanged(build, 3)


# ---- image pooling in a concatenation ------------------------------------------------------------------


def concatenated(x, others=1, pooled=True):
    source = tf.reduce_mean(x, [1, 2], keepdims=True) if pooled else x
    branch = tf.nn.relu(pointwise(source, 4, "pooling"))
    branch = tf1.image.resize_bilinear(branch, tf.shape(x)[1:3], align_corners=True, name="resized")
    parts = [branch, *(tf.nn.relu(pointwise(x, 3, f"aspp{index}")) for index in range(others))]
    return tf.nn.relu(pointwise(tf.concat(parts, -1, name="concat"), 5, "merge"))


def test_one_other_part_needs_no_concatenation():
    _, after = sped_up(concatenated, 3)
    assert list(after["merge/convolution"].input) == ["Relu_1", "merge/weights_of_others"]
    assert after["merge/BiasAdd"].input[1] == "merge/convolution_of_pooled/sum"
    assert list(after["merge/convolution_of_pooled"].input) == ["Relu", "merge/weights_of_pooled"]


def test_several_others_are_concatenated_without_it():
    _, after = sped_up(lambda x: concatenated(x, others=2), 3)
    assert list(after["concat_of_others"].input)[:2] == ["Relu_1", "Relu_2"]
    assert after["merge/convolution"].input[0] == "concat_of_others"


def test_a_resized_map_of_many_pixels_stays():
    assert unchanged(lambda x: concatenated(x, pooled=False), 3)


# ---- for other programs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, (9, 12)], ids=["any size", "one size"])
def test_atrous_depthwise_becomes_one_dilated_convolution(size):
    with tf.Graph().as_default() as graph:
        x = tf1.placeholder(tf.float32, [1, *(size or (None, None)), 2], name="x")
        y = tf.nn.depthwise_conv2d(x, constant(3, 3, 2, 1), [1] * 4, "SAME", dilations=[3, 3])
        tf.identity(y, name="y")
    definition = graph.as_graph_def()
    speed_up_for_others(definition)
    nodes = {node.name: node for node in definition.node}
    made = nodes[nodes["y"].input[0]]
    assert made.op == "DepthwiseConv2dNative" and nodes[made.input[0]].name == "x"
    assert list(made.attr["dilations"].list.i) == [1, 3, 3, 1] and made.attr["padding"].s == b"EXPLICIT"
    assert list(made.attr["explicit_paddings"].list.i) == [0, 0, 3, 3, 3, 3, 0, 0]


@pytest.mark.parametrize("others", [1, 2])
def test_the_pooled_part_gets_an_operation_of_its_own(others):
    definition = built(lambda x: concatenated(x, others), 3)
    expected = answer(definition, 3)
    speed_up_for_others(definition)
    np.testing.assert_allclose(answer(definition, 3), expected, rtol=1e-4, atol=1e-5)
    nodes = {node.name: node for node in definition.node}
    subtracted = nodes["merge/BiasAdd"]
    assert subtracted.op == "Sub" and nodes[subtracted.input[1]].op == "BiasAdd"
    assert list(nodes["merge/convolution_of_pooled"].input) == ["Relu", "merge/weights_of_pooled"]
    assert nodes["merge/convolution"].input[0] == ("Relu_1" if others == 1 else "concat_of_others")


def test_what_a_program_does_not_want_stays():
    definition = built(lambda x: concatenated(x) + tf.reduce_sum(atrous(x[..., :2])), 3)
    before = definition.SerializeToString(deterministic=True)
    speed_up_for_others(definition, dilates=False, splits=False)
    assert definition.SerializeToString(deterministic=True) == before


def test_other_operations_between_are_left_alone():
    def build(x):
        inside = tf.raw_ops.SpaceToBatchND(input=x, block_shape=[2, 2], paddings=[[2, 2], [2, 2]])
        return tf.raw_ops.BatchToSpaceND(input=tf.nn.relu(inside), block_shape=[2, 2], crops=[[2, 2], [2, 2]])

    definition = built(build, 2)
    before = definition.SerializeToString(deterministic=True)
    speed_up_for_others(definition)
    assert definition.SerializeToString(deterministic=True) == before
