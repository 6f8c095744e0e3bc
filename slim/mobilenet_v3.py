"""MobileNetV3: searched inverted residuals with gates and hard-swish (Howard et al. 2019, arXiv:1905.02244).

`mobilenet_v3_large` and `mobilenet_v3_small` are tables 1 and 2 of the paper up to the last 1x1 convolution before
pooling. The `_seg` variants halve the channels of the last stage (section 6.4, "RF2"). The `_same` variants are those
of a DeepLab in Keras: padded by TensorFlow's rule at any size, without the last 1x1 convolution, and with a decoder
that takes a block's output.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from keras import ops

from slim.backbones import Backbone, Features, Options, register
from slim.layers import TRUNCATED_NORMAL, AtrousPlan, Norm, conv_unit, depthwise_unit, make_divisible

SCOPE = "MobilenetV3"
BATCH_NORM_DECAY, BATCH_NORM_EPSILON = 0.997, 1e-3
STEM_CHANNELS = 16
SQUEEZE_FACTOR = 4


class InvertedResidual(NamedTuple):
    """A row of the paper's tables, at full width.

    Attributes:
      kernel: side of the depthwise kernel; with `fused`, of the expansion's.
      expanded: channels between expansion and projection.
      channels: output channels.
      gated: whether squeeze-and-excitation follows the depthwise convolution.
      activation: of expansion and depthwise convolution.
      stride: nominal stride.
      fused: one full convolution replaces expansion and depthwise convolution (MobileNet-EdgeTPU).
      residual: whether the input is added where shapes agree.
    """

    kernel: int
    expanded: int
    channels: int
    gated: bool
    activation: str
    stride: int
    fused: bool = False
    residual: bool = True


# Table 1 of the paper.
LARGE = (
    InvertedResidual(3, 16, 16, False, "relu", 1),
    InvertedResidual(3, 64, 24, False, "relu", 2),
    InvertedResidual(3, 72, 24, False, "relu", 1),
    InvertedResidual(5, 72, 40, True, "relu", 2),
    InvertedResidual(5, 120, 40, True, "relu", 1),
    InvertedResidual(5, 120, 40, True, "relu", 1),
    InvertedResidual(3, 240, 80, False, "hard_swish", 2),
    InvertedResidual(3, 200, 80, False, "hard_swish", 1),
    InvertedResidual(3, 184, 80, False, "hard_swish", 1),
    InvertedResidual(3, 184, 80, False, "hard_swish", 1),
    InvertedResidual(3, 480, 112, True, "hard_swish", 1),
    InvertedResidual(3, 672, 112, True, "hard_swish", 1),
    InvertedResidual(5, 672, 160, True, "hard_swish", 2),
    InvertedResidual(5, 960, 160, True, "hard_swish", 1),
    InvertedResidual(5, 960, 160, True, "hard_swish", 1),
)
LARGE_LAST = 960
LARGE_SEG = (
    *LARGE[:12],
    InvertedResidual(5, 336, 80, True, "hard_swish", 2),
    InvertedResidual(5, 480, 80, True, "hard_swish", 1),
    InvertedResidual(5, 480, 80, True, "hard_swish", 1),
)
LARGE_SEG_LAST = 480

# Table 2 of the paper.
SMALL = (
    InvertedResidual(3, 16, 16, True, "relu", 2),
    InvertedResidual(3, 72, 24, False, "relu", 2),
    InvertedResidual(3, 88, 24, False, "relu", 1),
    InvertedResidual(5, 96, 40, True, "hard_swish", 2),
    InvertedResidual(5, 240, 40, True, "hard_swish", 1),
    InvertedResidual(5, 240, 40, True, "hard_swish", 1),
    InvertedResidual(5, 120, 48, True, "hard_swish", 1),
    InvertedResidual(5, 144, 48, True, "hard_swish", 1),
    InvertedResidual(5, 288, 96, True, "hard_swish", 2),
    InvertedResidual(5, 576, 96, True, "hard_swish", 1),
    InvertedResidual(5, 576, 96, True, "hard_swish", 1),
)
SMALL_LAST = 576
SMALL_SEG = (
    *SMALL[:8],
    InvertedResidual(5, 144, 48, True, "hard_swish", 2),
    InvertedResidual(5, 288, 48, True, "hard_swish", 1),
    InvertedResidual(5, 288, 48, True, "hard_swish", 1),
)
SMALL_SEG_LAST = 288

# Output stride -> end point that a decoder takes.
LARGE_DECODER = {4: "layer_4/depthwise_output", 8: "layer_7/depthwise_output", 16: "layer_13/depthwise_output"}
SMALL_DECODER = {4: "layer_2/depthwise_output", 8: "layer_4/depthwise_output", 16: "layer_9/depthwise_output"}
LARGE_OUTPUTS = {4: "layer_4", 8: "layer_7", 16: "layer_13"}
SMALL_OUTPUTS = {4: "layer_2", 8: "layer_4", 16: "layer_9"}


def build(
    blocks: Sequence[InvertedResidual], last_channels: int | None, decoder: dict[int, str], image, options: Options
) -> Features:
    """MobileNetV3's features of an image [B, H, W, C] in -1..1."""
    return build_blocks(image, options, SCOPE, STEM_CHANNELS, "hard_swish", blocks, last_channels, decoder)


