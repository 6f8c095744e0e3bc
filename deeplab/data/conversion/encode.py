"""One image and its mask in, one serialized example out: the work that runs in parallel."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from deeplab.data.image_files import UNREADABLE
from deeplab.data.images import PreparedImage, prepare
from deeplab.data.labels import DecodedLabel, LabelRule, decode_label, encode_label, to_label
from deeplab.data.readers.source import Mask, Painter, Pair
from deeplab.data.records import encode_example
from deeplab.utils.errors import UserError
from deeplab.utils.paths import read_file

_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class Recipe:
    """How every pair of a dataset is read.

    Attributes:
      painter: classes and rule.
      exif: what to do with photos that their EXIF data turn: "auto", "turn" or "ignore".
      decode: decode every image, to find damage that its structure does not show.
    """

    painter: Painter
    exif: str = "auto"
    decode: bool = False


@dataclass(frozen=True)
class Converted:
    """A pair that is fit for a record.

    Attributes:
      name: the pair's name.
      example: the serialized example.
      counts: pixels of each label value, int64 [256].
      snapped: pixels whose color was not in the palette and became the nearest that is.
      image: the picture as it is stored, without its bytes.
    """

    name: str
    example: bytes
    counts: np.ndarray
    snapped: int
    image: PreparedImage


def convert(pair: Pair, recipe: Recipe) -> Converted:
    """Reads, checks and packs one pair. A JPEG or PNG goes in byte for byte where TensorFlow reads it as it is shown,
    and so does an 8-bit gray mask; other masks become 8-bit gray PNG.

    Args:
      pair: name, image, and where the label comes from.
      recipe: what values and names mean.

    Raises:
      UserError: unreadable files, sizes that differ, values outside the classes; the message names the file.
    """
    picture, decoded = read_pair(pair, recipe)
    height, width = decoded.label.shape
    example = encode_example(picture.data, picture.format, pair.name, height, width, decoded.gray_png)
    return Converted(pair.name, example, decoded.counts, decoded.snapped, dataclasses.replace(picture, data=b""))


def read_pair(pair: Pair, recipe: Recipe) -> tuple[PreparedImage, DecodedLabel]:
    """The picture upright and the label of the same size.

    Raises:
      UserError: as `convert`.
    """
    image = read_file(pair.image)
    if isinstance(pair.mask, str):
        mask = read_file(pair.mask)
        _require_exact(mask, pair.mask, recipe.painter.rule)
        decoded = decode_label(mask, pair.mask, recipe.painter.rule)
        picture = prepare(image, pair.image, decoded.label.shape, recipe.exif, recipe.decode)
    else:
        picture = prepare(image, pair.image, pair.mask.size, recipe.exif, recipe.decode)
        if pair.mask.size not in (None, (picture.height, picture.width)):  # before a label of that size is drawn
            raise _sizes_differ(pair, picture, *pair.mask.size)
        decoded = _drawn(pair.mask, recipe.painter, picture)
    if decoded.label.shape != (picture.height, picture.width):
        raise _sizes_differ(pair, picture, *decoded.label.shape)
    return picture, decoded


def _require_exact(mask: bytes, where: str, rule: LabelRule) -> None:
    """Refuses JPEG masks but for those in colors that are looked up: JPEG changes values, one class into another."""
    if not mask.startswith(_JPEG):
        return
    looked_up = rule.table and rule.tolerance and (rule.table.is_gray() or _has_colors(mask))
    if not looked_up:
        others = "JPEG is read in colors (`palette` and `color_tolerance=100`) and black and white (format binary)"
        broken = "is a JPEG, which changes values, so that one class becomes another"
        raise UserError("unclassified", broken, f"take the masks as they were before; {others}", where=where)


def _has_colors(jpeg: bytes) -> bool:
    try:
        return len(Image.open(io.BytesIO(jpeg)).getbands()) > 1
    except UNREADABLE:
        return True  # the decoder will say what is wrong


def _drawn(mask: Mask, painter: Painter, picture: PreparedImage) -> DecodedLabel:
    label, counts = to_label(mask.draw(painter, picture.height, picture.width), mask.where, painter.rule)
    return DecodedLabel(label, counts, encode_label(label))


def _sizes_differ(pair: Pair, picture: PreparedImage, height: int, width: int) -> UserError:
    rule = f"the mask is {width}x{height} pixels, its image {pair.image} {picture.width}x{picture.height}"
    if (picture.height, picture.width) == (width, height):
        turned = "turned" in picture.notes or "unturned" in picture.notes
        hint = "its EXIF data turn the image: leave `exif=auto`" if turned else "one of the two is turned"
        return UserError("unclassified", rule, hint, where=pair.mask_file)
    return UserError(
        "unclassified",
        rule,
        "resize the mask (nearest neighbor) or the image, or leave the pair out",
        where=pair.mask_file,
    )
