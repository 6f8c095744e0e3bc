"""DRN-D-54: a residual network that stays at stride 8 by dilation and ends in convolutions of falling rates, which
remove the grid pattern that dilation causes (Yu et al. 2017, arXiv:1705.09914, figure 5d).

At output stride 16 or 32 the same weights run on subsampled maps with the rates halved: levels 5 and 6 then give
their stride-8 values subsampled, while levels 7 and 8, whose rates cannot fall below 1, reach further.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import keras
from keras import ops

from slim.backbones import Backbone, Features, Options, register
from slim.layers import Norm, conv_unit
from slim.resnet_v1 import BATCH_NORM_DECAY, BATCH_NORM_EPSILON, BOTTLENECK_EXPANSION, subsample

SCOPE = "drn_d_54"
STEM_CHANNELS = 16


class Level(NamedTuple):
    """Units of one channel count.

    Attributes:
      residual: bottleneck units; otherwise plain 3x3 convolutions.
      width: inner channels; a bottleneck has four times as many output channels.
      units: number of units.
      stride: of the first unit.
      rate: atrous rate of the 3x3 convolutions at output stride 8.
    """

    residual: bool
    width: int
    units: int
    stride: int
    rate: int


LEVELS = (
    Level(False, 16, 1, 1, 1),
    Level(False, 32, 1, 2, 1),
    Level(True, 64, 3, 2, 1),
    Level(True, 128, 4, 2, 1),
    Level(True, 256, 6, 1, 2),
    Level(True, 512, 3, 1, 4),
    Level(False, 512, 1, 1, 2),
    Level(False, 512, 1, 1, 1),
)
SUBSAMPLED_LEVELS = {5: 16, 6: 32}  # level -> output stride from which on its input is subsampled
DECODER = {2: "level2", 4: "level3", 8: "level4"}  # output stride -> end point that a decoder takes


def build(image, options: Options) -> Features:
    """DRN-D-54's features of an image [B, H, W, C] in -1..1."""
    norm = options.norm(BATCH_NORM_DECAY, BATCH_NORM_EPSILON)
    net = conv_unit(image, f"{SCOPE}/conv0", STEM_CHANNELS, 7, norm=norm, initializer=_initializer())
    end_points = {}
    halvings = 1
    for number, level in enumerate(LEVELS, start=1):
        if options.output_stride >= SUBSAMPLED_LEVELS.get(number, options.output_stride + 1):
            net, halvings = subsample(net, 2), halvings * 2
        rate = max(1, level.rate // halvings)
        for unit in range(1, level.units + 1):
            make = bottleneck if level.residual else convolution
            stride = level.stride if unit == 1 else 1
            net = make(net, f"{SCOPE}/level{number}/unit_{unit}", level.width, stride, rate, norm)
        end_points[f"level{number}"] = net
    return Features(net, {stride: end_points[name] for stride, name in DECODER.items()}, end_points)


def convolution(net, scope: str, width: int, stride: int, rate: int, norm: Norm):
    """A 3x3 convolution with batch norm and ReLU: [B, H, W, C] -> [B, H/s, W/s, width]."""
    settings: dict = {"norm": norm, "padding": "fixed", "initializer": _initializer()}
    return conv_unit(net, f"{scope}/conv1", width, 3, stride=stride, rate=rate, **settings)


def bottleneck(inputs, scope: str, width: int, stride: int, rate: int, norm: Norm):
    """1x1, 3x3 and 1x1 convolutions and a shortcut: [B, H, W, C] -> [B, H/s, W/s, 4 width]."""
    unit = partial(conv_unit, norm=norm, initializer=_initializer())
    channels = BOTTLENECK_EXPANSION * width
    shortcut = inputs
    if stride > 1 or channels != inputs.shape[-1]:
        shortcut = unit(inputs, f"{scope}/shortcut", channels, stride=stride, activation=None)
    net = unit(inputs, f"{scope}/conv1", width)
    net = unit(net, f"{scope}/conv2", width, 3, stride=stride, rate=rate, padding="fixed")
    net = unit(net, f"{scope}/conv3", channels, activation=None)
    return ops.relu(shortcut + net)


def _initializer() -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


register(Backbone("drn_d_54", build, SCOPE, batch_norm_decay=BATCH_NORM_DECAY))
