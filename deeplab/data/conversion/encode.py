"""Conversion of one pair: an image and its mask become a serialized example. This is the work that runs in parallel."""

from __future__ import annotations

import dataclasses
import functools
import io
import itertools
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from deeplab.data import geotiff
from deeplab.data.bands import BandHistogram, ImageBands
from deeplab.data.class_names import BACKGROUND
from deeplab.data.containers import read_content
from deeplab.data.image_files import UNREADABLE
from deeplab.data.images import (
    PreparedImage,
    Raster,
    decode_prepared,
    encode_png,
    encode_raster,
    prepare,
    raster_size,
    read_raster,
)
from deeplab.data.labels import LabelSpec, count_values, to_label
from deeplab.data.mask_files import DecodedLabel, decode_label, decode_label_values, encode_label, read_mask
from deeplab.data.readers.shapes import ShapesMask
from deeplab.data.readers.source import Mask, Painter, Pair
from deeplab.data.records import encode_example
from deeplab.utils.errors import UserError

_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class Recipe:
    """How every pair of a dataset is read.

    Attributes:
      painter: classes, and how mask pixels become labels.
      exif: what to do with EXIF orientations: "auto", "turn" or "ignore"; see `images.prepare`.
      decode: decode every image, to find damage that its structure does not show.
      tile_size: side of the tiles into which larger images are cut, in pixels; None = images stay whole.
      tile_overlap: minimum overlap of neighboring tiles, in pixels.
      bands: images are stored with these channels and this type, without loss; None = as 8-bit RGB.
      empty_tile_fraction: fraction of the tiles without an object that are kept, 0 to 1.
    """

    painter: Painter
    exif: str = "auto"
    decode: bool = False
    tile_size: int | None = None
    tile_overlap: int = 0
    bands: ImageBands | None = None
    empty_tile_fraction: float = 1.0


@dataclass(frozen=True)
class Converted:
    """A converted pair.

    Attributes:
      name: the pair's name.
      example: the serialized example.
      counts: pixels of each label value, int64 [256], or [65536] of 16 bits.
      snapped: pixels whose color was not in the palette and became the nearest one that is.
      image: the image as it is stored, without its bytes.
      values: how often each value occurs, of images that are stored with their bands.
    """

    name: str
    example: bytes
    counts: np.ndarray
    snapped: int
    image: PreparedImage
    values: BandHistogram | None = None


def convert(pair: Pair, recipe: Recipe) -> Converted:
    """Read, check and serialize one pair.

    A JPEG or PNG is stored byte for byte where TensorFlow decodes it as viewers show it, and so is an 8-bit gray mask;
    other masks become 8-bit gray PNG. Beyond 256 classes it is 16 bits instead of 8.

    Args:
      pair: name, image, and where the label comes from.
      recipe: what values and names mean.

    Raises:
      UserError: a file that cannot be read, sizes that differ (`size-mismatch`), or a mask or image that cannot be
        used, as in `mask_files.decode_label` and `images.prepare`. The error names the file.
    """
    if recipe.bands:
        return _converted_bands(pair, recipe, recipe.bands)
    return _converted(pair.name, *read_pair(pair, recipe))


def _converted(name: str, image: PreparedImage, decoded: DecodedLabel) -> Converted:
    height, width = decoded.label.shape
    stored, bits = decoded.gray_png, 8 * decoded.label.dtype.itemsize
    example = encode_example(
        image.data, image.format, name, height, width, stored, values=image.values, label_bits=bits
    )
    return Converted(name, example, decoded.counts, decoded.snapped, dataclasses.replace(image, data=b""))


def _converted_bands(pair: Pair, recipe: Recipe, bands: ImageBands) -> Converted:
    """A pair, or the tile of one, with the image's own values; pixels without a value get the ignore label."""
    raster, decoded = _read_bands(pair, recipe, bands)
    if raster.valid is not None:
        spec = recipe.painter.rule
        label = np.where(raster.valid, decoded.label, spec.dtype(spec.ignore_label))
        decoded = DecodedLabel(label, count_values(label, spec.num_values), encode_label(label), decoded.snapped)
    histogram = BandHistogram(bands.channels, bands.dtype)
    histogram.add(raster.pixels, raster.valid)
    converted = _converted(pair.name, encode_raster(raster.pixels, raster.notes), decoded)
    return dataclasses.replace(converted, values=histogram)


