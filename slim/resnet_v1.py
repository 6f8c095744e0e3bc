"""ResNet v1: residual networks with batch norm after each convolution (He et al. 2015, arXiv:1512.03385, table 1).

As in TF-slim, a block's stride is in its last unit, on the 3x3 convolution. The `_beta` variants have three 3x3
convolutions in place of the 7x7 one (Szegedy et al. 2016, arXiv:1512.00567, section 2) and share the others' names.

The `resnet_v1_5` variants are those of PyTorch: the stride is in a block's first unit (Gross and Wilber 2016,
"Training and investigating residual nets"), and a decoder takes a block's output. `resnet_v1_caffe_50` is that of the
paper's authors and of a DeepLab in Keras: the stride is in the first unit as well, but on its first 1x1 convolution.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import keras
from keras import ops

from slim.backbones import MID_GRAY, Backbone, Features, Options, multi_grid, register
from slim.layers import DILATIONS, AtrousPlan, Norm, conv_unit

BATCH_NORM_DECAY, BATCH_NORM_EPSILON = 0.95, 1.001e-5
BLOCK_STRIDES = (2, 2, 2, 1)
BLOCK_STRIDES_V1_5 = (1, 2, 2, 2)
BOTTLENECK_EXPANSION = 4
BETA_STEM_CHANNELS = (64, 64, 128)


class Variant(NamedTuple):
    """A row of table 1.

    Attributes:
      scope: start of the variables' names.
      units: units of each block.
      bottleneck: 1x1, 3x3, 1x1 units rather than two 3x3 convolutions.
      stem: channels of the three 3x3 convolutions, or none for the 7x7 one.
      stride_first: the stride of a block is in its first unit.
      stride_on_1x1: it is on that unit's first 1x1 convolution, not on the 3x3 one.
    """

    scope: str
    units: tuple[int, int, int, int]
    bottleneck: bool
    stem: tuple[int, ...] = ()
    stride_first: bool = False
    stride_on_1x1: bool = False


VARIANTS = {
    "resnet_v1_18": Variant("resnet_v1_18", (2, 2, 2, 2), bottleneck=False),
    "resnet_v1_18_beta": Variant("resnet_v1_18", (2, 2, 2, 2), bottleneck=False, stem=(16, 16, 32)),
    "resnet_v1_50": Variant("resnet_v1_50", (3, 4, 6, 3), bottleneck=True),
    "resnet_v1_50_beta": Variant("resnet_v1_50", (3, 4, 6, 3), bottleneck=True, stem=BETA_STEM_CHANNELS),
    "resnet_v1_101": Variant("resnet_v1_101", (3, 4, 23, 3), bottleneck=True),
    "resnet_v1_101_beta": Variant("resnet_v1_101", (3, 4, 23, 3), bottleneck=True, stem=BETA_STEM_CHANNELS),
    "resnet_v1_5_50": Variant("resnet_v1_5_50", (3, 4, 6, 3), bottleneck=True, stride_first=True),
    "resnet_v1_5_101": Variant("resnet_v1_5_101", (3, 4, 23, 3), bottleneck=True, stride_first=True),
    "resnet_v1_caffe_50": Variant("resnet_v1_caffe_50", (3, 4, 6, 3), True, stride_first=True, stride_on_1x1=True),
}


def initializer() -> keras.initializers.Initializer:
    """Truncated normal of variance 2 / fan-in (He et al. 2015, arXiv:1502.01852).

    For the variance that truncation takes away, TensorFlow 1 has a factor of 1.3, and Keras 1 / 0.8796^2.
    """
    return keras.initializers.VarianceScaling(2.0 * 1.3 * 0.87962566103423978**2, "fan_in", "truncated_normal")


def build(name: str, image, options: Options) -> Features:
    """ResNet v1's features of an image [B, H, W, C]: minus the ImageNet mean, or in -1..1 for beta variants.

    Raises:
      OptionError: `multi_grid` does not have as many rates as the last block has units.
    """
    variant = VARIANTS[name]
    norm = options.norm(BATCH_NORM_DECAY, BATCH_NORM_EPSILON)
    net = _stem(image, variant, norm)
    net = _pooled(net, variant.stride_first or options.symmetric_padding)
    end_points: dict = {}
    plan = AtrousPlan(options.output_stride, options.dilation)
    plan.stride = 4  # of stem and pooling
    last_rates = multi_grid(options, variant.units[-1])
    strides = BLOCK_STRIDES_V1_5 if variant.stride_first else BLOCK_STRIDES
    for block, (units, block_stride) in enumerate(zip(variant.units, strides, strict=True), start=1):
        for unit in range(1, units + 1):
            strided_unit = 1 if variant.stride_first else units
            stride, rate = plan.next(block_stride if unit == strided_unit else 1, first_of_stage=unit == 1)
            rate *= last_rates[unit - 1] if block == len(strides) else 1
            make = partial(bottleneck, stride_on_1x1=variant.stride_on_1x1) if variant.bottleneck else lite_bottleneck
            scope = f"block{block}/unit_{unit}"
            net = make(net, variant.scope, scope, 64 * 2 ** (block - 1), stride, rate, norm, end_points)
    return Features(net, _low_level(variant, end_points), end_points)


def _pooled(net, symmetric: bool):
    """3x3 maximum at stride 2; padded with as many zeros, which never exceed a ReLU's output, on every side."""
    if symmetric:
        return ops.max_pool(ops.pad(net, ((0, 0), (1, 1), (1, 1), (0, 0))), 3, 2, "valid", "channels_last")
    return ops.max_pool(net, 3, 2, "same", "channels_last")


