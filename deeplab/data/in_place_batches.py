"""Batches whose images are computed in place: nothing is copied when a batch is complete.

`pipeline.train_batches` calls this module, `record_crops` writes through its `Slot`. The arrays of a batch come from
`remapping.empty`: TensorFlow holds them like any other tensor, and their memory is used again when nothing refers to
them. Copying the images of a batch together into fresh memory takes as long as decoding them. This module does not
depend on how an image is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab.data import remapping
from deeplab.utils.parallel import worker_count

Tensor = Any


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
          The index. Whatever needs the batch must wait for it.
        """

        # TensorFlow does not see the function's side effect. The index, which changes from call to call, keeps it from
        # replacing the call by an earlier result.
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


def batches_in_place(
    elements: tf.data.Dataset,
    make: Callable[..., tuple[Tensor, dict[str, Tensor]]],
    batch_size: int,
    image_shape: tuple[int, int, int],
) -> tf.data.Dataset:
    """Batches of the images that `make` computes from the elements, in their order, on all processor cores.

    Args:
      elements: endless; tuples.
      make: of the element's parts and a `Slot`; fills this and returns the result of `fill`, and a dict of scalars.
      batch_size: images per batch.
      image_shape: height, width and channels of all images.

    Returns:
      Dataset of dicts: image float32 [B, H, W, C], label int32 [B, H, W], and the scalars [B].
    """
    shapes = [(batch_size, *image_shape), (batch_size, *image_shape[:2])]
    types = [tf.float32, tf.int32]

    def fresh(number: np.ndarray) -> list[np.ndarray]:
        del number
        return [remapping.empty(shape, kind.as_numpy_dtype) for shape, kind in zip(shapes, types, strict=True)]

    def arrays_of(number: Tensor) -> tuple[Tensor, ...]:
        arrays = tf.numpy_function(fresh, [number], types, stateful=False)
        return tuple(tf.ensure_shape(array, shape) for array, shape in zip(arrays, shapes, strict=True))

    def give_slot(current: tuple[Tensor, ...], numbered: tuple[Tensor, Any]) -> tuple[tuple[Tensor, ...], Any]:
        number, element = numbered
        index = number % batch_size
        current = tf.cond(index == 0, lambda: arrays_of(number), lambda: tuple(map(tf.identity, current)))
        return current, (current, index, element)

    def make_one(arrays: tuple[Tensor, ...], index: Tensor, element: Any) -> Any:
        index, scalars = make(*element, Slot(arrays[0], arrays[1], index))
        return arrays, index, scalars

    def collect(known: dict[str, Tensor], made: Any) -> tuple[dict[str, Tensor], Any]:
        arrays, index, scalars = made
        place = tf.reshape(index, [1, 1])
        known = {name: tf.tensor_scatter_nd_update(known[name], place, [scalars[name]]) for name in known}
        image, label = (tf.ensure_shape(array, shape) for array, shape in zip(arrays, shapes, strict=True))
        return known, (index, {"image": image, "label": label, **known})

    none_yet = tuple(tf.zeros([0, *shape[1:]], kind) for shape, kind in zip(shapes, types, strict=True))
    slots = elements.enumerate().scan(none_yet, give_slot)
    # No more images than cores at once. AUTOTUNE would take each of them for as large as its batch.
    made = slots.map(make_one, num_parallel_calls=worker_count())
    start = {name: tf.zeros([batch_size], spec.dtype) for name, spec in made.element_spec[2].items()}
    complete = made.scan(start, collect)
    return complete.filter(lambda index, _: index == batch_size - 1).map(lambda _, batch: batch)