def _read_bands(pair: Pair, recipe: Recipe, bands: ImageBands) -> tuple[Raster, DecodedLabel]:
    """The values of an image, or a tile of it, and the label of the same pixels."""
    mask, window = pair.mask, pair.window
    if isinstance(mask, str) and window and geotiff.is_tiff(mask) and geotiff.is_tiff(pair.image):
        whole = raster_size(pair.image)[:2]
        size = geotiff.size_and_bands(mask)[:2]
        if size != whole:
            raise _sizes_differ(pair, whole, size)
        values = geotiff.read(mask, (), window)
        decoded = decode_label_values(values, mask, recipe.painter.rule)
        raster = read_raster(pair.image, bands.bands, window, exif="ignore")
    else:
        decoded = _whole_label(pair, recipe)
        raster = read_raster(pair.image, bands.bands, window, mask_size=decoded.label.shape, exif=recipe.exif)
        whole = raster_size(pair.image, recipe.exif)[:2] if window else raster.pixels.shape[:2]
        if decoded.label.shape != whole:
            raise _sizes_differ(pair, whole, decoded.label.shape)
        if window:
            top, left, height, width = window
            part = np.ascontiguousarray(decoded.label[top : top + height, left : left + width])
            decoded = DecodedLabel(part, count_values(part, len(decoded.counts)), encode_label(part), 0)
    bands.require(raster.pixels, pair.image)
    return raster, decoded


def _whole_label(pair: Pair, recipe: Recipe) -> DecodedLabel:
    """The label of a whole image; that of the last images is kept, for the tiles of one image."""
    if pair.window is None:
        return _label_of(pair.mask, pair.image, recipe.painter, recipe.exif)
    changed = os.stat(pair.mask_file).st_mtime_ns if os.path.exists(pair.mask_file) else 0
    key = (pair.image, pair.mask_file, changed, recipe.exif, repr(recipe.painter))
    return _kept_label(_KeptLabel(key, pair, recipe))


@dataclass(frozen=True)
class _KeptLabel:
    """A label that is kept: `key` tells it from others."""

    key: tuple[Any, ...]
    pair: Pair = dataclasses.field(compare=False)
    recipe: Recipe = dataclasses.field(compare=False)


@functools.lru_cache(maxsize=2)
def _kept_label(label: _KeptLabel) -> DecodedLabel:
    return _label_of(label.pair.mask, label.pair.image, label.recipe.painter, label.recipe.exif)


def read_label_of(pair: Pair, recipe: Recipe) -> DecodedLabel:
    """The label of a pair, whatever bands its image has; the image is read only where its size is needed.

    Raises:
      UserError: as `convert`.
    """
    if isinstance(pair.mask, str) or geotiff.is_tiff(pair.image):
        return _label_of(pair.mask, pair.image, recipe.painter, recipe.exif)
    return read_pair(pair, recipe)[1]


def _label_of(mask: str | Mask, image: str, painter: Painter, exif: str) -> DecodedLabel:
    if isinstance(mask, str):
        data = read_mask(mask)
        _require_lossless(data, mask, painter.rule)
        return decode_label(data, mask, painter.rule)
    height, width, _ = raster_size(image, exif)
    if mask.size and mask.size != (height, width):  # before a label of that size is drawn
        raise _sizes_differ(Pair("", image, mask), (height, width), mask.size)
    return _drawn(mask, painter, height, width)


def tiles_of(pair: Pair, recipe: Recipe) -> list[Pair]:
    """A pair as one pair per tile, named NAME_TOP_LEFT; the pair itself where its image is no larger than a tile.

    Raises:
      UserError: the image cannot be read.
    """
    size = recipe.tile_size
    height, width, _ = raster_size(pair.image, recipe.exif)
    if size is None or max(height, width) <= size:
        return [pair]
    return [
        dataclasses.replace(
            pair, name=f"{pair.name}_{top}_{left}", window=(top, left, min(size, height), min(size, width))
        )
        for top, left in itertools.product(
            *(tile_starts(length, size, recipe.tile_overlap) for length in (height, width))
        )
    ]


def is_kept(converted: Converted, recipe: Recipe) -> bool:
    """Whether a tile is kept: it shows an object, or it is among the fraction of empty ones that are.

    Empty are tiles with nothing but the background (class 0 where no class has that name) and ignored pixels. Which of
    them are kept depends on their names alone.
    """
    if recipe.empty_tile_fraction >= 1:
        return True
    painter = recipe.painter
    background = painter.indices.get(BACKGROUND, 0)
    present = set(np.flatnonzero(converted.counts).tolist()) - {background, painter.ignore_label}
    draw = zlib.crc32(converted.name.encode()) / 2**32
    return bool(present) or draw < recipe.empty_tile_fraction


