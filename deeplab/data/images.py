"""Images on their way into records: what kind they are, how large, which way up, whole or cut off.

Nothing is decoded here unless a file asks for it: the bytes of ordinary JPEG and PNG files go into records as they are.
What must be changed first is `transcode.py`'s work.
"""

from __future__ import annotations

import dataclasses
import io
import re
import warnings
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from PIL import Image

from deeplab.data.labels import UNREADABLE, png_chunks, unreadable
from deeplab.utils.errors import UserError

# Pillow warns, with a line of its source, of odd files; what matters of that is counted and said once by the builders.
warnings.filterwarnings("ignore", module=r"PIL\.")

_ORIENTATION = 0x0112  # the EXIF tag; 1 is upright
_STARTS: tuple[tuple[bytes, str], ...] = (
    (rb"\xff\xd8\xff", "jpeg"),
    (rb"\x89PNG\r\n\x1a\n", "png"),
    (rb"II[*+]\0|MM\0[*+]", "tiff"),
    (rb"RIFF....WEBP", "webp"),
    (rb"GIF8[79]a", "gif"),
    (rb"P[1-6]\s", "ppm"),
    (rb"BM", "bmp"),
)
_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (rb"....ftyp(hei|hev|mif|msf)", "a HEIC picture, as iPhones take them", "save it as JPEG"),
    (rb"....ftypavi[fs]", "an AVIF picture", ""),
    (rb"\0\0\0\x0cjP|\xff\x4f\xff\x51", "a JPEG 2000 picture", ""),
    (rb"8BPS", "a Photoshop file", ""),
    (rb".{128}DICM", "a DICOM file", "save it as PNG, with the window of gray values that people read it with"),
    (rb"%PDF", "a PDF file", ""),
    (rb"\x93NUMPY", "a NumPy array", "save it as PNG"),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!", "an archive", "unpack it"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the picture", "run `git lfs pull` in its repository"),
    (rb"\s*<(!doctype html|html|\?xml)", "a web page or XML", "download the picture again; the server sent a message"),
)
_LONGEST_SIDE = 1_000_000
_SCAN, _END = 0xDA, 0xD9
_ORDINARY_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive; others are lossless or arithmetic-coded
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # ITU-T T.81, table B.1
_TRUNCATED = "truncated: the end marker is missing"
_PNG_CHANNELS, _BY_PALETTE = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}, 3  # PNG specification, table 11.1
_DEFLATE_MOST = 1032  # bytes that one byte of deflated data can stand for, RFC 1951: 258 for two bits
_JPEG_MOST = 2048  # pixels that one byte of a JPEG can stand for: 64 a bit in a progressive gray one, with a margin


@dataclass(frozen=True)
class ImageFacts:
    """What the header of a JPEG or PNG says.

    Attributes:
      format: "jpeg" or "png", by content.
      height, width: size in pixels, as stored: an EXIF orientation is not applied.
      orientation: EXIF orientation, 1 (upright) to 8.
      alpha: the image has an alpha channel or a transparent color, which readers drop.
      damaged: the file or its EXIF block breaks its format's rules, yet TensorFlow's decoder reads it.
      deep: 16 bits a channel, of which readers keep the upper 8.
      pages: more pictures follow the first one.
      cmyk: the colors are those of a printer.
      direct: TensorFlow decodes the file, which it does not with lossless and arithmetic-coded JPEG.
    """

    format: str
    height: int
    width: int
    orientation: int = 1
    alpha: bool = False
    damaged: bool = False
    deep: bool = False
    pages: bool = False
    cmyk: bool = False
    direct: bool = True

    @property
    def rotated(self) -> bool:
        """An EXIF orientation other than upright stands in the file."""
        return self.orientation != 1


