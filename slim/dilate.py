"""Converts the layers of a built Keras classification model to a smaller output stride.

Strides beyond the output stride become 1, and every layer after them is dilated instead, so that the dense result,
subsampled, is the old one with the same weights (Chen et al. 2017, arXiv:1706.05587, section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from slim.layers import ConfiguredLayer, serializable

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
POOLINGS = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)


@dataclass(frozen=True)
class LayerPosition:
    """The strides around a layer in the original model.

    Attributes:
      stride_in, stride_out: image size over the size of its input and output.
      zeros: (before, after) rows of explicit zeros that the layer before it adds.
    """

    stride_in: int
    stride_out: int
    zeros: tuple[int, int] = (0, 0)


class CannotDilate(ValueError):
    """A layer for which no dilated twin is known; the text names it."""


def dilated(layer: Any, position: LayerPosition, output_stride: int) -> Any:
    """The twin of a layer at the smaller output stride, not yet built; the layer's copy where nothing changes.

    Args:
      layer: a Keras layer of the original model.
      position: its strides there.
      output_stride: of the new model.

    Raises:
      CannotDilate: no twin is known.
    """
    rate = max(1, position.stride_in // output_stride)
    loses_stride = position.stride_out > max(position.stride_in, output_stride)
    if rate == 1 and not loses_stride:
        return copy(layer)
    if isinstance(layer, CONVOLUTIONS):
        return _convolution(layer, position, rate)
    if isinstance(layer, POOLINGS):
        return _pooling(layer, position, rate)
    if isinstance(layer, keras.layers.ZeroPadding2D):
        return copy(layer, padding=[[side * rate for side in sides] for sides in layer.padding])
    if isinstance(layer, keras.layers.Cropping2D) or loses_stride:
        raise CannotDilate(f"{layer.name} ({type(layer).__name__})")
    return copy(layer)


def copy(layer: Any, kind: Any = None, **changes: Any) -> Any:
    """An unbuilt layer of the same settings, but for the changes; of another class, if one is given."""
    return (kind or type(layer)).from_config({**layer.get_config(), **changes})


def _convolution(layer, position: LayerPosition, rate: int):
    kernel = layer.kernel_size[0]
    changes: dict[str, Any] = {"strides": (1, 1), "dilation_rate": (layer.dilation_rate[0] * rate,) * 2}
    missing = rate * (kernel - 1 - sum(position.zeros))
    if layer.padding == "same" or missing == 0:
        return copy(layer, **changes)
    twin = next(twin for kind, twin in PADDED.items() if isinstance(layer, kind))
    return copy(layer, twin, zeros_after=missing, **changes)


def _pooling(layer, position: LayerPosition, rate: int):
    size = layer.pool_size[0]
    before = (size - 1) // 2 if layer.padding == "same" else 0
    return AtrousPooling(
        size,
        rate,
        zeros=(rate * before, rate * (size - 1 - before - sum(position.zeros))),
        average=isinstance(layer, keras.layers.AveragePooling2D),
        name=layer.name,
    )


class ZerosAfter:
    """Makes a "valid" convolution add zeros below and to the right first: the dense twin of a strided one.

    Args:
      zeros_after: how many rows and columns.
    """

    def __init__(self, *args, zeros_after: int, **kwargs):
        super().__init__(*args, **kwargs)
        self.zeros_after = zeros_after

    def call(self, inputs):
        side = (0, self.zeros_after)
        return super().call(ops.pad(inputs, ((0, 0), side, side, (0, 0))))  # type: ignore[misc]

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        grown = (None if length is None else length + self.zeros_after for length in (height, width))
        return super().compute_output_shape((batch, *grown, channels))  # type: ignore[misc]

    def get_config(self):
        return {**super().get_config(), "zeros_after": self.zeros_after}  # type: ignore[misc]


@serializable
class PaddedConv2D(ZerosAfter, keras.layers.Conv2D):
    """See `ZerosAfter`."""


@serializable
class PaddedDepthwiseConv2D(ZerosAfter, keras.layers.DepthwiseConv2D):
    """See `ZerosAfter`."""


@serializable
class PaddedSeparableConv2D(ZerosAfter, keras.layers.SeparableConv2D):
    """See `ZerosAfter`."""


PADDED = {
    keras.layers.DepthwiseConv2D: PaddedDepthwiseConv2D,
    keras.layers.SeparableConv2D: PaddedSeparableConv2D,
    keras.layers.Conv2D: PaddedConv2D,
}


@serializable
class AtrousPooling(ConfiguredLayer):
    """Maximum or mean over size x size cells that are `rate` apart: [B, H, W, C] -> [B, H', W', C].

    Args:
      size: side of the window.
      rate: distance of its cells.
      zeros: (before, after) cells added on each side, which never win and never count.
      average: mean rather than maximum.
    """

    arguments = ("size", "rate", "zeros", "average")

    def __init__(self, size: int, rate: int, *, zeros: tuple[int, int], average: bool, **kwargs):
        super().__init__(**kwargs)
        self.size, self.rate, self.zeros, self.average = size, rate, zeros, average

    def call(self, inputs):
        if not self.average:
            return self._over_windows(inputs, -float("inf"), ops.maximum)
        ones = ops.ones_like(inputs[..., :1])
        return self._over_windows(inputs, 0.0, ops.add) / self._over_windows(ones, 0.0, ops.add)

    def _over_windows(self, values, filling: float, combine):
        padded = ops.pad(values, ((0, 0), self.zeros, self.zeros, (0, 0)), constant_values=filling)
        reach = self.rate * (self.size - 1)
        height, width = (length - reach for length in ops.shape(padded)[1:3])
        result = None
        for row in range(0, reach + 1, self.rate):
            for column in range(0, reach + 1, self.rate):
                window = padded[:, row : row + height, column : column + width]
                result = window if result is None else combine(result, window)
        return result

    def compute_output_shape(self, input_shape):
        change = sum(self.zeros) - self.rate * (self.size - 1)
        batch, height, width, channels = input_shape
        return batch, *(None if length is None else length + change for length in (height, width)), channels
