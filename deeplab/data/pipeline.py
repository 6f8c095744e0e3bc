"""How records become batches.

    train_batches(shards, ...)  endless, shuffled, scaled, cropped, mirrored batches of one size
    eval_images(shards, ...)    every image once, in file order, as it is
    eval_batches(shards, ...)   the same, resized and padded to one size
    explain(error, shards)      what the user did wrong, when one of them stops with a TensorFlow error

Values equal the research DeepLab's (`geometry.py`), the order of the work does not: scale, crop and mirroring are
drawn first, then only those pixels are decoded and resized that the crop shows. Every draw depends on nothing but
the seed and the image's position in the stream. Hence a run can be repeated, and one that was interrupted goes on
where it stood, without any image being decoded again.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from deeplab.config.data_config import ResizeConfig
from deeplab.data import records, transforms
from deeplab.data.decoding import (
    Box,
    Example,
    Tensor,
    by,
    checked,
    decode_box,
    decode_image,
    decode_label,
    find_undecodable,
    image_size,
    parse,
    reported,
    words,
)
from deeplab.data.labels import LabelSpec
from deeplab.model.resize import fitting_length
from deeplab.utils.errors import UserError

_SHUFFLED_BYTES = 128 << 20  # encoded images in memory for shuffling: some 1300 of VOC's
_OPEN_SHARDS = 16  # shards from which records come in turn
_UNCHANGED = ResizeConfig()


# --- Training -----------------------------------------------------------------------------------------------


def train_batches(
    shards: Sequence[str],
    *,
    crop_size: tuple[int, int],
    batch_size: int,
    mean_pixel: Sequence[float],
    ignore_label: int,
    num_classes: int,
    min_scale_factor: float = 0.5,
    max_scale_factor: float = 2.0,
    scale_factor_step_size: float = 0.25,
    resize: ResizeConfig = _UNCHANGED,
    seed: int | None = None,
    start: int = 0,
) -> tf.data.Dataset:
    """Endless training batches.

    Every image comes once per epoch. Encoded records are shuffled, within 128 MiB and across shards, afresh in each
    epoch; the reference shuffled 100 finished crops, which takes three times the memory and mixes less. A batch may
    hold the end of one epoch and the start of the next, so all have the same shape and no image is left out.

    Args:
      shards: paths of TFRecord files, as from `records.list_shards`.
      crop_size: height and width of the crops, in pixels.
      batch_size: images in a batch.
      mean_pixel: RGB, 0..255, with which images smaller than the crop are padded at the bottom and the right.
      ignore_label: label value of that padding, and of pixels that count for nothing.
      num_classes: labels hold 0 .. num_classes - 1 and ignore_label, anything else is an error.
      min_scale_factor, max_scale_factor, scale_factor_step_size: `geometry.scale_grid` of the random scale.
      resize: brings images into a range of sizes before they are scaled.
      seed: the same seed gives the same batches; None draws one.
      start: number of batches that an earlier run with this seed has consumed; they are skipped.

    Returns:
      Dataset of dicts: image float32 [B, H, W, 3], 0..255, not rounded; label int32 [B, H, W]; image_name string [B];
      height and width int32 [B], the sizes of the stored images.

    Raises:
      UserError: no records, or a truncated shard. What is found while reading arrives as a TensorFlow error, which
        `explain` turns into a UserError.
    """
    count = _count(shards)
    seed = secrets.randbits(31) if seed is None else seed
    scales = transforms.scale_grid(min_scale_factor, max_scale_factor, scale_factor_step_size)
    make_crop = _TrainingCrop(
        crop_size=crop_size,
        mean_pixel=mean_pixel,
        labels=LabelSpec(num_classes, ignore_label),
        scale_range=(min_scale_factor, max_scale_factor),
        scales=tuple(scales.tolist()),
        resize=resize,
        seed=seed,
    )
    stream = _shuffled_records(shards, count, seed, start * batch_size).enumerate(start * batch_size)
    crops = stream.map(make_crop, num_parallel_calls=tf.data.AUTOTUNE)
    return crops.batch(batch_size, drop_remainder=True).prefetch(2).with_options(_options())


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    options.threading.max_intra_op_parallelism = 1  # images run in parallel, so their operations need not
    options.experimental_optimization.map_and_batch_fusion = True  # crops are written straight into the batch
    return options


def _count(shards: Sequence[str]) -> int:
    number = records.count(shards)
    if not number:
        where = os.path.dirname(shards[0]) if shards else "records"
        rule = f"{len(shards)} shards hold no record" if shards else "no shards"
        raise UserError(
            "unclassified",
            rule,
            "the split is empty: check its list of images, then build the records anew",
            where=where,
        )
    return number


def _shuffled_records(shards: Sequence[str], count: int, seed: int, start: int) -> tf.data.Dataset:
    """Serialized records, epoch after epoch, from position `start` on; earlier epochs are not even read."""
    first_epoch, consumed = divmod(start, count)
    names = tf.constant(list(shards))
    average = sum(os.path.getsize(path) for path in shards) / count
    buffer = max(1, min(count, int(_SHUFFLED_BYTES / average)))

    def one_epoch(epoch: Tensor) -> tf.data.Dataset:
        # Of this function's graph: `shuffle` must not depend on the caller's global seed. Not 0, which TensorFlow
        # compares with the operation's seed, a tensor here.
        tf.random.set_seed(1)
        # Epochs take the negative numbers beside the seed; positions in the stream take 0 and up.
        draws = tf.random.stateless_uniform([len(shards) + 1], seed=[seed, -1 - epoch])
        files = tf.data.Dataset.from_tensor_slices(tf.gather(names, tf.argsort(draws[1:])))
        mixed = files.interleave(tf.data.TFRecordDataset, cycle_length=min(len(shards), _OPEN_SHARDS))
        mixed = mixed.shuffle(buffer, seed=tf.cast(tf.bitcast(draws[0], tf.int32), tf.int64))
        return mixed.skip(tf.where(epoch == first_epoch, tf.constant(consumed, tf.int64), 0))

    return tf.data.Dataset.counter(first_epoch).flat_map(one_epoch)


@dataclass(frozen=True)
class _TrainingCrop:
    """Makes the training crop of one record; all arguments as in `train_batches`."""

    crop_size: tuple[int, int]
    mean_pixel: Sequence[float]
    labels: LabelSpec
    scale_range: tuple[float, float]
    scales: tuple[float, ...]
    resize: ResizeConfig
    seed: int

    def __call__(self, position: Tensor, serialized: Tensor) -> Example:
        example = parse(serialized)
        stored_size = image_size(example)
        label = decode_label(example, stored_size, self.labels)
        label = transforms.resize_label_to_range(label, self.resize)
        rows, columns, mirrored = self._draw(position, tf.shape(label))
        box = Box.around(rows, columns, tf.shape(label))
        if self.resize.min_resize_value is None:
            image = decode_box(example[records.IMAGE], box, stored_size)
        else:
            image = box.cut(transforms.resize_to_range(decode_image(example[records.IMAGE]), self.resize))
        rows, columns = rows - tf.cast(box.top, tf.float32), columns - tf.cast(box.left, tf.float32)
        image = transforms.sample_bilinear(image, rows, columns)
        label = transforms.sample_nearest(box.cut(label), rows, columns)
        return {
            "image": self._pad(image, self.mean_pixel, mirrored, [3]),
            "label": tf.cast(self._pad(label, self.labels.ignore_label, mirrored, []), tf.int32),
            "image_name": example[records.FILENAME],
            "height": stored_size[0],
            "width": stored_size[1],
        }

    def _draw(self, position: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Row points and column points of a random crop of an image of `size`, and whether it is mirrored."""
        draws = tf.random.stateless_uniform([4], seed=[self.seed, position])
        scaled = transforms.scaled_size(size, self._scale(draws[0]))
        count = tf.minimum(scaled, self.crop_size)
        room = scaled - count
        start = tf.minimum(tf.cast(draws[1:3] * tf.cast(room + 1, tf.float32), tf.int32), room)
        mirrored = draws[3] <= 0.5
        rows = transforms.crop_points(start[0], count[0], size[0], scaled[0])
        columns = transforms.crop_points(start[1], count[1], size[1], scaled[1], mirrored)
        return rows, columns, mirrored

    def _scale(self, draw: Tensor) -> Tensor:
        """The scale for a uniform number from [0, 1)."""
        if not self.scales:
            low, high = self.scale_range
            return low + draw * (high - low)
        return tf.gather(tf.constant(self.scales), tf.cast(draw * len(self.scales), tf.int32))

    def _pad(self, values: Tensor, value: float | Sequence[float], mirrored: Tensor, channels: list[int]) -> Tensor:
        padded = transforms.pad_to(values, *self.crop_size, value, at_left=mirrored)
        return tf.ensure_shape(padded, [*self.crop_size, *channels])