def kind_of(data: bytes, where: str) -> str:
    """What a picture is by its first bytes, whatever its extension: jpeg, png, tiff, webp, gif, ppm or bmp.

    Raises:
      UserError: none of these; it says what it is instead, where that can be told.
    """
    if not data:
        raise UserError("unclassified", "is empty", "copy the file again", where=where)
    for start, kind in _STARTS:
        if re.match(start, data, re.DOTALL):
            return kind
    for start, name, hint in _OTHERS:
        if re.match(start, data, re.DOTALL | re.IGNORECASE):
            raise UserError(
                "unclassified",
                f"is {name}, whatever its extension",
                hint or "convert it to PNG (lossless) first",
                where=where,
            )
    rule = "is no JPEG, PNG, TIFF, BMP, WebP, GIF or PPM inside, whatever its extension"
    raise UserError(
        "unclassified",
        f"{rule}{_first_words(data)}",
        "convert it to PNG (lossless) first, or copy the file again",
        where=where,
    )


def _first_words(data: bytes) -> str:
    start = " ".join(data[:40].decode("ascii", "replace").split())
    return f": it is text, {start!r} ..." if start.isprintable() and data[:40].isascii() else ""


def inspect_image(data: bytes, where: str, decode: bool = False) -> ImageFacts:
    """Kind and size of a JPEG or PNG, after a check that it is whole.

    The quick check follows the file's structure to its end and asks TensorFlow's decoder only in doubt. It finds every
    truncated file, and damage inside the compressed data, at a sixth of the cost of decoding; damaged decoding
    tables in a file's head are found with `decode` alone.

    Args:
      data: the file's bytes.
      where: its name, for messages.
      decode: decode the picture, too.

    Raises:
      UserError: neither JPEG nor PNG, truncated, damaged, or too large to be decoded.
    """
    kind = kind_of(data, where)
    if kind not in ("jpeg", "png"):
        rule = f"is {kind.upper()} inside and neither JPEG nor PNG, whatever its extension"
        raise UserError("unclassified", rule, "convert it to PNG (lossless) first", where=where)
    try:
        picture = Image.open(io.BytesIO(data), formats=(kind.upper(),))
        require_short_sides(picture)
        _require_enough_bytes(data, kind, picture)
        facts = _jpeg_facts(data, picture) if kind == "jpeg" else _png_facts(data, picture)
        if decode and facts.direct:
            _decode(data, kind)
        return facts
    except Exception as fault:  # on files made to harm, Pillow raises nearly anything
        raise read_fault(where, kind, fault) from None


def read_fault(where: str, kind: str, fault: Exception) -> UserError:
    """The error for a picture of a known kind that cannot be read, with the reason in plain words."""
    if isinstance(fault, Image.DecompressionBombError):
        pixels = re.search(r"\((\d+) pixels\)", str(fault))
        size = f"has {int(pixels[1]):,} pixels" if pixels else "has too many pixels"
        rule = f"{size}; more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} are not read"
        return UserError(
            "unclassified",
            rule,
            "cut it into tiles: training decodes a whole image for each crop it takes",
            where=where,
        )
    if "identify image" in str(fault):
        rule = f"cannot be read as a picture: its {kind.upper()} header is damaged, or of a kind that is not known"
        return UserError("unclassified", rule, "copy the file again, or save it as PNG", where=where)
    if isinstance(fault, UNREADABLE) and " " in str(fault):
        return unreadable(where, fault)
    name = type(fault).__name__  # codes of a decoder, or what Python says where nobody checked
    return unreadable(where, ValueError(f"it is truncated, damaged, or packed in a way not known ({name}: {fault})"))


def read_orientation(picture: Image.Image) -> tuple[int, bool]:
    """EXIF orientation of an opened picture, 1 (upright) to 8, and whether its EXIF block can be read at all."""
    try:
        found = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # what Pillow raises on broken blocks is not told by its documentation, and they must not stop us
        return 1, False
    return (found if found in range(1, 9) else 1), True


def check_structure(data: bytes, kind: str) -> None:
    """Follows a file from its first segment or chunk to its end.

    Raises:
      ValueError: it breaks off, or what is there is damaged.
    """
    if kind == "jpeg":
        check_jpeg_structure(data)
    else:
        for _ in png_chunks(data):
            pass


def require_short_sides(picture: Image.Image) -> None:
    """Refuses pictures whose PNG no libpng, TensorFlow's among them, would read."""
    if max(picture.size) > _LONGEST_SIDE:
        raise ValueError(f"{picture.width}x{picture.height} pixels: no side may be above {_LONGEST_SIDE:,}")


