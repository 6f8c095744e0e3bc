"""Keras layers whose result depends on a size known only when the network runs."""

from __future__ import annotations

import keras
from keras import ops

from deeplab.model.resize import scaled_length, strided_length
from slim import IMAGENET_MEAN, kernels


class ResizeToStride(keras.Layer):
    """Bilinear resize of a map to the size of a given stride over an image.

    Inputs: features [B, h, w, C] and the image [B, H, W, *] whose size counts.
    Output: [B, (H-1)//stride+1, (W-1)//stride+1, C], float32.
    """

    def __init__(self, stride: int, **kwargs):
        super().__init__(**kwargs)
        self.stride = stride

    def call(self, features, image):
        height, width = (strided_length(side, self.stride) for side in ops.shape(image)[1:3])
        return kernels.resize_bilinear(features, height, width)


class ResizeLike(keras.Layer):
    """Bilinear resize of features [B, h, w, C] to the height and width of another map [B, H, W, *]."""

    def call(self, features, like):
        height, width = ops.shape(like)[1:3]
        return kernels.resize_bilinear(features, height, width)


class Rescale(keras.Layer):
    """Bilinear resize of an image [B, H, W, C] by a factor: int((H - 1) * scale + 1) rows."""

    def __init__(self, scale: float, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, image):
        height, width = ops.shape(image)[1:3]
        return kernels.resize_bilinear(image, scaled_length(height, self.scale), scaled_length(width, self.scale))


class GlobalMean(keras.Layer):
    """Mean over height and width: [B, H, W, C] -> [B, 1, 1, C]."""

    def call(self, features):
        return ops.mean(features, axis=[1, 2], keepdims=True)


class NormalizeInput(keras.Layer):
    """Brings pixel values 0..255 to the range a backbone was trained on: [B, H, W, C] -> same shape.

    Args:
      subtract_imagenet_mean: subtract the ImageNet mean from the first three channels, nothing from others;
        otherwise scale to -1..1.
    """

    def __init__(self, subtract_imagenet_mean: bool, **kwargs):
        super().__init__(**kwargs)
        self.subtract_imagenet_mean = subtract_imagenet_mean

    def call(self, image):
        if not self.subtract_imagenet_mean:
            return image * (2.0 / 255.0) - 1.0
        mean = (*IMAGENET_MEAN, *([0.0] * image.shape[-1]))[: image.shape[-1]]
        return image - ops.convert_to_tensor(mean, dtype=image.dtype)