# --- Evaluation ---------------------------------------------------------------------------------------------


def eval_images(
    shards: Sequence[str], *, ignore_label: int = 255, num_classes: int | None = None, with_labels: bool | None = None
) -> tf.data.Dataset:
    """Every image once, in file order, as it is stored.

    Args:
      shards: paths of TFRecord files, in order.
      ignore_label, num_classes: labels hold 0 .. num_classes - 1 and ignore_label; None leaves that unchecked.
      with_labels: whether there are labels; None looks at the first record.

    Returns:
      Dataset of dicts: image uint8 [H, W, 3], RGB; label int32 [H, W], unless there are none; image_name string;
      height and width int32.

    Raises:
      UserError: as `train_batches`.
    """
    _count(shards)
    spec = LabelSpec(num_classes, ignore_label) if _has_labels(shards, with_labels) else None

    def make(serialized: Tensor) -> Example:
        return _whole_image(parse(serialized), spec)

    examples = tf.data.TFRecordDataset(list(shards)).map(make, num_parallel_calls=tf.data.AUTOTUNE)
    return examples.prefetch(2).with_options(_options())


def eval_batches(
    shards: Sequence[str],
    *,
    crop_size: tuple[int, int],
    batch_size: int,
    mean_pixel: Sequence[float],
    ignore_label: int = 255,
    num_classes: int | None = None,
    resize: ResizeConfig = _UNCHANGED,
    output_stride: int = 16,
    with_labels: bool | None = None,
) -> tf.data.Dataset:
    """Every image once, in file order, resized if asked for and padded at the bottom and the right; never cropped.

    Args:
      crop_size: height and width to which images are padded; a larger image is an error.
      batch_size: images in a batch; the last batch may be smaller.
      output_stride: with it the error for a larger image works out a crop size that fits.
      The rest: as in `train_batches` and `eval_images`.

    Returns:
      Dataset of dicts: image float32 [B, H, W, 3], 0..255; label int32 [B, H, W], unless there are none; image_name
      string [B]; height and width int32 [B], the stored sizes; resized_height and resized_width int32 [B], the sizes
      without padding.
    """

    def make(example: Example) -> Example:
        pixels = {"image": transforms.resize_to_range(example["image"], resize)}
        if "label" in example:
            pixels["label"] = transforms.resize_label_to_range(example["label"], resize)
        size = tf.shape(pixels["image"])[:2]
        pixels = _within(pixels, size, crop_size, example["image_name"], output_stride)
        image = transforms.pad_to(tf.cast(pixels["image"], tf.float32), *crop_size, mean_pixel)
        padded = {"image": tf.ensure_shape(image, [*crop_size, 3])}
        if "label" in pixels:
            padded["label"] = tf.ensure_shape(transforms.pad_to(pixels["label"], *crop_size, ignore_label), crop_size)
        return {**example, **padded, "resized_height": size[0], "resized_width": size[1]}

    images = eval_images(shards, ignore_label=ignore_label, num_classes=num_classes, with_labels=with_labels)
    return images.map(make, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size).prefetch(2)