def build_blocks(
    image,
    options: Options,
    scope: str,
    stem_channels: int,
    activation: str,
    blocks: Sequence[InvertedResidual],
    last_channels: int | None,
    decoder: dict[int, str],
) -> Features:
    """A 3x3 stem, the blocks, and a last 1x1 convolution; `activation` is that of the first and the last.

    With None for `last_channels` there is no last convolution, and TensorFlow's padding whatever the options say; the
    stem keeps its width under any depth multiplier, as in `keras.applications`.
    """
    padding = options.padding if last_channels else "same"
    norm = options.norm(BATCH_NORM_DECAY, BATCH_NORM_EPSILON)
    unit = partial(conv_unit, norm=norm, activation=activation, initializer=TRUNCATED_NORMAL(stddev=0.09))
    plan = AtrousPlan(options.output_stride, options.dilation)
    stride, _ = plan.next(2)
    stem = _channels(stem_channels, options) if last_channels else stem_channels
    net = unit(image, f"{scope}/Conv", stem, 3, stride=stride, padding=padding)
    end_points = {"layer_1": net}
    nominal = stem_channels
    for index, block in enumerate(blocks):
        stride, rate = plan.next(block.stride)
        # Unlike the outputs, the expansion follows the number of channels that really come in.
        expanded = make_divisible(net.shape[-1] * (block.expanded / nominal), 8)
        scaled = block._replace(expanded=expanded, channels=_channels(block.channels, options), stride=stride)
        name = f"{scope}/expanded_conv" + (f"_{index}" if index else "")
        net = inverted_residual(net, name, f"layer_{index + 2}", end_points, scaled, rate, norm, padding)
        nominal = block.channels
    if last_channels:
        net = unit(net, f"{scope}/Conv_1", _channels(last_channels, options))
        end_points[f"layer_{len(blocks) + 2}"] = net
    return Features(net, {stride: end_points[name] for stride, name in decoder.items()}, end_points)


def inverted_residual(
    net, scope: str, layer: str, end_points: dict, block: InvertedResidual, rate: int, norm: Norm, padding: str
):
    """Expansion, depthwise convolution, gate, linear projection, and the input added (figure 4 of the paper)."""
    initializer = TRUNCATED_NORMAL(stddev=0.09)
    unit = partial(conv_unit, norm=norm, initializer=initializer)
    block_input = net
    if block.expanded > net.shape[-1]:
        kernel, stride = (block.kernel, block.stride) if block.fused else (1, 1)
        activation = block.activation
        net = unit(
            net, f"{scope}/expand", block.expanded, kernel, stride=stride, padding=padding, activation=activation
        )
        end_points[f"{layer}/expansion_output"] = net
    if not block.fused:
        net = depthwise_unit(
            net,
            f"{scope}/depthwise",
            block.kernel,
            stride=block.stride,
            rate=rate,
            padding=padding,
            norm=norm,
            activation=block.activation,
            initializer=initializer,
        )
        end_points[f"{layer}/depthwise_output"] = net
    if block.gated:
        net = squeeze_excite(net, f"{scope}/squeeze_excite")
    net = unit(net, f"{scope}/project", block.channels, activation=None)
    # By the stride that is left: in `mobilenet_v3_small_seg` a block whose stride was lost to the output stride
    # gains a residual, as in the reference.
    if block.residual and block.stride == 1 and block.channels == block_input.shape[-1]:
        net = net + block_input
    end_points[layer] = net
    return net


def squeeze_excite(net, scope: str):
    """Weighs the channels of [B, H, W, C] by a gate computed from their means (section 5.3 of the paper)."""
    initializer = TRUNCATED_NORMAL(stddev=0.09)
    squeezed = make_divisible(net.shape[-1] / SQUEEZE_FACTOR, 8)
    gate = ops.mean(net, axis=[1, 2], keepdims=True)
    gate = conv_unit(gate, f"{scope}/Conv", squeezed, norm=None, initializer=initializer)
    gate = conv_unit(
        gate, f"{scope}/Conv_1", net.shape[-1], norm=None, activation="quantized_sigmoid", initializer=initializer
    )
    return net * gate


def _channels(channels: int, options: Options) -> int:
    """Channel count under the depth multiplier: always a multiple of 8, whatever `divisible_by` says."""
    return make_divisible(channels * options.depth_multiplier, 8)


for _name, _blocks, _last, _decoder in (
    ("mobilenet_v3_large", LARGE, LARGE_LAST, LARGE_DECODER),
    ("mobilenet_v3_large_seg", LARGE_SEG, LARGE_SEG_LAST, LARGE_DECODER),
    ("mobilenet_v3_small", SMALL, SMALL_LAST, SMALL_DECODER),
    ("mobilenet_v3_small_seg", SMALL_SEG, SMALL_SEG_LAST, SMALL_DECODER),
    ("mobilenet_v3_large_same", LARGE, None, LARGE_OUTPUTS),
    ("mobilenet_v3_small_same", SMALL, None, SMALL_OUTPUTS),
):
    register(
        Backbone(
            _name,
            partial(build, _blocks, _last, _decoder),
            SCOPE,
            batch_norm_decay=BATCH_NORM_DECAY,
            dilations=("after", "with"),
        )
    )
