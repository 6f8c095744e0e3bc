"""Pixels in annotation files: the run lengths of COCO, CVAT and Label Studio, and PNG files as base64 text.

All run lengths are decoded here, COCO's compressed ones too: pycocotools (2.0.11) does not check such a text, and a
damaged one makes it write past the end of its memory. Nothing is decoded before its length is known to fit.
"""

from __future__ import annotations

import base64
import collections
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from deeplab.data.image_files import UNREADABLE
from deeplab.data.png_files import png_chunks
from deeplab.utils.errors import UserError

_HINT = "export it again, or remove the shape"
_MAX_PIXELS = 2**31 - 1
_MAX_COCO_DIGITS = 7  # of 5 bits each: more than any run needs


@dataclass(frozen=True, eq=False, slots=True)
class Bitmap:
    """Pixels of a rectangle of an image, as run lengths.

    Attributes:
      runs: int32 [n], how many pixels in turn do not belong to the shape and belong to it.
      height, width: of the rectangle in pixels.
      left, top: column and row of its top left pixel in the image; may be negative.
      by_columns: the runs go column after column, as COCO's do; otherwise row after row.
    """

    runs: np.ndarray
    height: int
    width: int
    left: int = 0
    top: int = 0
    by_columns: bool = False

    @classmethod
    def of(cls, pixels: np.ndarray, left: int = 0, top: int = 0) -> Bitmap:
        """The bitmap of an array [h, w], whose values other than 0 belong to the shape."""
        flat = np.asarray(pixels, bool).ravel()
        changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        ends = np.concatenate([[0] * bool(flat.size and flat[0]), changes, [flat.size]]).astype(np.int32)
        height, width = pixels.shape
        return cls(np.diff(ends, prepend=0), height, width, left, top)

    @property
    def area(self) -> int:
        """Number of pixels that belong to the shape."""
        return int(self.runs[1::2].sum(dtype=np.int64))

    def pixels(self) -> tuple[np.ndarray, int, int]:
        """Decodes the runs: bool [h, w] without empty borders, and the column and row of its top left pixel."""
        sides = (self.width, self.height) if self.by_columns else (self.height, self.width)
        found = np.repeat(np.arange(len(self.runs)) % 2 == 1, self.runs).reshape(sides)
        rows, columns = _occupied(found, axis=1), _occupied(found, axis=0)
        found = found[rows, columns]
        if self.by_columns:
            return found.T, self.left + rows.start, self.top + columns.start
        return found, self.left + columns.start, self.top + rows.start

    def scaled(self, across: float, down: float) -> Bitmap:
        """The bitmap on an image resized by the factors `across` and `down`: each pixel takes the nearest one."""
        pixels, left, top = self.pixels()
        rows = np.arange(np.ceil(top * down - 0.5), np.ceil((top + pixels.shape[0]) * down - 0.5))
        columns = np.arange(np.ceil(left * across - 0.5), np.ceil((left + pixels.shape[1]) * across - 0.5))
        from_rows = np.floor((rows + 0.5) / down).astype(np.int64) - top
        from_columns = np.floor((columns + 0.5) / across).astype(np.int64) - left
        if not len(rows) or not len(columns):
            return Bitmap.of(np.zeros([0, 0], bool))
        kept = pixels[np.clip(from_rows, 0, len(pixels) - 1)[:, None], np.clip(from_columns, 0, pixels.shape[1] - 1)]
        return Bitmap.of(kept, int(columns[0]), int(rows[0]))


def _occupied(pixels: np.ndarray, axis: int) -> slice:
    """Returns the part of bool [a, b] that contains a True, along the axis that is not `axis`."""
    found = np.flatnonzero(np.any(pixels, axis=axis))
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)


# --- Run lengths --------------------------------------------------------------------------------------------


def checked_runs(runs: Any, number: int, where: str) -> np.ndarray:
    """Returns run lengths that have the right sum, int32 [n].

    Args:
      runs: list or array of whole numbers.
      number: pixels of the mask.
      where: file and shape, for messages.

    Raises:
      UserError: values that are not whole numbers of 0 or more, or another sum.
    """
    try:
        found = np.asarray(runs)
    except (ValueError, OverflowError):
        found = np.empty(0, object)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise UserError("wrong-type", "run lengths must be a list of whole numbers", _HINT, where=where)
    if found.size and not 0 <= found.min() <= found.max() <= _MAX_PIXELS:
        worst = int(found.min()) if found.min() < 0 else int(found.max())
        rule = f"run lengths must be from 0 to {_MAX_PIXELS} pixels, not {worst}"
        raise UserError("out-of-range", rule, _HINT, where=where, value=worst)
    total = int(found.sum(dtype=np.int64))
    if total != number:
        rule = f"its run lengths add up to {total} pixels, but the mask has {number}"
        raise UserError("invalid-rle", rule, _HINT, where=where, value=total)
    return found.astype(np.int32)


