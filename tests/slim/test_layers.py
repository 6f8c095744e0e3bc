"""Layers and kernels, against small hand-computed arrays and against their plain-Keras twins."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import slim
from slim import kernels, layers
from slim.layers import AtrousPlan, Convolution, DepthwiseConvolution, Norm, conv_unit, make_divisible


@pytest.mark.parametrize("length", [4, 5])
@pytest.mark.parametrize("kind", [Convolution, DepthwiseConvolution])
def test_fixed_padding_gives_the_dense_result_subsampled(kind, length):
    ramp = np.arange(length * length, dtype=np.float32).reshape(1, length, length, 1)
    filters = (1,) if kind is Convolution else ()
    dense, strided = (kind(*filters, 3, stride=stride, padding="fixed", initializer="ones")(ramp) for stride in (1, 2))
    np.testing.assert_array_equal(strided, np.asarray(dense)[:, ::2, ::2])


@pytest.mark.parametrize("length", [9, 12])
@pytest.mark.parametrize(
    ("stride", "rate", "padding"),
    [
        *((stride, 1, padding) for stride in (1, 2, 3) for padding in ("same", "valid", "fixed")),
        *((1, (2, 3), padding) for padding in ("same", "valid", "fixed")),
    ],
)
def test_output_shapes_are_known_without_a_call(length, stride, rate, padding):
    for size in (1, 3):
        options = {"stride": stride, "rate": rate, "padding": padding, "initializer": "zeros"}
        for layer in (Convolution(5, size, **options), DepthwiseConvolution(size, **options)):
            found = layer(np.zeros((2, length, length + 1, 4), np.float32)).shape
            assert layer(keras.Input((length, length + 1, 4), 2)).shape == found
            assert layer(keras.Input((None, None, 4))).shape == (None, None, None, found[-1])


def test_fixed_padding_differs_from_same_for_even_sizes():
    row = np.array([1, 2, 4, 8], np.float32).reshape(1, 1, 4, 1)

    def run(padding):
        convolution = Convolution(1, 3, stride=2, padding=padding, initializer="ones")
        return np.asarray(convolution(np.repeat(row, 4, axis=1)))[0, 0, :, 0]

    # Columns sum to 1+2 and 2+4+8 over two rows; TensorFlow's SAME begins at the first pixel: three rows.
    np.testing.assert_array_equal(run("fixed"), [6, 28])
    np.testing.assert_array_equal(run("same"), [21, 36])


def test_atrous_plan_turns_strides_into_rates_for_the_layers_that_follow():
    plan = AtrousPlan(8)
    assert [plan.next(stride) for stride in (2, 2, 2, 1, 2, 1, 2, 1)] == [
        *((2, 1), (2, 1), (2, 1), (1, 1)),
        (1, 1),  # loses its stride and keeps rate 1
        (1, 2),
        (1, 2),
        (1, 4),
    ]


@pytest.mark.parametrize(
    ("dilation", "expected"),
    [
        ("after", [1, 1, 1, 1, 1, 2, 2, 4]),
        ("with", [1, 1, 1, 1, 2, 2, 4, 4]),
        ("next_stage", [1, 1, 1, 1, 1, 1, 2, 2]),
    ],
)
def test_atrous_plan_dilates_as_published_networks_do(dilation, expected):
    plan = AtrousPlan(8, dilation)
    layers = [(2, True), (2, True), (2, True), (1, False), (2, True), (1, False), (2, True), (1, False)]
    assert [plan.next(stride, is_first)[1] for stride, is_first in layers] == expected


@pytest.mark.parametrize(
    ("channels", "divisor", "minimum", "expected"),
    [(11.2, 1, 1, 11), (12, 8, None, 16), (18, 8, None, 24), (20, 8, None, 24), (3, 8, None, 8), (33, 8, 8, 32)],
)
def test_make_divisible(channels, divisor, minimum, expected):
    assert make_divisible(channels, divisor, minimum) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("relu", [0, 0, 0, 1, 9]),
        ("relu6", [0, 0, 0, 1, 6]),
        ("clip6", [-6, -1, 0, 1, 6]),
        ("hard_swish", [0, -1 * 2 / 6, 0, 4 / 6, 9]),
        ("quantized_sigmoid", [0, 2 * 0.16667, 3 * 0.16667, 4 * 0.16667, 1.00002]),
    ],
)
def test_activations(name, expected):
    result = layers.ACTIVATIONS[name](np.array([-9, -1, 0, 1, 9], np.float32))
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_batch_norm_averages_the_unbiased_variance():
    norm = layers.BatchNorm(Norm(0.9, 1e-3))
    values = np.array([1.0, 3.0, 5.0, 7.0], np.float32).reshape(1, 2, 2, 1)
    result = norm(values, training=True)
    # Mean 4; biased variance 5, which normalizes; unbiased 20 / 3, which is averaged.
    np.testing.assert_allclose(result, (values - 4) / np.sqrt(5 + 1e-3), rtol=1e-5)
    assert float(norm.moving_mean[0]) == pytest.approx(0.4)
    assert float(norm.moving_variance[0]) == pytest.approx(0.9 + 0.1 * 20 / 3)


def test_frozen_batch_norm_uses_its_averages_in_training():
    norm = layers.BatchNorm(Norm(0.9, 0.0, train_statistics=False))
    values = np.array([1.0, 3.0], np.float32).reshape(1, 1, 2, 1)
    np.testing.assert_allclose(norm(values, training=True), values)
    assert float(norm.moving_mean[0]) == 0.0


def test_folded_units_have_a_bias_in_place_of_batch_norm():
    given = keras.Input((4, 4, 3))
    net = conv_unit(given, "scope/conv", 2, norm=Norm(0.9, 1e-3, folded=True), initializer="ones")
    assert set(layers.variables_by_name(keras.Model(given, net))) == {"scope/conv/weights", "scope/conv/biases"}


def statistics(channels):
    draw = np.random.default_rng(3)
    return [draw.uniform(0.5, 2, channels).astype(np.float32) for _ in range(4)]


def test_batch_norm_agrees_with_its_twin():
    values = np.random.default_rng(1).normal(size=(2, 3, 4, 5)).astype(np.float32)
    gamma, beta, mean, variance = statistics(5)
    given = (values, gamma, beta, mean, variance, 1e-3)
    np.testing.assert_allclose(kernels.batch_norm(*given), kernels.batch_norm_portable(*given), atol=1e-5)
    for fused, plain in zip(
        kernels.batch_norm_training(values, gamma, beta, 1e-3),
        kernels.batch_norm_training_portable(values, gamma, beta, 1e-3),
        strict=True,
    ):
        np.testing.assert_allclose(fused, plain, atol=1e-5)


def test_add_bias_agrees_with_a_sum():
    values, bias = np.ones((1, 2, 2, 3), np.float32), np.array([1, 2, 3], np.float32)
    np.testing.assert_array_equal(kernels.add_bias(values, bias), values + bias)


SIZES = [((2, 3), (3, 5)), ((5, 7), (9, 4)), ((1, 4), (3, 1)), ((4, 4), (1, 1)), ((3, 5), (2, 9)), ((33, 7), (20, 65))]


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_resize_agrees_with_its_twin(old, new):
    values = np.random.default_rng(2).normal(size=(2, *old, 3)).astype(np.float32)
    fused, plain = kernels.resize_bilinear(values, *new), kernels.resize_bilinear_portable(values, *new)
    np.testing.assert_allclose(fused, plain, atol=1e-6)


ENLARGED = [((5, 4), (17, 13)), ((1, 1), (5, 4)), ((1, 5), (1, 9)), ((1, 5), (4, 17)), ((3, 3), (5, 3))]


@pytest.mark.parametrize("kind", ["float32", "float16"])
@pytest.mark.parametrize(("old", "new"), [*SIZES, *ENLARGED, ((4, 3), (4, 3)), ((3, 3), (9, 5))])
def test_resize_in_training_has_the_same_values_and_gradients(old, new, kind):
    draw = np.random.default_rng(2)
    values = tf.constant(draw.normal(size=(2, *old, 3)), kind)
    upstream = tf.constant(draw.normal(size=(2, *new, 3)), tf.float32)

    @tf.function
    def both(resize):
        with tf.GradientTape() as tape:
            tape.watch(values)
            resized = resize(values, *new)
        return resized, tape.gradient(resized, values, upstream)

    (wanted, wanted_gradient), (found, gradient) = both(kernels.resize_bilinear), both(kernels.resize_bilinear_training)
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == "float32" and gradient.dtype == kind and gradient.shape == values.shape
    tolerance = {"float32": 1e-5, "float16": 2e-2}[kind]
    np.testing.assert_allclose(gradient, wanted_gradient, rtol=tolerance, atol=tolerance)


def test_sizes_that_crops_have_need_no_gradient_on_one_core():
    def operations(height):
        @tf.function(autograph=False)
        def step(maps):
            with tf.GradientTape() as tape:
                tape.watch(maps)
                resized = kernels.resize_bilinear_training(maps, height, height)
            return tape.gradient(resized, maps)

        graph = step.get_concrete_function(tf.TensorSpec([2, 5, 5, 3])).graph
        return {operation.type for operation in graph.get_operations()}

    assert "ResizeBilinearGrad" in operations(14)
    for height in (5, 17, 65):
        assert "ResizeBilinearGrad" not in operations(height), height


@pytest.mark.parametrize("kind", ["int32", "uint8", "float32"])
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_nearest_resize_agrees_with_its_twin(old, new, kind):
    values = np.random.default_rng(2).integers(0, 255, size=(2, *old, 1)).astype(kind)
    fused, plain = kernels.resize_nearest(values, *new), kernels.resize_nearest_portable(values, *new)
    assert fused.dtype == plain.dtype == kind
    np.testing.assert_array_equal(fused, plain)


def test_static_sizes_of_a_resize_are_known_when_traced():
    shapes = []

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([], tf.int32)])
    def traced(values, height):
        shapes.extend((kernels.resize_bilinear(values, 5, 9).shape, kernels.resize_nearest(values, height, 9).shape))

    traced.get_concrete_function()
    assert [tuple(shape) for shape in shapes] == [(None, 5, 9, 3), (None, None, 9, 3)]


def test_resize_keeps_the_corners():
    values = np.array([[0, 2], [4, 6]], np.float32).reshape(1, 2, 2, 1)
    expected = np.array([[0, 1, 2], [2, 3, 4], [4, 5, 6]], np.float32)
    np.testing.assert_array_equal(kernels.resize_bilinear(values, 3, 3)[0, :, :, 0], expected)


# ---- group norm, and batch norm over replicas --------------------------------------------------------------


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (24, 8), (16, 16), (3, 1), (96, 32)])
def test_group_norm_equals_that_of_keras(channels, groups):
    images = np.random.default_rng(0).normal(2.0, 3.0, (2, 5, 7, channels)).astype(np.float32)
    ours = layers.GroupNorm(1e-3)
    theirs = keras.layers.GroupNormalization(groups, epsilon=1e-3)
    np.testing.assert_allclose(ours(images), theirs(images), rtol=1e-5, atol=1e-5)
    assert ours.groups == groups and [variable.name for variable in ours.weights] == ["gamma", "beta"]


def test_group_norm_replaces_batch_norm_under_its_own_name_and_is_never_folded():
    image = keras.Input((None, None, 3))
    norm = slim.Options(group_norm=True, fold_batch_norm=True).norm(0.9, 1e-3)
    outputs = layers.conv_unit(image, "Tiny/conv", 8, 3, norm=norm, initializer="ones")
    names = list(layers.variables_by_name(keras.Model(image, outputs)))
    assert names == ["Tiny/conv/weights", "Tiny/conv/GroupNorm/gamma", "Tiny/conv/GroupNorm/beta"]
    images = np.random.default_rng(0).normal(size=(3, 5, 5, 3)).astype(np.float32)
    together, alone = (keras.Model(image, outputs)(batch) for batch in (images, images[2:]))
    np.testing.assert_allclose(alone[0], together[2], rtol=1e-5, atol=1e-6)


TWO_REPLICAS = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
from slim.layers import BatchNorm, Norm

images = np.random.default_rng(0).normal(size=(4, 3, 3, 5)).astype(np.float32)
images[2:] += 3.0  # the parts have other statistics
weights = np.random.default_rng(1).normal(size=(4, 3, 3, 5)).astype(np.float32)

def gradients(layer, image, weight):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(image, training=True) * weight)
    return tape.gradient(loss, [layer.gamma.value, layer.beta.value])

alone = BatchNorm(Norm(0.9, 1e-3))
alone.build(images.shape)
expected = gradients(alone, tf.constant(images), tf.constant(weights))
with strategy.scope():
    shared = BatchNorm(Norm(0.9, 1e-3, synced=True))
    shared.build(images.shape)

@tf.function
def step(image, weight):
    def part(image, weight):
        return tf.distribute.get_replica_context().all_reduce("SUM", gradients(shared, image, weight))
    return strategy.run(part, (image, weight))

def halves(array):
    get = lambda context: tf.constant(np.split(array, 2)[context.replica_id_in_sync_group])
    return strategy.experimental_distribute_values_from_function(get)

found = step(halves(images), halves(weights))
for one, other in zip(found, expected):
    np.testing.assert_allclose(one.values[0], other, rtol=1e-4, atol=1e-4)
for one, other in ((shared.moving_mean, alone.moving_mean), (shared.moving_variance, alone.moving_variance)):
    np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-5)
print("equal")
"""


