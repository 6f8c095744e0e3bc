"""Sampling of an image and its label at given points by OpenCV, straight into the padded crop.

OpenCV 5 computes bilinear values in float32, equal to `transforms.sample_bilinear` but for the rounding of the last
bit (less than 1e-4 of 255); a whole pipeline then takes less than two thirds of the processor time. OpenCV 4 rounds
points to 1/32 pixel. `is_exact` measures which of them is installed. Augmentations call this module inside
`tf.numpy_function`; it draws nothing at random.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np

TOLERANCE = 1e-4  # of values 0..255, between two ways to round the same float32 arithmetic
_ALIGNMENT = 64  # bytes: TensorFlow takes such an array over without a copy
_MAX_FREE = 4  # arrays of one size that are kept for reuse; the next batch takes the memory of one that was used up
_STRIP = 128  # rows


Target = tuple[np.ndarray, np.ndarray]
"""An image and its label that are computed in place: float32 [H, W, C] and [H, W] of any type of whole numbers."""


@contextlib.contextmanager
def one_thread_per_image() -> Iterator[None]:
    """Keeps OpenCV, in this process, from spreading each image over several threads while the block runs.

    Batches are computed on all cores, an image on each; further threads only wait for each other, and cost a seventh of
    the processor time.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


@functools.cache
def is_exact() -> bool:
    """Whether the installed OpenCV samples float32 images at float32 points, not at rounded ones."""
    draw = np.random.default_rng(0)
    rows, columns = np.linspace(0, 8, 21, dtype=np.float32), np.linspace(12, 0, 37, dtype=np.float32)
    for channels in (1, 3, 4):
        image = draw.uniform(0, 255, (9, 13, channels)).astype(np.float32)
        lines = [[np.interp(columns, np.arange(13), line) for line in image[..., index]] for index in range(channels)]
        values = [[np.interp(rows, np.arange(9), line) for line in np.transpose(of_channel)] for of_channel in lines]
        found = np.empty((21, 37, channels), np.float32)
        _at_points(_sampled_from(image), rows, columns, found)
        if np.abs(found - np.transpose(values, (2, 1, 0))).max() > TOLERANCE:
            return False
    return True


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array that TensorFlow takes over without a copy; its memory is used again when nothing refers to it.

    Fresh memory costs as much as filling it, because the system gives it out page by page.
    """
    lease = _Lease(math.prod(shape) * np.dtype(dtype).itemsize)
    return np.asarray(lease).view(dtype).reshape(shape)


class _Lease:
    """Memory of a pool, for as long as an array refers to this object."""

    _free: ClassVar[dict[int, list[np.ndarray]]] = {}

    def __init__(self, size: int):
        try:
            self._memory = self._free.setdefault(size, []).pop()
        except IndexError:
            self._memory = np.empty(size + _ALIGNMENT, np.uint8)
        start = -self._memory.ctypes.data % _ALIGNMENT
        self.__array_interface__ = self._memory[start : start + size].__array_interface__

    def __del__(self) -> None:
        free = self._free[len(self._memory) - _ALIGNMENT]
        if len(free) < _MAX_FREE:
            free.append(self._memory)


class _Scratch(threading.local):
    """Arrays that one thread needs again for each image."""

    def __init__(self) -> None:
        self._memory: dict[str, np.ndarray] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array with any content; the next one of this name is in the same memory."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if len(self._memory.get(name, ())) < size:
            self._memory[name] = np.empty(size + size // 4, np.uint8)
        return self._memory[name][:size].view(dtype).reshape(shape)


_scratch = _Scratch()


def at_points(
    image: np.ndarray,
    label: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    size: Sequence[int],
    color: Sequence[float],
    ignore_label: int,
    at_left: bool,
    target: Target | None = None,
) -> Target:
    """Image and label at all combinations of row and column points, padded: the crop of the plain augmentation.

    Args:
      image: [h, w, C] of any real dtype.
      label: [h, w], of whole numbers of 8 or 16 bits.
      rows, columns: float32, points within image and label, not more than the crop has.
      size: height and width of the crop.
      color: what pads the image at the bottom and at the side, one number per channel.
      ignore_label: what pads the label.
      at_left: whether the padding is at the left instead of the right.
      target: arrays that receive the crop, [height, width, C] float32 and [height, width]; None = new ones.

    Returns:
      The target: float32 [height, width, C], and [height, width], new ones of the label's dtype.
    """
    height, width, channels = *size, image.shape[2]
    crop, labels = target or (empty((height, width, channels), np.float32), empty((height, width), label.dtype))
    below, beside = len(rows), width - len(columns)
    left = beside if at_left else 0
    inside = slice(left, left + len(columns))
    if beside or below < height:
        row = np.tile(np.array(color, np.float32), (width, 1))  # whole rows are copied much faster than single pixels
        crop[below:] = row
        crop[:below, :left] = row[:left]
        crop[:below, inside.stop :] = row[inside.stop :]
        labels.fill(ignore_label)
    down, across = _pixels(rows), _pixels(columns[::-1] if at_left else columns)
    if down and across:
        part = _floats(image)[down, across]
        crop[:below, inside] = cv2.flip(part, 1).reshape(part.shape) if at_left else part
    else:
        _at_points(_sampled_from(image), rows, columns, crop[:below, inside])
    # Rows are copied ten times as fast as columns, so columns are copied as the rows of the transposed label.
    turned = cv2.transpose(label, _scratch.take("turned", label.shape[::-1], label.dtype))
    wide = _scratch.take("wide", (len(columns), len(label)), label.dtype)
    np.take(turned, _nearest(columns), 0, out=wide, mode="clip")
    upright = cv2.transpose(wide, _scratch.take("upright", wide.shape[::-1], label.dtype))
    labels[:below, inside] = np.take(upright, _nearest(rows), 0)
    return crop, labels


def _floats(image: np.ndarray) -> np.ndarray:
    """float32 of an image in one piece, until the thread's next image."""
    if image.dtype == np.float32:
        return np.ascontiguousarray(image)
    floats = _scratch.take("image", image.shape, np.float32)
    np.copyto(floats, image)
    return floats


