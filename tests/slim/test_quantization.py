"""Fake quantization: kernels against their twins, ranges against hand-made numbers, folded units against batch norm."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from slim import kernels, quantization
from slim.layers import Norm, conv_unit, depthwise_unit, refresh_weight_ranges, variables_by_name
from slim.quantization import PER_CHANNEL, ActivationRange, QuantizedDropout, WeightRange

NORM = Norm(decay=0.9, epsilon=1e-3)
QUANTIZED = Norm(decay=0.9, epsilon=1e-3, quantized=True)


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 2.0), (0.0, 6.0), (-3.0, 0.0), (-0.7, 5.3), (0.0, 0.0)])
def test_fake_quantization_agrees_with_its_twin(low, high, narrow):
    values = tf.constant(np.random.default_rng(0).uniform(-4, 7, (50, 3)).astype(np.float32))
    results = []
    for operation in (kernels.fake_quantize, kernels.fake_quantize_portable):
        with tf.GradientTape() as tape:
            tape.watch(values)
            outputs = operation(values, low, high, narrow)
        results.append((outputs.numpy(), tape.gradient(outputs, values).numpy()))
    (outputs, gradient), (twin, twin_gradient) = results
    np.testing.assert_allclose(outputs, twin, atol=1e-6)
    if high > low:
        np.testing.assert_array_equal(gradient, twin_gradient)


def test_zero_is_kept_and_the_range_is_shifted_for_it():
    outputs = kernels.fake_quantize(tf.constant([0.0, -2.0, 2.0]), -1.0, 1.01)
    step = 2.01 / 255  # zero is 126.9 steps above the low end: it becomes step 127
    np.testing.assert_allclose(outputs, [0.0, -127 * step, 128 * step], rtol=1e-6)


def test_channels_are_rounded_symmetrically_by_their_own_largest_weight():
    kernel = np.zeros((1, 1, 3, 2), np.float32)
    kernel[..., 0], kernel[..., 1] = [127.0, 1.4, -2.6], [0.0, 0.0, 0.0]
    np.testing.assert_array_equal(quantization.per_channel(tf.constant(kernel), 3)[0, 0, :, 0], [127.0, 1.0, -3.0])
    assert not np.any(quantization.per_channel(tf.constant(kernel), 3)[..., 1])
    depthwise = quantization.per_channel(tf.constant(kernel[:, :, :, :1] * 0.5), 2)
    np.testing.assert_array_equal(depthwise, kernel[:, :, :, :1] * 0.5)  # each channel has one weight


def observed(layer):
    low, high = layer.low.numpy(), layer.high.numpy()
    steps = [count.numpy() for _, count in layer._averages.values()]
    return float(low), float(high), steps


def test_moving_ranges_are_averages_without_bias_and_hold_zero():
    layer = ActivationRange("a/act_quant")
    for low, high in ((1.0, 5.0), (-2.0, 7.0)):
        layer(tf.constant([[low, high]]), training=True)
    weights = np.array([0.999, 1.0])  # of the first and the second batch
    low, high, steps = observed(layer)
    np.testing.assert_allclose(low, -2.0 / weights.sum(), rtol=1e-4)
    np.testing.assert_allclose(high, (5.0 * weights[0] + 7.0) / weights.sum(), rtol=1e-4)
    assert steps == [2.0, 2.0]


def test_moving_ranges_continue_those_of_the_research_deeplab():
    """MobilenetV2/expanded_conv_2/project/act_quant/max of a checkpoint with 9 updates of the range."""
    layer = ActivationRange("a/act_quant")
    layer.build((1, 2))
    biased, steps = layer._averages["max"]
    biased.assign(0.035920966)
    steps.assign(9.0)
    assert biased.numpy() / (1 - 0.999**9) == pytest.approx(4.007273, rel=1e-4)
    layer(tf.constant([[0.0, 9.0]]), training=True)
    expected = (0.999 * 0.035920966 + 0.001 * 9.0) / (1 - 0.999**10)
    assert layer.high.numpy() == pytest.approx(expected, rel=1e-4) and steps.numpy() == 10


def test_ranges_of_activations_stay_in_inference_and_while_they_are_held():
    layer = ActivationRange("a/act_quant")
    image = keras.Input((2,))
    model = keras.Model(image, layer(image))
    before = observed(layer)
    layer(tf.constant([[-9.0, 9.0]]), training=False)
    with quantization.held_ranges(model):
        layer(tf.constant([[-9.0, 9.0]]), training=True)
    assert observed(layer) == before == (0.0, 6.0, [0.0, 0.0])


def test_calibration_widens_the_range_without_rounding():
    layer = ActivationRange("a/act_quant")
    layer.build((1, 2))
    layer.clear()
    layer.calibrates = True
    values = tf.constant([[0.3, 2.0], [-1.0, 1.5]])
    for row in values:
        np.testing.assert_array_equal(layer(row[None], training=False), row[None])
    assert observed(layer)[:2] == (-1.0, 2.0)


def test_before_the_delay_nothing_is_rounded_and_ranges_are_learned():
    layer, weights = ActivationRange("a/act_quant"), WeightRange("per_tensor", 3)
    layer.rounds = weights.rounds = False
    values = tf.constant(np.random.default_rng(1).uniform(-3, 4, (1, 1, 5, 5)).astype(np.float32))
    for each in (layer, weights):
        np.testing.assert_array_equal(each(values, training=True), values)
        assert each.high.numpy() == pytest.approx(values.numpy().max(), rel=1e-4)
        assert not np.array_equal(each(values, training=False), values), "inference always rounds"


def units(unit, size, norm, **more):
    image = keras.Input((None, None, 4))
    outputs = unit(image, "scope", *size, 3, norm=norm, initializer="glorot_uniform", **more)
    return keras.Model(image, outputs)


@pytest.mark.parametrize(("unit", "size"), [(conv_unit, (6,)), (depthwise_unit, ())])
@pytest.mark.parametrize("trains", [True, False])
def test_a_folded_unit_without_rounding_is_convolution_and_batch_norm(unit, size, trains):
    draw = np.random.default_rng(2)
    plain = units(unit, size, Norm(0.9, 1e-3, train_statistics=trains))
    folded = units(unit, size, Norm(0.9, 1e-3, train_statistics=trains, quantized=True))
    quantization.set_rounding(folded, False)
    by_name = variables_by_name(folded)
    assert {name for name in by_name if "_quant" not in name} == set(variables_by_name(plain))
    for name, variable in variables_by_name(plain).items():
        value = draw.uniform(0.5, 1.5, variable.shape)
        variable.assign(value)
        by_name[name].assign(value)
    images = draw.normal(1, 2, (3, 7, 8, 4)).astype(np.float32)
    np.testing.assert_allclose(plain(images, training=True), folded(images, training=True), rtol=1e-5, atol=2e-5)
    for name in ("scope/BatchNorm/moving_mean", "scope/BatchNorm/moving_variance"):
        np.testing.assert_allclose(variables_by_name(plain)[name], by_name[name], rtol=1e-5)
    np.testing.assert_allclose(plain(images, training=True), folded(images, training=True), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(("unit", "size"), [(conv_unit, (6,)), (depthwise_unit, ())])
def test_gradients_of_a_folded_unit_go_through_the_statistics(unit, size):
    draw = np.random.default_rng(3)
    images = tf.constant(draw.normal(1, 2, (3, 5, 6, 4)).astype(np.float32))
    plain, folded = units(unit, size, NORM, activation=None), units(unit, size, QUANTIZED, activation=None)
    quantization.set_rounding(folded, False)
    target, gradients = None, []
    for model in (plain, folded):
        for name, variable in variables_by_name(model).items():
            if "_quant" not in name:
                variable.assign(np.random.default_rng(len(name)).uniform(0.5, 1.5, variable.shape))
        weights = {name: v for name, v in variables_by_name(model).items() if v.trainable}
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = model(images, training=True)
            target = draw.normal(size=outputs.shape).astype(np.float32) if target is None else target
            loss = tf.reduce_sum(outputs * target)
        values = tape.gradient(loss, [images, *(v.value for v in weights.values())])
        gradients.append(dict(zip(["image", *weights], values, strict=True)))
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) == 4
    for name in gradients[0]:
        np.testing.assert_allclose(gradients[0][name], gradients[1][name], atol=2e-4, err_msg=name)


def test_rounding_changes_a_unit_by_no_more_than_its_steps():
    draw = np.random.default_rng(4)
    model = units(conv_unit, (6,), QUANTIZED)
    images = draw.normal(0, 1, (2, 9, 9, 4)).astype(np.float32)
    for _ in range(3):
        rounded = np.asarray(model(images, training=True))
    quantization.set_rounding(model, False)
    exact = np.asarray(model(images, training=True))
    assert 0 < np.abs(rounded - exact).max() < 0.15 and np.unique(rounded).size <= 256


def test_channels_of_very_different_size_need_ranges_of_their_own():
    errors = {}
    for granularity in ("per_tensor", PER_CHANNEL):
        norm = Norm(0.9, 1e-3, quantized=True, granularity=granularity)
        model = units(depthwise_unit, (), norm, activation=None)
        named = variables_by_name(model)
        kernel = np.random.default_rng(5).normal(0, 1, named["scope/depthwise_weights"].shape)
        named["scope/depthwise_weights"].assign(kernel * np.reshape([100.0, 1.0, 1.0, 1.0], (1, 1, 4, 1)))
        refresh_weight_ranges(model)
        layer = model.get_layer("scope")
        folded = np.asarray(layer.folded_kernel())
        errors[granularity] = np.abs(np.asarray(layer.weight_range(folded)) - folded)[:, :, 1:].max()
    assert errors[PER_CHANNEL] < 0.02 < 0.2 < errors["per_tensor"]


def test_weight_ranges_follow_the_present_weights_when_refreshed():
    model = units(conv_unit, (6,), QUANTIZED)
    named = variables_by_name(model)
    named["scope/weights"].assign(np.full(named["scope/weights"].shape, 3.0))
    named["scope/BatchNorm/gamma"].assign(np.array([1, -2, 1, 1, 1, 1]))
    refresh_weight_ranges(model)
    scale = 1 / np.sqrt(1 + 1e-3)
    assert named["scope/weights_quant/min"].numpy() == pytest.approx(-6 * scale)
    assert named["scope/weights_quant/max"].numpy() == pytest.approx(3 * scale)


def test_dropout_has_ranges_that_act_in_training_alone():
    image = keras.Input((4, 4, 2))
    model = keras.Model(image, QuantizedDropout(0.5, name="drop", seed=1)(image))
    images = np.ones((2, 4, 4, 2), np.float32)
    np.testing.assert_array_equal(model(images), images)
    outputs = np.asarray(model(images, training=True))
    assert set(np.unique(outputs.round(3))) == {0.0, 2.0}
    named = variables_by_name(model)
    for operation in ("mul", "mul_1"):
        assert named[f"drop/dropout/{operation}/activation_Mul_quant/max"].numpy() == pytest.approx(2.0, rel=1e-4)


def test_a_model_with_fake_quantization_is_saved_and_loaded(tmp_path):
    model = units(conv_unit, (6,), Norm(0.9, 1e-3, quantized=True, granularity=PER_CHANNEL))
    images = np.random.default_rng(6).normal(0, 1, (1, 9, 9, 4)).astype(np.float32)
    model(images, training=True)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again(images), model(images))
    assert quantization.is_quantized(again) and again.get_layer("scope").granularity == PER_CHANNEL
