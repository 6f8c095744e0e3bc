"""Images that cannot go into records as they are: photographs to be turned, other formats, CMYK.

An ordinary JPEG or PNG passes untouched, byte for byte. TIFF, BMP, WebP, GIF and PPM become PNG, which loses nothing
but what is said: bits below the upper 8, alpha, further channels, further pages. JPEGs that must be decoded (to turn
them, or because they are CMYK) become JPEG again, at quality 95 with full color resolution: at a normal photograph's
size that moves pixels by less than two levels on average, while PNG would be four times as large and could not be
decoded in part, which is how training reads JPEGs.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin, WebPImagePlugin  # noqa: F401  (Pillow would load the latter too late)

from deeplab.data.images import inspect_image, kind_of, read_fault, read_orientation, require_short_sides
from deeplab.utils.errors import UserError

NOTES: Mapping[str, str] = {
    "turned": "images are turned by their EXIF data: they go in upright, as viewers show them",
    "unturned": "images are turned by their EXIF data: they go in as stored, which must be how their masks lie",
    "converted": "images are of kinds that records do not hold (TIFF, BMP, WebP, ...): they go in as PNG, without loss",
    "cmyk": "images are CMYK, made for print: they go in as RGB, without regard to their color profile",
    "alpha": "images have an alpha channel: it is dropped, and the colors behind it count",
    "channels": "images have a fourth channel that is not alpha (near infrared?): it is dropped",
    "sixteen_bit": "images have more than 8 bits a channel: the upper 8 are kept, as TensorFlow does with 16-bit PNG",
    "dark": (
        "images of more than 8 bits use less than a sixteenth of their range (no value above 4095 of 65535), so that "
        "networks see them nearly black: stretch all by the same factor before building, e.g. 12-bit data by "
        "`magick IN.tif -evaluate multiply 16 OUT.png`"
    ),
    "pages": "files hold several pages or frames: the first goes in",
    "damaged": "images break the rules of their format, but can be read",
}

_BITS, _PHOTOMETRIC, _CHANNELS, _PLANAR, _COMPRESSION, _KIND, _SUBFILE = 258, 262, 277, 284, 259, 339, 254
_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 322, 323
_OF_VALUES = (_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT, _BITS, _PHOTOMETRIC, _CHANNELS, _PLANAR, _COMPRESSION, _KIND)
_WHITE_IS_ZERO, _APART, _UNCOMPRESSED, _UNSIGNED = 0, 2, 1, 1  # values of those TIFF tags (TIFF 6.0)
_KINDS = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
_MOST_FOR_A_BYTE = {_UNCOMPRESSED: 1, 32773: 64, 5: 2560, 8: 1032, 32946: 1032}  # PackBits, LZW, deflate
_DARK = 16  # upper byte of 4096
_COPY_OR_MASK = 1 | 4  # bits of the subfile type
_INVERSE = {6: 8, 8: 6}  # the other orientations undo themselves
_WITH_ALPHA = ("LA", "PA", "RGBA")


@dataclass(frozen=True)
class Picture:
    """An image that is fit for a record.

    Attributes:
      data: the encoded image; the file's own bytes where nothing had to change.
      format: "jpeg" or "png".
      height, width: size in pixels of what `data` decodes to.
      notes: keys of `NOTES`: what is odd about the file, and what was done to it.
    """

    data: bytes
    format: str
    height: int
    width: int
    notes: tuple[str, ...] = ()


def prepare(
    data: bytes, where: str, mask_size: tuple[int, int] | None, exif: str = "auto", decode: bool = False
) -> Picture:
    """An image file as a record can hold it, the way up that its mask lies.

    Args:
      data: the file's bytes, of any kind that `images.kind_of` knows.
      where: its name, for messages.
      mask_size: height and width of its mask; None where the mask fits whatever its image is.
      exif: "turn" applies the file's EXIF orientation, "ignore" does not. "auto" applies it, as all viewers and nearly
        all annotation tools do, unless the mask's size says that it was drawn on the pixels as they are stored.
      decode: decode files that pass untouched, too, to find damage that their structure does not show.

    Raises:
      UserError: no picture, truncated, damaged or too large; or of a kind with no plain meaning in 8-bit RGB, such as
        more than four channels or floating point.
    """
    kind = kind_of(data, where)
    facts = inspect_image(data, where, decode) if kind in ("jpeg", "png") else None
    if facts is None or not facts.direct:
        return _encoded(_decoded(data, where, kind), "png", mask_size, exif)
    notes = [note for note in ("alpha", "damaged", "pages") if getattr(facts, note)]
    turn = _turn(facts.orientation, (facts.height, facts.width), mask_size, exif)
    if facts.cmyk or turn != 1:
        return _encoded(_decoded(data, where, kind), kind, mask_size, exif, notes)
    if facts.orientation != 1:
        notes.append("unturned")
    if facts.deep:  # decoded only to see whether it is dark
        notes = _joined(notes, _decoded(data, where, kind).notes)
    return Picture(data, facts.format, facts.height, facts.width, tuple(notes))


def _joined(*notes: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(itertools.chain(*notes)))


# --- Turning ------------------------------------------------------------------------------------------------


def _turn(orientation: int, stored: tuple[int, int], mask_size: tuple[int, int] | None, exif: str) -> int:
    """The EXIF orientation to apply; 1 leaves the pixels as they are stored."""
    upright_size = stored[::-1] if orientation >= 5 else stored
    drawn_on_stored = mask_size == stored != upright_size
    return 1 if exif == "ignore" or (exif == "auto" and drawn_on_stored) else orientation


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels [H, W, ...] turned and mirrored as their EXIF orientation, 1 to 8, asks for."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


# --- Decoding and encoding ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Decoded:
    """Pixels as stored, uint8 [H, W] or [H, W, 3]; Pillow's name of the file's format; its EXIF orientation; notes."""

    pixels: np.ndarray
    format: str
    orientation: int
    notes: list[str]


def _encoded(
    decoded: _Decoded, form: str, mask_size: tuple[int, int] | None, exif: str, notes: Sequence[str] = ()
) -> Picture:
    """The picture as "jpeg" or "png", turned where it must be."""
    turn = _turn(decoded.orientation, decoded.pixels.shape[:2], mask_size, exif)
    turning = [] if decoded.orientation == 1 else ["unturned" if turn == 1 else "turned"]
    converting = ["converted"] if form == "png" and decoded.format != "PNG" else []
    pixels, buffer = upright(decoded.pixels, turn), io.BytesIO()
    if form == "jpeg":
        Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0)
    else:
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)  # the default: 4 % smaller, four times as slow
    height, width = pixels.shape[:2]
    said = _joined(turning, converting, notes, decoded.notes)
    return Picture(buffer.getvalue(), form, height, width, tuple(said))


def _decoded(data: bytes, where: str, kind: str) -> _Decoded:
    tags = _tags_of(data) if kind == "tiff" else {}
    _require_plain_tiff(tags, where)
    _require_all_rows(tags, where, len(data))
    try:
        picture = Image.open(io.BytesIO(data), formats=(kind.upper(),))
        require_short_sides(picture)
        return _loaded(picture, tags, bits=data[24] if kind == "png" else _bits_of(picture, tags))
    except Exception as fault:  # on files made to harm, Pillow raises nearly anything
        raise read_fault(where, kind, fault) from None


def _bits_of(picture: Image.Image, tags: Mapping[int, Any]) -> int:
    """Bits a channel, of formats other than PNG; Pillow's modes tell it of gray pictures only."""
    if tags:
        return max(_numbers(tags, _BITS, 1))
    decoder: Any = picture.tile[0][3] if picture.format == "PPM" else None  # type: ignore[attr-defined]
    highest = decoder[-1] if isinstance(decoder, tuple) else 0  # PPM states the highest value there can be
    return 16 if picture.mode.startswith("I") or (isinstance(highest, int) and highest > 255) else 8