def test_synced_batch_norm_on_two_replicas_equals_the_whole_batch_on_one():
    root = pathlib.Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", TWO_REPLICAS], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "equal", done.stderr[-2000:]


@pytest.mark.parametrize(("old", "new"), [((2, 3), (5, 6)), ((5, 4), (2, 3)), ((1, 1), (3, 2)), ((3, 3), (3, 3))])
def test_resize_without_aligned_corners_takes_pixel_edges(old, new):
    values = np.random.default_rng(3).normal(size=(2, *old, 3)).astype(np.float32)
    fused = np.asarray(kernels.resize_bilinear(values, *new, align_corners=False))
    portable = kernels.resize_bilinear_portable(values, *new, align_corners=False)
    np.testing.assert_allclose(fused, portable, atol=1e-6)

    def positions(length, wanted):
        return np.clip((np.arange(wanted) + 0.5) * length / wanted - 0.5, 0, length - 1)

    for axis, (length, wanted) in enumerate(zip(old, new, strict=True)):
        ramp = np.broadcast_to(np.arange(length, dtype=np.float32).reshape((-1, 1) if axis == 0 else (1, -1)), old)
        resized = np.asarray(kernels.resize_bilinear(ramp[np.newaxis, ..., np.newaxis], *new, align_corners=False))
        np.testing.assert_allclose(np.take(resized[0, ..., 0], 0, axis=1 - axis), positions(length, wanted), atol=1e-6)
