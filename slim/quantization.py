"""Fake quantization: layers that round as 8-bit integers do, while the model is trained and evaluated in float32.

Owns the ranges of activations and weights, how they are learned, and their TensorFlow-1 names, which are those of
TensorFlow 1.15's `contrib.quantize` (Krishnamoorthi 2018, arXiv:1806.08342; Jacob et al. 2018, arXiv:1712.05877):

    SCOPE/weights_quant/{min,max}    of the kernel with batch norm folded in: those of the last step
    SCOPE/act_quant/{min,max}        of what follows the activation function: a moving average
    SCOPE/act_quant/SCOPE/act_quant/{min,max}/{biased,local_step}    the parts of this average

Used by `slim.layers`, whose convolutions hold a `WeightRange`; by the training loop, which sets the phase; and by
exports, which read the ranges. It does not decide which tensors are quantized.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
from keras import ops

from slim import kernels

DECAY = 0.999  # of the moving ranges, as in contrib.quantize
PER_TENSOR, PER_CHANNEL = "per_tensor", "per_channel"
_LEVELS = 127.0  # of a channel's weights, on each side of 0


class _Range(keras.Layer):
    """What both kinds of range have in common.

    Attributes:
      rounds: whether values are rounded in training; in inference they always are.
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.rounds = True

    def _scalar(self, name: str, value: float = 0.0) -> keras.Variable:
        return self.add_weight(
            name=name, shape=(), initializer=keras.initializers.Constant(value), trainable=False, autocast=False
        )

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable("deeplab")
class ActivationRange(_Range):
    """Fake quantization of activations, float32 [B, H, W, C], to 8 bits over one range.

    In training, the range is the moving average of the batches' smallest and largest values, free of the bias towards
    its first value: biased / (1 - decay ** steps).

    Args:
      scope: TensorFlow-1 scope of the range, such as `MobilenetV2/Conv/act_quant`.

    Attributes:
      observes: whether the range follows the values in training.
      calibrates: whether values only widen the range, in inference, too, and are not rounded.
    """

    def __init__(self, scope: str, **kwargs):
        super().__init__(**kwargs)
        self.scope, self.observes, self.calibrates = scope, True, False

    def build(self, input_shape):
        self.low, self.high = self._scalar("min"), self._scalar("max", 6.0)
        dotted = self.scope.replace("/", ".")
        self._averages = {
            end: (self._scalar(f"{dotted}.{end}.biased"), self._scalar(f"{dotted}.{end}.local_step"))
            for end in ("min", "max")
        }

    def call(self, inputs, training=None):
        values = ops.cast(inputs, "float32")
        low, high = self.low, self.high
        if (training and self.observes) or self.calibrates:
            smallest, largest = ops.minimum(ops.min(values), 0.0), ops.maximum(ops.max(values), 0.0)
            smallest, largest = ops.stop_gradient(smallest), ops.stop_gradient(largest)
            if self.calibrates:
                low, high = ops.minimum(low, smallest), ops.maximum(high, largest)
            else:
                low, high = self._average("min", smallest), self._average("max", largest)
            self.low.assign(low)
            self.high.assign(high)
        if self.calibrates or (training and not self.rounds):
            return inputs
        return ops.cast(kernels.fake_quantize(values, low, high), inputs.dtype)

    def _average(self, end: str, value):
        biased, steps = self._averages[end]
        total, count = biased - (biased - value) * (1.0 - DECAY), steps + 1.0
        biased.assign(total)
        steps.assign(count)
        return total / (1.0 - ops.power(DECAY, count))

    def clear(self) -> None:
        """Empties the range, so that calibration begins with no value."""
        self.low.assign(0.0)
        self.high.assign(0.0)

    def get_config(self):
        return {**super().get_config(), "scope": self.scope}


