"""Input pipelines: records become batches for training, or single images for evaluation.

    train_batches(shards, ...)  endless, shuffled, scaled, cropped, mirrored batches of one size
    eval_images(shards, ...)    every image once, in file order, as it is stored
    explain(error, shards)      the UserError behind the TensorFlow error with which one of them stops

The values equal those of the research DeepLab. Every random draw depends on nothing but the seed and the image's
position in the stream, so a run can be repeated, and an interrupted run resumes without decoding any image again.
Several workers share the stream by position: each reads and decodes only its images of every batch, which are those
that one worker alone would have, whatever their number.
"""

from __future__ import annotations

import atexit
import functools
import gc
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from deeplab.config.data_config import ResizeConfig
from deeplab.data import records
from deeplab.data.augmentation import Augmentation
from deeplab.data.augmentation.mixture import Mixture
from deeplab.data.augmentation.scale_crop_flip import ScaleCropFlip
from deeplab.data.bands import RGB, ImageBands
from deeplab.data.decoding import (
    Example,
    Tensor,
    decode_image,
    decode_label,
    decode_values,
    find_undecodable,
    image_size,
    parse,
    reported,
    values_size,
)
from deeplab.data.image_cache import ImageCache
from deeplab.data.in_place_batches import Slots, batches_in_place
from deeplab.data.labels import LabelSpec
from deeplab.data.record_crops import RecordCrops
from deeplab.utils.errors import UserError
from deeplab.utils.text import counted

_SHUFFLED_BYTES = 128 << 20  # encoded images in memory for shuffling: some 1300 of VOC's
_READ_BYTES = 64 << 10  # at once, where single records are read
_OPEN_SHARDS = 16  # shards from which records come in turn
_UNCHANGED = ResizeConfig()


# --- Training -----------------------------------------------------------------------------------------------


def train_batches(
    shards: Sequence[str],
    *,
    crop_size: tuple[int, int],
    batch_size: int,
    padding_color: Sequence[float],
    ignore_label: int,
    num_classes: int,
    min_scale_factor: float = 0.5,
    max_scale_factor: float = 2.0,
    scale_factor_step_size: float = 0.25,
    resize: ResizeConfig = _UNCHANGED,
    augmentations: Sequence[Augmentation | Mixture] = (),
    crop_sampling: str = "uniform",
    repeats: Sequence[float] | np.ndarray | None = None,
    seed: int | None = None,
    start: int = 0,
    bands: ImageBands = RGB,
    part: tuple[int, int] = (0, 1),
    pieces: int = 1,
    cache_bytes: int = 0,
) -> tf.data.Dataset:
    """Endless training batches.

    Every image comes once per epoch, or as often as `repeats` says. Encoded records are shuffled, within 128 MiB and
    across shards, in a new order in each epoch; the reference shuffled 100 finished crops, which takes three times the
    memory and mixes less. A batch may hold the end of one epoch and the start of the next, so all batches have the same
    shape and no image is left out.

    Args:
      shards: paths of TFRecord files, as from `records.list_shards`.
      crop_size: height and width of the crops, in pixels.
      batch_size: images per batch.
      padding_color: one number per channel, 0..255, with which images smaller than the crop are padded at the bottom
        and the right: `deeplab.model.padding_color`.
      ignore_label: label of that padding, and of pixels that do not count.
      num_classes: labels hold 0 .. num_classes - 1 and ignore_label; other values are an error.
      min_scale_factor, max_scale_factor, scale_factor_step_size: `transforms.scale_grid` of the random scale.
      resize: brings images into a range of sizes before they are scaled.
      augmentations: operations on the crops and on the batches; see `deeplab.data.augmentation.make`.
      crop_sampling: where crops are cut; see `AugmentationConfig.crop_sampling`.
      repeats: how often each record comes per epoch, in the order of the shards, at least 1; fractions on average.
      seed: the same seed gives the same batches; None draws one.
      start: number of batches that an earlier run with this seed has consumed; they are skipped.
      bands: what the stored images are, as `dataset.yml` says; other values than 8-bit RGB are scaled to 0..255.
      part: number of this worker, and of all workers, among which each batch is divided evenly, in order.
      pieces: number of elements into which this worker's images of a batch are divided evenly, in order.
      cache_bytes: memory for decoded images, which are then decoded once and not in each epoch; those that do not fit
        are decoded each time. The batches are the same.

    Returns:
      Dataset of dicts: image float32 [B, H, W, C], 0..255, not rounded; label int32 [B, H, W]; image_name string [B];
      height and width int32 [B], the sizes of the stored images.

    Raises:
      UserError: no records (`empty-split`), or a truncated shard (`bad-record`). Errors that are found while reading
        arrive as TensorFlow errors, which `explain` turns into a UserError.
    """
    _end_iterators_at_exit()
    count = _count(shards)
    seed = secrets.randbits(31) if seed is None else seed
    scales = (min_scale_factor, max_scale_factor, scale_factor_step_size)
    crop = ScaleCropFlip(crop_size, padding_color, ignore_label, *scales, crop_sampling)
    mixtures = [operation for operation in augmentations if isinstance(operation, Mixture)]
    of_images = [operation for operation in augmentations if not isinstance(operation, Mixture)]
    cache = ImageCache(cache_bytes, count) if cache_bytes else None
    crops = RecordCrops(crop, LabelSpec(num_classes, ignore_label), resize, of_images, bands, cache)
    sharing = _Sharing(batch_size, *part, pieces, whole_batches=bool(mixtures))
    read = _random_access(shards) if cache or not sharing.reads_in_turn else None

    def are_read() -> Tensor:
        if cache is None or not sharing.reads_in_turn:
            return tf.constant(sharing.reads_in_turn)
        return tf.numpy_function(lambda: not cache.is_complete, [], tf.bool)

    def serialized(number: Tensor, content: Tensor) -> Tensor:
        if read is None:
            return content
        return tf.cond(tf.strings.length(content) > 0, lambda: content, lambda: read(number))

    def make(slots: Slots, positions: Tensor, stored: tuple[Tensor, Tensor]) -> tuple[Tensor, Example]:
        seeds = tf.stack([tf.fill(positions.shape, tf.constant(seed, tf.int64)), positions], 1)
        return crops.fill(*stored, serialized, seeds, slots)

    stream = _shuffled_records(shards, count, seed, start * batch_size, repeats, are_read)
    stream = sharing.own(stream.enumerate(start * batch_size))
    batches = batches_in_place(stream, make, sharing.together, (*crop_size, bands.channels), quick=cache is not None)
    if mixtures:
        mix = _mixing(mixtures, seed, batch_size)
        batches = sharing.own_part(batches.enumerate(start).map(mix, num_parallel_calls=tf.data.AUTOTUNE))
    batches = batches.prefetch(2 * pieces).with_options(_options())
    if cache:
        cache.live_with(batches)
    return batches


