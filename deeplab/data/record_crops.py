"""The training crop of a record: decoded or taken from the cache, sampled and padded straight into its batch.

`pipeline.train_batches` calls `RecordCrops.fill` for each part of a batch. Of records that the cache holds, everything
is one call of NumPy and OpenCV. Another record is decoded as a whole if the cache keeps it; otherwise only the part of
a JPEG that the crop shows is decoded. The crops are the same to the bit. All random numbers come from `ScaleCropFlip`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab.config.data_config import ResizeConfig
from deeplab.data import records, remapping, transforms
from deeplab.data.augmentation import Augmentation, in_order
from deeplab.data.augmentation.composition import Composition
from deeplab.data.augmentation.operation import ImageOperation, numpy_function
from deeplab.data.augmentation.scale_crop_flip import ScaleCropFlip
from deeplab.data.bands import RGB, ImageBands
from deeplab.data.decoding import (
    Box,
    Example,
    decode_box,
    decode_image,
    decode_label,
    decode_values,
    image_size,
    parse,
    values_size,
)
from deeplab.data.image_cache import Decoded, ImageCache
from deeplab.data.in_place_batches import Slot, Slots
from deeplab.data.labels import LabelSpec

Tensor = Any
_KNOWN, _TO_KEEP, _TO_DECODE = range(3)  # states of an image: in the cache, to be put there, not to be kept


@dataclass(frozen=True)
class RecordCrops:
    """How the records of one training become crops.

    Attributes:
      crop: draws scale, position and mirroring.
      labels: the values that labels may hold; whole labels are checked, not only their crops.
      resize: brings images into a range of sizes before they are scaled.
      further: operations on the crop, which must keep its size. `Composition` applies the built-in ones; others follow
        before the crop is padded, or, if an operation moves pixels, afterwards.
      bands: what the images are; images other than RGB are decoded as a whole, and the crop's part is scaled to 0..255.
      cache: keeps decoded images; None = each image is decoded each time.
    """

    crop: ScaleCropFlip
    labels: LabelSpec
    resize: ResizeConfig = field(default_factory=ResizeConfig)
    further: Sequence[Augmentation] = ()
    bands: ImageBands = RGB
    cache: ImageCache | None = None

    def fill(
        self, numbers: Tensor, stored: Tensor, read: Callable[[Tensor, Tensor], Tensor], seeds: Tensor, slots: Slots
    ) -> tuple[Tensor, Example]:
        """Fills places in a batch.

        Args:
          numbers: int64 [n], of the records in the order of the shards.
          stored: string [n], what the stream holds of the records.
          read: gives the serialized record of a number and of what the stream holds of it.
          seeds: int64 [n, 2].
          slots: the n places.

        Returns:
          int64 [n], >= 0, computed when all are filled, and scalars of each, [n]: image_name, height and width of the
          stored image.
        """
        draws, cache = tf.stack([self.crop.draws(seed) for seed in tf.unstack(seeds)]), self.cache

        def decoded(index: Tensor, number: Tensor, content: Tensor, draw: Tensor, seed: Tensor) -> Any:
            return self._decoded_part(read(number, content), draw, seed, slots.at(index))

        if cache is None:
            return _each(decoded, slots.indices, numbers, stored, draws, seeds)
        states, names, sizes = self._look_up(cache, numbers, draws, seeds, slots)

        def by_state(state, name, size, index, number, content, draw, seed) -> tuple[Tensor, Example]:
            slot = slots.at(index)

            def known() -> tuple[Tensor, Example]:
                if self._at_once:
                    return index, _scalars(name, size)
                filled = self._from_whole(lambda key: cache.find(int(key)), [number], draw, seed, slot)
                return filled, _scalars(name, size)

            return tf.switch_case(
                state,
                {
                    _KNOWN: known,
                    _TO_KEEP: _apart(lambda: self._kept(cache, number, read(number, content), draw, seed, slot)),
                    _TO_DECODE: _apart(lambda: decoded(index, number, content, draw, seed)),
                },
            )

        def fill_rest() -> tuple[Tensor, Example]:
            return _each(by_state, states, names, sizes, slots.indices, numbers, stored, draws, seeds)

        if not self._at_once:
            return fill_rest()
        all_filled = tf.reduce_all(states == _KNOWN)
        return tf.cond(all_filled, lambda: (tf.cast(states, tf.int64), _scalars(names, sizes)), _apart(fill_rest))

    def of_record(self, example: Example, size: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        """The crop of a parsed record whose image has a height and width, int32 [2]; as `ScaleCropFlip.__call__`."""
        return self._from_part(*self._decode(example, size, self.crop.draws(seed), seed), seed)

    # --- Where the pixels come from ---------------------------------------------------------------------------

    @tf.autograph.experimental.do_not_convert  # a NumPy function that it converts takes several times as long
    def _look_up(self, cache: ImageCache, numbers: Tensor, draws: Tensor, seeds: Tensor, slots: Slots) -> list[Tensor]:
        """States of the images, their names and sizes; fills slots from the cache where one call can do it."""

        def one(number, draws, seed, target) -> tuple[int, bytes, Sequence[int] | np.ndarray]:
            found = cache.find(number)
            if found is None:
                return (_TO_KEEP if cache.has_room else _TO_DECODE), b"", (0, 0)
            if self._at_once:
                self._sample(*self._part(found, draws, seed), seed, target=target)
            return _KNOWN, found.name, found.size

        def run(numbers, draws, seeds, images, labels, first):
            places = slice(first, first + len(numbers))
            each = map(one, numbers.tolist(), draws, seeds, zip(images[places], labels[places], strict=True))
            states, names, sizes = zip(*each, strict=True)
            return np.array(states, np.int32), np.array(names, object), np.array(sizes, np.int32)

        inputs = [numbers, draws, seeds, slots.images, slots.labels, slots.indices[0]]
        shape = numbers.shape
        return numpy_function(run, inputs, [(tf.int32, shape), (tf.string, shape), (tf.int32, [*shape, 2])])

    def _kept(
        self, cache: ImageCache, number: Tensor, record: Tensor, draws: Tensor, seed: Tensor, slot: Slot
    ) -> tuple[Tensor, Example]:
        """`fill` of an image that the cache is to keep."""
        example, size = self._parsed(record)
        name = example[records.FILENAME]
        label = transforms.resize_label_to_range(decode_label(example, size, self.labels), self.resize)
        inputs = [number, self._whole(example, size), label, name, size]
        return self._from_whole(functools.partial(_keep, cache), inputs, draws, seed, slot), _scalars(name, size)

    def _decoded_part(self, record: Tensor, draws: Tensor, seed: Tensor, slot: Slot) -> tuple[Tensor, Example]:
        """`fill` without the cache."""
        example, size = self._parsed(record)
        part = self._decode(example, size, draws, seed)
        return self._from_part(*part, seed, slot=slot), _scalars(example[records.FILENAME], size)

    def _parsed(self, record: Tensor) -> tuple[Example, Tensor]:
        example = parse(record)
        return example, image_size(example) if self.bands.is_rgb else values_size(example, self.bands)

    def _whole(self, example: Example, size: Tensor) -> Tensor:
        """What crops are sampled from: [H, W, C], the stored values, or float32, 0..255, where images are resized."""
        if self.bands.is_rgb:
            return transforms.resize_to_range(decode_image(example[records.IMAGE]), self.resize)
        values = decode_values(example, size, self.bands)
        if self.resize.min_resize_value is None:
            return values
        return transforms.resize_to_range(transforms.scale_values(values, self.bands), self.resize)

    def _decode(self, example: Example, size: Tensor, draws: Tensor, seed: Tensor) -> list[Tensor]:
        """`_part` of a record, decoding no more of a JPEG than the crop shows."""
        label = transforms.resize_label_to_range(decode_label(example, size, self.labels), self.resize)
        corners, *sources = numpy_function(self._plan, [label, draws, seed], [(tf.int32, [4]), *self._kinds_of_sources])
        box = Box(*tf.unstack(corners))
        is_stored = self.bands.is_rgb and self.resize.min_resize_value is None
        image = decode_box(example[records.IMAGE], box, size) if is_stored else box.cut(self._whole(example, size))
        return [image, box.cut(label), *sources]

    # --- From pixels to the crop ------------------------------------------------------------------------------

    @functools.cached_property
    def _composition(self) -> Composition:
        built_in = [operation for operation in self.further if isinstance(operation, ImageOperation)]
        return Composition(built_in, self.crop.crop_size, self.crop.padding_color, self.crop.ignore_label)

    @functools.cached_property
    def _others(self) -> list[Augmentation]:
        return in_order(operation for operation in self.further if not isinstance(operation, ImageOperation))

    @functools.cached_property
    def _at_once(self) -> bool:
        """Whether NumPy and OpenCV alone make the crop, in one call."""
        return not self._others and (self._composition.moves or remapping.is_exact())

    @property
    def _is_raw(self) -> bool:
        """Whether `_whole` gives values that must be scaled."""
        return not self.bands.is_rgb and self.resize.min_resize_value is None

    @property
    def _kinds_of_sources(self) -> list[tuple[Any, Any]]:
        """Dtypes and shapes of what `_plan` gives beside corners: a matrix, or rows, columns and mirrored."""
        if self._composition.moves:
            return [(tf.float64, [3, 3])]
        return [(tf.float32, [None]), (tf.float32, [None]), (tf.bool, [])]

    def _plan(self, label: np.ndarray, draws: np.ndarray, seed: Sequence[int]) -> tuple[Any, ...]:
        """The part of an image that its crop needs, int32 [4] as `Box`, and where in this part the crop's pixels are.

        These are, where operations move pixels, the matrix of `Composition.plan`; else row points, column points and
        whether the crop is mirrored.
        """
        rows, columns, mirrored = self.crop.points(label, draws, seed)
        if self._composition.moves:
            matrix, corners = self._composition.plan(rows, columns, mirrored, label.shape, seed)
            return corners, matrix
        (top, height), (left, width) = (
            transforms.covered(points, side) for points, side in zip((rows, columns), label.shape, strict=True)
        )
        corners = np.array([top, left, height, width], np.int32)
        return corners, rows - np.float32(top), columns - np.float32(left), np.bool_(mirrored)

    def _part(self, decoded: Decoded, draws: np.ndarray, seed: Sequence[int]) -> list[np.ndarray]:
        """The part of image and label that the crop needs, and what `_plan` gives beside it."""
        (top, left, height, width), *sources = self._plan(decoded.label, draws, seed)
        rows, columns = slice(top, top + height), slice(left, left + width)
        return [decoded.image[rows, columns], decoded.label[rows, columns], *sources]

    def _sample(
        self, image: np.ndarray, label: np.ndarray, *sources_and_seed: Any, target: remapping.Target | None = None
    ) -> remapping.Target:
        """The crop of a part, by NumPy and OpenCV alone."""
        composition = self._composition
        image = self.bands.scaled(image) if self._is_raw else image
        if composition.operations:  # OpenCV rounds the ends of rows differently where there are gaps between them
            image = np.ascontiguousarray(image)
        sample: Callable[..., Any] = composition.moved_crop if composition.moves else composition.plain_crop
        return sample(image, label, *sources_and_seed, target=target)

    def _from_whole(
        self, decoded: Callable[..., Any], inputs: list[Tensor], draws: Tensor, seed: Tensor, slot: Slot
    ) -> Tensor:
        """Fills the slot from a decoded image that a function of arrays gives."""
        if self._at_once:
            return slot.fill(functools.partial(self._fill_from, decoded), [draws, seed, *inputs])
        pixels = tf.as_dtype(self.bands.dtype) if self.resize.min_resize_value is None else tf.float32
        kinds = [(pixels, [None, None, self.bands.channels]), (tf.as_dtype(self.labels.dtype), [None, None])]
        copies = functools.partial(self._copied_part, decoded)
        part = numpy_function(copies, [draws, seed, *inputs], [*kinds, *self._kinds_of_sources])
        return self._from_part(*part, seed, slot=slot)

    def _fill_from(self, decoded: Callable[..., Decoded], draws, seed, *inputs, target: remapping.Target) -> None:
        self._sample(*self._part(decoded(*inputs), draws, seed), seed, target=target)

    def _copied_part(self, decoded: Callable[..., Decoded], draws, seed, *inputs) -> tuple[np.ndarray, ...]:
        """`_part` for TensorFlow, which may compute in place."""
        return tuple(np.array(array) for array in self._part(decoded(*inputs), draws, seed))

    def _from_part(self, image: Tensor, label: Tensor, *sources_and_seed: Tensor, slot: Slot | None = None) -> Any:
        """The padded crop of what `_part` gave; with a slot, the result of `Slot.fill`."""
        *sources, seed = sources_and_seed
        whole = [(tf.float32, [*self.crop.crop_size, self.bands.channels]), (label.dtype, self.crop.crop_size)]
        inputs = [image, label, *sources, seed]
        if self._at_once:
            return slot.fill(self._sample, inputs) if slot else tuple(numpy_function(self._sample, inputs, whole))
        image = transforms.scale_values(image, self.bands) if self._is_raw else image
        image, label = self._step_by_step(image, label, sources, seed, whole)
        return slot.store(image, label) if slot else (image, label)

    def _step_by_step(self, image, label, sources, seed, whole) -> tuple[Tensor, Tensor]:
        """`_from_part` where other operations than built-in ones take part, or OpenCV does not sample exactly."""
        composition = self._composition
        if composition.moves:
            image, label = numpy_function(composition.moved_crop, [image, label, *sources, seed], whole)
            return self._apply_others(image, label, seed)
        rows, columns, mirrored = sources
        if composition.operations:
            (image,) = numpy_function(composition.recolored_floats, [image, seed], [(tf.float32, image.shape)])
        image = transforms.sample_bilinear(image, rows, columns)
        image, label = self._apply_others(image, transforms.sample_nearest(label, rows, columns), seed)
        image, label = self.crop.padded(image, label, mirrored)
        if composition.operations:
            image, label = numpy_function(composition.covered_copy, [image, label, seed], whole)
        return image, label

    def _apply_others(self, image: Tensor, label: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        for number, augmentation in enumerate(self._others, start=1):
            image, label = augmentation(image, label, tf.random.experimental.stateless_fold_in(seed, number))
        return image, label


def _keep(cache: ImageCache, number, image, label, name, size) -> Decoded:
    decoded = Decoded(image, label, name, size)
    cache.keep(int(number), decoded)
    return decoded


def _apart(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is one operation of TensorFlow, and not hundreds of them, which it would pass over one by one."""
    return tf.function(function, autograph=False, experimental_attributes={"_noinline": True})


def _each(make: Callable[..., Any], *inputs: Tensor) -> Any:
    """Stacked results of a function of the elements of tensors; TensorFlow has it once and calls it in parallel."""
    call = _apart(make)
    results = [call(*each) for each in zip(*map(tf.unstack, inputs), strict=True)]
    return tf.nest.map_structure(lambda *each: tf.stack(each), *results)


def _scalars(name: Tensor, size: Tensor) -> Example:
    """Of one image, or of several."""
    return {"image_name": name, "height": size[..., 0], "width": size[..., 1]}
