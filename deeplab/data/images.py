"""Reads image files as pixels (`read_image`, `read_raster`), or converts them to what a record can hold (`prepare`).

`read_raster` reads images of any bands and types without loss. Images that become RGB are turned as their EXIF
orientation says, keep the upper 8 bits of 16, and lose their alpha channel; a note says so.

In records an ordinary JPEG or PNG stays as it is, byte for byte. Other formats become PNG, which loses nothing but
what the notes say: lower bits, alpha, further channels, further pages. JPEGs that must be decoded (to turn them, or
because they are CMYK) become JPEG again, at quality 95 with full color resolution: at the size of a normal photograph
that moves pixels by less than two levels on average, while PNG would be four times as large and could not be decoded
in part, which is how training reads JPEGs.
"""

from __future__ import annotations

import io
import itertools
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from PIL import Image, WebPImagePlugin  # noqa: F401  (Pillow loads the last too late)

from deeplab.data import geotiff, records, tiff_tags
from deeplab.data.bands import DTYPES, MAX_CHANNELS, ImageBands
from deeplab.data.containers import read_content
from deeplab.data.dicom_files import read_dicom
from deeplab.data.image_files import (
    inspect_image,
    kind_of,
    numpy_array,
    read_orientation,
    require_short_sides,
    unreadable,
)
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import write_atomically
from deeplab.utils.paths import read_file, require_regular

NOTES: Mapping[str, str] = {  # what follows "images" or "an image" in a message
    "turned": "with an EXIF orientation: turned upright, as viewers show it",
    "unturned": "with an EXIF orientation: used as stored, which must be the way the mask is stored",
    "converted": "in a format that records do not hold (TIFF, BMP, WebP, ...): converted to PNG without loss",
    "cmyk": "in CMYK, made for print: converted to RGB without the color profile",
    "alpha": "with an alpha channel: the alpha is dropped, and the colors behind it count",
    "channels": "with a fourth channel that is not alpha (near infrared?): dropped, unless you build with `bands=all`",
    "sixteen_bit": "with more than 8 bits per channel: the upper 8 are kept, as TensorFlow does with 16-bit PNG "
    "(`bands=all` keeps all)",
    "dark": (
        "with more than 8 bits per channel and no value above 4095 of 65535, which models see nearly black: build with "
        "`bands=all`, which keeps all bits and scales the values, or multiply all images by the same factor, e.g. "
        "`magick IN.tif -evaluate multiply 16 OUT.png` for 12 bits"
    ),
    "pages": "with several pages or frames: only the first is used",
    "alpha_kept": "with an alpha channel, which is a band like the others",
    "as_float": "with values of a type that records do not hold: stored as float32",
    "nodata": "with pixels without a value (nodata): they get the ignore label",
    "damaged": "with damage that breaks the rules of the format, but can be read",
}
_TOLD = ("turned", "cmyk", "alpha", "channels", "sixteen_bit", "dark", "pages")  # of an image that is predicted

_DARK = 16  # upper byte of 4096
_INVERSE = {6: 8, 8: 6}  # the other orientations undo themselves
_WITH_ALPHA = ("LA", "PA", "RGBA")
_MAX_WHOLE_FLOAT = 2**24  # float32 holds all whole numbers up to it
_GRAY_WITH_ALPHA = 4  # color type of PNG
_ARRAYS = ("npy", "dicom")  # kinds that Pillow does not read
_PILLOW_NAMES = {"jpeg2000": "JPEG2000"}
_MAX_FAST_PNG = 1 << 30  # values; OpenCV's limit is near


@dataclass(frozen=True)
class PreparedImage:
    """An image in the form that a record holds.

    Attributes:
      data: the encoded image; the file's own bytes where nothing had to change.
      format: "jpeg" or "png"; `records.VALUES` of other images than 8-bit RGB.
      height, width: size in pixels of what `data` decodes to.
      notes: keys of `NOTES`: what is unusual about the file, and what was done to it.
      values: number of channels and dtype of an image in the format `records.VALUES`.
    """

    data: bytes
    format: str
    height: int
    width: int
    notes: tuple[str, ...] = ()
    values: tuple[int, str] | None = None


