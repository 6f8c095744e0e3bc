"""Gradient multipliers, by name; weight decay: where it applies, its value and its gradient."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab.config.training_config import OptimizerConfig
from deeplab.training import gradients

HEAD = ["image_pooling/weights", "aspp0/BatchNorm/gamma", "concat_projection/weights"]
DECODER = ["decoder/feature_projection0/weights", "decoder/feature_projection0/biases"]
DENSE_CELL = ["meta_architecture/branch0_depthwise/depthwise_weights"]
LOGITS = ["logits/semantic/weights", "logits/semantic_1/biases"]
BACKBONE = ["MobilenetV2/Conv/weights", "MobilenetV2/expanded_conv/depthwise/BatchNorm/beta"]
GATE = ["MobilenetV3/expanded_conv_3/squeeze_excite/Conv_1/biases"]
NAMES = BACKBONE + GATE + HEAD + DECODER + DENSE_CELL + LOGITS


@pytest.mark.parametrize(
    "multiplier, logits_only, expected",
    [
        (1.0, False, {GATE[0]: 2.0, DECODER[1]: 2.0, LOGITS[1]: 2.0}),
        (
            10.0,
            False,
            dict.fromkeys([*HEAD, DECODER[0], *DENSE_CELL, LOGITS[0]], 10.0)
            | {GATE[0]: 2.0, DECODER[1]: 20.0, LOGITS[1]: 20.0},
        ),
        (10.0, True, {GATE[0]: 2.0, DECODER[1]: 2.0, LOGITS[0]: 10.0, LOGITS[1]: 20.0}),
    ],
)
def test_factors_as_measured_on_the_reference(multiplier, logits_only, expected):
    config = OptimizerConfig(last_layer_gradient_multiplier=multiplier, last_layers_contain_logits_only=logits_only)
    assert gradients.multipliers(NAMES, config) == expected


def test_factor_one_is_left_out():
    config = OptimizerConfig(last_layer_gradient_multiplier=0.5)
    assert gradients.multipliers(["logits/semantic/biases"], config) == {}


def test_scale_leaves_the_rest_and_its_input_alone():
    before = {"a": tf.constant([1.0, -2.0]), "b": tf.constant([3.0]), "c": None}
    after = gradients.scale(before, {"a": 10.0, "c": 2.0, "unused": 5.0})
    np.testing.assert_array_equal(after["a"], [10.0, -20.0])
    assert after["b"] is before["b"]
    assert after["c"] is None
    np.testing.assert_array_equal(before["a"], [1.0, -2.0])


# ---- weight decay --------------------------------------------------------------------------------------

CARRIERS = {
    "MobilenetV2/Conv/weights": True,
    "MobilenetV2/expanded_conv/depthwise/depthwise_weights": False,
    "MobilenetV2/expanded_conv/depthwise/BatchNorm/gamma": False,
    "MobilenetV3/expanded_conv_3/squeeze_excite/Conv/weights": True,
    "MobilenetV3/expanded_conv_3/squeeze_excite/Conv/biases": False,
    "xception_65/entry_flow/block1/unit_1/xception_module/separable_conv1_depthwise/depthwise_weights": False,
    "xception_65/entry_flow/block1/unit_1/xception_module/separable_conv1_pointwise/weights": True,
    "resnet_v1_50/conv1/weights": True,
    "pnasnet/cell_0/comb_iter_0/left/separable_5x5_1/depthwise_weights": True,
    "pnasnet/cell_0/comb_iter_0/left/separable_5x5_1/pointwise_weights": True,
    "hnasnet/cell_0/comb_iter_0/left/separable_5x5_1/depthwise_weights": True,
    "hnasnet/cell_0/1x1/weights": True,
    "image_pooling/weights": True,
    "aspp1_depthwise/depthwise_weights": False,
    "aspp1_pointwise/weights": True,
    "aspp1_pointwise/BatchNorm/beta": False,
    "decoder/decoder_conv0_depthwise/depthwise_weights": False,
    "logits/semantic/weights": True,
    "logits/semantic/biases": False,
}


@pytest.mark.parametrize("name, expected", CARRIERS.items())
def test_where_weight_decay_applies(name, expected):
    assert gradients.carries_l2(name) is expected


@pytest.mark.parametrize(
    ("mask", "depthwise", "beta"),
    [("kernels", False, False), ("all_kernels", True, False), ("all", True, True), ("beta$", False, True)],
)
def test_masks_of_weight_decay(mask, depthwise, beta):
    assert gradients.carries_l2("aspp1_depthwise/depthwise_weights", mask) is depthwise
    assert gradients.carries_l2("aspp1_pointwise/BatchNorm/beta", mask) is beta
    assert gradients.carries_l2("aspp1_pointwise/weights", mask) is (mask != "beta$")


def test_learning_rates_of_the_backbone():
    config = OptimizerConfig(backbone_learning_rate_multiplier=0.1)
    assert gradients.rate_multipliers(NAMES, config) == dict.fromkeys([*BACKBONE, *GATE], 0.1)
    assert gradients.rate_multipliers(NAMES, OptimizerConfig()) == {}


def variables():
    return {
        "Conv/weights": tf.Variable([[1.0, -2.0]]),
        "Conv/depthwise_weights": tf.Variable([100.0]),
        "logits/semantic/weights": tf.Variable([3.0, 4.0]),
        "logits/semantic/biases": tf.Variable([50.0]),
    }


def test_value_by_hand():
    value = gradients.l2(variables(), 0.1)
    assert value.dtype == tf.float32
    assert float(value) == pytest.approx(0.1 * (1 + 4 + 9 + 16) / 2)


@pytest.mark.parametrize("names, weight_decay", [(["logits/semantic/biases"], 0.1), (["Conv/weights"], 0.0), ([], 0.1)])
def test_value_is_zero_without_carriers_or_decay(names, weight_decay):
    chosen = {name: variables()[name] for name in names}
    assert float(gradients.l2(chosen, weight_decay)) == 0.0


def test_gradients_are_those_of_the_value():
    held = variables()
    with tf.GradientTape() as tape:
        value = gradients.l2(held, 0.1)
    automatic = tape.gradient(value, held)
    loss_gradients = {name: tf.ones_like(variable) for name, variable in held.items()}
    added = gradients.add_l2(loss_gradients, held, 0.1)
    for name in held:
        expected = 1.0 + (automatic[name] if automatic[name] is not None else 0.0)
        np.testing.assert_allclose(added[name], tf.broadcast_to(expected, held[name].shape), rtol=1e-6)
    np.testing.assert_allclose(added["Conv/weights"], [[1.1, 0.8]], rtol=1e-6)


def test_missing_gradient_becomes_that_of_the_l2_term():
    names = ("Conv/weights", "logits/semantic/biases")
    added = gradients.add_l2(dict.fromkeys(names), variables(), 0.5)
    np.testing.assert_allclose(added["Conv/weights"], [[0.5, -1.0]])
    assert added["logits/semantic/biases"] is None


def test_no_decay_leaves_gradients_as_they_are():
    given = {"Conv/weights": tf.constant([[5.0, 6.0]])}
    added = gradients.add_l2(given, variables(), 0.0)
    assert added is not given
    assert added["Conv/weights"] is given["Conv/weights"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("EfficientNetV2B0/stem_conv/kernel", True),
        ("EfficientNetV2B0/block4a_dwconv2/kernel", False),
        ("MobileNetV2/expanded_conv_depthwise/kernel", False),
        ("Xception/block2_sepconv1/pointwise_kernel", True),
        ("Xception/block2_sepconv1/bias", False),
    ],
)
def test_where_weight_decay_applies_in_keras_backbones(name, expected):
    assert gradients.carries_l2(name) is expected


def test_gradients_are_scaled_down_together_to_the_limit():
    given = {"a": tf.constant([3.0, 0.0]), "b": tf.constant([[4.0]]), "c": None}
    clipped = gradients.clip(given, 1.0)
    np.testing.assert_allclose(clipped["a"], [0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(clipped["b"], [[0.8]], rtol=1e-6)
    assert clipped["c"] is None


@pytest.mark.parametrize("limit", [0.0, 5.0, 100.0])
def test_smaller_gradients_stay_as_they_are(limit):
    given = {"a": tf.constant([3.0, 0.0]), "b": tf.constant([[4.0]])}
    for name, gradient in gradients.clip(given, limit).items():
        np.testing.assert_array_equal(gradient, given[name])
