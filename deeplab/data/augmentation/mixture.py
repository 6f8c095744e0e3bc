"""Base class of operations that mix the images of a batch. They act on finished crops, after all other operations.

The partner of an image is another one of its batch, so that batches depend on nothing but the seed and the position,
like all else.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from deeplab.data import remapping
from deeplab.data.augmentation.operation import numpy_function, random_numbers

Tensor = Any


@dataclass(frozen=True)
class Mixture(abc.ABC):
    """A random mixture of each image of a batch with others of it.

    Attributes:
      amount: probability that an image is mixed, 0 to 1.
      ignore_label: label of pixels that do not count.
      name: of the class.
    """

    amount: float
    ignore_label: int = 255

    name: ClassVar[str] = ""

    @abc.abstractmethod
    def pasted(
        self, labels: np.ndarray, index: int, draw: np.random.Generator
    ) -> Sequence[tuple[int, tuple[slice, slice], np.ndarray | tuple[slice, slice]]]:
        """What is pasted into an image.

        Args:
          labels: integer [B, H, W], before any mixture.
          index: of the image in the batch.
          draw: its random numbers.

        Returns:
          For each part: the index of the image that it comes from, rows and columns there, and where it goes: as many
          rows and columns, or bool [h, w] which of these pixels replace those at the same place.
        """

    def mixed(self, images: np.ndarray, labels: np.ndarray, seed: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Images float32 [B, H, W, C] and labels [B, H, W] after mixing; the given arrays stay as they are.

        Args:
          images, labels: a batch.
          seed: of the training, and the position of the batch's first image in the stream.
        """
        results, result_labels = (
            remapping.empty(images.shape, images.dtype),
            remapping.empty(labels.shape, labels.dtype),
        )
        results[:], result_labels[:] = images, labels
        for index in range(len(images)):
            draw = random_numbers(self.name, seed[0], seed[1] + index)
            if draw.random() >= self.amount:
                continue
            for donor, place, target in self.pasted(labels, index, draw):
                if isinstance(target, tuple):
                    results[index][target], result_labels[index][target] = images[donor][place], labels[donor][place]
                else:
                    for mix, given in ((results, images), (result_labels, labels)):
                        mix[index][place][target] = given[donor][place][target]
        return results, result_labels

    def __call__(self, images: Tensor, labels: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        """`mixed` for tensors, eagerly and inside tf.data; seed: int64 [2]."""

        def run(images: np.ndarray, labels: np.ndarray, seed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return self.mixed(images, labels, seed.tolist())

        images, labels = tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
        outputs = [(images.dtype, images.shape), (labels.dtype, labels.shape)]
        images, labels = numpy_function(run, [images, labels, seed], outputs)
        return images, labels


def other_image(count: int, index: int, draw: np.random.Generator) -> int:
    """The index of another image of the batch."""
    return int(index + 1 + draw.integers(max(count - 1, 1))) % count
