"""Batches whose images are computed in place: nothing is copied when a batch is complete.

`pipeline.train_batches` calls this module, `record_crops` writes through its `Slot`. The arrays of a batch come from
`remapping.empty`: TensorFlow holds them like any other tensor, and their memory is used again when nothing refers to
them. Copying the images of a batch together into fresh memory takes as long as decoding them. This module does not
depend on how an image is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab.data import remapping
from deeplab.utils.parallel import worker_count

Tensor = Any
_MAX_TOGETHER = 4  # images; of more, the last ones of a batch keep one core busy while the others wait


@dataclass(frozen=True)
class Slot:
    """The place of one image in its batch.

    Attributes:
      images, labels: the arrays of the batch, float32 [B, H, W, C] and int32 [B, H, W].
      index: int64 scalar, 0 .. B - 1.
    """

    images: Tensor
    labels: Tensor
    index: Tensor

    @tf.autograph.experimental.do_not_convert  # a NumPy function that it converts takes several times as long
    def fill(self, function: Callable[..., Any], inputs: list[Tensor]) -> Tensor:
        """Let a function write the image and its label.

        Args:
          function: of arrays, with a keyword `target`: `remapping.Target`, which it fills.
          inputs: its arrays.

        Returns:
          The index, for the result of `make`.
        """

        # TensorFlow does not see the function's side effect. The index, which differs from call to call, keeps it from
        # replacing the call by the result of another one.
        def run(images: np.ndarray, labels: np.ndarray, index: np.ndarray, *arrays: np.ndarray) -> np.ndarray:
            function(*arrays, target=(images[index], labels[index]))
            return index

        found = tf.numpy_function(run, [self.images, self.labels, self.index, *inputs], tf.int64, stateful=False)
        return tf.ensure_shape(found, [])

    def store(self, image: Tensor, label: Tensor) -> Tensor:
        """Copy a finished image and its label; result as `fill`."""
        return self.fill(_copy, [image, label])


def _copy(image: np.ndarray, label: np.ndarray, target: remapping.Target) -> None:
    np.copyto(target[0], image)
    np.copyto(target[1], label)


@dataclass(frozen=True)
class Slots:
    """The places of consecutive images of a batch.

    Attributes:
      images, labels: the arrays of the batch, as in `Slot`.
      indices: int64 [n].
    """

    images: Tensor
    labels: Tensor
    indices: Tensor

    def at(self, index: Tensor) -> Slot:
        """The place with one of the indices."""
        return Slot(self.images, self.labels, index)


def batches_in_place(
    elements: tf.data.Dataset,
    make: Callable[..., tuple[Tensor, dict[str, Tensor]]],
    batch_size: int,
    image_shape: tuple[int, int, int],
    quick: bool = True,
) -> tf.data.Dataset:
    """Batches of the images that `make` computes from the elements, in their order, on all processor cores.

    Args:
      elements: endless; tuples.
      make: of `Slots` and the parts of as many elements, stacked; fills the slots, and returns a tensor of numbers
        >= 0 that is computed when they are filled, such as results of `Slot.fill`, and a dict of scalars, [n].
      batch_size: images per batch.
      image_shape: height, width and channels of all images.
      quick: whether images are made so quickly that handing over each by itself takes a fifth of the time; if so, up to
        four are made together.

    Returns:
      Dataset of dicts: image float32 [B, H, W, C], label int32 [B, H, W], and the scalars [B].
    """
    shapes = [(batch_size, *image_shape), (batch_size, *image_shape[:2])]
    types = [tf.float32, tf.int32]
    together = _made_together(batch_size) if quick else 1
    parts = batch_size // together

    def fresh(number: np.ndarray) -> list[np.ndarray]:
        del number
        return [remapping.empty(shape, kind.as_numpy_dtype) for shape, kind in zip(shapes, types, strict=True)]

    def arrays_of(number: Tensor) -> tuple[Tensor, ...]:
        arrays = tf.numpy_function(fresh, [number], types, stateful=False)
        return tuple(tf.ensure_shape(array, shape) for array, shape in zip(arrays, shapes, strict=True))

    def give_slots(current: tuple[Tensor, ...], numbered: tuple[Tensor, Any]) -> tuple[tuple[Tensor, ...], Any]:
        number, part = numbered
        index = number % parts
        current = tf.cond(index == 0, lambda: arrays_of(number), lambda: tuple(map(tf.identity, current)))
        return current, (current, index, part)

    def make_part(arrays: tuple[Tensor, ...], index: Tensor, part: Any) -> Any:
        indices = index * together + tf.range(together, dtype=tf.int64)
        filled, scalars = make(Slots(arrays[0], arrays[1], indices), *part)
        return arrays, indices, tf.reduce_all(filled >= 0), scalars

    def collect(known: dict[str, Tensor], made: Any) -> tuple[dict[str, Tensor], Any]:
        arrays, indices, is_filled, scalars = made
        places = indices[:, tf.newaxis]
        known = {name: tf.tensor_scatter_nd_update(known[name], places, scalars[name]) for name in known}
        image, label = (tf.ensure_shape(array, shape) for array, shape in zip(arrays, shapes, strict=True))
        is_complete = is_filled & (indices[-1] == batch_size - 1)
        return known, (is_complete, {"image": image, "label": label, **known})

    none_yet = tuple(tf.zeros([0, *shape[1:]], kind) for shape, kind in zip(shapes, types, strict=True))
    slots = elements.batch(together, drop_remainder=True).enumerate().scan(none_yet, give_slots)
    # No more parts than cores at once, and one for a core that waits for Python's lock or for an earlier part. AUTOTUNE
    # would take each of them for as large as its batch.
    made = slots.map(make_part, num_parallel_calls=worker_count() + 1)
    start = {name: tf.zeros([batch_size], spec.dtype) for name, spec in made.element_spec[3].items()}
    complete = made.scan(start, collect)
    return complete.filter(lambda is_complete, _: is_complete).map(lambda _, batch: batch)


def _made_together(batch_size: int) -> int:
    """Images that are made by one call: a divisor of the batch size."""
    most = min(_MAX_TOGETHER, math.ceil(batch_size / worker_count()))
    return next(number for number in range(most, 0, -1) if batch_size % number == 0)
