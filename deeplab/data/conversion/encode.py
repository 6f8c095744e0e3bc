"""Conversion of one pair: an image and its mask become a serialized example. This is the work that runs in parallel."""

from __future__ import annotations

import dataclasses
import io
import itertools
from dataclasses import dataclass

import numpy as np
from PIL import Image

from deeplab.data.image_files import UNREADABLE
from deeplab.data.images import PreparedImage, decode_prepared, encode_png, prepare
from deeplab.data.labels import DecodedLabel, LabelSpec, count_values, decode_label, encode_label, to_label
from deeplab.data.readers.shapes import ShapesMask
from deeplab.data.readers.source import Mask, Painter, Pair
from deeplab.data.records import encode_example
from deeplab.utils.errors import UserError
from deeplab.utils.paths import read_file

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
    """

    painter: Painter
    exif: str = "auto"
    decode: bool = False
    tile_size: int | None = None
    tile_overlap: int = 0


@dataclass(frozen=True)
class Converted:
    """A converted pair.

    Attributes:
      name: the pair's name.
      example: the serialized example.
      counts: pixels of each label value, int64 [256].
      snapped: pixels whose color was not in the palette and became the nearest one that is.
      image: the image as it is stored, without its bytes.
    """

    name: str
    example: bytes
    counts: np.ndarray
    snapped: int
    image: PreparedImage


def convert(pair: Pair, recipe: Recipe) -> Converted:
    """Read, check and serialize one pair.

    A JPEG or PNG is stored byte for byte where TensorFlow decodes it as viewers show it, and so is an 8-bit gray mask;
    other masks become 8-bit gray PNG.

    Args:
      pair: name, image, and where the label comes from.
      recipe: what values and names mean.

    Raises:
      UserError: a file that cannot be read, sizes that differ (`size-mismatch`), or a mask or image that cannot be
        used, as in `labels.decode_label` and `images.prepare`. The error names the file.
    """
    return _converted(pair.name, *read_pair(pair, recipe))


def _converted(name: str, image: PreparedImage, decoded: DecodedLabel) -> Converted:
    height, width = decoded.label.shape
    example = encode_example(image.data, image.format, name, height, width, decoded.gray_png)
    return Converted(name, example, decoded.counts, decoded.snapped, dataclasses.replace(image, data=b""))


def convert_tiles(pair: Pair, recipe: Recipe) -> list[Converted]:
    """Convert one pair to an example, or, where the recipe asks for tiles, a larger image to an example per tile.

    Tiles are named NAME_TOP_LEFT after their place in pixels, and are stored as PNG, without loss.

    Args, Raises: as `convert`.
    """
    if recipe.tile_size is None:
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
        label = DecodedLabel(part, count_values(part), encode_label(part))
        tile = encode_png(pixels[top : top + size, left : left + size], image.notes)
        tiles.append(_converted(f"{pair.name}_{top}_{left}", tile, label))
    return [dataclasses.replace(tiles[0], snapped=decoded.snapped), *tiles[1:]]


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
    data = read_file(pair.image)
    if isinstance(pair.mask, str):
        mask = read_file(pair.mask)
        _require_lossless(mask, pair.mask, recipe.painter.rule)
        decoded = decode_label(mask, pair.mask, recipe.painter.rule)
        image = prepare(data, pair.image, decoded.label.shape, recipe.exif, recipe.decode)
    else:
        image = prepare(data, pair.image, pair.mask.size, recipe.exif, recipe.decode)
        if pair.mask.size not in (None, (image.height, image.width)):  # before a label of that size is drawn
            raise _sizes_differ(pair, image, *pair.mask.size)
        decoded = _drawn(pair.mask, recipe.painter, image)
    if decoded.label.shape != (image.height, image.width):
        raise _sizes_differ(pair, image, *decoded.label.shape)
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


def _drawn(mask: Mask, painter: Painter, image: PreparedImage) -> DecodedLabel:
    label, counts = to_label(mask.draw(painter, image.height, image.width), mask.where, painter.rule)
    return DecodedLabel(label, counts, encode_label(label))


def _sizes_differ(pair: Pair, image: PreparedImage, height: int, width: int) -> UserError:
    rule = f"the mask is {width}x{height} pixels, its image {pair.image} {image.width}x{image.height}"
    hint = "resize the mask (nearest neighbor) or the image, or leave the pair out"
    if isinstance(pair.mask, ShapesMask):
        rule = f"was annotated at {width}x{height} pixels, its image {pair.image} has {image.width}x{image.height}"
        hint = "`scale_annotations=true` scales the outlines, if the image was resized after annotating"
    if (image.height, image.width) == (width, height):
        has_exif = "turned" in image.notes or "unturned" in image.notes
        hint = "the EXIF data turn the image: use `exif=auto`" if has_exif else "rotate one of the two"
    return UserError("size-mismatch", rule, hint, where=pair.mask_file, value=(height, width))