@dataclass(frozen=True)
class _Sharing:
    """How several workers share the batches.

    Attributes:
      batch_size: images in a batch of all workers.
      worker, workers, pieces: `part` and `pieces` of `train_batches`.
      whole_batches: each worker makes all images, because they are mixed before they are divided.
    """

    batch_size: int
    worker: int
    workers: int
    pieces: int
    whole_batches: bool

    @property
    def reads_in_turn(self) -> bool:
        """Whether this worker needs all records, so that it reads the files from their beginning to their end."""
        return self.workers == 1

    @property
    def _share(self) -> int:
        """This worker's images of a batch."""
        return self.batch_size // self.workers

    @property
    def together(self) -> int:
        """Images that are made as one element."""
        return self.batch_size if self.whole_batches else self._share // self.pieces

    def own(self, numbered: tf.data.Dataset) -> tf.data.Dataset:
        """The images of a stream that this worker makes."""
        if self.workers == 1 or self.whole_batches:
            return numbered
        return numbered.filter(lambda position, *_: position % self.batch_size // self._share == self.worker)

    def own_part(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """This worker's part of whole batches, in pieces."""
        begin, end = self.worker * self._share, (self.worker + 1) * self._share
        if self.workers > 1:
            batches = batches.map(lambda batch: {name: value[begin:end] for name, value in batch.items()})
        return batches if self.pieces == 1 else batches.rebatch(self._share // self.pieces, drop_remainder=True)


@functools.cache
def _end_iterators_at_exit() -> None:
    """Ends iterators that are alive at the end of a program: their threads would call Python, and hang or abort it."""

    def end() -> None:
        alive = [found for found in gc.get_objects() if issubclass(type(found), tf.data.Iterator)]
        for iterator in alive:
            vars(iterator).clear()  # the last reference to TensorFlow's iterator, which waits for its threads

    atexit.register(end)


def _random_access(shards: Sequence[str]) -> Callable[[Tensor], Tensor]:
    """A function that reads the serialized record of a number in the order of the shards, int64 scalar."""
    places = [np.asarray(records.offsets(path), np.int64) for path in shards]
    offsets = tf.constant(np.concatenate(places))
    shard_of = tf.constant(np.repeat(np.arange(len(places)), [len(each) for each in places]))
    names = tf.constant(list(shards))

    def read(number: Tensor) -> Tensor:
        one_file = tf.raw_ops.TFRecordDatasetV2(
            filenames=names[shard_of[number]][tf.newaxis],
            compression_type="",
            buffer_size=tf.constant(_READ_BYTES, tf.int64),
            byte_offsets=offsets[number][tf.newaxis],
        )
        from_there = tf.data.experimental.from_variant(one_file, tf.TensorSpec([], tf.string))
        return from_there.take(1).get_single_element()

    return read


def _mixing(mixtures: Sequence[Mixture], seed: int, batch_size: int) -> Callable[[Tensor, Example], Example]:
    def mix(number: Tensor, batch: Example) -> Example:
        image, label = batch["image"], batch["label"]
        for mixture in mixtures:
            image, label = mixture(image, label, tf.stack([tf.constant(seed, tf.int64), number * batch_size]))
        return {**batch, "image": image, "label": label}

    return mix


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    options.threading.max_intra_op_parallelism = 1  # images run in parallel, so their operations need not
    return options


def _count(shards: Sequence[str]) -> int:
    number = records.count(shards)
    if not number:
        where = os.path.dirname(shards[0]) if shards else "records"
        rule = f"{counted(len(shards), 'shard')} without a record" if shards else "there are no shards"
        hint = "the split is empty: check its list of images, then build the records again"
        raise UserError("empty-split", rule, hint, where=where)
    return number


def _shuffled_records(
    shards: Sequence[str],
    count: int,
    seed: int,
    start: int,
    repeats: Sequence[float] | np.ndarray | None,
    are_read: Callable[[], Tensor],
) -> tf.data.Dataset:
    """Records, epoch after epoch, from position `start` on; earlier epochs are not read.

    Args:
      shards, repeats: as for `train_batches`.
      count: number of records.
      seed: of the order.
      start: number of records to skip.
      are_read: called at the beginning of each epoch; whether files are read, bool scalar.

    Returns:
      Dataset of pairs: the number of a record in the order of the shards, int64; the serialized record, empty where
      files are not read. The order is the same.
    """
    names = tf.constant(list(shards))
    average = sum(os.path.getsize(path) for path in shards) / count
    buffer = max(1, min(count, int(_SHUFFLED_BYTES / average)))
    offsets = tf.constant(np.cumsum([0, *(records.count([path]) for path in shards)]), tf.int64)
    first_epoch, consumed = divmod(start, count) if repeats is None else _epoch_of(start, repeats, seed)

    def one_epoch(epoch: Tensor) -> tf.data.Dataset:
        # The seed of this function's graph: `shuffle` must not depend on the caller's global seed. It is not 0, which
        # TensorFlow would compare with the operation's seed, a tensor here.
        tf.random.set_seed(1)
        # Epochs take the negative numbers beside the seed; positions in the stream take 0 and up.
        draws = tf.random.stateless_uniform([len(shards) + 1], seed=[seed, -1 - epoch])
        order = tf.argsort(draws[1:])
        ranges = (tf.gather(names, order), tf.gather(offsets, order), tf.gather(offsets, order + 1))
        files = tf.data.Dataset.from_tensor_slices(ranges)
        read = tf.where(are_read(), tf.constant(len(shards), tf.int64), 0)
        cycle = min(len(shards), _OPEN_SHARDS)
        mixed = files.take(read).interleave(_numbered_records, cycle_length=cycle)
        mixed = mixed.concatenate(files.skip(read).interleave(_numbers_alone, cycle_length=cycle))
        if repeats is not None:
            times = _times(repeats, seed, epoch)
            mixed = mixed.flat_map(lambda *record: tf.data.Dataset.from_tensors(record).repeat(times[record[0]]))
        mixed = mixed.shuffle(buffer, seed=tf.cast(tf.bitcast(draws[0], tf.int32), tf.int64))
        return mixed.skip(tf.where(epoch == first_epoch, tf.constant(consumed, tf.int64), 0))

    return tf.data.Dataset.counter(first_epoch).flat_map(one_epoch)


def _numbered_records(path: Tensor, first: Tensor, end: Tensor) -> tf.data.Dataset:
    return tf.data.Dataset.zip(tf.data.Dataset.range(first, end), tf.data.TFRecordDataset(path))


def _numbers_alone(path: Tensor, first: Tensor, end: Tensor) -> tf.data.Dataset:
    del path
    return tf.data.Dataset.zip(tf.data.Dataset.range(first, end), tf.data.Dataset.from_tensors(b"").repeat())


def _times(repeats: Sequence[float] | np.ndarray, seed: int, epoch: Tensor) -> Tensor:
    """How often each record comes in an epoch: int64 [records], `repeats` rounded down, or up as often as needed."""
    factors = tf.constant(repeats, tf.float32)
    # The third number tells these draws from those of the order of the shards, which have the same seed and epoch.
    own_seed = tf.random.experimental.stateless_fold_in(tf.stack([tf.cast(seed, tf.int64), -1 - epoch]), 1)
    return tf.cast(tf.floor(factors + tf.random.stateless_uniform(factors.shape, own_seed)), tf.int64)


def _epoch_of(start: int, repeats: Sequence[float] | np.ndarray, seed: int) -> tuple[int, int]:
    """The epoch in which a position of the stream is, and the number of records of it that come before."""
    epoch = 0
    while start >= (length := int(tf.reduce_sum(_times(repeats, seed, tf.constant(epoch, tf.int64))))):
        start -= length
        epoch += 1
    return epoch, start


# --- Evaluation ---------------------------------------------------------------------------------------------


def eval_images(
    shards: Sequence[str],
    *,
    ignore_label: int = 255,
    num_classes: int | None = None,
    with_labels: bool | None = None,
    bands: ImageBands = RGB,
    part: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Every image once, in file order, as it is stored.

    Args:
      shards: paths of TFRecord files, in order.
      ignore_label, num_classes: labels hold 0 .. num_classes - 1 and ignore_label; None = values are not checked.
      with_labels: whether there are labels; None = look at the first record.
      bands: what the stored images are, as `dataset.yml` says.
      part: number of the first image, and the step to the next one: (1, 4) = images 1, 5, 9 ...

    Returns:
      Dataset of dicts: image uint8 [H, W, 3], RGB, or raw values [H, W, C] of the type of `bands`; label
      int32 [H, W], unless there are none; image_name string; height and width int32.

    Raises:
      UserError: as `train_batches`.
    """
    _count(shards)
    spec = LabelSpec(num_classes, ignore_label) if _has_labels(shards, with_labels) else None

    def make(serialized: Tensor) -> Example:
        return _whole_image(parse(serialized), spec, bands)

    stored = tf.data.TFRecordDataset(list(shards)).shard(part[1], part[0])
    examples = stored.map(make, num_parallel_calls=tf.data.AUTOTUNE)
    return examples.prefetch(2).with_options(_options())


def _has_labels(shards: Sequence[str], known: bool | None) -> bool:
    if known is not None:
        return known
    return next(bool(records.label_of(record)) for path in shards for record in records.read_shard(path))


def _whole_image(example: Example, spec: LabelSpec | None, bands: ImageBands) -> Example:
    size = image_size(example) if bands.is_rgb else values_size(example, bands)
    loaded = {
        "image": decode_image(example[records.IMAGE]) if bands.is_rgb else decode_values(example, size, bands),
        "image_name": example[records.FILENAME],
        "height": size[0],
        "width": size[1],
    }
    if spec is not None:
        loaded["label"] = tf.cast(decode_label(example, size, spec), tf.int32)
    return loaded


# --- Errors -------------------------------------------------------------------------------------------------


def explained(examples: tf.data.Dataset, shards: Sequence[str]) -> Iterator[Example]:
    """The elements of a dataset of this module; its errors are those of `explain`."""
    try:
        yield from examples
    except tf.errors.OpError as error:
        raise explain(error, shards) from error


def explain(error: Exception, shards: Sequence[str]) -> Exception:
    """Return the UserError behind a TensorFlow error that a dataset of this module raised, else the error itself.

        except tf.errors.OpError as error:
            raise explain(error, shards) from error

    TensorFlow does not name the file or the image, so damaged ones are searched for here.
    """
    report = reported(error)
    if report:
        return report
    if isinstance(error, tf.errors.DataLossError):
        return records.find_damage(shards) or error
    if isinstance(error, tf.errors.NotFoundError):
        gone = [path for path in shards if not os.path.exists(path)]
        rule, hint = "was removed while it was in use", "copy the folder of records again"
        return UserError("file-not-found", rule, hint, where=gone[0]) if gone else error
    if isinstance(error, tf.errors.InvalidArgumentError):  # a record of other types, or an image or label in pieces
        return records.find_damage(shards) or find_undecodable(shards) or error
    return error
