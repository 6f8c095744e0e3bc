"""Decides how much memory the decoded images of a training may take, and tells the user.

Called once by `loop.train`, before the first batch; `pipeline.train_batches`, which keeps the images, gets the result.
This module reads the headers of a few records and the system's free memory; it keeps and decodes nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from deeplab.config.data_config import ResizeConfig
from deeplab.data import decoding, records, transforms
from deeplab.data.dataset import Dataset
from deeplab.data.label_bits import bits_of
from deeplab.training import memory
from deeplab.utils import console, resources
from deeplab.utils.errors import UserError
from deeplab.utils.text import counted

_SAMPLE, _SHARDS = 48, 16  # records whose size is read, and the shards that they are in
_FRACTION, _LARGEST = 4, 4 << 30  # `auto`: a quarter of the free memory, at most this many bytes
_UNKNOWN = 1 << 30  # `auto`: bytes where the system does not tell how much memory is free


def cache_bytes(
    way: str,
    shards: Sequence[str],
    dataset: Dataset,
    resize: ResizeConfig,
    *,
    to_come: int,
    reserved: int = 0,
    processes: int = 1,
) -> int:
    """The memory for decoded images, for `pipeline.train_batches`; prints how much it is and how many images fit.

    Args:
      way: `TrainConfig.image_cache`.
      shards: paths of the TFRecord files.
      dataset: what images and labels are.
      resize: how images are resized before they are cropped.
      to_come: images in the batches that are still to come, of all epochs.
      reserved: bytes of main memory that the training itself will need.
      processes: workers on this machine, which share its memory.

    Returns:
      Bytes; 0 = nothing is kept: as the user wishes, because no image comes twice, or because not even one fits.

    Raises:
      UserError: all images are to be kept, but do not fit (`out-of-memory`).
    """
    count = records.count(shards)
    if way == "none" or (way == "auto" and to_come <= count):
        return 0
    each, free = decoded_bytes(shards, dataset, resize), resources.available_memory()
    total = each * count
    room = None if free is None else max(0, free - reserved) // processes
    if way == "memory":
        _require(total, room, count)
        console.note(f"all {counted(count, 'decoded image')} stay in memory: about {memory.size_text(total)}")
        return 2 * total if room is None else room  # more than the estimate, as images differ in size
    limit = _UNKNOWN // processes if room is None else min(_LARGEST // processes, room // _FRACTION)
    fitting = limit // each
    if fitting >= count:
        kept = f"about {memory.size_text(total)}, all {counted(count, 'image')}"
    elif fitting:
        all_of_them = f"`image_cache=memory` keeps all, about {memory.size_text(total)}"
        kept = f"up to {memory.size_text(limit)}, about {fitting:,} of {count:,} images; {all_of_them}"
    else:
        return 0
    console.note(f"decoded images stay in memory after the first epoch: {kept}")
    return limit


def _require(total: int, room: int | None, count: int) -> None:
    if room is not None and total > room:
        rule = f"{counted(count, 'decoded image')} need about {memory.size_text(total)}, and {memory.size_text(room)}"
        hint = "`image_cache=auto` keeps as many as fit well"
        raise UserError("out-of-memory", f"{rule} of memory are free", hint, field="image_cache", value="memory")


def decoded_bytes(shards: Sequence[str], dataset: Dataset, resize: ResizeConfig) -> int:
    """Mean bytes of a decoded image with its label, estimated from the sizes of a few records; at least 1."""
    bands, is_resized = dataset.image_bands, resize.min_resize_value is not None
    pixel = bands.channels * (4 if is_resized else np.dtype(bands.dtype).itemsize)
    pixel += bits_of(dataset.num_classes, dataset.ignore_label) // 8
    sizes = [transforms.resized_size(size, resize) if is_resized else size for size in _sizes(shards, dataset)]
    areas = [int(height) * int(width) for height, width in map(np.asarray, sizes)]
    return max(1, round(pixel * float(np.mean(areas)))) if areas else 1


def _sizes(shards: Sequence[str], dataset: Dataset) -> Iterator[tf.Tensor]:
    """Height and width of some images, int32 [2]; damaged ones are left out, because the pipeline reports them."""
    chosen = [shards[place] for place in np.unique(np.linspace(0, len(shards) - 1, _SHARDS).astype(int))]
    for path in chosen:
        for record in itertools.islice(records.raw_records(path), -(-_SAMPLE // len(chosen))):
            try:
                example = decoding.parse(record)
                bands = dataset.image_bands
                yield decoding.image_size(example) if bands.is_rgb else decoding.values_size(example, bands)
            except tf.errors.OpError:
                continue
