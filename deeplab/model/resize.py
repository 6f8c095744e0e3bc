"""Sizes of images and maps whose corners coincide: every rounding to k * stride + 1, in one place.

With aligned corners, a side of `length` pixels has `length - 1` gaps, and scaling a side scales its gaps. Images whose
sides are k * stride + 1 pixels keep their corners at every stride of the model. The resizes themselves are in
`slim/kernels.py`. This module imports neither Keras nor TensorFlow, so that checking data stays fast.
"""

from __future__ import annotations

from typing import Any

from deeplab.config.model_config import ModelConfig


def size_stride(config: ModelConfig) -> int:
    """The `stride` for the functions below: 1 for a model that does not align corners, as any size fits it."""
    return config.output_stride if config.align_corners else 1


def fitting_length(length: Any, stride: int) -> Any:
    """The shortest side k * stride + 1 that holds `length` pixels: 514 at stride 16 gives 529, and 1 gives 1.

    Args:
      length: at least 1: an int, an integer array or an integer tensor.
      stride: usually the output stride.
    """
    return -(-(length - 1) // stride) * stride + 1


def fitting_size(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """`fitting_length` of height and width."""
    return fitting_length(size[0], stride), fitting_length(size[1], stride)


def strided_length(length: Any, stride: int) -> Any:
    """Length of a map of a stride over an image of `length` pixels: 513 at stride 16 gives 33.

    Equal to the reference's int((length - 1) / stride + 1). Ints, integer arrays and integer tensors.
    """
    return (length - 1) // stride + 1


def scaled_length(length: Any, scale: float) -> Any:
    """int((length - 1) * scale + 1): 513 at scale 0.5 gives 257.

    Args:
      length: an int, or an int32 scalar tensor, with which the arithmetic is in float32.
      scale: above 0.
    """
    if isinstance(length, int):
        return int((length - 1) * scale + 1.0)
    from keras import ops

    return ops.cast(ops.cast(length - 1, "float32") * scale + 1.0, "int32")