def coco_runs(counts: str, where: str) -> np.ndarray:
    """Decodes run lengths in COCO's compressed form.

    Each number is written in digits of 5 bits, lowest first, as the characters from "0" on; bit 5 means that another
    digit follows, bit 4 of the last digit is the sign. From the fourth number on, the difference to the number two
    places before is written.

    Args:
      counts: the text.
      where: file and shape, for messages.

    Returns:
      int64 [n]; their sum is not checked yet.

    Raises:
      UserError: the text is damaged.
    """
    digits = np.frombuffer(counts.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int64) - ord("0")
    if not digits.size or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        raise UserError("invalid-rle", "its compressed run lengths are damaged", _HINT, where=where)
    last = np.flatnonzero(digits & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if lengths.max() > _MAX_COCO_DIGITS:
        raise UserError("invalid-rle", "its compressed run lengths are damaged", _HINT, where=where)
    places = np.arange(len(digits)) - np.repeat(first, lengths)
    numbers = np.add.reduceat((digits & 31) << (5 * places), first)
    numbers -= np.where(digits[last] & 16, np.int64(1) << (5 * lengths), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


class _BitReader:
    """Reads numbers of any width from a row of bytes, highest bit first."""

    def __init__(self, code: bytes, where: str):
        self.code, self.where = code, where
        self.position = 0

    def number(self, width: int) -> int:
        """The next `width` bits, 32 at most."""
        start, stop = self._taken(width)
        whole = int.from_bytes(self.code[start // 8 : -(-stop // 8)], "big")
        return whole >> (-stop % 8) & ((1 << width) - 1)

    def nonzero(self, number: int, width: int) -> np.ndarray:
        """Whether each of the next `number` words of `width` bits is not 0, bool [number]."""
        start, stop = self._taken(number * width)
        whole = np.frombuffer(self.code, np.uint8, -(-stop // 8) - start // 8, start // 8)
        bits = np.unpackbits(whole)[start % 8 :][: stop - start]
        return np.count_nonzero(bits.reshape(number, width), axis=1) > 0

    def _taken(self, width: int) -> tuple[int, int]:
        start, stop = self.position, self.position + width
        if stop > 8 * len(self.code):
            raise UserError("invalid-rle", "its brush mask ends too early", _HINT, where=self.where)
        self.position = stop
        return start, stop


def brush_pixels(code: bytes, height: int, width: int, where: str) -> np.ndarray:
    """Decodes a brush mask of Label Studio: the pixels that the brush covers, however faintly.

    The code holds the bytes of an RGBA image, of which alpha is the mask. A header gives their number (32 bits), the
    bits per word less one (5) and four widths of run lengths less one (4 each). Then come runs: a bit that says
    whether one word is repeated or each is written, two bits that choose the width, the length less one, the words.

    Args:
      code: the numbers of the list `rle`.
      height, width: of the image in pixels.
      where: file and shape, for messages.

    Returns:
      bool [height, width].

    Raises:
      UserError: the code is damaged, or belongs to an image of another size.
    """
    bits = _BitReader(code, where)
    total, word = bits.number(32), bits.number(5) + 1
    widths = [bits.number(4) + 1 for _ in range(4)]
    if total != 4 * height * width:
        rule = f"its brush mask has {total} values, but an RGBA image of {width}x{height} pixels has"
        raise UserError("size-mismatch", f"{rule} {4 * height * width}", _HINT, where=where, value=total)
    filled = np.zeros(total, np.bool_)
    done = 0
    while done < total:
        repeated = bits.number(1)
        stop = done + bits.number(widths[bits.number(2)]) + 1
        if stop > total:
            raise UserError("invalid-rle", f"its brush mask has more than its {total} values", _HINT, where=where)
        filled[done:stop] = bits.number(word) != 0 if repeated else bits.nonzero(stop - done, word)
        done = stop
    return filled.reshape(height, width, 4)[..., 3]


# --- PNG ----------------------------------------------------------------------------------------------------


def base64_bytes(text: str, what: str, where: str) -> bytes:
    """Decodes base64, with or without the head of a data URI.

    Raises:
      UserError: the text is not base64.
    """
    try:
        return base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except ValueError:
        hint = "export it again: it may have been cut off"
        raise UserError("invalid-base64", f"{what} is not base64", hint, where=where) from None


def png_bitmap(data: bytes, where: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """Returns the pixels of a PNG that belong to a shape: the opaque ones if it has an alpha channel, else those not 0.

    Args:
      data: the PNG; of one that is larger than the image only the head is read.
      where: file and shape, for messages.
      size: height and width of the image that the shape is drawn on; None if that is not known.

    Returns:
      bool [h, w], at most of that size.

    Raises:
      UserError: not a PNG, a damaged one, or one that is larger than the image.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=["PNG"])
        if size and (image.height > size[0] or image.width > size[1]):
            rule = f"its bitmap of {image.width}x{image.height} pixels is larger than the image, {size[1]}x{size[0]}"
            hint = "the annotation belongs to another image, or to one that was resized since"
            raise UserError("size-mismatch", rule, hint, where=where, value=(image.height, image.width))
        collections.deque(png_chunks(data), maxlen=0)  # Pillow reads some that are cut off
        if "transparency" in image.info or "A" in image.mode:
            return np.asarray(image.convert("RGBA"))[..., 3] > 127
        pixels = np.asarray(image).astype(bool)
        return pixels if pixels.ndim == 2 else np.asarray(pixels.any(axis=-1))
    except UNREADABLE as error:
        rule = f"its bitmap cannot be read as PNG: {error}"
        raise UserError("unreadable-image", rule, "export it again", where=where) from None