def _loaded(picture: Image.Image, tags: Mapping[int, Any], bits: int) -> _Decoded:
    orientation, sound = read_orientation(picture)
    picture.load()
    pixels = _eight_bits(picture, bits)
    if picture.mode.startswith("I") and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        pixels = 255 - pixels  # Pillow does so with 8 bits, not with 16
    if picture.format == "TIFF":  # these alone Pillow has turned already
        pixels = upright(pixels, _INVERSE.get(orientation, orientation))
    met = {
        "cmyk": picture.mode == "CMYK",
        "alpha": picture.mode in _WITH_ALPHA or "transparency" in picture.info,
        "channels": picture.mode in ("RGB", "RGBX") and _numbers(tags, _CHANNELS, 3)[0] == 4,
        "sixteen_bit": bits > 8,
        "dark": bits > 8 and pixels.max() < _DARK,
        "damaged": not sound,
        "pages": picture.format not in ("JPEG", "MPO") and _has_more_pages(picture),
    }
    return _Decoded(pixels, str(picture.format), orientation, [note for note, is_met in met.items() if is_met])


def _eight_bits(picture: Image.Image, bits: int) -> np.ndarray:
    """The upper 8 bits: uint8 [H, W] of gray pictures, uint8 [H, W, 3] of others. Pillow's own way clips at 255."""
    if picture.mode.startswith("I"):
        return (np.asarray(picture) >> (bits - 8)).astype(np.uint8)
    if picture.mode in ("1", "L", "LA"):
        return np.array(picture.convert("L"))
    return np.array(picture.convert("RGB"))


