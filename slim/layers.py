"""The layers of all backbones and heads, with TensorFlow-1 variable names.

A layer called `MobilenetV2.expanded_conv.project` holds the variables that TensorFlow 1 called
`MobilenetV2/expanded_conv/project/weights` and so on: Keras forbids slashes in layer names, so dots replace
them (`variable_name` turns them back). Tensors are [B, H, W, C], channels last, float.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import keras
from keras import ops

from slim import kernels
from slim.quantization import PER_TENSOR, ActivationRange, WeightRange, ends

TRUNCATED_NORMAL = keras.initializers.TruncatedNormal
# A divisor, because Keras takes a symbolic tensor times a number for a sparse tensor.
REFERENCES_SIX = 1.0 / 0.16667  # of `quantized_sigmoid`
serializable = keras.saving.register_keras_serializable("deeplab")  # every layer of a model, for `model.save`


@dataclass(frozen=True)
class Norm:
    """How batch norm behaves in a part of a model.

    Attributes:
      decay: weight of the old value in the moving averages, 0 to 1.
      epsilon: added to the variance.
      train_statistics: in training, normalize by the batch and update the averages; otherwise the averages
        are used in training, too, while gamma and beta still learn (`fine_tune_batch_norm=False`).
      folded: there is no batch norm; convolutions have biases instead (for export).
      synced: under several replicas, normalize by the statistics of the whole batch, not by those of each part.
      group: there is group norm in place of batch norm.
      quantized: weights and activations are rounded to 8 bits, as `slim.quantization` describes.
      granularity: whether a kernel has one range (PER_TENSOR) or one per output channel (PER_CHANNEL).
    """

    decay: float
    epsilon: float
    train_statistics: bool = True
    folded: bool = False
    synced: bool = False
    group: bool = False
    quantized: bool = False
    granularity: str = PER_TENSOR


def variable_name(variable: keras.Variable) -> str:
    """The TensorFlow-1 name of a variable, without `:0`."""
    return variable.path.replace(".", "/")


def variables_by_name(model: keras.Model) -> dict[str, keras.Variable]:
    """All weights of a model under their TensorFlow-1 names, in order of creation."""
    return {variable_name(variable): variable for variable in model.weights}


def padded(inputs, kernel_size: int, stride: int, padding: str):
    """Inputs and padding for `keras.ops`, which does not have "fixed": such inputs are padded here."""
    if padding != "fixed":
        return inputs, padding
    if stride == 1 or kernel_size == 1:
        return inputs, "same"
    before = (kernel_size - 1) // 2
    side = (before, kernel_size - 1 - before)
    return ops.pad(inputs, ((0, 0), side, side, (0, 0))), "valid"


def spatial_lengths(shape, kernel_size: int, stride: int, rate, padding: str) -> tuple[int | None, ...]:
    """(H, W) after a convolution of a map [B, H, W, C]; None where a length is not known yet.

    Layers that compute their output shape by it are not traced while a model is built, which halves the time.
    """
    rates = (rate, rate) if isinstance(rate, int) else rate
    lost = [0, 0] if padding != "valid" else [(kernel_size - 1) * one for one in rates]
    return tuple(
        None if length is None else (length - less - 1) // stride + 1
        for length, less in zip(shape[1:3], lost, strict=True)
    )


class ConfiguredLayer(keras.Layer):
    """A layer that Keras can save: attributes named as the constructor's arguments make up its config.

    Attributes:
      arguments: names of the constructor's arguments, which are attributes of the same names.
    """

    arguments: tuple[str, ...] = ()

    def get_config(self):
        values = {name: getattr(self, name) for name in self.arguments}
        if isinstance(values.get("initializer"), keras.Initializer):
            values["initializer"] = keras.initializers.serialize(values["initializer"])
        return {**super().get_config(), **values}


@serializable
class Convolution(ConfiguredLayer):
    """2-D convolution with variables `weights` [kh, kw, in, out] and, if asked for, `biases` [out].

    Args:
      filters: output channels.
      kernel_size: height and width of the kernel.
      stride: spatial stride; with an atrous rate above 1 it must be 1.
      rate: atrous rate, or (height, width) rates.
      padding: "same" (TensorFlow's rule), "valid", or "fixed": under a stride, as many zeros on every side as
        stride 1 would need, so that the result is the dense one subsampled, whatever the image size.
      use_bias: whether `biases` exist.
      initializer: of `weights`.
    """

    arguments = ("filters", "kernel_size", "stride", "rate", "padding", "use_bias", "initializer")

    def __init__(
        self, filters: int, kernel_size: int, *, stride=1, rate=1, padding="same", use_bias=False, initializer, **kwargs
    ):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.stride, self.rate = filters, kernel_size, stride, rate
        self.padding, self.use_bias = padding, use_bias
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape):
        shape = (self.kernel_size, self.kernel_size, input_shape[-1], self.filters)
        self.kernel = self.add_weight(name="weights", shape=shape, initializer=self.initializer)
        self.bias = (
            self.add_weight(name="biases", shape=(self.filters,), initializer="zeros") if self.use_bias else None
        )

    def compute_output_shape(self, input_shape):
        lengths = spatial_lengths(input_shape, self.kernel_size, self.stride, self.rate, self.padding)
        return (input_shape[0], *lengths, self.filters)

    def call(self, inputs):
        outputs = self.convolve(inputs, self.kernel)
        return outputs if self.bias is None else kernels.add_bias(outputs, self.bias)

    def convolve(self, inputs, kernel):
        """Convolution by another kernel of the same shape, without bias."""
        inputs, padding = padded(inputs, self.kernel_size, self.stride, self.padding)
        return ops.conv(inputs, kernel, self.stride, padding, "channels_last", self.rate)


@serializable
class DepthwiseConvolution(ConfiguredLayer):
    """Depthwise 2-D convolution with `depthwise_weights` [kh, kw, in, 1] and, if asked for, `biases` [in].

    Args: as `Convolution`, without `filters`.
    """

    arguments = Convolution.arguments[1:]

    def __init__(self, kernel_size: int, *, stride=1, rate=1, padding="same", use_bias=False, initializer, **kwargs):
        super().__init__(**kwargs)
        self.kernel_size, self.stride, self.rate = kernel_size, stride, rate
        self.padding, self.use_bias = padding, use_bias
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape):
        shape = (self.kernel_size, self.kernel_size, input_shape[-1], 1)
        self.kernel = self.add_weight(name="depthwise_weights", shape=shape, initializer=self.initializer)
        bias_shape = (input_shape[-1],)
        self.bias = self.add_weight(name="biases", shape=bias_shape, initializer="zeros") if self.use_bias else None

    def compute_output_shape(self, input_shape):
        lengths = spatial_lengths(input_shape, self.kernel_size, self.stride, self.rate, self.padding)
        return (input_shape[0], *lengths, input_shape[-1])

    def call(self, inputs):
        outputs = self.convolve(inputs, self.kernel)
        return outputs if self.bias is None else kernels.add_bias(outputs, self.bias)

    def convolve(self, inputs, kernel):
        """Convolution by another kernel of the same shape, without bias."""
        inputs, padding = padded(inputs, self.kernel_size, self.stride, self.padding)
        return ops.depthwise_conv(inputs, kernel, self.stride, padding, "channels_last", self.rate)


@serializable
class BatchNorm(keras.Layer):
    """Batch norm with TensorFlow 1's names and update rule: gamma, beta, moving_mean, moving_variance, each [C].

    Normalizes by the biased batch variance and averages the unbiased one, as TensorFlow's fused kernel does
    (Ioffe and Szegedy 2015, algorithm 2). Under several replicas each normalizes its own part of the batch and
    the first one's statistics are kept, as the reference's clones do, unless `norm.synced`.

    Args:
      norm: decay, epsilon, and whether the statistics are trained; a dict of them from a saved model.
    """

    def __init__(self, norm: Norm | dict[str, Any], **kwargs):
        super().__init__(**kwargs)
        self.norm = norm if isinstance(norm, Norm) else Norm(**norm)

    def build(self, input_shape):
        shape = (input_shape[-1],)
        average: dict[str, Any] = {"shape": shape, "trainable": False, "autocast": False}
        average["aggregation"] = "only_first_replica"
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones", autocast=False)
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros", autocast=False)
        self.moving_mean = self.add_weight(name="moving_mean", initializer="zeros", **average)
        self.moving_variance = self.add_weight(name="moving_variance", initializer="ones", **average)

    def compute_output_shape(self, input_shape):
        return input_shape

    def call(self, inputs, training=None):
        if not (training and self.norm.train_statistics):
            return kernels.batch_norm(
                inputs, self.gamma, self.beta, self.moving_mean, self.moving_variance, self.norm.epsilon
            )
        normalize = kernels.batch_norm_training_synced if self.norm.synced else kernels.batch_norm_training
        outputs, mean, variance = normalize(inputs, self.gamma, self.beta, self.norm.epsilon)
        self.average(mean, variance)
        return outputs

    def average(self, mean, variance) -> None:
        """Takes a batch's mean and unbiased variance, float32 [C], into the moving averages."""
        self._average(self.moving_mean, mean)
        self._average(self.moving_variance, variance)

    def _average(self, moving: keras.Variable, value) -> None:
        kernels.assign_own_copy(moving, moving - (moving - value) * (1.0 - self.norm.decay))

    def get_config(self):
        return {**super().get_config(), "norm": asdict(self.norm)}


class _FoldedUnit(ConfiguredLayer):
    """Mixed into a convolution: batch norm folded into a kernel that is rounded to 8 bits, in training, too.

    The kernel is scaled by the moving variance, which hardly changes from step to step, so that it is rounded in the
    same way as in inference. In training the result is then corrected to what normalizing by the batch gives
    (Krishnamoorthi 2018, arXiv:1806.08342, section 3.2.2, figure 8):

        outputs = conv(x, round(kernel * gamma / sqrt(moving_variance))) * sqrt(moving_variance / variance)
                  + beta - mean * gamma / sqrt(variance)

    with mean and variance of conv(x, kernel). Once `norm.train_statistics` is off, the moving averages take the place
    of mean and variance. Gradients go through mean and variance as well; those of TensorFlow 1.15's contrib.quantize do
    not, because its fused batch norm has no gradient there.

    Args:
      norm: batch norm, or None for a bias; a dict of them from a saved model.
      granularity: of the kernel's range.
    """

    channel_axis = 3

    def __init__(self, *args, norm: Norm | dict[str, Any] | None = None, granularity: str = PER_TENSOR, **kwargs):
        super().__init__(*args, use_bias=norm is None, **{key: kwargs[key] for key in kwargs if key != "use_bias"})
        self.norm = norm if isinstance(norm, Norm) or norm is None else Norm(**norm)
        self.granularity = granularity

    def build(self, input_shape):
        super().build(input_shape)
        self.weight_range = WeightRange(self.granularity, self.channel_axis, name="weights_quant")
        self.weight_range.build(self.kernel.shape)
        self.batch_norm = None
        if self.norm is not None:
            self.batch_norm = BatchNorm(self.norm, name="BatchNorm", dtype="float32")
            self.batch_norm.build(self.compute_output_shape(input_shape))

    def call(self, inputs, training=None):
        outputs = self.convolve(inputs, self.weight_range(self.folded_kernel(), training=training))
        norm = self.batch_norm
        if norm is None:
            return kernels.add_bias(outputs, self.bias)
        if not (training and norm.norm.train_statistics):
            return kernels.add_bias(outputs, norm.beta - norm.moving_mean * self._scale())
        mean, variance, unbiased = kernels.batch_statistics(self.convolve(inputs, self.kernel))
        scale = norm.gamma * ops.rsqrt(variance + norm.norm.epsilon)
        correction = ops.sqrt((norm.moving_variance + norm.norm.epsilon) / (variance + norm.norm.epsilon))
        norm.average(mean, unbiased)
        return outputs * correction + (norm.beta - mean * scale)

    def _scale(self):
        norm = self.batch_norm
        assert norm is not None
        return norm.gamma * ops.rsqrt(norm.moving_variance + norm.norm.epsilon)

    def folded_kernel(self):
        """The kernel with batch norm's moving variance and gamma folded in, before it is rounded."""
        if self.batch_norm is None:
            return ops.convert_to_tensor(self.kernel)
        scale = self._scale()
        return self.kernel * (scale if self.channel_axis == 3 else scale[:, None])

    def rounded_kernel(self):
        """The kernel that inference convolves with."""
        return self.weight_range(self.folded_kernel(), training=False)

    def refresh_range(self) -> None:
        """Sets the kernel's range to that of the present weights and statistics."""
        low, high = ends(self.folded_kernel())
        self.weight_range.low.assign(low)
        self.weight_range.high.assign(high)

    def get_config(self):
        config = super().get_config()
        del config["use_bias"]
        return {**config, "norm": self.norm and asdict(self.norm), "granularity": self.granularity}


@serializable
class QuantizedConvolution(_FoldedUnit, Convolution):
    """`Convolution` with batch norm folded in and a rounded kernel."""


@serializable
class QuantizedDepthwiseConvolution(_FoldedUnit, DepthwiseConvolution):
    """`DepthwiseConvolution` with batch norm folded in and a rounded kernel."""

    channel_axis = 2


def folded_units(model: keras.Model) -> list[QuantizedConvolution | QuantizedDepthwiseConvolution]:
    """The convolutions of a model with fake quantization; none without."""
    kinds = (QuantizedConvolution, QuantizedDepthwiseConvolution)
    return [layer for layer in model._flatten_layers() if isinstance(layer, kinds)]


def refresh_weight_ranges(model: keras.Model) -> None:
    """Sets the ranges of all kernels to those of the present weights, after these were set by other than a step."""
    for layer in folded_units(model):
        layer.refresh_range()


@serializable
class GroupNorm(ConfiguredLayer):
    """Group norm (Wu and He, arXiv:1803.08494), which does not depend on the batch: gamma and beta, each [C].

    There are 32 groups, or the largest divisor of 32 that divides the number of channels.

    Args:
      epsilon: added to the variance.
    """

    arguments = ("epsilon",)

    def __init__(self, epsilon: float, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        shape = (input_shape[-1],)
        self.groups = math.gcd(32, input_shape[-1])
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones", autocast=False)
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros", autocast=False)

    def compute_output_shape(self, input_shape):
        return input_shape

    def call(self, inputs):
        batch, height, width = ops.shape(inputs)[:3]
        channels = inputs.shape[-1]
        split = (batch, height, width, self.groups, channels // self.groups)
        values = ops.reshape(ops.cast(inputs, "float32"), split)
        mean, variance = ops.moments(values, axes=[1, 2, 4], keepdims=True)
        scaled = ops.reshape((values - mean) * ops.rsqrt(variance + self.epsilon), (batch, height, width, channels))
        return ops.cast(scaled * self.gamma + self.beta, inputs.dtype)


@serializable
class ResizeLike(ConfiguredLayer):
    """Bilinear resize of features [B, h, w, C] to the height and width of another map [B, H, W, *], dtype kept.

    Args:
      align_corners: as in `kernels.resize_bilinear`.
    """

    arguments = ("align_corners",)

    def __init__(self, align_corners: bool = True, **kwargs):
        super().__init__(**{"autocast": False, **kwargs})
        self.align_corners = align_corners

    def call(self, features, like, training=None):
        height, width = ops.shape(like)[1:3]
        resize = kernels.resize_bilinear_training if training else kernels.resize_bilinear
        return ops.cast(resize(features, height, width, self.align_corners), features.dtype)


def conv_unit(
    inputs,
    name: str,
    filters: int,
    kernel_size: int = 1,
    *,
    norm: Norm | None,
    activation: str | None = "relu",
    stride: int = 1,
    rate: int | tuple[int, int] = 1,
    padding: str = "same",
    initializer: Any,
    biased: bool = False,
    range_name: str = "act_quant",
):
    """Convolution, batch norm, activation; without `norm`, a bias replaces batch norm.

    Args:
      inputs: [B, H, W, C].
      name: TensorFlow-1 scope, with slashes.
      norm: batch norm, or None for a bias.
      activation: a key of `ACTIVATIONS`, or None.
      biased: whether a bias replaces batch norm, while `norm` says how weights and activations are rounded.
      range_name: last part of the name of the results' range under fake quantization.

    Returns:
      [B, H', W', filters].
    """
    settings = {"stride": stride, "rate": rate, "padding": padding, "initializer": initializer, "name": dotted(name)}
    if norm is not None and norm.quantized and not norm.folded:
        unit_norm = None if biased else norm
        unit = QuantizedConvolution(filters, kernel_size, norm=unit_norm, granularity=norm.granularity, **settings)
        return _activate_and_round(unit(inputs), f"{name}/{range_name}", norm, activation)
    batch_norm = None if norm is None or norm.folded or biased else norm
    outputs = Convolution(filters, kernel_size, use_bias=batch_norm is None, **settings)(inputs)
    if batch_norm is not None:
        outputs = _normalized(outputs, name, batch_norm)
    return _activate_and_round(outputs, f"{name}/{range_name}", norm, activation)


def depthwise_unit(
    inputs,
    name: str,
    kernel_size: int = 3,
    *,
    norm: Norm,
    activation: str | None = "relu",
    stride: int = 1,
    rate: int | tuple[int, int] = 1,
    padding: str = "same",
    initializer: Any,
):
    """Depthwise convolution, batch norm, activation; arguments and result as `conv_unit`."""
    settings = {"stride": stride, "rate": rate, "padding": padding, "initializer": initializer, "name": dotted(name)}
    if norm.quantized and not norm.folded:
        unit = QuantizedDepthwiseConvolution(kernel_size, norm=norm, granularity=norm.granularity, **settings)
        return _activate_and_round(unit(inputs), f"{name}/act_quant", norm, activation)
    outputs = DepthwiseConvolution(kernel_size, use_bias=norm.folded, **settings)(inputs)
    if not norm.folded:
        outputs = _normalized(outputs, name, norm)
    return _activate_and_round(outputs, f"{name}/act_quant", norm, activation)


def _normalized(outputs, name: str, norm: Norm):
    return normalization(norm, name + ("/GroupNorm" if norm.group else "/BatchNorm"))(outputs)


def _activate_and_round(outputs, range_scope: str, norm: Norm | None, activation: str | None):
    outputs = outputs if activation is None else ACTIVATIONS[activation](outputs)
    return rounded(outputs, range_scope, norm)


def rounded(outputs, scope: str, norm: Norm | None):
    """Activations after fake quantization under a TensorFlow-1 scope; as they are where `norm` is not quantized."""
    if norm is None or not norm.quantized:
        return outputs
    return ActivationRange(scope, name=dotted(scope))(outputs)


def normalization(norm: Norm, name: str) -> keras.Layer:
    """Batch norm, or group norm in its place, with `gamma` and `beta` under a TensorFlow-1 scope."""
    return GroupNorm(norm.epsilon, name=dotted(name)) if norm.group else BatchNorm(norm, name=dotted(name))


def dotted(name: str) -> str:
    """A TensorFlow-1 scope as a Keras layer name."""
    return name.replace("/", ".")


def hard_swish(inputs):
    """Return x * relu6(x + 3) / 6 (Howard et al. 2019, section 5.2)."""
    return inputs * ops.relu6(inputs + 3.0) / 6.0


def quantized_sigmoid(inputs):
    """Return relu6(x + 3) * 0.16667: the constant is the reference's, not one sixth."""
    return ops.relu6(inputs + 3.0) / REFERENCES_SIX


def clip6(inputs):
    """Clip to -6..6: the linear companion of ReLU6."""
    return ops.clip(inputs, -6.0, 6.0)


ACTIVATIONS = {
    "relu": ops.relu,
    "relu6": ops.relu6,
    "clip6": clip6,
    "hard_swish": hard_swish,
    "sigmoid": ops.sigmoid,
    "quantized_sigmoid": quantized_sigmoid,
}


def make_divisible(channels: float, divisor: int, minimum: int | None = None) -> int:
    """The multiple of `divisor` nearest to `channels`, not below `minimum` nor 90 % of `channels`."""
    rounded = max(divisor if minimum is None else minimum, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


DILATIONS = ("after", "with", "next_stage")  # what a lost stride dilates first


class AtrousPlan:
    """Gives stride and atrous rate layer by layer, so that the output stride is kept.

    Once the strides so far have reached the output stride, later strides become 1 and dilate the layers that
    follow instead (Chen et al. 2017, section 3.1).

    Args:
      output_stride: input size over feature size.
      dilation: "after": the layers after the one that loses its stride are dilated, so that the result is the dense
        version of the strided one; "with": that layer is dilated as well; "next_stage": only the layers of later
        stages are. Each is what the authors of some published weights did.
    """

    def __init__(self, output_stride: int, dilation: str = "after"):
        self.output_stride, self.stride, self.rate = output_stride, 1, 1
        self.dilation, self._stage_rate = dilation, 1

    def next(self, stride: int, first_of_stage: bool = True) -> tuple[int, int]:
        """(stride, atrous rate) for a layer whose nominal stride is `stride`.

        Args:
          stride: nominal stride.
          first_of_stage: whether a stage (layers of one number of channels) begins with this layer.
        """
        if first_of_stage:
            self._stage_rate = self.rate
        if self.stride == self.output_stride:
            before = self.rate
            self.rate *= stride
            rate = {"after": before, "with": self.rate, "next_stage": self._stage_rate}[self.dilation]
            return 1, rate
        self.stride *= stride
        return stride, 1