def _require_enough_bytes(data: bytes, kind: str, picture: Image.Image) -> None:
    """Refuses sizes that so few bytes cannot fill: the file is cut off, or made to harm."""
    width, height = picture.size
    bits = data[24] * _PNG_CHANNELS.get(data[25], 1) if kind == "png" else 0
    least = height * (width * bits // 8) / _DEFLATE_MOST if bits else height * width / _JPEG_MOST
    if least > len(data):
        raise ValueError(f"truncated: {width}x{height} pixels cannot come from {len(data)} bytes")


def _tensorflow_reads(data: bytes) -> bool:
    try:
        tf.io.decode_image(data, channels=3)
        return True
    except tf.errors.InvalidArgumentError:
        return False


def _decode(data: bytes, kind: str) -> None:
    if kind == "png":
        if not _tensorflow_reads(data):  # Pillow fills gaps without a word
            raise ValueError("damaged: its pixels cannot be decoded")
        return
    picture = Image.open(io.BytesIO(data), formats=("JPEG",))
    picture.draft("L", (1, 1))  # every coefficient is read, but only 1/64 of the pixels are made
    picture.load()


# --- PNG ----------------------------------------------------------------------------------------------------


def _png_facts(data: bytes, picture: Image.Image) -> ImageFacts:
    chunks: dict[bytes, bytes] = {}
    damaged = False
    try:
        for kind, body in png_chunks(data):
            chunks[kind] = body if kind == b"IDAT" else chunks.get(kind, b"") + body
        if b"IDAT" not in chunks or (data[25] == _BY_PALETTE and b"PLTE" not in chunks):
            raise ValueError("damaged: its pixels or its palette are missing")
    except UNREADABLE:
        if not _tensorflow_reads(data):
            raise
        damaged = True
    orientation, sound = read_orientation(picture) if _may_be_turned(chunks) else (1, True)
    return ImageFacts(
        "png",
        picture.height,
        picture.width,
        orientation,
        alpha="A" in picture.mode or b"tRNS" in chunks,
        damaged=damaged or not sound,
        deep=data[24] == 16,
        pages=b"acTL" in chunks,  # an animation; decoders show its first picture
    )


def _may_be_turned(chunks: dict[bytes, bytes]) -> bool:
    """Only then is it worth asking Pillow, which decodes the whole picture in search of an EXIF block."""
    texts = b"".join(chunks.get(kind, b"") for kind in (b"tEXt", b"zTXt", b"iTXt"))
    return b"eXIf" in chunks or b"Raw profile type exif" in texts or b"XML:com.adobe.xmp" in texts


# --- JPEG ---------------------------------------------------------------------------------------------------


def _jpeg_facts(data: bytes, picture: Image.Image) -> ImageFacts:
    orientation, sound = read_orientation(picture)
    facts = ImageFacts(
        "jpeg", picture.height, picture.width, orientation, cmyk=picture.mode == "CMYK", damaged=not sound
    )
    try:
        frames = check_jpeg_structure(data) & _FRAMES
    except UNREADABLE:
        if not _tensorflow_reads(data):
            raise
        return dataclasses.replace(facts, damaged=True)
    return facts if frames <= _ORDINARY_FRAMES else dataclasses.replace(facts, direct=_tensorflow_reads(data))


def check_jpeg_structure(data: bytes) -> set[int]:
    """Follows the markers of a JPEG file from the first to the last (ITU-T T.81, annex B).

    Bytes after the end marker are let pass: phones store a second picture there.

    Returns:
      The codes of the markers before the end.

    Raises:
      ValueError: the chain of segments breaks, or the file ends before its end marker.
    """
    marks = np.flatnonzero(np.frombuffer(data, np.uint8) == 0xFF)
    seen: set[int] = set()
    position = 2
    while True:
        if data[position : position + 1] != b"\xff":
            raise ValueError(f"damaged at byte {position} of {len(data)}" if position < len(data) else _TRUNCATED)
        code = data[position + 1] if position + 1 < len(data) else 0
        if code == 0xFF:  # fill byte
            position += 1
            continue
        if code == _END and _SCAN in seen:
            return seen
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
