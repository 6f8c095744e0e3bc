"""The images on which exports are checked: given ones, the dataset's own, or generated portraits."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import numpy as np
from PIL import Image

from deeplab.config.fields import Size
from deeplab.data import image_files, images, records, sample_dataset
from deeplab.data.bands import RGB, ImageBands
from deeplab.data.given_images import to_pixels
from deeplab.utils import console
from deeplab.utils.errors import UserError

_MIN_SIDE = 64  # pixels; smaller portraits cannot be drawn
Named = tuple[str, np.ndarray]
_SHAPES = ((1.0, 0.6), (0.6, 1.0), (1.0, 1.0), (0.75, 0.75))  # of the crop: tall, wide, filling it, smaller


def choose(count: int, folder: str, dataset_dir: str, crop: Size, bands: ImageBands) -> list[Named]:
    """Return names and pixels, [H, W, channels], of images to check an export on.

    Args:
      count: how many.
      folder: of images; empty = take the dataset's.
      dataset_dir: of records; empty or without records = draw portraits.
      crop: height, width; larger images are shrunk to fit, because every prediction is made and kept twice.
      bands: what the model takes.

    Raises:
      UserError: `folder` holds no readable image.
    """
    if folder:
        found: Iterator[Named] = ((one.name, read_for(one.path, bands)) for one in image_files.find_images([folder]))
    else:
        found = from_records(dataset_dir, bands) if dataset_dir else iter(())
    chosen = [(name, with_channels(fitting(image, crop), bands)) for name, image in itertools.islice(found, count)]
    return chosen or [(name, as_bands(fitting(image, crop), bands)) for name, image in portraits(count, crop)]


def from_records(dataset_dir: str, bands: ImageBands = RGB) -> Iterator[Named]:
    """Yield the images of the val split (without one: of the first split); none, with a note, where they are gone.

    Images of other bands than the model takes end it with a warning.
    """
    try:
        splits = records.shards_by_split(dataset_dir) if os.path.isdir(dataset_dir) else {}
        if not splits:
            console.note(f"no records in {dataset_dir}: the export is checked on generated portraits")
            return
        for shard in records.list_shards(dataset_dir, "val" if "val" in splits else sorted(splits)[0]):
            for example in records.read_shard(shard):
                name = os.path.basename(example[records.FILENAME].decode("utf-8", "replace"))
                yield name, images.decode_record(example, bands, name)
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


def can_shrink(image: np.ndarray) -> bool:
    """Whether this is an 8-bit RGB image."""
    return image.dtype == np.uint8 and image.shape[2] == RGB.channels


def fitting(image: np.ndarray, crop: Size) -> np.ndarray:
    """Return an image no larger than the crop: as it is, or shrunk with its aspect ratio kept.

    Images that are not 8-bit RGB are cut instead, so that their values stay.
    """
    if not can_shrink(image):
        return np.ascontiguousarray(image[: crop[0], : crop[1]])
    shrunk = Image.fromarray(image)
    shrunk.thumbnail((crop[1], crop[0]))
    return np.asarray(shrunk)


def as_bands(image: np.ndarray, bands: ImageBands) -> np.ndarray:
    """Return uint8 [H, W, 3] as an image of these bands: channels repeated, values spread over the model's range."""
    channels = image[..., np.arange(bands.channels) % image.shape[-1]]
    if not bands.low:
        return channels.astype(bands.dtype)
    low, high = np.array(bands.low), np.array(bands.high)
    values = low + channels.astype(np.float64) / 255 * (high - low)
    return values.astype(np.float32) if bands.dtype == "float32" else values.round().clip(0, 65535).astype(bands.dtype)


def read_for(path: str, bands: ImageBands) -> np.ndarray:
    """Read an image file for a model of these bands: with its own, or as RGB where the file has other bands."""
    if bands.is_plain and not bands.is_rgb:
        pixels = images.read_raster(path).pixels
        return pixels if (pixels.shape[2], pixels.dtype) == (bands.channels, np.uint8) else images.read_image(path)
    return to_pixels(path, bands)


def with_channels(image: np.ndarray, bands: ImageBands) -> np.ndarray:
    """Return uint8 [H, W, 3] with the model's number of channels, those after the third repeating the first ones.

    Images that have this number are returned as they are.
    """
    if image.shape[-1] == bands.channels:
        return image
    return np.ascontiguousarray(image[..., np.arange(bands.channels) % image.shape[-1]])