@keras.saving.register_keras_serializable("deeplab")
class WeightRange(_Range):
    """Fake quantization of a kernel to 8 bits, over one range or one per output channel.

    The one range is that of the last step, as `min` and `max` say; the ranges of channels are computed from the kernel,
    symmetric about 0, as LiteRT's converter does.

    Args:
      granularity: PER_TENSOR or PER_CHANNEL.
      channel_axis: of the kernel's output channels.
    """

    def __init__(self, granularity: str, channel_axis: int, **kwargs):
        super().__init__(**kwargs)
        self.granularity, self.channel_axis = granularity, channel_axis

    def build(self, input_shape):
        self.low, self.high = self._scalar("min", -6.0), self._scalar("max", 6.0)

    def call(self, kernel, training=None):
        low, high = self.low, self.high
        if training:
            low, high = ends(kernel)
            self.low.assign(low)
            self.high.assign(high)
        if training and not self.rounds:
            return kernel
        if self.granularity == PER_CHANNEL:
            return per_channel(kernel, self.channel_axis)
        return kernels.fake_quantize(kernel, low, high, narrow=True)

    def get_config(self):
        return {**super().get_config(), "granularity": self.granularity, "channel_axis": self.channel_axis}


def ends(kernel):
    """The range of a kernel, 0 included: two float32 scalars without gradients."""
    low, high = ops.minimum(ops.min(kernel), 0.0), ops.maximum(ops.max(kernel), 0.0)
    return ops.stop_gradient(low), ops.stop_gradient(high)


def per_channel(kernel, channel_axis: int):
    """Rounds a kernel to 255 values per output channel, symmetric about 0; gradients pass unchanged.

    Args:
      kernel: float32 [kh, kw, in, out], or [kh, kw, C, 1] of a depthwise convolution.
      channel_axis: of its output channels.
    """
    others = [axis for axis in range(len(kernel.shape)) if axis != channel_axis]
    step = ops.max(ops.abs(kernel), axis=others, keepdims=True) / _LEVELS
    safe = ops.where(step > 0, step, ops.ones_like(step))
    return kernel + ops.stop_gradient(ops.round(kernel / safe) * step - kernel)


@keras.saving.register_keras_serializable("deeplab")
class QuantizedDropout(keras.layers.Dropout):
    """Dropout whose two multiplications, by 1 / keep and by the mask, are each followed by a range.

    contrib.quantize puts them there; they act in training alone.

    Args:
      rate: fraction that is dropped.
    """

    def build(self, input_shape):
        scopes = [f"{self.name}/dropout/{operation}/activation_Mul_quant" for operation in ("mul", "mul_1")]
        self._ranges = [
            ActivationRange(scope, name=scope.removeprefix(f"{self.name}/").replace("/", ".")) for scope in scopes
        ]
        for each in self._ranges:
            each.build(input_shape)
        super().build(input_shape)

    def call(self, inputs, training=False):
        if not training:
            return inputs
        keep = 1.0 - self.rate
        scaled = self._ranges[0](inputs / keep, training=True)
        return self._ranges[1](super().call(scaled, training=True) * keep, training=True)


# ---- of a whole model ---------------------------------------------------------------------------------------


def ranges(model: keras.Model) -> Iterator[_Range]:
    """All ranges of a model, those of weights among them; none of a model without fake quantization."""
    return (layer for layer in model._flatten_layers() if isinstance(layer, _Range))


def is_quantized(model: keras.Model) -> bool:
    """Whether a model has fake quantization."""
    return next(ranges(model), None) is not None


def set_rounding(model: keras.Model, rounds: bool) -> None:
    """Sets whether training rounds, or only learns the ranges; applies to functions that are traced afterwards."""
    for one in ranges(model):
        one.rounds = rounds


@contextlib.contextmanager
def held_ranges(model: keras.Model) -> Iterator[None]:
    """Keeps the ranges of activations as they are in what is traced within the block."""
    found = [one for one in ranges(model) if isinstance(one, ActivationRange)]
    for one in found:
        one.observes = False
    try:
        yield
    finally:
        for one in found:
            one.observes = True
