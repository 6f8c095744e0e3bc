"""MobileNetV2: inverted residuals with linear bottlenecks (Sandler et al. 2018, arXiv:1801.04381, table 2).

The classifier's last 1x1 convolution is left out, as in every DeepLab: the features are the last block's 320
channels.

The `_prepadded` variants are those of the DeepLabs in PyTorch whose blocks add zeros before the expansion, so that
batch norm turns them into other values, and whose decoder takes a block's output. `mobilenet_v2_same` is that of a
DeepLab in Keras: padded by TensorFlow's rule at any size, with such a decoder; it shares the names of `mobilenet_v2`.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from keras import ops

from slim.backbones import Backbone, Features, OptionError, Options, register
from slim.layers import (
    DILATIONS,
    TRUNCATED_NORMAL,
    AtrousPlan,
    Norm,
    conv_unit,
    depthwise_unit,
    make_divisible,
    rounded,
)

BATCH_NORM_DECAY, BATCH_NORM_EPSILON = 0.997, 1e-3
STEM_CHANNELS = 32

# Table 2 of the paper: expansion, channels, blocks, stride of the first block.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

# Output stride -> block, counted from 0, whose expanded channels a decoder takes; and the end point.
DECODER_BLOCKS = {4: 2, 8: 5, 16: 12}
DECODER_END_POINTS = {stride: f"layer_{block + 2}/depthwise_output" for stride, block in DECODER_BLOCKS.items()}
BLOCK_OUTPUTS = {4: "layer_4", 8: "layer_7", 16: "layer_14"}


class Layout(NamedTuple):
    """What the variants differ in.

    Attributes:
      scope: start of the variables' names.
      prepadded: zeros are added before a block's expansion; otherwise by its depthwise convolution.
      stem_padding: of the first convolution; None = as of the others.
      padding: of the strided depthwise convolutions; None = by the options.
      decoder: output stride -> end point that a decoder takes.
    """

    scope: str
    prepadded: bool = False
    stem_padding: str | None = None
    padding: str | None = None
    decoder: dict[int, str] = DECODER_END_POINTS


LAYOUTS = {
    "mobilenet_v2": Layout("MobilenetV2"),
    "mobilenet_v2_same": Layout("MobilenetV2", False, "same", "same", BLOCK_OUTPUTS),
    "mobilenet_v2_prepadded": Layout("MobilenetV2Prepadded", True, "fixed", decoder=BLOCK_OUTPUTS),
    "mobilenet_v2_prepadded_valid": Layout("MobilenetV2PrepaddedValid", True, "valid", decoder=BLOCK_OUTPUTS),
}


def build(layout: Layout, image, options: Options) -> Features:
    """MobileNetV2's features of an image [B, H, W, C] in -1..1."""
    norm = options.norm(BATCH_NORM_DECAY, BATCH_NORM_EPSILON)
    plan = AtrousPlan(options.output_stride, options.dilation)
    stride, _ = plan.next(2)
    net = conv_unit(
        image,
        f"{layout.scope}/Conv",
        _channels(STEM_CHANNELS, options),
        3,
        stride=stride,
        padding=layout.stem_padding or options.padding,
        norm=norm,
        activation="relu6",
        initializer=TRUNCATED_NORMAL(stddev=0.09),
    )
    end_points = {"layer_1": net}
    blocks = list(_blocks())
    given = options.expansion_channels
    if given and len(given) != len(blocks) - 1:
        rule = f"has {len(given)} numbers; the blocks that expand their input are {len(blocks) - 1}"
        raise OptionError("expansion_channels", rule, "give one per block, from the second on")
    for index, (expansion, channels, nominal_stride, is_first) in enumerate(blocks):
        stride, rate = plan.next(nominal_stride, is_first)
        scope = f"{layout.scope}/expanded_conv" + (f"_{index}" if index else "")
        layer = f"layer_{index + 2}"
        padding = "before expansion" if layout.prepadded else layout.padding or options.padding
        usual = make_divisible(net.shape[-1] * expansion, 8) if expansion > 1 else None
        expanded = given[index - 1] if given and index else usual
        channels = _channels(channels, options)
        net = inverted_residual(net, scope, layer, end_points, expanded, channels, stride, rate, padding, norm)
    return Features(net, {stride: end_points[name] for stride, name in layout.decoder.items()}, end_points)


def inverted_residual(
    net, scope, layer, end_points, expanded: int | None, channels, stride, rate, padding: str, norm: Norm
):
    """1x1 expansion, 3x3 depthwise, linear 1x1 projection, and the input added where shapes agree (figure 4).

    There is no expansion where `expanded`, the number of its channels, is None.
    """
    initializer = TRUNCATED_NORMAL(stddev=0.09)
    block_input = net
    if padding == "before expansion":
        net, padding = ops.pad(net, ((0, 0), (rate, rate), (rate, rate), (0, 0))), "valid"
    if expanded:
        net = conv_unit(net, f"{scope}/expand", expanded, norm=norm, activation="relu6", initializer=initializer)
        end_points[f"{layer}/expansion_output"] = net
    net = depthwise_unit(
        net,
        f"{scope}/depthwise",
        3,
        stride=stride,
        rate=rate,
        padding=padding,
        norm=norm,
        activation="relu6",
        initializer=initializer,
    )
    end_points[f"{layer}/depthwise_output"] = net
    net = conv_unit(net, f"{scope}/project", channels, norm=norm, activation=None, initializer=initializer)
    if stride == 1 and channels == block_input.shape[-1]:
        net = rounded(net + block_input, f"{scope}/post_activation_bypass_quant", norm)
    end_points[layer] = net
    return net


def _blocks():
    for expansion, channels, count, stride in STAGES:
        for repeat in range(count):
            yield expansion, channels, stride if repeat == 0 else 1, repeat == 0


def expansion_channels(depth_multiplier: float, divisible_by: int | None) -> tuple[int, ...]:
    """The expanded channels of the blocks of a model that was not pruned, from the second block on."""
    options = Options(depth_multiplier=depth_multiplier, divisible_by=divisible_by)
    blocks = list(_blocks())
    inputs = [_channels(block[1], options) for block in blocks[:-1]]
    return tuple(make_divisible(width * block[0], 8) for width, block in zip(inputs, blocks[1:], strict=True))


def _channels(channels: int, options: Options) -> int:
    """Channel count under the depth multiplier: multiples of 8 at full width, any number otherwise."""
    full_width = options.depth_multiplier == 1.0
    divisor = options.divisible_by or (8 if full_width else 1)
    return make_divisible(channels * options.depth_multiplier, divisor, 8 if full_width else 1)


for _name, _layout in LAYOUTS.items():
    register(
        Backbone(
            _name,
            partial(build, _layout),
            _layout.scope,
            batch_norm_decay=BATCH_NORM_DECAY,
            dilations=DILATIONS,
            quantizable=_layout.decoder is DECODER_END_POINTS,
        )
    )
