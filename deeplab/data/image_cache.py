"""Decoded images and labels in memory, so that each of them is decoded once and not once per epoch.

`pipeline.train_batches` makes one `ImageCache` per pipeline, `record_crops` fills it and takes crops out of it.
`training.cache_plan` decides how much memory it may have. The arrays are those that TensorFlow decoded into: nothing is
copied, and the memory is free again when the pipeline is garbage-collected. It decodes nothing itself.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any, NamedTuple

import numpy as np


class Decoded(NamedTuple):
    """One image of the cache.

    Attributes:
      image: [H, W, C], what crops are sampled from: after resizing, before scaling of raw values.
      label: [H, W], uint8 or uint16, checked.
      name: the image's name in its record.
      size: int32 [2], height and width of the stored image, before resizing.
    """

    image: np.ndarray
    label: np.ndarray
    name: bytes
    size: np.ndarray


class _Images(dict[int, Decoded]):
    """A dict that can be referred to weakly."""


class ImageCache:
    """Images by the number of their record in the order of the shards, up to a number of bytes.

    What does not fit is not kept, and nothing is dropped to make room: images come in a new order in each epoch, so a
    cache that replaced old images by new ones would have few hits. Safe for use by several threads.

    Args:
      limit: maximum bytes of images and labels.
      count: number of records in the dataset.
    """

    def __init__(self, limit: int, count: int):
        self._limit, self._count = limit, count
        self._owned: _Images | None = _Images()
        self._images = weakref.ref(self._owned)
        self._used = 0
        self._lock = threading.Lock()

    def live_with(self, dataset: Any) -> None:
        """Makes a dataset own the images, so that they are freed with it, its iterators and all datasets made from it.

        TensorFlow never releases a NumPy function, so the functions of a pipeline must not own the images.
        """
        dataset.images_in_memory, self._owned = self._owned, None

    def find(self, number: int) -> Decoded | None:
        """The image of a record, if it was kept; its arrays are read-only."""
        images = self._images()
        return None if images is None else images.get(number)

    def keep(self, number: int, decoded: Decoded) -> None:
        """Keeps an image, if it fits and is not there yet."""
        size = decoded.image.nbytes + decoded.label.nbytes
        images = self._images()
        with self._lock:
            if images is not None and number not in images and self._used + size <= self._limit:
                decoded.image.flags.writeable = decoded.label.flags.writeable = False
                images[number] = decoded
                self._used += size

    @property
    def has_room(self) -> bool:
        """Whether another image would fit, if it had the mean size of those in the cache."""
        images = self._images()
        return images is not None and self._used + self._used / max(len(images), 1) <= self._limit

    @property
    def is_complete(self) -> bool:
        """Whether all images are in the cache, so that no record needs to be read."""
        images = self._images()
        return images is not None and len(images) == self._count