def _sampled_from(image: np.ndarray) -> np.ndarray:
    """What `remap` is to be given for an image: float32, with a fourth channel if it has three."""
    if image.shape[2] != 3:
        return _floats(image)
    if image.dtype != np.uint8:
        image = _floats(image)
    four = _scratch.take(f"four {image.dtype}", (*image.shape[:2], 4), image.dtype.type)
    return _floats(cv2.cvtColor(image, cv2.COLOR_RGB2RGBA, four))


def _pixels(points: np.ndarray) -> slice | None:
    """The pixels that float32 points are, if these are whole numbers, each by one more than the one before."""
    first = int(points[0])
    is_run = np.array_equal(points, np.arange(first, first + len(points), dtype=np.float32))
    return slice(first, first + len(points)) if is_run else None


def _nearest(points: np.ndarray) -> np.ndarray:
    """int64 of float32 points >= 0; halves are rounded up, as `transforms.sample_nearest` does."""
    low = np.floor(points)
    return low.astype(np.int64) + (points - low >= 0.5)


def _at_points(image: np.ndarray, rows: np.ndarray, columns: np.ndarray, into: np.ndarray) -> None:
    shape = (min(_STRIP, len(rows)), len(columns))
    across, down = _scratch.take("across", shape, np.float32), _scratch.take("down", shape, np.float32)
    across[:] = columns
    for strip in _strips(len(rows)):
        points = rows[strip, np.newaxis]
        down[: len(points)] = points
        remap(image, across[: len(points)], down[: len(points)], into[strip])


def _strips(height: int) -> Iterator[slice]:
    """Rows that are sampled at once: few enough that their points and colors stay in the processor's cache."""
    for first in range(0, height, _STRIP):
        yield slice(first, min(first + _STRIP, height))


