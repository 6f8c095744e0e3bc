"""Backbones found by search: PNASNet (Liu et al. 2018, arXiv:1712.00559) and HNASNet, the backbone of Auto-DeepLab
(Liu et al. 2019, arXiv:1901.02985).

Both stack one cell twelve times; a cell adds five pairs of operations and concatenates the sums. Batch norm keeps its
place here when it is folded elsewhere, since its names do not follow the convolutions'.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import keras
from keras import ops

from slim import kernels
from slim.backbones import Backbone, Features, OptionError, Options, register
from slim.layers import (
    ConfiguredLayer,
    Convolution,
    Norm,
    ResizeLike,
    dotted,
    normalization,
    padded,
    serializable,
    spatial_lengths,
)

BATCH_NORM_DECAY, BATCH_NORM_EPSILON = 0.9997, 1e-3
STEM = ((64, 2), (64, 1), (128, 2))  # channels, stride of the 3x3 convolutions
STEM_LEVEL = 2  # log2 of the stem's stride
HEAD_CHANNELS = 2048
HEAD_DOWNSAMPLING = {3: 256, 4: 512, 5: 1024}  # log2 of stride -> channels on the way to the head


class Architecture(NamedTuple):
    """A searched architecture.

    Attributes:
      scope: start of the variables' names.
      pairs: for each sum in a cell: operation and input on the left, operation and input on the right; input 0 is
        the previous cell's output, 1 that of the cell before, 2 the first sum, and so on.
      levels: output stride -> log2 of each cell's stride.
      decoder: output stride -> end point that a decoder takes.
    """

    scope: str
    pairs: tuple[tuple[str, int, str, int], ...]
    levels: dict[int, tuple[int, ...]]
    decoder: dict[int, str]


PNASNET = Architecture(  # figure 1 (left) of arXiv:1712.00559
    "pnasnet",
    (
        ("separable_5x5", 1, "max_pool_3x3", 1),
        ("separable_7x7", 0, "max_pool_3x3", 0),
        ("separable_5x5", 0, "separable_3x3", 0),
        ("separable_3x3", 4, "max_pool_3x3", 0),
        ("separable_3x3", 1, "none", 0),
    ),
    {8: (3,) * 12, 16: (3,) * 4 + (4,) * 8, 32: (3,) * 4 + (4,) * 4 + (5,) * 4},
    {4: "Stem", 8: "Cell_3", 16: "Cell_7"},
)
HNASNET = Architecture(  # figure 3 of arXiv:1901.02985
    "hnasnet",
    (
        ("atrous_5x5", 1, "separable_3x3", 0),
        ("separable_3x3", 1, "atrous_3x3", 0),
        ("separable_3x3", 3, "separable_3x3", 1),
        ("separable_5x5", 4, "separable_5x5", 2),
        ("separable_5x5", 3, "atrous_5x5", 5),
    ),
    dict.fromkeys((8, 16, 32), (2, 2, 2, 3, 4, 3, 4, 4, 5, 5, 4, 3)),
    {4: "Cell_2", 8: "Cell_5", 16: "Cell_7"},
)


class Map(NamedTuple):
    """A feature map and how its size came about: "d" for each halving since the image, "u" for each doubling."""

    tensor: keras.KerasTensor
    path: str


def build(architecture: Architecture, image, options: Options) -> Features:
    """The features of an image [B, H, W, C] in -1..1.

    Raises:
      OptionError: the backbone cannot give that output stride.
    """
    _check_stride(architecture, options)
    norm = replace(options.norm(BATCH_NORM_DECAY, BATCH_NORM_EPSILON), folded=False)
    outputs = _stem(image, architecture.scope, norm)
    end_points = {"Stem": outputs[-1].tensor}
    levels = architecture.levels[options.output_stride]
    for index, (last_level, level) in enumerate(zip((STEM_LEVEL, *levels), levels, strict=False)):
        resizes = not (options.nas_remove_os32_stride and max(last_level, level) == 5)
        scope = f"{architecture.scope}/cell_{index}"
        net = _doubled(outputs[-1], f"{scope}/double") if level < last_level and resizes else outputs[-1]
        filters = options.nas_stem_filters * 2 ** (level - STEM_LEVEL)
        stride = 2 if level > last_level and resizes else 1
        cell = Cell(architecture, scope, filters, stride, norm, _drop_path(options, (index + 1) / len(levels)))
        outputs.append(cell(net, outputs[-2]))
        end_points[f"Cell_{index}"] = outputs[-1].tensor
    net = ops.relu(outputs[-1].tensor)
    if options.nas_classification_head:
        net = _classification_head(net, architecture.scope, levels[-1], options.output_stride, norm, end_points)
    return Features(net, {stride: end_points[name] for stride, name in architecture.decoder.items()}, end_points)


def _check_stride(architecture: Architecture, options: Options) -> None:
    own = 2 ** architecture.levels[options.output_stride][-1]
    if options.nas_remove_os32_stride and own == 32:
        raise OptionError(
            "nas_remove_os32_stride", "takes away the stride that output stride 32 is made of", "`output_stride=16`"
        )
    if options.output_stride != own and not options.nas_classification_head:
        raise OptionError(
            "output_stride",
            f"nas_{architecture.scope} gives features of stride {own}, not {options.output_stride}",
            f"`output_stride={own}` (with atrous rates 12, 24, 36), or `nas_use_classification_head`",
        )


def _stem(image, scope: str, norm: Norm) -> list[Map]:
    """The last two maps of three 3x3 convolutions, of strides 2 and 4."""
    net, path, maps = image, "", []
    for index, (channels, stride) in enumerate(STEM):
        net = net if index == 0 else ops.relu(net)
        net = _convolution(net, f"{scope}/conv{index}", channels, 3, stride=stride)
        net = _batch_norm(net, f"{scope}/conv{index}_bn", norm)
        path += "d" * (stride - 1)
        maps.append(Map(net, path))
    return maps[1:]


class Cell(NamedTuple):
    """One cell of a backbone.

    Attributes:
      architecture: the pairs of operations it runs.
      scope: start of its variables' names.
      filters: channels of every operation; the output has five times as many.
      stride: of the operations on the cell's inputs.
      norm: batch norm.
      drop_path: how its paths are dropped, or None.
    """

    architecture: Architecture
    scope: str
    filters: int
    stride: int
    norm: Norm
    drop_path: dict | None

    def __call__(self, newer: Map, older: Map) -> Map:
        """The output of the cell on the outputs of the last cell and the one before it."""
        states = self._inputs(newer, older)
        for index, (left, left_input, right, right_input) in enumerate(self.architecture.pairs):
            scope = f"{self.scope}/comb_iter_{index}"
            first = self._operation(left, states[left_input], f"{scope}/left", self._stride_on(left_input))
            second = self._operation(right, states[right_input], f"{scope}/right", self._stride_on(right_input))
            states.append(first + second)
        return Map(ops.concatenate(states[2:], axis=-1), newer.path + "d" * (self.stride - 1))

    def _inputs(self, newer: Map, older: Map) -> list:
        """Both inputs with the cell's channels and the newer one's size."""
        side = older.tensor
        if older.path != newer.path:
            side = ResizeLike(name=dotted(f"{self.scope}/prev_resize"))(side, newer.tensor)
        if side.shape[-1] != self.filters:
            side = _convolution(ops.relu(side), f"{self.scope}/prev_1x1", self.filters, 1)
            side = _batch_norm(side, f"{self.scope}/prev_bn", self.norm)
        net = _convolution(ops.relu(newer.tensor), f"{self.scope}/1x1", self.filters, 1)
        return [_batch_norm(net, f"{self.scope}/beginning_bn", self.norm), side]

    def _stride_on(self, state: int) -> int:
        return self.stride if state < 2 else 1

    def _operation(self, operation: str, net, scope: str, stride: int):
        kind, _, size = operation.rpartition("_")
        if operation == "none":
            return self._identity(net, scope, stride)
        kernel_size = int(size.split("x")[0])
        if kind == "separable":
            net = self._separable(net, scope, kernel_size, stride)
        elif kind == "atrous":
            net = self._atrous(net, scope, kernel_size, stride)
        else:
            net = ops.max_pool(net, kernel_size, stride, "same", "channels_last")
        if self.drop_path is None:
            return net
        return DropPath(**self.drop_path, name=dotted(f"{scope}/drop_path"))(net)

    def _identity(self, net, scope: str, stride: int):
        if stride == 1:
            return net
        net = _convolution(ops.relu(net), f"{scope}/1x1", self.filters, 1, stride=stride)
        return _batch_norm(net, f"{scope}/bn_1", self.norm)

    def _separable(self, net, scope: str, kernel_size: int, stride: int):
        """Two separable convolutions, the first with the stride."""
        for layer, layer_stride in ((1, stride), (2, 1)):
            suffix = f"{kernel_size}x{kernel_size}_{layer}"
            convolution = SeparableConvolution(
                self.filters, kernel_size, stride=layer_stride, name=dotted(f"{scope}/separable_{suffix}")
            )
            net = _batch_norm(convolution(ops.relu(net)), f"{scope}/bn_sep_{suffix}", self.norm)
        return net

    def _atrous(self, net, scope: str, kernel_size: int, stride: int):
        """A convolution of rate 2, or, under a stride, of rate 1 on the map at half size."""
        net = ops.relu(net)
        if stride == 2:
            net = Halve(name=dotted(f"{scope}/halve"))(net)
        suffix = f"{kernel_size}x{kernel_size}"
        net = _convolution(net, f"{scope}/atrous_{suffix}", self.filters, kernel_size, rate=1 if stride == 2 else 2)
        return _batch_norm(net, f"{scope}/bn_atr_{suffix}", self.norm)


def _classification_head(net, scope: str, level: int, output_stride: int, norm: Norm, end_points: dict):
    """Convolutions to nominal stride 32, dilated where the output stride is reached, and 2048 channels."""
    stride_left, rate = max(1, output_stride // 2**level), 1
    for target in range(level + 1, 6):
        stride = 2 if stride_left > 1 else 1
        stride_left //= stride
        rate *= 2 // stride
        name = f"downsample_os{2**target}"
        net = _convolution(net, f"{scope}/{name}_conv", HEAD_DOWNSAMPLING[target], 3, stride=stride, rate=rate)
        net = end_points[name] = _batch_norm(net, f"{scope}/{name}_bn", norm)
        net = ops.relu(net)
    net = _convolution(net, f"{scope}/classification_head_conv", HEAD_CHANNELS, 1)
    net = end_points["classification_head"] = _batch_norm(net, f"{scope}/classification_head_bn", norm)
    return ops.relu(net)


def _initializer() -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(1.0 / 3.0, "fan_in", "uniform")


def _convolution(net, name: str, filters: int, kernel_size: int, *, stride: int = 1, rate: int = 1):
    layer = partial(Convolution, padding="fixed", initializer=_initializer(), name=dotted(name))
    return layer(filters, kernel_size, stride=stride, rate=rate)(net)


def _batch_norm(net, name: str, norm: Norm):
    return normalization(norm, name)(net)


def _doubled(features: Map, name: str) -> Map:
    return Map(Double(name=dotted(name))(features.tensor), features.path + "u")


@serializable
class SeparableConvolution(ConfiguredLayer):
    """Depthwise and 1x1 convolution with nothing in between: `depthwise_weights` [kh, kw, in, 1] and
    `pointwise_weights` [1, 1, in, out].

    Args:
      filters: output channels.
      kernel_size: height and width of the depthwise kernel.
      stride: of the depthwise convolution.
    """

    arguments = ("filters", "kernel_size", "stride")

    def __init__(self, filters: int, kernel_size: int, *, stride: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.stride = filters, kernel_size, stride

    def build(self, input_shape):
        channels = input_shape[-1]
        shape = (self.kernel_size, self.kernel_size, channels, 1)
        self.kernel = self.add_weight(name="depthwise_weights", shape=shape, initializer=_initializer())
        shape = (1, 1, channels, self.filters)
        self.pointwise = self.add_weight(name="pointwise_weights", shape=shape, initializer=_initializer())

    def compute_output_shape(self, input_shape):
        lengths = spatial_lengths(input_shape, self.kernel_size, self.stride, 1, "fixed")
        return (input_shape[0], *lengths, self.filters)

    def call(self, inputs):
        inputs, padding = padded(inputs, self.kernel_size, self.stride, "fixed")
        net = ops.depthwise_conv(inputs, self.kernel, self.stride, padding, "channels_last")
        return ops.conv(net, self.pointwise, 1, "same", "channels_last")


@serializable
class Double(keras.Layer):
    """Bilinear resize of [B, h, w, C] to 2 h - 1 by 2 w - 1."""

    def call(self, features):
        height, width = ops.shape(features)[1:3]
        return ops.cast(kernels.resize_bilinear(features, height * 2 - 1, width * 2 - 1), features.dtype)


@serializable
class Halve(keras.Layer):
    """Bilinear resize of [B, h, w, C] to (h + 1) // 2 by (w + 1) // 2."""

    def call(self, features):
        height, width = ops.shape(features)[1:3]
        return ops.cast(kernels.resize_bilinear(features, (height + 1) // 2, (width + 1) // 2), features.dtype)


def _drop_path(options: Options, depth: float) -> dict | None:
    # Frozen statistics switch it off, too: the reference takes them for inference.
    if options.drop_path_keep_probability >= 1.0 or not options.train_batch_norm:
        return None
    final = 1.0 - depth * (1.0 - options.drop_path_keep_probability)
    return {"final_keep_probability": final, "progress": options.training_progress}


@serializable
class DropPath(ConfiguredLayer):
    """In training, sets whole examples of a path to zero and scales the others up (Zoph et al. 2018, section A.7).

    Args:
      final_keep_probability: of an example, at the end of training; it starts at 1 and falls linearly.
      progress: gives the fraction of training done, a scalar 0..1; None = 1. It is not saved with a model.
    """

    arguments = ("final_keep_probability",)

    def __init__(self, final_keep_probability: float, progress=None, **kwargs):
        super().__init__(**kwargs)
        self.final_keep_probability, self.progress = final_keep_probability, progress
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, inputs, training=None):
        if not training:
            return inputs
        keep = 1.0 - self._progress() * (1.0 - self.final_keep_probability)

        def uniform(images):
            return keras.random.uniform((images, 1, 1, 1), seed=self.seed_generator)

        draw = kernels.part_of_batch(uniform, ops.shape(inputs)[0])
        return inputs * ops.cast(ops.floor(keep + draw) / keep, inputs.dtype)

    def _progress(self):
        return 1.0 if self.progress is None else ops.clip(ops.cast(self.progress(), "float32"), 0.0, 1.0)


for _architecture in (PNASNET, HNASNET):
    register(
        Backbone(
            f"nas_{_architecture.scope}",
            partial(build, _architecture),
            _architecture.scope,
            batch_norm_decay=BATCH_NORM_DECAY,
        )
    )
