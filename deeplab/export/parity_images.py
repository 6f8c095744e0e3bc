"""The images on which exports are checked: given ones, the dataset's own, or generated portraits."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterator

import numpy as np
from PIL import Image

from deeplab.config.fields import Size
from deeplab.data import image_files, images, records, sample_dataset
from deeplab.utils import console
from deeplab.utils.errors import UserError

_MIN_SIDE = 64  # pixels; smaller portraits cannot be drawn
Named = tuple[str, np.ndarray]
_SHAPES = ((1.0, 0.6), (0.6, 1.0), (1.0, 1.0), (0.75, 0.75))  # of the crop: tall, wide, filling it, smaller


def choose(count: int, folder: str, dataset_dir: str, crop: Size, channels: int) -> list[Named]:
    """Return names and pixels, uint8 [H, W, channels], of images to check an export on.

    Args:
      count: how many.
      folder: of images; empty = take the dataset's.
      dataset_dir: of records; empty or without records = draw portraits.
      crop: height, width; larger images are shrunk to fit, because every prediction is made and kept twice.
      channels: of the model's input; those after the third repeat the first ones.

    Raises:
      UserError: `folder` holds no readable image.
    """
    if folder:
        found: Iterator[Named] = ((one.name, images.read_image(one.path)) for one in image_files.find_images([folder]))
    else:
        found = from_records(dataset_dir) if dataset_dir else iter(())
    chosen = list(itertools.islice(found, count)) or portraits(count, crop)
    return [(name, with_channels(fitting(image, crop), channels)) for name, image in chosen]


def from_records(dataset_dir: str) -> Iterator[Named]:
    """Yield the images of the val split (without one: of the first split); none, with a note, where they are gone."""
    try:
        splits = records.shards_by_split(dataset_dir) if os.path.isdir(dataset_dir) else {}
        if not splits:
            console.note(f"no records in {dataset_dir}: the export is checked on generated portraits")
            return
        for shard in records.list_shards(dataset_dir, "val" if "val" in splits else sorted(splits)[0]):
            for example in records.read_shard(shard):
                name = os.path.basename(example[records.FILENAME].decode("utf-8", "replace"))
                yield name, images.to_rgb(Image.open(io.BytesIO(example[records.IMAGE])), name)
    except (UserError, OSError) as error:
        console.warning(f"the dataset's images cannot be read ({error}): checking on those read so far")


def portraits(count: int, crop: Size) -> list[Named]:
    """Draw portraits of several sizes within the crop; the first two are one tall and one wide."""
    drawn = []
    for index, shape in enumerate(itertools.islice(itertools.cycle(_SHAPES), count)):
        height, width = (max(1, round(length * part)) for length, part in zip(crop, shape, strict=True))
        drawing = np.random.default_rng(index)
        image, _ = sample_dataset.draw_portrait(drawing, max(height, _MIN_SIDE), max(width, _MIN_SIDE))
        drawn.append((f"portrait {index + 1}", image[:height, :width]))
    return drawn


def fitting(image: np.ndarray, crop: Size) -> np.ndarray:
    """Return an image no larger than the crop: as it is, or shrunk with its aspect ratio kept."""
    shrunk = Image.fromarray(image)
    shrunk.thumbnail((crop[1], crop[0]))
    return np.asarray(shrunk)


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Return uint8 [H, W, 3] with fewer channels, or with more that repeat the first ones."""
    return np.ascontiguousarray(image[..., np.arange(channels) % image.shape[-1]])
