"""MobileNetV2: inverted residuals with linear bottlenecks (Sandler et al. 2018, arXiv:1801.04381, table 2).

The classifier's last 1x1 convolution is left out, as in every DeepLab: the features are the last block's 320
channels.
"""

from __future__ import annotations

from slim.backbones import Backbone, Features, Options, register
from slim.layers import TRUNCATED_NORMAL, AtrousPlan, Norm, conv_unit, depthwise_unit, make_divisible

SCOPE = "MobilenetV2"
BATCH_NORM_DECAY, BATCH_NORM_EPSILON = 0.997, 1e-3
STEM_CHANNELS = 32

# Table 2 of the paper: expansion, channels, blocks, stride of the first block.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

# Output stride -> end point that a decoder takes.
DECODER_END_POINTS = {4: "layer_4/depthwise_output", 8: "layer_7/depthwise_output", 16: "layer_14/depthwise_output"}


def build(image, options: Options) -> Features:
    """MobileNetV2's features of an image [B, H, W, C] in -1..1."""
    norm = options.norm(BATCH_NORM_DECAY, BATCH_NORM_EPSILON)
    plan = AtrousPlan(options.output_stride)
    stride, _ = plan.next(2)
    net = conv_unit(
        image,
        f"{SCOPE}/Conv",
        _channels(STEM_CHANNELS, options),
        3,
        stride=stride,
        norm=norm,
        activation="relu6",
        initializer=TRUNCATED_NORMAL(stddev=0.09),
    )
    end_points = {"layer_1": net}
    for index, (expansion, channels, nominal_stride) in enumerate(_blocks()):
        stride, rate = plan.next(nominal_stride)
        scope = f"{SCOPE}/expanded_conv" + (f"_{index}" if index else "")
        layer = f"layer_{index + 2}"
        net = inverted_residual(
            net, scope, layer, end_points, expansion, _channels(channels, options), stride, rate, norm
        )
    low_level = {stride: end_points[name] for stride, name in DECODER_END_POINTS.items()}
    return Features(net, low_level, end_points)


def inverted_residual(net, scope, layer, end_points, expansion, channels, stride, rate, norm: Norm):
    """1x1 expansion, 3x3 depthwise, linear 1x1 projection, and the input added where shapes agree (figure 4)."""
    initializer = TRUNCATED_NORMAL(stddev=0.09)
    block_input = net
    expanded = make_divisible(net.shape[-1] * expansion, 8)
    if expansion > 1:
        net = conv_unit(net, f"{scope}/expand", expanded, norm=norm, activation="relu6", initializer=initializer)
        end_points[f"{layer}/expansion_output"] = net
    net = depthwise_unit(
        net, f"{scope}/depthwise", 3, stride=stride, rate=rate, norm=norm, activation="relu6", initializer=initializer
    )
    end_points[f"{layer}/depthwise_output"] = net
    net = conv_unit(net, f"{scope}/project", channels, norm=norm, activation=None, initializer=initializer)
    if stride == 1 and channels == block_input.shape[-1]:
        net = net + block_input
    end_points[layer] = net
    return net


def _blocks():
    for expansion, channels, count, stride in STAGES:
        for repeat in range(count):
            yield expansion, channels, stride if repeat == 0 else 1


def _channels(channels: int, options: Options) -> int:
    """Channel count under the depth multiplier: multiples of 8 at full width, any number otherwise."""
    full_width = options.depth_multiplier == 1.0
    divisor = options.divisible_by or (8 if full_width else 1)
    return make_divisible(channels * options.depth_multiplier, divisor, 8 if full_width else 1)


register(Backbone("mobilenet_v2", build, SCOPE, batch_norm_decay=BATCH_NORM_DECAY))
