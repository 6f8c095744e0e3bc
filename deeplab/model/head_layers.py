"""Keras layers of heads and decoders whose results depend on sizes that are known only when the model runs."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import keras
from keras import ops

from deeplab.config.fields import Size
from deeplab.model.resize import scaled_length, strided_length
from slim import IMAGENET_MEAN, kernels
from slim.layers import ConfiguredLayer, Norm, serializable
from slim.quantization import ActivationRange

_SCALE = contextvars.ContextVar("scale of the image that a model runs on", default=1.0)
IMAGENET_STD = 57.4  # mean of 58.4, 57.1 and 57.4 for R, G and B: 255 times the usual 0.229, 0.224, 0.225


@contextlib.contextmanager
def image_scale(scale: float) -> Iterator[None]:
    """Models that are called (or traced) inside take an image that was scaled by this factor.

    Pooling windows in pixels of the image shrink and grow with it, as in the research DeepLab.
    """
    token = _SCALE.set(scale)
    try:
        yield
    finally:
        _SCALE.reset(token)


def scaled_window(window: Size) -> Size:
    """A pooling window, height and width in pixels of the unscaled image, at the present `image_scale`."""
    scale = _SCALE.get()
    return window if scale == 1.0 else (scaled_length(window[0], scale), scaled_length(window[1], scale))


@serializable
class ScalableModel(keras.Model):
    """A functional model that can be called on a scaled image: `model(image, scale=0.5)`, see `image_scale`."""

    def call(self, inputs, training=None, mask=None, scale: float = 1.0):
        with image_scale(scale):
            return super().call(inputs, training=training, mask=mask)

    def compute_output_spec(self, inputs, training=None, mask=None, scale: float = 1.0):
        with image_scale(scale):
            return super().compute_output_spec(inputs, training=training, mask=mask)


@serializable
class WindowPooling(ConfiguredLayer):
    """Means over windows that lie inside the map: [B, h, w, C] -> [B, (h - a) // stride + 1, (w - b) // stride + 1, C].

    Args:
      window: height, width in pixels of the unscaled image.
      strides: of the windows, in positions of the map.
      output_stride: image size over map size.
    """

    arguments = ("window", "strides", "output_stride")

    def __init__(self, window, strides, output_stride: int, **kwargs):
        super().__init__(**kwargs)
        self.window, self.strides, self.output_stride = tuple(window), tuple(strides), output_stride

    def call(self, features):
        sides = tuple(strided_length(length, self.output_stride) for length in scaled_window(self.window))
        return ops.average_pool(features, sides, self.strides, "valid", "channels_last")


@serializable
class ResizeToStride(ConfiguredLayer):
    """Bilinear resize of a map to the size of a given stride over an image.

    Inputs: features [B, h, w, C] and the image [B, H, W, *] whose size counts.
    Output: [B, (H-1)//stride+1, (W-1)//stride+1, C], float32.

    Args:
      stride: of the output.
      align_corners: as in `slim.kernels.resize_bilinear`.
    """

    arguments = ("stride", "align_corners")

    def __init__(self, stride: int, align_corners: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.stride, self.align_corners = stride, align_corners

    def call(self, features, image, training=None):
        height, width = (strided_length(side, self.stride) for side in ops.shape(image)[1:3])
        resize = kernels.resize_bilinear_training if training else kernels.resize_bilinear
        return resize(features, height, width, self.align_corners)


@serializable
class Rescale(ConfiguredLayer):
    """Bilinear resize of an image [B, H, W, C] by a factor: int((H - 1) * scale + 1) rows, float32."""

    arguments = ("scale",)

    def __init__(self, scale: float, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, image):
        height, width = (scaled_length(side, self.scale) for side in ops.shape(image)[1:3])
        return kernels.resize_bilinear(image, height, width)

    def compute_output_spec(self, image):
        """Without a trace of `call`: JAX's symbolic sides cannot be multiplied by fractions."""
        sides = (None if side is None else scaled_length(side, self.scale) for side in image.shape[1:3])
        return keras.KerasTensor((image.shape[0], *sides, image.shape[3]), "float32")


@serializable
class ConcatenationOfRanges(keras.Layer):
    """Concatenates maps [B, H, W, C_i] along the channels, and finds the fake-quantization ranges of its inputs."""

    def call(self, maps):
        return ops.concatenate(maps, axis=-1)

    def scopes(self) -> list[str]:
        """TensorFlow-1 scopes of the ranges of its inputs, in a model; resizes and dropout in between change none."""
        found = []
        for tensor in self.input:
            layer = tensor._keras_history.operation
            while not isinstance(layer, ActivationRange):
                before = layer.input[0] if isinstance(layer.input, (list, tuple)) else layer.input
                layer = before._keras_history.operation
            found.append(layer.scope)
        return found


def concatenated(maps: list, name: str, norm: Norm):
    """Maps [B, H, W, C_i] concatenated along the channels; a single one as it is.

    Args:
      maps: at least one.
      name: of the layer that a model with fake quantization has.
      norm: says whether it has.
    """
    if len(maps) == 1:
        return maps[0]
    return ConcatenationOfRanges(name=name)(maps) if norm.quantized else ops.concatenate(maps, axis=-1)


@serializable
class GlobalMean(keras.Layer):
    """Mean over height and width: [B, H, W, C] -> [B, 1, 1, C]."""

    def call(self, features):
        return ops.mean(features, axis=[1, 2], keepdims=True)


@serializable
class WindowMean(ConfiguredLayer):
    """Means over sliding windows of a fraction of the image: [B, h, w, C] -> [B, h - a + 1, w - b + 1, C].

    Args:
      grid_size: number of windows, along height and width, that the image is divided into.
      output_stride: image size over feature size.
      crop_size: height, width in pixels of the unscaled image that replace the image's own; None = the image's.
    """

    arguments = ("grid_size", "output_stride", "crop_size")

    def __init__(self, grid_size, output_stride: int, crop_size, **kwargs):
        super().__init__(**kwargs)
        self.grid_size, self.output_stride, self.crop_size = grid_size, output_stride, crop_size

    def call(self, features, image):
        height, width = self._window(ops.shape(features), ops.shape(image))
        # Sums over windows as differences of running sums: the window's size may be known only at run time.
        sums = ops.cumsum(ops.cumsum(ops.cast(features, "float32"), axis=1), axis=2)
        sums = ops.pad(sums, ((0, 0), (1, 0), (1, 0), (0, 0)))
        rows = sums[:, height:] - sums[:, : ops.shape(sums)[1] - height]
        windows = rows[:, :, width:] - rows[:, :, : ops.shape(sums)[2] - width]
        return ops.cast(windows / ops.cast(height * width, "float32"), features.dtype)

    def _window(self, features_shape, image_shape) -> list:
        """Height and width of a window: ints, or int32 scalars that are known when the model runs."""
        size = scaled_window(self.crop_size) if self.crop_size else image_shape[1:3]
        return [
            _smaller(strided_length(length, self.output_stride * grid), limit)
            for length, grid, limit in zip(size, self.grid_size, features_shape[1:3], strict=True)
        ]

    def compute_output_spec(self, features, image):
        """Without a trace of `call`: JAX's symbolic sides cannot be compared."""
        batch, *sides, channels = features.shape
        if None not in (*sides, *image.shape[1:3]):
            window = self._window(features.shape, image.shape)
            return keras.KerasTensor(
                (batch, *(side - length + 1 for side, length in zip(sides, window, strict=True)), channels),
                features.dtype,
            )
        return keras.KerasTensor((batch, None, None, channels), features.dtype)


def _smaller(one, other):
    """The smaller of two lengths; of ints an int, which JAX needs for shapes."""
    return min(one, other) if isinstance(one, int) and isinstance(other, int) else ops.minimum(one, other)


@serializable
class Repeated(keras.initializers.Initializer):
    """Initializes the kernel of sub-pixel logits: every sub-pixel begins with the same weights, so that the finer map
    has no checkerboard (ICNR, Aitken et al. 2017, arXiv:1707.02937).

    Args:
      initializer: of one sub-pixel's kernel [kh, kw, in, classes].
      times: number of sub-pixels; output channels are ordered by sub-pixel, then by class.
    """

    def __init__(self, initializer, times: int):
        self.initializer, self.times = keras.initializers.get(initializer), times

    def __call__(self, shape, dtype=None, **kwargs):
        one = self.initializer((*shape[:-1], shape[-1] // self.times), dtype=dtype, **kwargs)
        return ops.concatenate([one] * self.times, axis=-1)

    def get_config(self):
        return {"initializer": keras.initializers.serialize(self.initializer), "times": self.times}


@serializable
class SubpixelLogits(ConfiguredLayer):
    """Logits that are `factor` times finer than the features: a convolution whose channels become pixels.

    Sub-pixel convolution (Shi et al. 2016, arXiv:1609.05158). The corners of both maps coincide, as everywhere in this
    model: sub-pixel k of a feature is k / factor features to the right of its center; sub-pixels beyond the last pixel
    of the image are cut off. Variables: `weights` [kh, kw, in, factor^2 * classes], `biases` [classes].

    Inputs: features [B, h, w, C] of a stride and the image [B, H, W, *].
    Output: [B, (H-1)//s+1, (W-1)//s+1, classes], s = stride / factor.
    """

    arguments = ("classes", "kernel_size", "factor", "stride", "initializer")

    def __init__(self, classes: int, kernel_size: int, factor: int, stride: int, *, initializer, **kwargs):
        super().__init__(**kwargs)
        self.classes, self.kernel_size, self.factor, self.stride = classes, kernel_size, factor, stride
        self.initializer = keras.initializers.get(initializer)

    def build(self, features_shape, image_shape=None):
        parts = self.factor**2
        shape = (self.kernel_size, self.kernel_size, features_shape[-1], parts * self.classes)
        self.kernel = self.add_weight(name="weights", shape=shape, initializer=Repeated(self.initializer, parts))
        self.bias = self.add_weight(name="biases", shape=(self.classes,), initializer="zeros")

    def call(self, features, image):
        channels = ops.conv(features, self.kernel, padding="same", data_format="channels_last")
        fine = ops.depth_to_space(channels, self.factor, data_format="channels_last")
        height, width = (strided_length(side, self.stride // self.factor) for side in ops.shape(image)[1:3])
        return kernels.add_bias(fine[:, :height, :width], self.bias)


@serializable
class NormalizeInput(ConfiguredLayer):
    """Brings pixel values 0..255 to the range a backbone was trained on: [B, H, W, C] -> same shape.

    Args:
      subtract_imagenet_mean: subtract the ImageNet mean from the first three channels, nothing from others;
        otherwise scale to -1..1.

    Attributes:
      rounds: round to 8 bits after each operation of the scaling to -1..1, as an exported integer model does.
    """

    arguments = ("subtract_imagenet_mean",)

    def __init__(self, subtract_imagenet_mean: bool, **kwargs):
        super().__init__(**kwargs)
        self.subtract_imagenet_mean, self.rounds = subtract_imagenet_mean, False

    def call(self, image):
        if self.rounds:
            pixels = kernels.fake_quantize(image, 0.0, 255.0)
            scaled = kernels.fake_quantize(pixels * (2.0 / 255.0), 0.0, 2.0)
            return kernels.fake_quantize(scaled - 1.0, -128.0 / 127.5, 127.0 / 127.5)  # 0 must be one of the values
        if not self.subtract_imagenet_mean:
            return image * (2.0 / 255.0) - 1.0
        mean = (*IMAGENET_MEAN, *([0.0] * image.shape[-1]))[: image.shape[-1]]
        return image - ops.convert_to_tensor(mean, dtype=image.dtype)


def input_normalization(model: keras.Model) -> NormalizeInput:
    """The layer of a model that normalizes the image; a backbone of another project has none."""
    return next(layer for layer in model._flatten_layers() if isinstance(layer, NormalizeInput))


@serializable
class Standardize(ConfiguredLayer):
    """Gives every channel the mean and standard deviation that backbones expect of RGB images; the shape stays.

    (x - mean) / std * 57.4 + center: 57.4 is the mean standard deviation of the channels of ImageNet's images.

    Args:
      mean, std: of each channel of the training images, on the scale 0..255.
      center: of each channel: the value that the normalization after this layer turns into 0.
    """

    arguments = ("mean", "std", "center")

    def __init__(self, mean, std, center, **kwargs):
        super().__init__(**kwargs)
        self.mean, self.std, self.center = list(mean), list(std), list(center)

    def call(self, image):
        gain = [IMAGENET_STD / std for std in self.std]
        offset = [one - mean * by for one, mean, by in zip(self.center, self.mean, gain, strict=True)]
        gains, offsets = (ops.convert_to_tensor(values, dtype=image.dtype) for values in (gain, offset))
        return image * gains + offsets