def prepare(
    data: bytes, where: str, mask_size: tuple[int, int] | None, exif: str = "auto", decode: bool = False
) -> PreparedImage:
    """Turn an image file into what a record can hold, with the orientation of its mask.

    Args:
      data: the file's bytes, in a format of `kind_of`.
      where: its name, for messages.
      mask_size: height and width of its mask; None where the mask fits any image.
      exif: "turn" applies the file's EXIF orientation, "ignore" does not. "auto" applies it, as all viewers and nearly
        all annotation tools do, unless the size of the mask shows that it was drawn on the pixels as stored.
      decode: also decode files that are kept unchanged, to find damage that their structure does not show.

    Raises:
      UserError: not an image, truncated or damaged (`unreadable-image`), too large (`image-too-large`), or with no
        plain meaning in 8-bit RGB, such as five channels or floating point (`unsupported-pixels`).
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
    return PreparedImage(data, facts.format, facts.height, facts.width, tuple(notes))


def _joined(*notes: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(itertools.chain(*notes)))


def decode_prepared(image: PreparedImage, where: str) -> np.ndarray:
    """The pixels of a prepared image as training decodes them: uint8 [H, W, 3], RGB."""
    if image.format == "jpeg":
        return decode_jpeg(image.data, where)
    return three_channels(_decoded(image.data, where, "png").pixels)


def encode_png(pixels: np.ndarray, notes: Sequence[str] = ()) -> PreparedImage:
    """Encode pixels, uint8 [H, W, 3], for a record, without loss."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    height, width = pixels.shape[:2]
    return PreparedImage(buffer.getvalue(), "png", height, width, tuple(notes))


# --- Images of any bands ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Raster:
    """The values of an image file, or of a window of it.

    Attributes:
      pixels: [H, W, C], uint8, uint16 or float32, unscaled.
      valid: bool [H, W], which pixels have a value: not those of the file's nodata value or mask, nor those that are no
        number in all bands; None = all.
      notes: keys of `NOTES`.
    """

    pixels: np.ndarray
    valid: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def raster_size(path: str, exif: str = "auto") -> tuple[int, int, int]:
    """Height, width and number of bands of an image file that `read_raster` reads.

    Raises:
      UserError: as `read_raster`.
    """
    if geotiff.is_tiff(path):
        return geotiff.size_and_bands(path)
    height, width, bands = read_raster(path, exif=exif).pixels.shape
    return height, width, bands


def read_raster(
    path: str | os.PathLike,
    numbers: Sequence[int] = (),
    window: geotiff.Window | None = None,
    *,
    mask_size: tuple[int, int] | None = None,
    exif: str = "auto",
) -> Raster:
    """Read an image file of 1 to 16 bands without loss: TIFF of any kind (extra `geo`), PNG, JPEG, `.npy`, `.npz`, ...

    Types that records do not hold become float32 where that keeps every value; float64 is rounded to it.

    Args:
      path: the file.
      numbers: the bands to read, from 1, in that order; empty = all.
      window: top, left, height, width of the part to read; None = all of it.
      mask_size, exif: as for `prepare`.

    Raises:
      UserError: the file cannot be read (`unreadable-image`, `file-not-found`), is in a format that is not read
        (`unsupported-format`), has no such band (`no-such-band`), too many bands or values of an unknown kind
        (`unsupported-pixels`), or too many pixels for one piece (`image-too-large`).
    """
    where = str(path)
    if geotiff.is_tiff(path):
        require_regular(where)
        height, width, bands = geotiff.size_and_bands(path)
        chosen = _require_bands(bands, numbers, where)
        _require_room(*(window[2:] if window else (height, width)), len(chosen), where)
        pixels, valid = geotiff.read_valid(path, chosen, window)
        return _as_raster(pixels, valid, where)
    data = read_content(where)
    decoded, notes = _array_of(data, where, mask_size, exif)
    chosen = _require_bands(decoded.shape[2], numbers, where)
    if list(chosen) != list(range(1, decoded.shape[2] + 1)):
        decoded = decoded[..., [number - 1 for number in chosen]]
    if window is not None:
        top, left, height, width = window
        decoded = decoded[top : top + height, left : left + width]
    return _as_raster(np.ascontiguousarray(decoded), None, where, notes)


def read_bands(path: str | os.PathLike, bands: ImageBands, window: geotiff.Window | None = None) -> Raster:
    """Read an image file as a model of these bands takes it.

    Raises:
      UserError: as `read_raster`, or another number of channels (`wrong-channels`) or type (`wrong-dtype`).
    """
    raster = read_raster(path, bands.bands, window)
    bands.require(raster.pixels, str(path))
    return raster