def _has_labels(shards: Sequence[str], known: bool | None) -> bool:
    if known is not None:
        return known
    return next(bool(record.get(records.LABEL)) for path in shards for record in records.read_shard(path))


def _whole_image(example: Example, spec: LabelSpec | None) -> Example:
    size = image_size(example)
    loaded = {
        "image": decode_image(example[records.IMAGE]),
        "image_name": example[records.FILENAME],
        "height": size[0],
        "width": size[1],
    }
    if spec is not None:
        loaded["label"] = tf.cast(decode_label(example, size, spec), tf.int32)
    return loaded


def _within(pixels: Example, size: Tensor, crop_size: tuple[int, int], name: Tensor, output_stride: int) -> Example:
    """The pixels, or an error if their size exceeds the crop's."""

    def rule() -> Tensor:
        return words("is", by(size), "pixels, more than the crop size", by(crop_size))

    def hint() -> Tensor:
        needed = tf.maximum(fitting_length(size, output_stride), crop_size)
        return words("a crop size of", tf.strings.reduce_join(tf.strings.as_string(needed), separator=","), "holds it")

    return checked(pixels, tf.reduce_all(size <= crop_size), name, "crop-too-small", rule, hint)


# --- Errors -------------------------------------------------------------------------------------------------


def explain(error: Exception, shards: Sequence[str]) -> Exception:
    """The UserError behind a TensorFlow error that a dataset of this module raised, else the error itself.

        except tf.errors.OpError as error:
            raise explain(error, shards) from error

    TensorFlow does not say which file or image it met, so damaged ones are looked for here.
    """
    report = reported(error)
    if report:
        return report
    if isinstance(error, tf.errors.DataLossError):
        return records.find_damage(shards) or error
    if isinstance(error, tf.errors.NotFoundError):
        gone = [path for path in shards if not os.path.exists(path)]
        return UserError("unclassified", "was removed while it was in use", where=gone[0]) if gone else error
    if isinstance(error, tf.errors.InvalidArgumentError):
        return find_undecodable(shards) or error
    return error