@dataclass(frozen=True)
class Motion:
    """Where the pixels of a crop come from.

    Attributes:
      matrix: float64 [3, 3], from (x, y, 1) of a pixel of the crop to its place in the image, up to a factor.
      shifts: float32 [H, W, 2], added to x and y before; None = none.
    """

    matrix: np.ndarray
    shifts: np.ndarray | None = None

    def points(self, rows: slice, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Column and row of the place of each pixel in some rows of a crop, float32 [H, W] each."""
        across = np.arange(width, dtype=np.float64)
        down = np.arange(rows.start, rows.stop, dtype=np.float64)[:, np.newaxis]
        if self.shifts is not None:
            across, down = across + self.shifts[rows, :, 0], down + self.shifts[rows, :, 1]
        x, y, factor = (self._sum(coefficients, across, down) for coefficients in self.matrix)
        return (x, y) if np.array_equal(self.matrix[2], (0.0, 0.0, 1.0)) else (x / factor, y / factor)

    @staticmethod
    def _sum(row: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
        return np.add((row[0] * across).astype(np.float32), (row[1] * down + row[2]).astype(np.float32))

    def reach(self, size: tuple[int, int]) -> np.ndarray:
        """Smallest and largest column and row that the crop shows, float64 [[left, top], [right, bottom]]."""
        margin = 0.0 if self.shifts is None else float(np.abs(self.shifts).max())
        left, right, top, bottom = -margin, size[1] - 1 + margin, -margin, size[0] - 1 + margin
        corners = np.array([[left, top, 1.0], [right, top, 1.0], [left, bottom, 1.0], [right, bottom, 1.0]])
        places = corners @ self.matrix.T
        places = places[:, :2] / places[:, 2:]
        return np.array([places.min(0), places.max(0)])


def moved(
    image: np.ndarray,
    label: np.ndarray,
    motion: Motion,
    size: tuple[int, int],
    color: Sequence[float],
    ignore_label: int,
    target: Target | None = None,
) -> Target:
    """Image (bilinear) and label (nearest pixel) after a motion; padded where it leads out of them.

    Args:
      image: [h, w, C] of any real dtype.
      label: [h, w], of whole numbers of 8 or 16 bits.
      motion: from the crop to the image.
      size: height and width of the crop.
      color: what pads the image, one number per channel.
      ignore_label: what pads the label.
      target: arrays that receive the crop, as in `at_points`.

    Returns:
      The target: float32 [height, width, C], and [height, width], new ones of the label's dtype.
    """
    crop, labels = target or (empty((*size, image.shape[2]), np.float32), empty(tuple(size), label.dtype))
    image, label = _sampled_from(image), np.ascontiguousarray(label)[..., np.newaxis]
    for rows in _strips(size[0]):
        across, down = motion.points(rows, size[1])
        remap(image, across, down, crop[rows], color)
        found = labels[rows, :, np.newaxis]
        if labels.dtype != label.dtype:
            found = _scratch.take("moved", found.shape, label.dtype)
        remap(label, across, down, found, (ignore_label,), nearest=True)
        if labels.dtype != label.dtype:
            np.copyto(labels[rows], found[..., 0])
    return crop, labels


def remap(
    image: np.ndarray,
    across: np.ndarray,
    down: np.ndarray,
    into: np.ndarray,
    outside: Sequence[float] | None = None,
    nearest: bool = False,
) -> None:
    """Values of an image at any points.

    Args:
      image: [h, w, C], float32, or of whole numbers of 8 or 16 bits with `nearest`; an image of three channels may
        have a fourth, which makes bilinear sampling twice as fast and is left out of the result.
      across, down: float32 [H, W], column and row of each point.
      into: [H, W, C], receives the values; its dtype is the image's.
      outside: color of points outside the image, C numbers; None = that of the nearest pixel.
      nearest: take the nearest pixel (off: bilinear).
    """
    kind = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    border = cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT
    channels = into.shape[2]
    color = [0.0] * channels if outside is None else [float(value) for value in outside]
    if image.shape[2] > channels:
        _remap_colors(image, across, down, into, kind, border, color)
        return
    for part in _groups(channels):
        alone = part == slice(0, channels)
        values = image if alone else np.ascontiguousarray(image[..., part])
        target = into if alone else np.empty((*into.shape[:2], part.stop - part.start), into.dtype)
        found = cv2.remap(values, across, down, kind, target, border, color[part])
        if found is not into:
            into[..., part] = found.reshape(target.shape)


def _remap_colors(image, across, down, into, kind: int, border: int, color: list[float]) -> None:
    """`remap` of [h, w, 4] into [H, W, 3]: OpenCV has a fast kernel for four channels, and none for three."""
    for rows in _strips(len(into)):
        strip = _scratch.take("found", (rows.stop - rows.start, into.shape[1], 4), np.float32)
        cv2.remap(image, across[rows], down[rows], kind, strip, border, [*color, 0.0])
        cv2.cvtColor(strip, cv2.COLOR_RGBA2RGB, into[rows])


def _groups(channels: int) -> Iterator[slice]:
    """Channels in parts of 1, 3 or 4, which OpenCV samples exactly; it has one border value for each of 4."""
    first = 0
    while first < channels:
        size = {2: 1, 3: 3, 6: 3, 1: 1}.get(channels - first, 4)
        yield slice(first, first + size)
        first += size