def decode_record(record: Mapping[str, Any], bands: ImageBands, where: str) -> np.ndarray:
    """The image of a record, as `records.parse_example` gives it: raw values of these bands, or the RGB that it holds.

    Raises:
      UserError: it cannot be decoded, or is of other bands.
    """
    if record.get(records.IMAGE_FORMAT) != records.VALUES.encode():
        return decode_rgb(record[records.IMAGE], where)
    try:
        pixels = records.decode_values(record)
    except ValueError as error:
        raise UserError("bad-record", str(error), "build the records again", where=where) from None
    bands.require(pixels, where)
    return pixels


def encode_raster(pixels: np.ndarray, notes: Sequence[str] = ()) -> PreparedImage:
    """Encode values, [H, W, C] of uint8, uint16 or float32, for a record, without loss."""
    height, width, channels = pixels.shape
    values = (channels, str(pixels.dtype))
    return PreparedImage(records.encode_values(pixels), records.VALUES, height, width, tuple(notes), values)


def _require_bands(bands: int, numbers: Sequence[int], where: str) -> Sequence[int]:
    missing = [number for number in numbers if number > bands]
    if missing:
        rule = f"has {bands} bands, and no band {missing[0]} (bands are counted from 1)"
        raise UserError("no-such-band", rule, "choose others", field="bands", where=where, value=missing[0])
    if not numbers and bands > MAX_CHANNELS:
        rule = f"has {bands} bands, but models take at most {MAX_CHANNELS}"
        hint = "choose some, e.g. `bands=4,3,2`; channels come last in arrays"
        raise UserError("unsupported-pixels", rule, hint, field="bands", where=where, value=bands)
    return numbers or range(1, bands + 1)


def _require_room(height: int, width: int, bands: int, where: str) -> None:
    """Refuses images that may not fit into memory together with the copies that training and prediction need.

    Pillow's limit decides, as for other images; a program that lifts it lifts this one, too.
    """
    if Image.MAX_IMAGE_PIXELS is not None and height * width * bands > 8 * Image.MAX_IMAGE_PIXELS:
        rule = f"has {width}x{height} pixels of {bands} bands, too many to be read in one piece"
        hint = "`tile_size` reads it in tiles"
        raise UserError("image-too-large", rule, hint, field="tile_size", where=where, value=(height, width))


