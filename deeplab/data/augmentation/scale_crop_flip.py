"""The augmentation of the research DeepLab: a random scale, a random crop, and mirroring of every second image.

Scale, position and mirroring are drawn first; then only those pixels are decoded and resized that the crop shows. With
an OpenCV that samples exactly (`remapping.is_exact`), colors, sampling and padding are one call of NumPy and OpenCV,
else TensorFlow operations; they differ by rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import tensorflow as tf

from deeplab.config.data_config import ResizeConfig
from deeplab.data import records, remapping, transforms
from deeplab.data.augmentation import AUGMENTATIONS, Augmentation, in_order
from deeplab.data.augmentation.composition import Composition
from deeplab.data.augmentation.crop_chooser import CropChooser
from deeplab.data.augmentation.operation import ImageOperation, numpy_function
from deeplab.data.bands import RGB, ImageBands
from deeplab.data.decoding import Box, Example, decode_box, decode_image, decode_label, decode_values
from deeplab.data.in_place_batches import Slot
from deeplab.data.labels import LabelSpec

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
        rows, columns, mirrored = self._draw(seed, label)
        image = transforms.sample_bilinear(image, rows, columns)
        return self._padded(image, transforms.sample_nearest(label, rows, columns), mirrored)

    def of_record(
        self,
        example: Example,
        size: Tensor,
        seed: Tensor,
        labels: LabelSpec,
        resize: ResizeConfig,
        further: Sequence[Augmentation] = (),
        bands: ImageBands = RGB,
        slot: Slot | None = None,
    ) -> Any:
        """The crop of a record's image, decoding no more of it than the crop shows.

        Args:
          example: the parsed record.
          size: int32 [2], height and width of its image.
          seed: int64 [2].
          labels: the values that labels may hold; all of the label is checked, not only the crop.
          resize: brings the image into a range of sizes before it is scaled.
          further: operations on the crop: built-in ones as `Composition` applies them; others act on the crop before
            it is padded, or, where pixels move, afterwards, and must keep its size.
          bands: what the record's image is; of other images than RGB all is decoded, then scaled to 0..255.
          slot: the place in a batch that receives the crop.

        Returns:
          As `__call__`; with a slot, the result of `Slot.fill`.
        """
        label = transforms.resize_label_to_range(decode_label(example, size, labels), resize)
        rows, columns, mirrored = self._draw(seed, label)
        built_in = [operation for operation in further if isinstance(operation, ImageOperation)]
        others = in_order(operation for operation in further if not isinstance(operation, ImageOperation))
        composition = Composition(built_in, self.crop_size, self.padding_color, self.ignore_label)
        seed = tf.stack([tf.cast(part, tf.int64) for part in tf.unstack(seed, num=2)])
        if composition.moves:
            matrix, corners = numpy_function(
                composition.plan,
                [rows, columns, mirrored, tf.shape(label), seed],
                [(tf.float64, [3, 3]), (tf.int32, [4])],
            )
            box = Box(*tf.unstack(corners))
            sources = [matrix]
        else:
            box = Box.around(rows, columns, tf.shape(label))
            sources = [rows - tf.cast(box.top, tf.float32), columns - tf.cast(box.left, tf.float32), mirrored]
        if not bands.is_rgb:
            values = decode_values(example, size, bands)
            if resize.min_resize_value is None:
                image = transforms.scale_values(box.cut(values), bands)
            else:
                image = box.cut(transforms.resize_to_range(transforms.scale_values(values, bands), resize))
        elif resize.min_resize_value is None:
            image = decode_box(example[records.IMAGE], box, size)
        else:
            image = box.cut(transforms.resize_to_range(decode_image(example[records.IMAGE]), resize))
        return self._cropped(composition, others, image, box.cut(label), sources, seed, slot)

    def _cropped(
        self,
        composition: Composition,
        others: Sequence[Augmentation],
        image: Tensor,
        label: Tensor,
        sources: Sequence[Tensor],
        seed: Tensor,
        slot: Slot | None,
    ) -> Any:
        """The padded crop out of the part of an image that it needs; sources: matrix, or rows, columns, mirrored."""

        def apply_others(image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
            for number, augmentation in enumerate(others, start=1):
                image, label = augmentation(image, label, tf.random.experimental.stateless_fold_in(seed, number))
            return image, label

        whole = [(tf.float32, [*self.crop_size, image.shape[-1]]), (label.dtype, self.crop_size)]
        at_once = composition.moved_crop if composition.moves else composition.plain_crop
        if not others and (composition.moves or remapping.is_exact()):
            inputs = [image, label, *sources, seed]
            return slot.fill(at_once, inputs) if slot else tuple(numpy_function(at_once, inputs, whole))
        image, label = self._step_by_step(composition, apply_others, image, label, sources, seed, whole)
        return slot.store(image, label) if slot else (image, label)

    def _step_by_step(self, composition, apply_others, image, label, sources, seed, whole) -> tuple[Tensor, Tensor]:
        """`_cropped` where other operations than built-in ones take part, or OpenCV does not sample exactly."""
        if composition.moves:
            image, label = numpy_function(composition.moved_crop, [image, label, *sources, seed], whole)
            return apply_others(image, label)
        rows, columns, mirrored = sources
        if composition.operations:
            (image,) = numpy_function(composition.recolored_floats, [image, seed], [(tf.float32, image.shape)])
        image = transforms.sample_bilinear(image, rows, columns)
        image, label = apply_others(image, transforms.sample_nearest(label, rows, columns))
        image, label = self._padded(image, label, mirrored)
        if composition.operations:
            image, label = numpy_function(composition.covered_copy, [image, label, seed], whole)
        return image, label

    def _draw(self, seed: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Row points and column points of a random crop of an image with this label, and whether it is mirrored."""
        size = tf.shape(label)
        draws = tf.random.stateless_uniform([4], seed=seed)
        scaled = transforms.scaled_size(size, self._scale(draws[0]))
        count = tf.minimum(scaled, self.crop_size)
        room = scaled - count
        start = tf.minimum(tf.cast(draws[1:3] * tf.cast(room + 1, tf.float32), tf.int32), room)
        if self.crop_sampling != "uniform":
            choose = CropChooser(self.crop_sampling, self.ignore_label).choose
            (start,) = numpy_function(choose, [label, scaled, count, start, seed], [(tf.int32, [2])])
        mirrored = draws[3] <= 0.5
        rows = transforms.crop_points(start[0], count[0], size[0], scaled[0])
        columns = transforms.crop_points(start[1], count[1], size[1], scaled[1], mirrored)
        return rows, columns, mirrored

    def _scale(self, draw: Tensor) -> Tensor:
        """The scale for a uniform number from [0, 1)."""
        low, high = self.min_scale_factor, self.max_scale_factor
        scales = transforms.scale_grid(low, high, self.scale_factor_step_size)
        if not len(scales):
            return low + draw * (high - low)
        return tf.gather(tf.constant(scales), tf.cast(draw * len(scales), tf.int32))

    def _padded(self, image: Tensor, label: Tensor, mirrored: Tensor) -> tuple[Tensor, Tensor]:
        image = transforms.pad_to(image, *self.crop_size, self.padding_color, at_left=mirrored)
        label = transforms.pad_to(label, *self.crop_size, self.ignore_label, at_left=mirrored)
        return tf.ensure_shape(image, [*self.crop_size, image.shape[-1]]), tf.ensure_shape(label, self.crop_size)
