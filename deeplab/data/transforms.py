"""Sizes, resizing, padding and the arithmetic of crops: one definition for training, evaluation and exports.

Everything is equal to the research DeepLab's numbers (TensorFlow 1.15). All resizes align corners: the first and
the last pixel of the source stay the first and the last pixel of the result. A *point* is a coordinate in source
pixels, 0 at the center of the first pixel; a crop out of a resized image is a list of row points and a list of
column points, so that only the crop is ever computed.

Functions that take tensors work eagerly, inside `tf.function` and inside a tf.data pipeline, with known or unknown
shapes; the arithmetic of crops takes NumPy arrays. `resize_to_range`, `resize_bilinear`, `resize_nearest` and `pad_to`
consist of operations that TensorFlow 1.15 has as well, so graphs that hold them load there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab.config.data_config import ResizeConfig
from deeplab.data.bands import ImageBands
from slim import kernels

Tensor = Any  # tf.Tensor, or whatever TensorFlow turns into one: NumPy arrays, numbers


# --- Values -----------------------------------------------------------------------------------------------


def scale_values(image: Tensor, bands: ImageBands) -> Tensor:
    """Raw values of an image as float32, 0..255: `ImageBands.scaled` as a graph.

    Args:
      image: [H, W, C] or [B, H, W, C], raw values of any real dtype.
      bands: how they are scaled.
    """
    values = tf.cast(image, tf.float32)
    if not bands.low:
        return values
    low, high = np.array(bands.low, np.float32), np.array(bands.high, np.float32)
    scaled = tf.clip_by_value((values - low) * (np.float32(255) / (high - low)), 0.0, 255.0)
    if bands.dtype != "float32":  # whole numbers are never NaN, which not every export format can ask
        return scaled
    return tf.where(tf.math.is_nan(values), tf.zeros_like(scaled), scaled)


# --- Sizes --------------------------------------------------------------------------------------------------


def scale_grid(min_scale: float, max_scale: float, step: float) -> np.ndarray:
    """Scales among which augmentation chooses: float32 [n], both ends included; empty = any scale between them.

    A step that does not divide the range is widened until it does: 0.5..2.0 by 0.4 gives 0.5, 1.0, 1.5, 2.0.
    """
    if min_scale == max_scale:
        return np.array([min_scale], np.float32)
    if step == 0:
        return np.zeros([0], np.float32)
    return np.linspace(min_scale, max_scale, int((max_scale - min_scale) / step + 1), dtype=np.float32)


def scaled_size(size: np.ndarray, scale: np.float32) -> np.ndarray:
    """Height and width of a scaled image: int32 [2] times float32, cut to whole pixels, at least 1."""
    return np.maximum((size.astype(np.float32) * np.float32(scale)).astype(np.int32), 1)


def resized_size(size: Tensor, resize: ResizeConfig) -> Tensor:
    """Height and width that `resize_to_range` gives an image.

    The shorter side becomes `min_resize_value`, unless the longer one would then exceed `max_resize_value`: in that
    case the longer side becomes that. With a `resize_factor`, the upper limit is lowered and the result raised to
    multiples of it, plus one. All in float32, as in the reference, because the rounding decides about whole pixels.

    Args:
      size: int32 [2], height and width in pixels.
      resize: `min_resize_value` must be set.

    Returns:
      int32 [2].
    """
    lengths = tf.cast(size, tf.float32)
    factor, limit = resize.resize_factor, resize.max_resize_value
    target = _times(lengths, float(resize.min_resize_value or 0) / tf.reduce_min(lengths))
    if limit:
        limit -= (limit - 1) % factor if factor else 0
        bounded = _times(lengths, float(limit) / tf.reduce_max(lengths))
        too_long = tf.cast(tf.reduce_max(target) > limit, tf.int32)
        target = too_long * bounded + (1 - too_long) * target
    if factor:
        target += tf.math.floormod(factor - tf.math.floormod(target - 1, factor), factor)
    return target


def _times(lengths: Tensor, scale: Tensor) -> Tensor:
    return tf.cast(tf.floor(lengths * scale), tf.int32)


# --- Whole images -------------------------------------------------------------------------------------------


def resize_bilinear(image: Tensor, size: Tensor) -> Tensor:
    """Bilinear resize with aligned corners.

    Args:
      image: [H, W, C] of any real dtype and range.
      size: int32 [2], the new height and width.

    Returns:
      float32 [height, width, C] of the same range, not rounded.
    """
    # A float image makes this op twice as fast as a uint8 one, and changes no number.
    images = tf.cast(image, tf.float32)[tf.newaxis]
    return kernels.resize_bilinear(images, size[0], size[1])[0]


def resize_nearest(label: Tensor, size: Tensor) -> Tensor:
    """Nearest-neighbor resize with aligned corners; halves are rounded away from zero.

    Args:
      label: [H, W], int32, uint8 or uint16.
      size: int32 [2], the new height and width.

    Returns:
      [height, width] of the same dtype.
    """
    labels = tf.convert_to_tensor(label)[tf.newaxis, :, :, tf.newaxis]
    return kernels.resize_nearest(labels, size[0], size[1])[0, :, :, 0]


def resize_to_range(image: Tensor, resize: ResizeConfig) -> Tensor:
    """Resize an image into a range of sizes; without such a range, return it unchanged.

    Args:
      image: [H, W, C], 0..255.
      resize: the range of sides; see `resized_size`.

    Returns:
      float32 [h, w, C], 0..255; the image itself, dtype unchanged, if `min_resize_value` is unset.
    """
    if resize.min_resize_value is None:
        return image
    return resize_bilinear(image, resized_size(tf.shape(image)[:2], resize))


def resize_label_to_range(label: Tensor, resize: ResizeConfig) -> Tensor:
    """`resize_to_range` for labels [H, W], int32, uint8 or uint16: nearest neighbor, dtype kept."""
    if resize.min_resize_value is None:
        return label
    return resize_nearest(label, resized_size(tf.shape(label)[:2], resize))


def pad_to(
    image: Tensor, height: Tensor, width: Tensor, value: float | Sequence[float], at_left: Tensor = False
) -> Tensor:
    """Pad an image or a label at the bottom and at the right.

    Args:
      image: [H, W, C] or [H, W], of any dtype; H and W must not exceed the wanted size.
      height, width: wanted size in pixels.
      value: what to pad with: one number, or one for each of the C channels of a float image.
      at_left: bool scalar; whether columns are added at the left instead: the padding of a mirrored image.

    Returns:
      [height, width, C] or [height, width], dtype kept.
    """
    image = tf.convert_to_tensor(image)
    bottom, side = height - tf.shape(image)[0], width - tf.shape(image)[1]
    left = side * tf.cast(at_left, tf.int32)
    values = np.ravel(value)
    if len(set(values.tolist())) == 1:
        margins = [[0, bottom], [left, side - left]] + [[0, 0]] * (image.shape.rank - 2)
        return tf.pad(image, margins, constant_values=tf.cast(values[0], image.dtype))
    pixel = tf.constant(values, image.dtype)

    def block(rows: Tensor, columns: Tensor) -> Tensor:
        return tf.broadcast_to(pixel, [rows, columns, len(values)])

    # tf.pad knows one number only. Shifting the image before and after, as the reference does, takes longer.
    image = tf.concat([block(height - bottom, left), image, block(height - bottom, side - left)], axis=1)
    return tf.concat([image, block(bottom, width)], axis=0)


# --- Crops of resized images --------------------------------------------------------------------------------


def crop_points(start: int, count: int, source: int, resized: int, mirrored: bool = False) -> np.ndarray:
    """Positions of a crop's pixels in the image before resizing, along one side.

    A side of `source` pixels is resized to `resized` pixels, of which the crop shows start .. start + count - 1.

    Args:
      start, count: first pixel and number of pixels of the crop, in resized pixels.
      source, resized: length of the side before and after resizing.
      mirrored: whether the crop is in reverse order.

    Returns:
      float32 [count] in source pixels, 0 .. source - 1; rounded exactly as TensorFlow's resize kernels round.
    """
    pixels = np.arange(start, start + count, dtype=np.float32)
    spacing = np.float32(source - 1) / np.float32(max(resized - 1, 1))
    return (pixels[::-1] if mirrored else pixels) * spacing


def covered(points: np.ndarray, source: int) -> tuple[int, int]:
    """First source pixel that bilinear sampling at `points` needs, and the number of pixels.

    Args:
      points: float32 [n], monotonic in either direction, in source pixels.
      source: length of the side.
    """
    first, last = sorted((int(points[0]), int(points[-1])))
    return first, min(last + 1, source - 1) - first + 1


def sample_bilinear(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Bilinear values of an image at all combinations of row and column points.

    With the points of a crop it equals the crop out of `resize_bilinear`'s result, bit for bit.

    Args:
      image: [H, W, C] of any real dtype and range.
      rows, columns: float32 [h] and [w], points within the image.

    Returns:
      float32 [h, w, C].
    """
    # Gathering whole rows copies memory in long runs; gathering columns takes ten times as long. So columns are
    # gathered as the rows of the transposed image. Columns go first because the reference's kernel rounds that way.
    shape = tf.shape(image)
    turned = tf.transpose(tf.cast(image, tf.float32), [1, 0, 2])
    turned = _mix_rows(tf.reshape(turned, [shape[1], -1]), columns)
    turned = tf.reshape(turned, [tf.size(columns), shape[0], shape[2]])
    upright = tf.reshape(tf.transpose(turned, [1, 0, 2]), [shape[0], -1])
    return tf.reshape(_mix_rows(upright, rows), [tf.size(rows), tf.size(columns), shape[2]])


def _mix_rows(matrix: Tensor, points: Tensor) -> Tensor:
    """Rows of a float32 matrix [n, m] at fractional positions [k]: [k, m]."""
    lower = tf.cast(tf.floor(points), tf.int32)
    upper = tf.minimum(lower + 1, tf.shape(matrix)[0] - 1)
    weight = (points - tf.cast(lower, tf.float32))[:, tf.newaxis]
    below = tf.gather(matrix, lower)
    return below + (tf.gather(matrix, upper) - below) * weight


def sample_nearest(label: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Label values at the pixels nearest to all combinations of row and column points.

    Args:
      label: [H, W] of any dtype.
      rows, columns: float32 [h] and [w], points within the label; halves are rounded up.

    Returns:
      [h, w], dtype kept.
    """
    turned = tf.gather(tf.transpose(label), _round_half_up(columns))
    return tf.gather(tf.transpose(turned), _round_half_up(rows))


def _round_half_up(points: Tensor) -> Tensor:
    """int32 of float32 points >= 0. Adding a half first would round 0.49999997 to 1; tf.round takes 2.5 to 2."""
    lower = tf.floor(points)
    return tf.cast(lower + tf.cast(points - lower >= 0.5, tf.float32), tf.int32)