def _has_more_pages(picture: Image.Image) -> bool:
    """Whether more pictures follow; smaller copies and masks, which cloud-optimized TIFFs hold, do not count."""
    if not getattr(picture, "is_animated", False):
        return False
    try:
        picture.seek(1)
    except Exception:  # what cannot be read is no page
        return False
    tags = getattr(picture, "tag_v2", {})
    return not _numbers(tags, _SUBFILE, 0)[0] & _COPY_OR_MASK


# --- TIFF ---------------------------------------------------------------------------------------------------


def _tags_of(data: bytes) -> dict[int, Any]:
    """What the first picture of a TIFF says of its values. Pillow does not tell it where it cannot read the pixels."""
    try:
        stream = io.BytesIO(data)
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:16] if 43 in data[2:4] else data[:8])
        stream.seek(tags.next)
        tags.load(stream)
        return {tag: tags[tag] for tag in _OF_VALUES if tag in tags}
    except Exception:  # as with pictures: broken files raise nearly anything
        return {}


def _numbers(tags: Mapping[int, Any], tag: int, default: int) -> tuple[int, ...]:
    found = tags.get(tag, default)
    numbers = found if isinstance(found, tuple) else (found,)
    return numbers if numbers and all(isinstance(number, int) for number in numbers) else (default,)


def _require_plain_tiff(tags: Mapping[int, Any], where: str) -> None:
    """Refuses TIFFs whose values have no plain meaning as 8-bit RGB, and a kind that Pillow reads wrongly.

    Raises:
      UserError: too many channels, floating point, signed, more than 16 bits, or 16-bit channels stored apart.
    """
    channels, bits = _numbers(tags, _CHANNELS, 1)[0], max(_numbers(tags, _BITS, 8))
    signs = {sign for sign in _numbers(tags, _KIND, _UNSIGNED) if sign in _KINDS}
    if channels > 4:
        hint = "save the three that matter as RGB, e.g. `gdal_translate -b 3 -b 2 -b 1 IN.tif OUT.tif`"
        raise UserError(
            "unclassified", f"has {channels} channels; the networks take three: red, green, blue", hint, where=where
        )
    if signs or bits > 16:
        values = f"{_KINDS[min(signs)] if signs else 'unsigned'} values of {bits} bits"
        hint = "scale it to 0..255 or 0..65535 by the same factor for all images, and save it as 8- or 16-bit PNG"
        raise UserError(
            "unclassified", f"holds {values}, of which nothing says what is black and what is white", hint, where=where
        )
    apart = _numbers(tags, _PLANAR, 1)[0] == _APART and channels > 1
    if apart and bits == 16 and _numbers(tags, _COMPRESSION, 1)[0] == _UNCOMPRESSED:
        hint = "save it with the channels of a pixel side by side (planar configuration 1), or as 16-bit PNG"
        raise UserError(
            "unclassified", f"stores its {channels} channels of 16 bits apart, which cannot be read", hint, where=where
        )


def _require_all_rows(tags: Mapping[int, Any], where: str, length: int) -> None:
    """Refuses sizes that so few bytes cannot fill. Pillow would leave missing rows of uncompressed TIFFs black, and
    get memory for the others."""
    width, height, channels = (_numbers(tags, tag, 1)[0] for tag in (_WIDTH, _HEIGHT, _CHANNELS))
    stored = max(width, _numbers(tags, _TILE_WIDTH, 0)[0]) * max(height, _numbers(tags, _TILE_HEIGHT, 0)[0])
    least = stored * channels * min(_numbers(tags, _BITS, 1)) // 8
    most = _MOST_FOR_A_BYTE.get(_numbers(tags, _COMPRESSION, 0)[0])
    if most and least > most * length:
        rule = f"is truncated: {width}x{height} pixels cannot come from {length:,} bytes"
        raise UserError("unclassified", rule, "copy the file again", where=where)
