"""The augmentation of the research DeepLab: a random scale, a random crop, and mirroring of every second image.

Scale, position and mirroring are drawn first, so that only those pixels need be decoded and sampled that the crop
shows: `record_crops` does that with NumPy and OpenCV. Called with tensors, the operation samples in TensorFlow.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from deeplab.data import transforms
from deeplab.data.augmentation import AUGMENTATIONS
from deeplab.data.augmentation.crop_chooser import CropChooser
from deeplab.data.augmentation.operation import numpy_function

Tensor = Any


@AUGMENTATIONS.register("scale_crop_flip")
@dataclass(frozen=True)
class ScaleCropFlip:
    """Scales, crops and mirrors an image at random; images smaller than the crop are padded.

    Attributes:
      crop_size: height and width of the crops, in pixels.
      padding_color: one number per channel, 0..255, of pixels outside the image, at the bottom and the right.
      ignore_label: label of these pixels.
      min_scale_factor, max_scale_factor, scale_factor_step_size: `transforms.scale_grid` of the random scale.
      crop_sampling: where crops are cut: see `AugmentationConfig.crop_sampling`.
    """

    crop_size: tuple[int, int]
    padding_color: Sequence[float]
    ignore_label: int = 255
    min_scale_factor: float = 0.5
    max_scale_factor: float = 2.0
    scale_factor_step_size: float = 0.25
    crop_sampling: str = "uniform"

    geometric: ClassVar[bool] = True

    def __call__(self, image: Tensor, label: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        """The crop of a decoded image: image float32 and label, [crop height, crop width, ...]."""
        outputs = [(tf.float32, [None]), (tf.float32, [None]), (tf.bool, [])]
        rows, columns, mirrored = numpy_function(self.points, [label, self.draws(seed), seed], outputs)
        image = transforms.sample_bilinear(image, rows, columns)
        return self.padded(image, transforms.sample_nearest(label, rows, columns), mirrored)

    def draws(self, seed: Tensor) -> Tensor:
        """The random numbers of one crop: float32 [4], 0 up to 1, for scale, row, column and mirroring."""
        return tf.random.stateless_uniform([4], seed=seed)

    def points(self, label: np.ndarray, draws: np.ndarray, seed: Sequence[int]) -> tuple[np.ndarray, np.ndarray, bool]:
        """Where a crop's pixels are in its image.

        Args:
          label: [H, W], of the image.
          draws: as from `draws`.
          seed: of the training, and the position in the stream.

        Returns:
          Row points and column points, float32, at most as many as the crop has; whether it is mirrored.
        """
        size = np.array(label.shape, np.int32)
        scaled = transforms.scaled_size(size, self._scale(draws[0]))
        count = np.minimum(scaled, np.array(self.crop_size, np.int32))
        room = scaled - count
        start = np.minimum((draws[1:3] * (room + 1).astype(np.float32)).astype(np.int32), room)
        if self.crop_sampling != "uniform":
            (start,) = CropChooser(self.crop_sampling, self.ignore_label).choose(label, scaled, count, start, seed)
        mirrored = bool(draws[3] <= 0.5)
        rows = transforms.crop_points(start[0], count[0], size[0], scaled[0])
        columns = transforms.crop_points(start[1], count[1], size[1], scaled[1], mirrored)
        return rows, columns, mirrored

    def _scale(self, draw: np.float32) -> np.float32:
        """The scale for a uniform number from [0, 1)."""
        low, high, grid = self.min_scale_factor, self.max_scale_factor, self._grid
        if not len(grid):
            return np.float32(low) + draw * np.float32(high - low)
        return grid[int(draw * np.float32(len(grid)))]

    @functools.cached_property
    def _grid(self) -> np.ndarray:
        return transforms.scale_grid(self.min_scale_factor, self.max_scale_factor, self.scale_factor_step_size)

    def padded(self, image: Tensor, label: Tensor, mirrored: Tensor) -> tuple[Tensor, Tensor]:
        """A crop with padding; of a mirrored one at the left."""
        image = transforms.pad_to(image, *self.crop_size, self.padding_color, at_left=mirrored)
        label = transforms.pad_to(label, *self.crop_size, self.ignore_label, at_left=mirrored)
        return tf.ensure_shape(image, [*self.crop_size, image.shape[-1]]), tf.ensure_shape(label, self.crop_size)
