"""Fits the first convolution of a network for RGB images to images of another number of channels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from deeplab.checkpoint.names import HEAD_SCOPES, in_scopes, is_bookkeeping

RGB = 3
Shape = tuple[int, ...]


def first_kernel(model: Mapping[str, Shape], checkpoint: Mapping[str, Shape]) -> str | None:
    """The kernel that reads the image, if it can be adapted.

    That is the only backbone kernel [h, w, in, out] that has 3 input channels in the checkpoint and another number in
    the model, all else being equal.

    Args:
      model, checkpoint: variable names and shapes.
    """
    found = [name for name in model if name in checkpoint and _differs_in_channels(model[name], checkpoint[name])]
    found = [name for name in found if not is_bookkeeping(name) and not in_scopes(name, HEAD_SCOPES)]
    return found[0] if len(found) == 1 else None


def _differs_in_channels(model: Shape, checkpoint: Shape) -> bool:
    if len(model) != 4 or len(checkpoint) != 4 or checkpoint[2] != RGB or model[2] == RGB:
        return False
    return (*model[:2], model[3]) == (*checkpoint[:2], checkpoint[3])


def to_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A kernel for RGB images as one for images of `channels` channels.

    Equal channels get exactly the answer that a gray RGB image got. Up to two channels share the sum over R, G and B;
    from four on, the first three keep the weights of R, G and B, the others get their mean, and all are scaled by
    3 / channels. (timm's `adapt_input_conv` repeats R, G, B instead, which keeps that answer on average only.)

    Args:
      kernel: [h, w, 3, out].
      channels: wanted number of input channels, not 3.

    Returns:
      [h, w, channels, out], in the kernel's dtype.
    """
    mean = kernel.mean(axis=2, keepdims=True)
    extra = np.repeat(mean, max(0, channels - RGB), axis=2)
    spread = np.concatenate([kernel, extra], axis=2) if channels > RGB else np.repeat(mean, channels, axis=2)
    return (spread * (RGB / channels)).astype(kernel.dtype)
