"""ResNet v2: residual networks with batch norm before each convolution (He et al. 2016, arXiv:1603.05027, figure 1b).

Names and structure are TF-slim's, so that its ImageNet checkpoints load. Input is in -1..1, as they were trained.
"""

from __future__ import annotations

from functools import partial

from keras import ops

from slim.backbones import Backbone, Features, Options, multi_grid, register
from slim.layers import AtrousPlan, Norm, conv_unit, normalization
from slim.resnet_v1 import BATCH_NORM_EPSILON, BLOCK_STRIDES, BOTTLENECK_EXPANSION, initializer, subsample

BATCH_NORM_DECAY = 0.997
UNITS = {"resnet_v2_50": (3, 4, 6, 3), "resnet_v2_101": (3, 4, 23, 3)}


def build(name: str, image, options: Options) -> Features:
    """ResNet v2's features of an image [B, H, W, C] in -1..1.

    Raises:
      OptionError: `multi_grid` is not three rates.
    """
    norm = options.norm(BATCH_NORM_DECAY, BATCH_NORM_EPSILON)
    net = conv_unit(
        image,
        f"{name}/conv1",
        64,
        7,
        stride=2,
        padding="fixed",
        norm=None,
        activation=None,
        initializer=initializer(),
    )
    net = ops.max_pool(net, 3, 2, "same", "channels_last")
    end_points: dict = {}
    plan = AtrousPlan(options.output_stride)
    plan.stride = 4  # of the first convolution and pooling
    last_rates = multi_grid(options, 3)
    for block, (units, block_stride) in enumerate(zip(UNITS[name], BLOCK_STRIDES, strict=True), start=1):
        for unit in range(1, units + 1):
            stride, rate = plan.next(block_stride if unit == units else 1)
            rate *= last_rates[unit - 1] if block == len(BLOCK_STRIDES) else 1
            scope = f"block{block}/unit_{unit}/bottleneck_v2"
            net = bottleneck(net, name, scope, 64 * 2 ** (block - 1), stride, rate, norm, end_points)
    net = _batch_norm_relu(net, f"{name}/postnorm", norm)
    low_level = {
        stride: end_points[f"block{block}/unit_{UNITS[name][block - 1] - 1}/bottleneck_v2/conv3"]
        for stride, block in ((4, 1), (8, 2), (16, 3))
    }
    return Features(net, low_level, end_points)


def bottleneck(inputs, root: str, scope: str, width: int, stride: int, rate: int, norm: Norm, end_points: dict):
    """Batch norm and ReLU; 1x1, 3x3 and 1x1 convolutions; a shortcut: [B, H, W, C] -> [B, H/s, W/s, 4 width]."""
    name = f"{root}/{scope}"
    unit = partial(conv_unit, initializer=initializer())
    channels = BOTTLENECK_EXPANSION * width
    active = _batch_norm_relu(inputs, f"{name}/preact", norm)
    if channels == inputs.shape[-1]:
        shortcut = subsample(inputs, stride)
    else:
        shortcut = unit(active, f"{name}/shortcut", channels, stride=stride, norm=None, activation=None)
    residual = unit(active, f"{name}/conv1", width, norm=norm)
    residual = unit(residual, f"{name}/conv2", width, 3, stride=stride, rate=rate, padding="fixed", norm=norm)
    residual = unit(residual, f"{name}/conv3", channels, norm=None, activation=None)
    end_points[f"{scope}/conv3"] = residual
    end_points[scope] = shortcut + residual
    return end_points[scope]


def _batch_norm_relu(net, name: str, norm: Norm):
    # No convolution comes directly before it, so it stays even when batch norm is folded elsewhere.
    return ops.relu(normalization(norm, name)(net))


for _name in UNITS:
    register(Backbone(_name, partial(build, _name), _name, batch_norm_decay=BATCH_NORM_DECAY))
