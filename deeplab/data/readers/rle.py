"""Run-length codes of masks: COCO's, CVAT's and Label Studio's.

All three are decoded here, COCO's compressed counts among them: pycocotools (2.0.11) trusts such a text, and a damaged
one makes it write past the end of its memory. Nothing is decoded before its length is known to fit the mask's size.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deeplab.utils.errors import UserError

_HINT = "export it again, or take the shape out"
_LONGEST = 2**31 - 1  # pixels of a mask
_COCO_DIGITS = 7  # of 5 bits each: more than any run needs


def pixels_of(runs: np.ndarray) -> np.ndarray:
    """The pixels of a mask, one after the other.

    Args:
      runs: int [n], from `checked_runs`: how many pixels in turn are not in the mask and are in it.

    Returns:
      bool [sum of runs].
    """
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs)


def checked_runs(runs: Any, number: int, where: str) -> np.ndarray:
    """Run lengths that add up.

    Args:
      runs: list or array of whole numbers.
      number: pixels of the mask.
      where: file and shape, for messages.

    Returns:
      int32 [n].

    Raises:
      UserError: no whole numbers of 0 or more, or another sum.
    """
    try:
        found = np.asarray(runs)
    except (ValueError, OverflowError):
        found = np.empty(0, object)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise UserError("unclassified", "run lengths must be a list of whole numbers", _HINT, where=where)
    if found.size and not 0 <= found.min() <= found.max() <= _LONGEST:
        raise UserError("unclassified", f"a run length of {_outside(found)} pixels cannot be", _HINT, where=where)
    total = int(found.sum(dtype=np.int64))
    if total != number:
        raise UserError(
            "unclassified", f"its run lengths add up to {total} pixels, but the mask has {number}", _HINT, where=where
        )
    return found.astype(np.int32)


def _outside(runs: np.ndarray) -> int:
    return int(runs.min()) if runs.min() < 0 else int(runs.max())


# --- COCO ---------------------------------------------------------------------------------------------------


def coco_runs(counts: str, where: str) -> np.ndarray:
    """Run lengths of COCO's compressed form.

    Each number is written in digits of 5 bits, lowest first, as the characters from "0" on; bit 5 says that another
    digit follows, bit 4 of the last one is the sign. From the fourth number on, the difference to the number two
    places before is written.

    Args:
      counts: the text.
      where: file and shape, for messages.

    Returns:
      int64 [n]; not yet checked to add up.

    Raises:
      UserError: the text is damaged.
    """
    digits = np.frombuffer(counts.encode("utf-8"), np.uint8).astype(np.int64) - ord("0")
    if not digits.size or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        raise UserError("unclassified", "its compressed run lengths are damaged", _HINT, where=where)
    last = np.flatnonzero(digits & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if lengths.max() > _COCO_DIGITS:
        raise UserError("unclassified", "its compressed run lengths are damaged", _HINT, where=where)
    places = np.arange(len(digits)) - np.repeat(first, lengths)
    numbers = np.add.reduceat((digits & 31) << (5 * places), first)
    numbers -= np.where(digits[last] & 16, np.int64(1) << (5 * lengths), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


# --- Label Studio -------------------------------------------------------------------------------------------


class _Bits:
    """Numbers of any width in a row of bytes, highest bit first."""

    def __init__(self, code: bytes, where: str):
        self.code, self.where = code, where
        self.position = 0

    def number(self, width: int) -> int:
        """The next `width` bits, 32 at most."""
        start, stop = self._taken(width)
        whole = int.from_bytes(self.code[start // 8 : -(-stop // 8)], "big")
        return whole >> (-stop % 8) & ((1 << width) - 1)

    def filled(self, number: int, width: int) -> np.ndarray:
        """bool [number]: which of the next `number` words of `width` bits are not 0."""
        start, stop = self._taken(number * width)
        whole = np.frombuffer(self.code, np.uint8, -(-stop // 8) - start // 8, start // 8)
        bits = np.unpackbits(whole)[start % 8 :][: stop - start]
        return np.count_nonzero(bits.reshape(number, width), axis=1) > 0

    def _taken(self, width: int) -> tuple[int, int]:
        start, stop = self.position, self.position + width
        if stop > 8 * len(self.code):
            raise UserError("unclassified", "its brush mask breaks off", _HINT, where=self.where)
        self.position = stop
        return start, stop


def brush_pixels(code: bytes, height: int, width: int, where: str) -> np.ndarray:
    """Pixels that Label Studio's brush covers, however faintly.

    The code holds the bytes of an RGBA picture, of which alpha is the mask. A head gives their number (32 bits), the
    bits of a word less one (5) and four widths of run lengths less one (4 each). Then come runs: a bit that says
    whether one word is repeated or each is written out, two bits that choose the width, the length less one, the words.

    Args:
      code: the numbers of the list `rle`.
      height, width: of the image in pixels.
      where: file and shape, for messages.

    Returns:
      bool [height, width].

    Raises:
      UserError: the code is damaged, or of a picture of another size.
    """
    bits = _Bits(code, where)
    total, word = bits.number(32), bits.number(5) + 1
    widths = [bits.number(4) + 1 for _ in range(4)]
    if total != 4 * height * width:
        rule = f"its brush mask has {total} values, but an RGBA picture of {width}x{height} pixels has"
        raise UserError("unclassified", f"{rule} {4 * height * width}", _HINT, where=where)
    filled = np.zeros(total, np.bool_)
    done = 0
    while done < total:
        repeated = bits.number(1)
        stop = done + bits.number(widths[bits.number(2)]) + 1
        if stop > total:
            raise UserError("unclassified", f"its brush mask runs past its {total} values", _HINT, where=where)
        filled[done:stop] = bits.number(word) != 0 if repeated else bits.filled(stop - done, word)
        done = stop
    return filled.reshape(height, width, 4)[..., 3]