def convert_tiles(pair: Pair, recipe: Recipe) -> list[Converted]:
    """Convert one pair to an example, or, where the recipe asks for tiles, a larger image to an example per tile.

    Tiles are named NAME_TOP_LEFT after their place in pixels, and are stored as PNG, without loss.

    Args, Raises: as `convert`.
    """
    if recipe.bands and pair.window:
        converted = convert(pair, recipe)
        return [converted] if is_kept(converted, recipe) else []
    if recipe.tile_size is None or recipe.bands:
        return [convert(pair, recipe)]
    image, decoded = read_pair(pair, recipe)
    size = recipe.tile_size
    if max(image.height, image.width) <= size:
        return [_converted(pair.name, image, decoded)]
    pixels = decode_prepared(image, pair.image)
    tiles = []
    for top, left in itertools.product(
        *(tile_starts(length, size, recipe.tile_overlap) for length in (image.height, image.width))
    ):
        part = np.ascontiguousarray(decoded.label[top : top + size, left : left + size])
        label = DecodedLabel(part, count_values(part, len(decoded.counts)), encode_label(part))
        tile = encode_png(pixels[top : top + size, left : left + size], image.notes)
        tiles.append(_converted(f"{pair.name}_{top}_{left}", tile, label))
    kept = [tile for tile in tiles if is_kept(tile, recipe)]
    return [dataclasses.replace(kept[0], snapped=decoded.snapped), *kept[1:]] if kept else []


def tile_starts(length: int, size: int, overlap: int) -> list[int]:
    """First pixels of the tiles along a side: as few as cover it with at least this overlap, evenly spaced.

    Example:
      tile_starts(100, 40, 0)  # [0, 30, 60]
    """
    if length <= size:
        return [0]
    gaps = -(-(length - size) // (size - overlap))
    return [round(index * (length - size) / gaps) for index in range(gaps + 1)]


def read_pair(pair: Pair, recipe: Recipe) -> tuple[PreparedImage, DecodedLabel]:
    """The image, upright, and the label of the same size.

    Raises:
      UserError: as `convert`.
    """
    data = read_content(pair.image)
    if isinstance(pair.mask, str):
        mask = read_mask(pair.mask)
        _require_lossless(mask, pair.mask, recipe.painter.rule)
        decoded = decode_label(mask, pair.mask, recipe.painter.rule)
        image = prepare(data, pair.image, decoded.label.shape, recipe.exif, recipe.decode)
    else:
        image = prepare(data, pair.image, pair.mask.size, recipe.exif, recipe.decode)
        if pair.mask.size and pair.mask.size != (image.height, image.width):  # before a label of that size is drawn
            raise _sizes_differ(pair, (image.height, image.width), pair.mask.size, image.notes)
        decoded = _drawn(pair.mask, recipe.painter, image.height, image.width)
    if decoded.label.shape != (image.height, image.width):
        raise _sizes_differ(pair, (image.height, image.width), decoded.label.shape, image.notes)
    return image, decoded


def _require_lossless(mask: bytes, where: str, spec: LabelSpec) -> None:
    """Refuses JPEG masks but those in colors that are looked up: JPEG changes values, so one class becomes another."""
    if not mask.startswith(_JPEG):
        return
    looked_up = spec.table and spec.tolerance and (spec.table.is_gray() or _has_colors(mask))
    if not looked_up:
        rule = "is a JPEG, which changes values, so that one class becomes another"
        others = "JPEG is read in colors (`palette` and `color_tolerance=100`) and black and white (format binary)"
        raise UserError("lossy-mask", rule, f"use the masks as they were before; {others}", where=where)


def _has_colors(jpeg: bytes) -> bool:
    try:
        return len(Image.open(io.BytesIO(jpeg)).getbands()) > 1
    except UNREADABLE:
        return True  # the decoder will report the error


def _drawn(mask: Mask, painter: Painter, height: int, width: int) -> DecodedLabel:
    label, counts = to_label(mask.draw(painter, height, width), mask.where, painter.rule)
    return DecodedLabel(label, counts, encode_label(label))


def _sizes_differ(pair: Pair, image: tuple[int, ...], mask: tuple[int, ...], notes: Sequence[str] = ()) -> UserError:
    (rows, columns), (height, width) = image, mask
    rule = f"the mask is {width}x{height} pixels, its image {pair.image} {columns}x{rows}"
    hint = "resize the mask (nearest neighbor) or the image, or leave the pair out"
    if isinstance(pair.mask, ShapesMask):
        rule = f"was annotated at {width}x{height} pixels, its image {pair.image} has {columns}x{rows}"
        hint = "`scale_annotations=true` scales the outlines, if the image was resized after annotating"
    if (rows, columns) == (width, height):
        has_exif = "turned" in notes or "unturned" in notes
        hint = "the EXIF data turn the image: use `exif=auto`" if has_exif else "rotate one of the two"
    return UserError("size-mismatch", rule, hint, where=pair.mask_file, value=(height, width))
