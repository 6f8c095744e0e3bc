"""Images on their way into records: what kind they are, how large, whole or cut off. Their bytes stay as they are."""

from __future__ import annotations

import collections
import dataclasses
import io
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from PIL import Image

from deeplab.data.masks import UNREADABLE, png_chunks, unreadable
from deeplab.errors import UserError

_ORIENTATION = 0x0112  # the EXIF tag; 1 is upright
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_SCAN, _END = 0xDA, 0xD9
_TRUNCATED = "truncated: the end marker is missing"


@dataclass(frozen=True)
class ImageFacts:
    """What the header of an image says.

    Attributes:
      format: "jpeg" or "png", by content.
      height, width: size in pixels, as stored: an EXIF orientation is not applied.
      rotated: an EXIF orientation other than upright stands in the file.
      alpha: the image has an alpha channel, which readers drop.
      damaged: the file breaks its format's rules, yet TensorFlow's decoder reads it.
    """

    format: str
    height: int
    width: int
    rotated: bool
    alpha: bool
    damaged: bool = False


def inspect_image(data: bytes, where: str, decode: bool = False) -> ImageFacts:
    """Kind and size of an encoded image, after a check that it is whole.

    The quick check follows the file's structure to its end and asks TensorFlow's decoder only in doubt. It finds every
    truncated file, and damage inside the compressed data, at a sixth of the cost of decoding; damaged decoding
    tables in a file's head are found with `decode` alone.

    Args:
      data: the file's bytes.
      where: its name, for messages.
      decode: decode the picture, too.

    Raises:
      UserError: neither JPEG nor PNG, truncated or damaged.
    """
    kind = "jpeg" if data.startswith(_JPEG) else "png" if data.startswith(_PNG) else ""
    if not kind:
        found = "is empty" if not data else "is neither JPEG nor PNG inside, whatever its extension"
        raise UserError(where, found, "convert it to PNG (lossless) first")
    try:
        picture = Image.open(io.BytesIO(data))
        alpha = "A" in picture.mode or "transparency" in picture.info
        facts = ImageFacts(kind, picture.height, picture.width, _is_rotated(picture), alpha)
        try:
            check_structure(data, kind)
        except UNREADABLE:
            if not _tensorflow_reads(data):
                raise
            return dataclasses.replace(facts, damaged=True)
        if decode:
            _decode(data)
        return facts
    except UNREADABLE as fault:
        raise unreadable(where, fault) from None


def check_structure(data: bytes, kind: str) -> None:
    """Follows a file from its first segment or chunk to its end.

    Raises:
      ValueError: it breaks off, or what is there is damaged.
    """
    if kind == "jpeg":
        check_jpeg_structure(data)
    else:
        collections.deque(png_chunks(data), maxlen=0)


def _tensorflow_reads(data: bytes) -> bool:
    try:
        tf.io.decode_image(data, channels=3)
        return True
    except tf.errors.InvalidArgumentError:
        return False


def _is_rotated(picture: Image.Image) -> bool:
    return picture.getexif().get(_ORIENTATION, 1) not in (0, 1)


def _decode(data: bytes) -> None:
    picture = Image.open(io.BytesIO(data))
    picture.draft("L", (1, 1))  # JPEG: every coefficient is read, but only 1/64 of the pixels are made
    picture.load()


def check_jpeg_structure(data: bytes) -> None:
    """Follows the markers of a JPEG file from the first to the last (ITU-T T.81, annex B).

    Bytes after the end marker are let pass: phones store a second picture there.

    Raises:
      ValueError: the chain of segments breaks, or the file ends before its end marker.
    """
    marks = np.flatnonzero(np.frombuffer(data, np.uint8) == 0xFF)
    position, seen = 2, set()
    while True:
        if data[position : position + 1] != b"\xff":
            raise ValueError(f"damaged at byte {position} of {len(data)}" if position < len(data) else _TRUNCATED)
        code = data[position + 1] if position + 1 < len(data) else 0
        if code == 0xFF:  # fill byte
            position += 1
            continue
        if code == _END and _SCAN in seen:
            return
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if code < 0xC0 or 0xD0 <= code <= _END or length < 2:
            raise ValueError(f"damaged at byte {position} of {len(data)}")
        seen.add(code)
        position += 2 + length
        if code == _SCAN:
            position = _after_scan(data, position, marks)


def _after_scan(data: bytes, position: int, marks: np.ndarray) -> int:
    """Position of the first marker after compressed data; in it, FF stands before 00 or restart markers only."""
    bytes_ = np.frombuffer(data, np.uint8)
    marks = marks[np.searchsorted(marks, position) :]
    marks = marks[marks + 1 < len(data)]
    following = bytes_[marks + 1]
    real = np.flatnonzero((following != 0) & (following != 0xFF) & ((following < 0xD0) | (following > 0xD7)))
    if not len(real):
        raise ValueError(_TRUNCATED)
    return int(marks[real[0]])
