"""Gradient multipliers: golden factors of trainable variables, by name."""

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