def _stem(net, variant: Variant, norm: Norm):
    unit = partial(conv_unit, norm=norm, padding="fixed", initializer=initializer())
    if not variant.stem:
        return unit(net, f"{variant.scope}/conv1", 64, 7, stride=2)
    for index, channels in enumerate(variant.stem, start=1):
        net = unit(net, f"{variant.scope}/conv1_{index}", channels, 3, stride=2 if index == 1 else 1)
    return net


def bottleneck(
    inputs,
    root: str,
    scope: str,
    width: int,
    stride: int,
    rate: int,
    norm: Norm,
    end_points: dict,
    stride_on_1x1: bool = False,
):
    """1x1, 3x3 and 1x1 convolutions and a shortcut (figure 5, right): [B, H, W, C] -> [B, H/s, W/s, 4 width].

    The stride is that of the 3x3 convolution, or of the one before it.
    """
    strides = (stride, 1) if stride_on_1x1 else (1, stride)
    module = f"{scope}/bottleneck_v1"
    unit = partial(conv_unit, norm=norm, initializer=initializer())
    channels = BOTTLENECK_EXPANSION * width
    residual = unit(inputs, f"{root}/{module}/conv1", width, stride=strides[0])
    residual = unit(residual, f"{root}/{module}/conv2", width, 3, stride=strides[1], rate=rate, padding="fixed")
    residual = unit(residual, f"{root}/{module}/conv3", channels, activation=None)
    end_points[f"{module}/conv3"] = residual
    end_points[module] = ops.relu(_shortcut(inputs, f"{root}/{module}", channels, stride, norm) + residual)
    return end_points[module]


def lite_bottleneck(inputs, root: str, scope: str, width: int, stride: int, rate: int, norm: Norm, end_points: dict):
    """Two 3x3 convolutions and a shortcut (figure 5, left): [B, H, W, C] -> [B, H/s, W/s, width]."""
    module = f"{scope}/lite_bottleneck_v1"
    unit = partial(conv_unit, norm=norm, padding="fixed", initializer=initializer())
    residual = unit(inputs, f"{root}/{module}/conv1", width, 3, rate=rate)
    residual = unit(residual, f"{root}/{module}/conv2", width, 3, stride=stride, rate=rate, activation=None)
    end_points[f"{module}/conv2"] = residual
    end_points[module] = ops.relu(_shortcut(inputs, f"{root}/{module}", width, stride, norm) + residual)
    return end_points[module]


def _shortcut(inputs, scope: str, channels: int, stride: int, norm: Norm):
    """The input, subsampled; through a 1x1 convolution where the channels differ."""
    if channels == inputs.shape[-1]:
        return subsample(inputs, stride)
    name = f"{scope}/shortcut"
    return conv_unit(inputs, name, channels, stride=stride, norm=norm, activation=None, initializer=initializer())


def subsample(net, stride: int):
    """Every stride-th row and column of [B, H, W, C]."""
    return net if stride == 1 else ops.max_pool(net, 1, stride, "valid", "channels_last")


def _low_level(variant: Variant, end_points: dict) -> dict:
    """Stride -> the last unit before the one that subsamples, before its shortcut is added; or a block's output."""
    if variant.stride_first:
        outputs = {4: 1, 8: 2, 16: 3}
        return {s: end_points[f"block{b}/unit_{variant.units[b - 1]}/bottleneck_v1"] for s, b in outputs.items()}
    kind = "bottleneck_v1/conv3" if variant.bottleneck else "lite_bottleneck_v1/conv2"
    return {
        stride: end_points[f"block{block}/unit_{variant.units[block - 1] - 1}/{kind}"]
        for stride, block in ((4, 1), (8, 2), (16, 3))
    }


for _name, _variant in VARIANTS.items():
    register(
        Backbone(
            _name,
            partial(build, _name),
            _variant.scope,
            subtract_imagenet_mean=not (_variant.stem or _variant.stride_on_1x1),
            batch_norm_decay=BATCH_NORM_DECAY,
            dilations=DILATIONS,
            # The reference pads for this backbone with gray, although it subtracts the ImageNet mean; published
            # weights were trained so.
            own_padding_color=MID_GRAY if _name == "resnet_v1_18" else None,
        )
    )