def _array_of(
    data: bytes, where: str, mask_size: tuple[int, int] | None, exif: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The values of a file that is no TIFF, upright: [H, W, C], and notes."""
    kind = kind_of(data, where)
    if kind == "npy":
        return _numpy_image(data, where), ()
    if kind == "dicom":
        return read_dicom(data, where), ()
    if kind == "png" and data[24:25] == b"\x10":  # bits per channel
        decoded = _deep_png(data, where)
    elif kind in ("png", "webp") and (image := _with_alpha(data, where, kind)) is not None:
        orientation = read_orientation(image)[0]
        decoded = _Decoded(_with_pillow(image, where, kind), kind, orientation, ["alpha_kept"])
    else:
        decoded = _decoded(data, where, kind)
        if kind == "jpeg" and "cmyk" not in decoded.notes:
            decoded = replace(decoded, pixels=_jpeg_values(data, decoded, where))
    turn = _turn(decoded.orientation, decoded.pixels.shape[:2], mask_size, exif)
    turning = [] if decoded.orientation == 1 else ["unturned" if turn == 1 else "turned"]
    pixels = upright(decoded.pixels, turn)
    told = [note for note in decoded.notes if note not in ("sixteen_bit", "dark", "alpha")]
    return pixels.reshape(*pixels.shape[:2], -1), tuple(_joined(turning, told))


def _with_alpha(data: bytes, where: str, kind: str) -> Image.Image | None:
    """An image with an alpha channel, opened; None for others."""
    try:
        image = Image.open(io.BytesIO(data))
    except Exception as error:  # on files made to harm, Pillow raises nearly anything
        raise unreadable(where, error, kind) from None
    return image if image.mode in ("LA", "RGBA") else None


def _with_pillow(image: Image.Image, where: str, kind: str) -> np.ndarray:
    try:
        return np.array(image)
    except Exception as error:  # on files made to harm, Pillow raises nearly anything
        raise unreadable(where, error, kind) from None


def _jpeg_values(data: bytes, decoded: _Decoded, where: str) -> np.ndarray:
    """A JPEG as TensorFlow decodes it, in training, too; gray ones with one channel."""
    pixels = decode_jpeg(data, where)
    return pixels[..., 0] if decoded.pixels.ndim == 2 else pixels


def _deep_png(data: bytes, where: str) -> _Decoded:
    """A PNG of 16 bits with all of them, which Pillow gives for gray images only: uint16 [H, W] or [H, W, C]."""
    facts = inspect_image(data, where, decode=True)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None or pixels.dtype != np.uint16:
        raise unreadable(where, ValueError("its pixels cannot be decoded"), "png")
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]  # OpenCV has blue first
    if data[25] == _GRAY_WITH_ALPHA:
        pixels = pixels[..., [0, 3]]
    return _Decoded(np.ascontiguousarray(pixels), "PNG", facts.orientation, ["alpha_kept"] if facts.alpha else [])


def _numpy_image(data: bytes, where: str) -> np.ndarray:
    """An array file as image: [H, W, C]."""
    loaded = numpy_array(data, where)
    shape = list(loaded.shape)
    if loaded.ndim == 2 and 0 not in shape:
        return loaded[..., np.newaxis]
    if loaded.ndim != 3 or 0 in shape:
        rule = f"holds an array of shape {shape}, not [H, W] or [H, W, C]"
        raise UserError("unsupported-pixels", rule, "save one image per file", where=where, value=shape)
    if shape[0] <= MAX_CHANNELS < shape[2]:
        rule = f"holds an array of shape {shape}, whose channels seem to come first"
        raise UserError("unsupported-pixels", rule, "save array.transpose(1, 2, 0)", where=where, value=shape)
    return loaded


def _as_raster(pixels: np.ndarray, valid: np.ndarray | None, where: str, notes: Sequence[str] = ()) -> Raster:
    """Values of a type that records hold, and which pixels have one."""
    found = pixels.dtype
    if found.kind == "b":
        pixels = pixels.astype(np.uint8)
    elif found.kind not in "iuf":
        rule = f"holds values of type {found}"
        raise UserError("unsupported-pixels", rule, "save real numbers", where=where, value=str(found))
    elif str(found.newbyteorder("=")) not in DTYPES:
        if found.kind in "iu" and pixels.size and max(-int(pixels.min()), int(pixels.max())) > _MAX_WHOLE_FLOAT:
            rule = f"holds values of type {found} above {_MAX_WHOLE_FLOAT:,}, which float32 does not tell apart"
            raise UserError("unsupported-pixels", rule, "scale them first", where=where, value=str(found))
        with np.errstate(over="ignore"):
            pixels = pixels.astype(np.float32)
        notes = (*notes, "as_float")
    pixels = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))
    if pixels.dtype.kind == "f":
        finite = np.isfinite(pixels).any(axis=2)
        valid = finite if valid is None else valid & finite
    if valid is not None and valid.all():
        valid = None
    return Raster(pixels, valid, (*notes, *(["nodata"] if valid is not None else [])))


# --- For prediction -----------------------------------------------------------------------------------------


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read an image file as uint8 [H, W, 3], RGB, upright; see `decode_rgb`.

    Raises:
      UserError: as `decode_rgb`, or the file cannot be read.
    """
    return decode_rgb(read_file(path), str(path))


def count_pages(data: bytes, where: str) -> int:
    """Number of pages or frames of an image file's bytes: 1 for most, more for TIFF, GIF, WebP and animated PNG.

    Raises:
      UserError: as `decode_rgb`.
    """
    kind = kind_of(data, where)
    if kind in ("jpeg", "jpeg2000", *_ARRAYS):
        return 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged tags, about which reading the page will say more
            image = Image.open(io.BytesIO(data), formats=(_PILLOW_NAMES.get(kind, kind.upper()),))
            return int(getattr(image, "n_frames", 1))
    except Exception as error:  # on files made to harm, Pillow raises nearly anything
        raise unreadable(where, error, kind) from None


def decode_page(data: bytes, where: str, page: int) -> np.ndarray:
    """Decode one page or frame of an image file to uint8 [H, W, 3], RGB, upright; frames of animations are complete.

    Args:
      data: the file's bytes.
      where: its name, for messages.
      page: its number, from 0.

    Raises:
      UserError: as `decode_rgb`, or there is no such page.
    """
    decoded = _decoded(data, where, kind_of(data, where), page)
    return three_channels(upright(decoded.pixels, decoded.orientation))


def decode_rgb(data: bytes, where: str) -> np.ndarray:
    """Decode an image file to uint8 [H, W, 3], RGB, upright; a console note says what was changed or dropped.

    TensorFlow decodes JPEGs, as it does in training and evaluation: Pillow's pixels differ by up to 19 levels.

    Args:
      data: the file's bytes, in a format of `kind_of`.
      where: its name, for messages.

    Raises:
      UserError: as `prepare`.
    """
    kind = kind_of(data, where)
    facts = inspect_image(data, where) if kind in ("jpeg", "png") else None
    if facts and kind == "jpeg" and facts.direct and not facts.cmyk:
        decoded = _Decoded(decode_jpeg(data, where), "JPEG", facts.orientation, [])
    else:
        decoded = _decoded(data, where, kind)
    notes = [note for note in decoded.notes if note != "alpha" or is_transparent(Image.open(io.BytesIO(data)))]
    for note in (*(["turned"] if decoded.orientation != 1 else []), *notes):
        if note in _TOLD:
            console.note(f"{where}: an image {NOTES[note]}")
    return three_channels(upright(decoded.pixels, decoded.orientation))


def decode_jpeg(data: bytes, where: str) -> np.ndarray:
    """A JPEG as TensorFlow decodes it: uint8 [H, W, 3], as stored.

    Raises:
      UserError: it is damaged (`unreadable-image`).
    """
    import tensorflow as tf

    try:
        return tf.io.decode_jpeg(data, channels=3).numpy()
    except tf.errors.InvalidArgumentError:
        raise unreadable(where, ValueError("the JPEG is damaged or cut off")) from None


def is_transparent(image: Image.Image) -> bool:
    """Whether any pixel of an image is not fully opaque."""
    return bool(np.asarray(image.convert("RGBA"))[..., 3].min() < 255)


def three_channels(pixels: np.ndarray) -> np.ndarray:
    """Pixels [H, W] or [H, W, 3] as [H, W, 3]."""
    return np.repeat(pixels[..., np.newaxis], 3, axis=2) if pixels.ndim == 2 else pixels


# --- Turning ------------------------------------------------------------------------------------------------


def _turn(orientation: int, stored: tuple[int, int], mask_size: tuple[int, int] | None, exif: str) -> int:
    """The EXIF orientation to apply; 1 leaves the pixels as they are stored."""
    upright_size = stored[::-1] if orientation >= 5 else stored
    drawn_on_stored = mask_size == stored != upright_size
    return 1 if exif == "ignore" or (exif == "auto" and drawn_on_stored) else orientation


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels [H, W, ...] turned and mirrored as their EXIF orientation, 1 to 8, says."""
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
) -> PreparedImage:
    """Encode an image as "jpeg" or "png", turned where it must be."""
    turn = _turn(decoded.orientation, decoded.pixels.shape[:2], mask_size, exif)
    turning = [] if decoded.orientation == 1 else ["unturned" if turn == 1 else "turned"]
    converting = ["converted"] if form == "png" and decoded.format != "PNG" else []
    pixels, buffer = upright(decoded.pixels, turn), io.BytesIO()
    if form == "jpeg":
        Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0)
    else:
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)  # the default: 4 % smaller, four times as slow
    height, width = pixels.shape[:2]
    all_notes = _joined(turning, converting, notes, decoded.notes)
    return PreparedImage(buffer.getvalue(), form, height, width, tuple(all_notes))


def _rgb_array(data: bytes, where: str, kind: str) -> _Decoded:
    """A NumPy or DICOM file that is an 8-bit gray or RGB image."""
    pixels = _numpy_image(data, where) if kind == "npy" else read_dicom(data, where)
    if pixels.dtype != np.uint8 or pixels.shape[2] not in (1, 3):
        rule = f"is an array {list(pixels.shape)} of {pixels.dtype}, not an 8-bit gray or RGB image"
        hint = "`bands=all` builds records of such values"
        hint += ", `scale_from=-160,240` shows models what soft tissue differs by in CT" if kind == "dicom" else ""
        raise UserError("unsupported-pixels", rule, hint, where=where, value=str(pixels.dtype))
    return _Decoded(pixels[..., 0] if pixels.shape[2] == 1 else pixels, kind.upper(), 1, [])


def _decoded(data: bytes, where: str, kind: str, page: int = 0) -> _Decoded:
    if kind in _ARRAYS:
        return _rgb_array(data, where, kind)
    tags = tiff_tags.read_tags(data) if kind == "tiff" else {}
    tiff_tags.require_plain(tags, where)
    tiff_tags.require_all_rows(tags, where, len(data))
    try:
        image = Image.open(io.BytesIO(data), formats=(_PILLOW_NAMES.get(kind, kind.upper()),))
        if page:
            image.seek(page)
        require_short_sides(image)
        return _loaded(image, tags, bits=data[24] if kind == "png" else _bits_of(image, tags))
    except Exception as error:  # on files made to harm, Pillow raises nearly anything
        raise unreadable(where, error, kind) from None


def _bits_of(image: Image.Image, tags: Mapping[int, Any]) -> int:
    """Bits per channel, in formats other than PNG; the modes of Pillow show it for gray images only."""
    if tags:
        return max(tiff_tags.numbers(tags, tiff_tags.BITS, 1))
    decoder: Any = image.tile[0][3] if image.format == "PPM" else None  # type: ignore[attr-defined]
    highest = decoder[-1] if isinstance(decoder, tuple) else 0  # PPM states the highest value there can be
    return 16 if image.mode.startswith("I") or (isinstance(highest, int) and highest > 255) else 8


def _loaded(image: Image.Image, tags: Mapping[int, Any], bits: int) -> _Decoded:
    orientation, sound = read_orientation(image)
    image.load()
    pixels = _eight_bits(image, bits)
    if image.mode.startswith("I") and tags.get(tiff_tags.PHOTOMETRIC) == tiff_tags.WHITE_IS_ZERO:
        pixels = 255 - pixels  # Pillow does so with 8 bits, not with 16
    if image.format == "TIFF":  # these alone Pillow has turned already
        pixels = upright(pixels, _INVERSE.get(orientation, orientation))
    met = {
        "cmyk": image.mode == "CMYK",
        "alpha": image.mode in _WITH_ALPHA or "transparency" in image.info,
        "channels": image.mode in ("RGB", "RGBX") and tiff_tags.numbers(tags, tiff_tags.CHANNELS, 3)[0] == 4,
        "sixteen_bit": bits > 8,
        "dark": bits > 8 and pixels.max() < _DARK,
        "damaged": not sound,
        "pages": image.format not in ("JPEG", "MPO") and _has_more_pages(image),
    }
    return _Decoded(pixels, str(image.format), orientation, [note for note, is_met in met.items() if is_met])


def _eight_bits(image: Image.Image, bits: int) -> np.ndarray:
    """The upper 8 bits: uint8 [H, W] for gray images, uint8 [H, W, 3] for others. Pillow would clip values at 255."""
    if image.mode.startswith("I"):
        return (np.asarray(image) >> (bits - 8)).astype(np.uint8)
    if image.mode in ("1", "L", "LA"):
        return np.array(image.convert("L"))
    return np.array(image.convert("RGB"))


def _has_more_pages(image: Image.Image) -> bool:
    """Whether more images follow; smaller copies and masks, as in cloud-optimized TIFFs, do not count."""
    if not getattr(image, "is_animated", False):
        return False
    try:
        image.seek(1)
    except Exception:  # what cannot be read is no page
        return False
    tags = getattr(image, "tag_v2", {})
    return not tiff_tags.numbers(tags, tiff_tags.SUBFILE, 0)[0] & tiff_tags.COPY_OR_MASK


# --- Writing ------------------------------------------------------------------------------------------------


def write_png(path: str | os.PathLike, pixels: np.ndarray) -> None:
    """Write uint8 [H, W, 3], [H, W, 4] or [H, W] as PNG, whole or not at all."""
    if pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size < _MAX_FAST_PNG:
        done, encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))  # a third of Pillow's time
        if done:
            write_atomically(path, encoded.tobytes())
            return
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    write_atomically(path, buffer.getvalue())
