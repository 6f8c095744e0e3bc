"""Atrous spatial pyramid pooling (Chen et al. 2017, arXiv:1706.05587, section 3.3) and its lighter variants."""

from __future__ import annotations

import keras
from keras import ops

from deeplab.config.model_config import ModelConfig
from deeplab.model.head_layers import GlobalMean, WindowPooling, concatenated
from slim.layers import REFERENCES_SIX, TRUNCATED_NORMAL, Norm, ResizeLike, conv_unit, depthwise_unit, rounded
from slim.quantization import QuantizedDropout

XAVIER = keras.initializers.GlorotUniform
KEEP_PROBABILITY = 0.9  # of the features after the projection, in training


def aspp(features, config: ModelConfig, norm: Norm):
    """Image pooling, 1x1 and atrous 3x3 branches, concatenated and projected.

    Args:
      features: [B, h, w, C] of the backbone.
      config: its branches.
      norm: batch norm of the head.

    Returns:
      [B, h, w, aspp_convs_filters], or the bare concatenation when there is no projection.
    """
    activation = "relu6" if config.use_bounded_activation else "relu"
    filters = config.aspp_convs_filters
    gate, branches = None, []
    if config.add_image_level_feature and config.aspp_with_squeeze_and_excitation:
        gate = _image_gate(features, config, norm)
    elif config.add_image_level_feature:
        branches.append(_image_pooling(features, config, norm))
    branches.append(conv_unit(features, "aspp0", filters, norm=norm, activation=activation, initializer=XAVIER()))
    for index, rate in enumerate(config.atrous_rates, start=1):
        branches.append(_atrous_branch(features, f"aspp{index}", rate, config, norm, activation))
    net = concatenated(branches, "aspp_concatenation", norm)
    if config.aspp_with_concat_projection:
        net = conv_unit(net, "concat_projection", filters, norm=norm, activation=activation, initializer=XAVIER())
        dropout = QuantizedDropout if norm.quantized else keras.layers.Dropout
        net = dropout(1.0 - KEEP_PROBABILITY, name="concat_projection_dropout")(net)
    if config.aspp_with_final_conv:
        name = "aspp_final_conv"
        net = conv_unit(net, name, filters, 3, norm=norm, activation=activation, initializer=XAVIER())
    # The product is the second in the graph of a MobileNet, after that of the normalization, hence its range's name.
    return net if gate is None else rounded(net * gate, "mul_1/activation_Mul_quant", norm)


def separable_unit(inputs, name: str, filters: int, rate, norm: Norm, activation: str):
    """Depthwise 3x3 with the atrous rate, then 1x1, each with batch norm and activation."""
    net = depthwise_unit(
        inputs,
        f"{name}_depthwise",
        rate=rate,
        norm=norm,
        activation=activation,
        initializer=TRUNCATED_NORMAL(stddev=0.33),
    )
    pointwise = TRUNCATED_NORMAL(stddev=0.06)
    return conv_unit(net, f"{name}_pointwise", filters, norm=norm, activation=activation, initializer=pointwise)


def _atrous_branch(features, name, rate, config: ModelConfig, norm: Norm, activation: str):
    if config.aspp_with_separable_conv:
        return separable_unit(features, name, config.aspp_convs_filters, rate, norm, activation)
    return conv_unit(
        features,
        name,
        config.aspp_convs_filters,
        3,
        rate=rate,
        norm=norm,
        activation=activation,
        initializer=XAVIER(),
    )


def _image_pooling(features, config: ModelConfig, norm: Norm):
    # Plain ReLU even with bounded activation, as in the reference.
    net = conv_unit(
        _pooled(features, config), "image_pooling", config.aspp_convs_filters, norm=norm, initializer=XAVIER()
    )
    return ResizeLike(name="image_pooling_resize")(net, features)


def _image_gate(features, config: ModelConfig, norm: Norm):
    """Factors from 0 to 1 of all features, [B, h, w, aspp_convs_filters].

    Fake quantization rounds what the sigmoid gets, and every step of the quantized sigmoid, but no plain sigmoid.
    """
    by_steps = config.image_se_uses_qsigmoid
    net = conv_unit(
        _pooled(features, config),
        "image_pooling",
        config.aspp_convs_filters,
        norm=norm,
        activation=None,
        initializer=XAVIER(),
        biased=True,
        range_name="conv_quant" if by_steps else "act_quant",
    )
    if by_steps:  # `slim.layers.quantized_sigmoid`; these names are what contrib.quantize makes of it
        net = rounded(ops.relu6(net + 3.0), "act_quant", norm)
        net = rounded(net / REFERENCES_SIX, "image_pooling/mul/activation_Mul_quant", norm)
    else:
        net = ops.sigmoid(net)
    return ResizeLike(name="image_pooling_resize")(net, features)


def _pooled(features, config: ModelConfig):
    """The mean over the whole map, or over windows of `image_pooling_crop_size`."""
    if config.image_pooling_crop_size is None:
        return GlobalMean(name="image_pooling_mean")(features)
    window, strides = config.image_pooling_crop_size, config.image_pooling_stride
    return WindowPooling(window, strides, config.output_stride, name="image_pooling_mean")(features)
