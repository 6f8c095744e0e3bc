"""Base classes of the built-in operations: one constructor, and random numbers by seed, position and name.

An operation computes with NumPy and OpenCV on one decoded image; `composition` calls several of them at once. Called
by itself, with tensors, it keeps the contract of `deeplab.data.augmentation`. It never reads a record.
"""

from __future__ import annotations

import abc
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
import tensorflow as tf

from deeplab.data import remapping

Tensor = Any
_MID_GRAY = (127.5, 127.5, 127.5)


@dataclass(frozen=True)
class ImageOperation(abc.ABC):
    """A random change of an image, or of image and label.

    Attributes:
      amount: how much, in the unit of the operation's flag; for some operations the probability.
      probability: fraction of the images that are changed, 0 to 1; not read where the amount is the probability.
      padding_color: what fills places without an image, 0..255, one number per channel.
      ignore_label: label of such places.
      name, geometric: of the class; whether pixels move or are covered, which changes the label as well.
      amount_is_probability: of the class.
      rgb_only: of the class; whether the image must have three channels, red, green and blue.
    """

    amount: float
    probability: float = 1.0
    padding_color: Sequence[float] = _MID_GRAY
    ignore_label: int = 255

    name: ClassVar[str] = ""
    geometric: ClassVar[bool] = False
    amount_is_probability: ClassVar[bool] = False
    rgb_only: ClassVar[bool] = False

    def generator(self, seed: int, position: int) -> np.random.Generator | None:
        """Random numbers for the image at a position of the stream; None where the operation leaves it unchanged."""
        draw = random_numbers(self.name, seed, position)
        acts = draw.random() < (self.amount if self.amount_is_probability else self.probability)
        return draw if acts else None

    @abc.abstractmethod
    def changed(self, image: np.ndarray, label: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Image and label after the operation; the given arrays stay as they are.

        Args:
          image: float32 [H, W, C], 0..255.
          label: uint8 or uint16 [H, W].
          draw: from `generator`.
        """

    def __call__(self, image: Tensor, label: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        """The contract of `Augmentation`."""

        def run(image: np.ndarray, label: np.ndarray, seed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            draw = self.generator(*seed.tolist())
            return (image, label) if draw is None else self.changed(image, label, draw)

        image, label = tf.convert_to_tensor(image), tf.convert_to_tensor(label)
        outputs = [(tf.float32, image.shape), (label.dtype, label.shape)]
        image, label = numpy_function(run, [image, label, seed], outputs)
        return image, label


class Photometric(ImageOperation):
    """An operation that changes colors alone."""

    @abc.abstractmethod
    def recolored(self, image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """The image, uint8 or float32 [H, W, C], 0..255, with other colors; float32 or uint8, 0..255."""

    def changed(self, image: np.ndarray, label: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return self.recolored(image, draw).astype(np.float32, copy=False), label


class ColorMatrix(Photometric):
    """A linear change of colors; several in a row are applied as one, because their product is one as well."""

    @abc.abstractmethod
    def matrix(self, draw: np.random.Generator, channels: int) -> np.ndarray:
        """float64 [C, C + 1]: the new channels as sums of the old ones and a constant."""

    def recolored(self, image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        return transformed(image, self.matrix(draw, image.shape[2]))


class Warp(ImageOperation):
    """An operation that moves pixels; several are applied by one sampling of the image."""

    geometric = True

    @abc.abstractmethod
    def matrix(self, draw: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        """float64 [3, 3]: (x, y, 1) of a pixel of the result -> where in the crop it comes from, up to a factor."""

    def changed(self, image: np.ndarray, label: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        moved = remapping.Motion(self.matrix(draw, label.shape))
        return remapping.moved(image, label, moved, label.shape, self.padding_color, self.ignore_label)


class Cover(ImageOperation):
    """An operation that covers places with the padding color and ignores them."""

    geometric = True

    @abc.abstractmethod
    def covered(self, draw: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        """bool [H, W]: the pixels to cover."""

    def changed(self, image: np.ndarray, label: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        where = self.covered(draw, label.shape)
        color = np.array(self.padding_color, np.float32)
        return np.where(where[..., np.newaxis], color, image), np.where(
            where, label.dtype.type(self.ignore_label), label
        )


def random_numbers(name: str, seed: int, position: int) -> np.random.Generator:
    """The random numbers of an operation for the image at a position; no two operations have the same."""
    key = np.array([seed, position], np.int64).view(np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, zlib.crc32(name.encode())]))


def numpy_function(
    function: Callable[..., Any], inputs: Sequence[Tensor], outputs: Sequence[tuple[Any, Any]]
) -> list[Tensor]:
    """`tf.numpy_function` whose outputs have shapes.

    Args:
      function: of arrays, which it must not change, to a tuple of arrays.
      inputs: its arguments.
      outputs: dtype and shape of each result.
    """
    results = tf.numpy_function(function, inputs, [kind for kind, _ in outputs], stateful=False)
    return [tf.ensure_shape(result, shape) for result, (_, shape) in zip(results, outputs, strict=True)]


# --- Colors -------------------------------------------------------------------------------------------------

LUMA = np.array([0.299, 0.587, 0.114])  # how bright red, green and blue are (ITU-R BT.601)


def centered(draw: np.random.Generator, amount: float) -> float:
    """A number from -amount to amount."""
    return amount * (2.0 * draw.random() - 1.0)


def scaled_channels(factor: float, constant: float, channels: int) -> np.ndarray:
    """The matrix of factor * channel + constant, float64 [C, C + 1]."""
    return np.column_stack([factor * np.eye(channels), np.full(channels, constant)])


def product(last: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The matrix of two linear changes one after the other, [C, C + 1]."""
    square, constant = last[:, :-1] @ first[:, :-1], last[:, :-1] @ first[:, -1] + last[:, -1]
    return np.column_stack([square, constant])


def transformed(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The image after a linear change of its colors, float32 [H, W, C], cut to 0..255."""
    image = image.astype(np.float32, copy=False)
    if image.shape[2] <= 4:
        colors = cv2.transform(image, matrix).reshape(image.shape)
    else:
        colors = (image @ matrix[:, :-1].T + matrix[:, -1]).astype(np.float32)
    return np.clip(colors, 0.0, 255.0, out=colors)


def as_bytes(image: np.ndarray) -> np.ndarray:
    """uint8 of an image 0..255, for operations on whole levels."""
    return image if image.dtype == np.uint8 else np.rint(np.clip(image, 0, 255)).astype(np.uint8)


def by_lightness(image: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A change of the lightness alone of an RGB image, or else of each channel.

    Args:
      image: uint8 [H, W, C].
      change: of uint8 [H, W].
    """
    if image.shape[2] != 3:
        return np.stack([change(np.ascontiguousarray(image[..., index])) for index in range(image.shape[2])], -1)
    light = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
    light[..., 0] = change(np.ascontiguousarray(light[..., 0]))
    return cv2.cvtColor(light, cv2.COLOR_YCrCb2RGB)


# --- Points -------------------------------------------------------------------------------------------------


def about_center(matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A 3x3 matrix that acts about the center of a crop of height and width `size`."""
    center = np.array([[1.0, 0.0, (size[1] - 1) / 2], [0.0, 1.0, (size[0] - 1) / 2], [0.0, 0.0, 1.0]])
    return center @ matrix @ np.linalg.inv(center)
