"""PNG files: their chunks, the kind of their pixels, and the indices that a mask holds.

Owns what is read from the bytes of a PNG without an image library (PNG specification, third edition,
https://www.w3.org/TR/png-3/). `labels.py` reads masks with it, `image_files.py` checks images. What values mean is not
judged here, and files are written elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from deeplab.utils import fast_zlib

MAX_SIDE = 1_000_000  # pixels; the limit of libpng, which writes and reads the labels of records

_START = b"\x89PNG\r\n\x1a\n"
_INDEX_KINDS = ((8, 0), (8, 3), (16, 0))  # what OpenCV reads as it is, once there is no palette
_MAX_PLAIN = 2**26  # pixels of a mask that is decoded without asking Pillow whether it is too large
_HEAD_BYTES = 13
_SUB = 1  # filter of rows that hold differences to the pixel on the left; 0: the values themselves
_MAX_WINDOW = 1 << 15  # bytes back to which deflated data may refer, RFC 1950
_MAX_SUMMED = 2**23  # pixels whose sum fits into int32


def png_kind(data: bytes) -> tuple[int, int] | None:
    """Bit depth and color type (0 gray, 2 RGB, 3 palette, 4 gray + alpha, 6 RGBA) of a PNG; None for other files."""
    return (data[24], data[25]) if data[:8] == _START and len(data) > 25 else None


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and body of each chunk of a PNG.

    Raises:
      ValueError: a chunk is cut off or its checksum is wrong, or the end chunk is missing. Pillow overlooks that when
        it has all pixels; TensorFlow refuses such files.
    """
    position, kind = 8, b""
    while kind != b"IEND":
        length = int.from_bytes(data[position : position + 4], "big")
        kind, body = data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        checksum = data[position + 8 + length : position + 12 + length]
        if fast_zlib.crc32(kind + body).to_bytes(4, "big") != checksum:
            raise ValueError(f"truncated or damaged at byte {position} of {len(data)}")
        yield kind, body
        position += 12 + length


def without_palette(data: bytes) -> bytes:
    """An 8-bit palette PNG as gray PNG of its indices; of a gray PNG of any depth, the chunks that hold its pixels.

    Both kinds store one byte per pixel, so the compressed pixels stay as they are: only the color type in the header
    changes, and the chunks about colors go (PNG specification, 11.2). This takes 3 microseconds, encoding the pixels
    again 1 millisecond.

    Raises:
      ValueError: as `png_chunks`.
    """
    return _joined(_pixel_chunks(data))


def _pixel_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Header, pixels and end of a PNG whose chunks are whole, as those of a gray one."""
    return [
        (kind, body[:9] + b"\0" + body[10:] if kind == b"IHDR" else body)  # byte 9: the color type
        for kind, body in png_chunks(data)
        if kind in (b"IHDR", b"IDAT", b"IEND")
    ]


def _joined(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    parts = [_START]
    for kind, body in chunks:
        parts += [len(body).to_bytes(4, "big"), kind, body, fast_zlib.crc32(kind + body).to_bytes(4, "big")]
    return b"".join(parts)


# --- Indices ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PngIndices:
    """The values of a gray or palette PNG.

    Attributes:
      values: uint8 or uint16 [H, W].
      gray_png: the file without its palette, as `without_palette` gives it.
    """

    values: np.ndarray
    gray_png: bytes


def read_indices(data: bytes) -> PngIndices | None:
    """The values of a gray PNG of 8 or 16 bits or of a palette PNG of 8 bits.

    The values are OpenCV's for every file. Most masks do not need it: their rows are unfiltered or hold differences
    within the row, and inflating these and adding them up takes a sixth of its time.

    Returns:
      None for other files, and where chunks are damaged: Pillow then reads the file, or says what is wrong with it.

    Raises:
      ValueError: libpng refuses the pixels, as TensorFlow would. Pillow fills rows that are missing with zeros.
    """
    if len(data) <= 28 or png_kind(data) not in _INDEX_KINDS or data[28]:  # the last: interlaced
        return None
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if not 0 < height * width <= _MAX_PLAIN or max(height, width) > MAX_SIDE:
        return None
    try:
        chunks = _pixel_chunks(data)
    except ValueError:
        return None
    gray_png = _joined(chunks)
    rows = _inflated_rows(chunks, height, width) if data[24] == 8 else None
    if rows is not None and rows[:, 0].max() <= _SUB:
        return PngIndices(_unfiltered(rows), gray_png)
    pixels = cv2.imdecode(np.frombuffer(gray_png, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("its pixels are damaged or end too early")
    dtype = np.uint16 if data[24] == 16 else np.uint8
    is_plain = pixels.shape == (height, width) and pixels.dtype == dtype
    return PngIndices(pixels, gray_png) if is_plain else None


def _inflated_rows(chunks: Sequence[tuple[bytes, bytes]], height: int, width: int) -> np.ndarray | None:
    """The filter byte and the filtered values of each row of a gray PNG of 8 bits, uint8 [H, 1 + W].

    None unless the file keeps every rule: what to make of others is left to libpng.
    """
    head, *_, end = (body for _, body in chunks)
    kinds = [kind for kind, _ in chunks]
    if kinds != [b"IHDR", *[b"IDAT"] * (len(kinds) - 2), b"IEND"] or end:
        return None
    deflated, size = b"".join(body for _, body in chunks[1:-1]), height * (1 + width)
    if len(head) != _HEAD_BYTES or any(head[10:12]) or not deflated:  # methods of compression and filters
        return None
    if 256 << (deflated[0] >> 4) < min(size, _MAX_WINDOW):  # references may reach back farther than the header says
        return None
    inflater = fast_zlib.decompressobj()
    try:
        rows = inflater.decompress(deflated, size + 1)  # no more, whatever the file would expand to
    except fast_zlib.ZlibError:
        return None
    if len(rows) != size or not inflater.eof or inflater.unused_data:
        return None
    return np.frombuffer(rows, np.uint8).reshape(height, 1 + width)


def _unfiltered(rows: np.ndarray) -> np.ndarray:
    """The values, uint8 [H, W], of rows that are not filtered or by the filter Sub (PNG specification, 9.2)."""
    filters, values = rows[:, 0], rows[:, 1:]
    if not filters.any():
        return values.copy()
    height, width = values.shape
    sums = np.empty((height, width), np.uint8)
    step = max(1, _MAX_SUMMED // width)
    for top in range(0, height, step):  # sums over rectangles, which OpenCV gives: four times as fast as `cumsum`
        part = cv2.integral(values[top : top + step]).astype(np.uint8)
        np.subtract(part[1:, 1:], part[:-1, 1:], out=sums[top : top + step])
    plain = filters == 0
    sums[plain] = values[plain]
    return sums
