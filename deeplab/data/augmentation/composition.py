"""Applies several operations to a crop together: colors, one resampling of image and label, and covered areas.

Colors change in the stored pixels that the crop needs, before they are sampled, so that padding keeps its color; linear
changes of colors are multiplied into one. Motions are multiplied into one as well, so that an image is interpolated
once, however many there are. `record_crops` calls this module; it decodes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplab.data import remapping
from deeplab.data.augmentation.operation import (
    ColorMatrix,
    Cover,
    ImageOperation,
    Photometric,
    Warp,
    product,
    transformed,
)
from deeplab.data.remapping import Motion, Target


@dataclass(frozen=True)
class Composition:
    """The operations of one training.

    Attributes:
      operations: in the order in which they take effect within their kind.
      crop_size: height and width of the crops, in pixels.
      padding_color: 0..255, one number per channel.
      ignore_label: label of padding.
    """

    operations: Sequence[ImageOperation]
    crop_size: tuple[int, int]
    padding_color: Sequence[float]
    ignore_label: int

    @property
    def moves(self) -> bool:
        """Whether there are operations that move pixels."""
        return any(isinstance(operation, Warp) for operation in self.operations)

    def _acting(self, kind: type, seed: Sequence[int]) -> Iterator[tuple[Any, np.random.Generator]]:
        """The operations of a kind that act on this image, with their random numbers."""
        for operation in self.operations:
            draw = operation.generator(*seed) if isinstance(operation, kind) else None
            if draw is not None:
                yield operation, draw

    def plain_crop(
        self,
        image: np.ndarray,
        label: np.ndarray,
        rows: np.ndarray,
        columns: np.ndarray,
        mirrored: bool,
        seed: Sequence[int],
        target: Target | None = None,
    ) -> Target:
        """The crop at row and column points, as `remapping.at_points`; colors changed and places covered."""
        image = self.recolored(image, seed)
        size, color = self.crop_size, self.padding_color
        crop = remapping.at_points(image, label, rows, columns, size, color, self.ignore_label, mirrored, target)
        return self.covered(*crop, seed)

    def plan(
        self, rows: np.ndarray, columns: np.ndarray, mirrored: bool, size: Sequence[int], seed: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """All motions of one image as one, and the part of the image that they need.

        Args:
          rows, columns: float32, the points of the crop without these operations, in image pixels.
          mirrored: whether the crop is mirrored, and its padding at the left.
          size: height and width of the image.
          seed: of the training, and the position in the stream.

        Returns:
          float64 [3, 3] as `Motion.matrix`, its origin the part's first pixel; int32 [4], top, left, height and width
          of the part, at least one pixel.
        """
        height, width = size
        offset = self.crop_size[1] - len(columns) if mirrored else 0
        (across, left), (down, top) = _line(columns, offset), _line(rows, 0)
        motion = self._motion(np.array([[across, 0.0, left], [0.0, down, top], [0.0, 0.0, 1.0]]), seed)
        (left, top), (right, bottom) = motion.reach(self.crop_size)
        first = np.clip(np.floor([top, left]), 0, np.array(size) - 1).astype(np.int32)
        last = np.clip(np.ceil([bottom, right]), first, (height - 1, width - 1)).astype(np.int32)
        part = np.array([[1.0, 0.0, -first[1]], [0.0, 1.0, -first[0]], [0.0, 0.0, 1.0]])
        return part @ motion.matrix, np.concatenate([first, last - first + 1])

    def moved_crop(
        self,
        image: np.ndarray,
        label: np.ndarray,
        matrix: np.ndarray,
        seed: Sequence[int],
        target: Target | None = None,
    ) -> Target:
        """The crop by the matrix of `plan`; colors changed and places covered. Results as `remapping.moved`."""
        motion = Motion(matrix, self._motion(np.eye(3), seed).shifts)
        image = self.recolored(image, seed)
        crop = remapping.moved(image, label, motion, self.crop_size, self.padding_color, self.ignore_label, target)
        return self.covered(*crop, seed)

    def _motion(self, matrix: np.ndarray, seed: Sequence[int]) -> Motion:
        """The crop's own matrix times those of all operations, and the shifts of the elastic one."""
        shifts = None
        for operation, draw in self._acting(Warp, seed):
            if hasattr(operation, "shifts"):
                shifts = operation.shifts(draw, self.crop_size)
            else:
                matrix = matrix @ operation.matrix(draw, self.crop_size)
        return Motion(matrix, shifts)

    def recolored(self, image: np.ndarray, seed: Sequence[int]) -> np.ndarray:
        """The image with other colors: [H, W, C], uint8 or float32, 0..255."""
        matrix = None
        for operation, draw in self._acting(Photometric, seed):
            if isinstance(operation, ColorMatrix):
                further = operation.matrix(draw, image.shape[2])
                matrix = further if matrix is None else product(further, matrix)
                continue
            if matrix is not None:
                image, matrix = transformed(image, matrix), None
            image = operation.recolored(image, draw)
        return image if matrix is None else transformed(image, matrix)

    def covered(self, image: np.ndarray, label: np.ndarray, seed: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """A crop of which places are covered."""
        for operation, draw in self._acting(Cover, seed):
            where = operation.covered(draw, self.crop_size)
            image[where], label[where] = self.padding_color, self.ignore_label
        return image, label

    def recolored_floats(self, image: np.ndarray, seed: Sequence[int]) -> tuple[np.ndarray]:
        """`recolored` as float32, for pipelines that sample in TensorFlow."""
        return (self.recolored(image, seed).astype(np.float32, copy=False),)

    def covered_copy(self, image: np.ndarray, label: np.ndarray, seed: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """`covered` for arrays that must stay as they are."""
        return self.covered(image.copy(), label.copy(), seed)


def _line(points: np.ndarray, offset: int) -> tuple[float, float]:
    """Slope and value at pixel 0 of evenly spaced points, the first of which belongs to pixel `offset`."""
    first, last = float(points[0]), float(points[-1])
    slope = (last - first) / (len(points) - 1) if len(points) > 1 else 1.0
    return slope, first - slope * offset
