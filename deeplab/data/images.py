"""Images of any kind as pixels for prediction (`to_rgb`), or as what a record can hold (`prepare`).

Both apply EXIF orientations, keep the upper 8 bits of 16 and drop alpha channels, with a note.

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin, TiffImagePlugin, WebPImagePlugin  # noqa: F401  (Pillow loads the last too late)

from deeplab.data.image_files import inspect_image, kind_of, read_orientation, require_short_sides, unreadable
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import write_atomically
from deeplab.utils.paths import read_file

NOTES: Mapping[str, str] = {  # what follows "images" or "an image" in a message
    "turned": "with an EXIF orientation: turned upright, as viewers show it",
    "unturned": "with an EXIF orientation: used as stored, which must be the way the mask is stored",
    "converted": "in a format that records do not hold (TIFF, BMP, WebP, ...): converted to PNG without loss",
    "cmyk": "in CMYK, made for print: converted to RGB without the color profile",
    "alpha": "with an alpha channel: the alpha is dropped, and the colors behind it count",
    "channels": "with a fourth channel that is not alpha (near infrared?): that channel is dropped",
    "sixteen_bit": "with more than 8 bits per channel: the upper 8 are kept, as TensorFlow does with 16-bit PNG",
    "dark": (
        "with more than 8 bits per channel and no value above 4095 of 65535, which models see nearly black: multiply "
        "all images by the same factor before building, e.g. `magick IN.tif -evaluate multiply 16 OUT.png` for 12 bits"
    ),
    "pages": "with several pages or frames: only the first is used",
    "damaged": "with damage that breaks the rules of the format, but can be read",
}
_TOLD = ("turned", "cmyk", "alpha", "channels", "sixteen_bit", "dark", "pages")  # of an image that is predicted

_BITS, _PHOTOMETRIC, _CHANNELS, _PLANAR, _COMPRESSION, _KIND, _SUBFILE = 258, 262, 277, 284, 259, 339, 254
_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 322, 323
_OF_VALUES = (_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT, _BITS, _PHOTOMETRIC, _CHANNELS, _PLANAR, _COMPRESSION, _KIND)
_WHITE_IS_ZERO, _APART, _UNCOMPRESSED, _UNSIGNED = 0, 2, 1, 1  # values of those TIFF tags (TIFF 6.0)
_KINDS = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
_MAX_PER_BYTE = {_UNCOMPRESSED: 1, 32773: 64, 5: 2560, 8: 1032, 32946: 1032}  # PackBits, LZW, deflate
_DARK = 16  # upper byte of 4096
_COPY_OR_MASK = 1 | 4  # bits of the subfile type
_INVERSE = {6: 8, 8: 6}  # the other orientations undo themselves
_WITH_ALPHA = ("LA", "PA", "RGBA")
_PILLOW_NAMES = {"jpeg2000": "JPEG2000"}


@dataclass(frozen=True)
class PreparedImage:
    """An image in the form that a record holds.

    Attributes:
      data: the encoded image; the file's own bytes where nothing had to change.
      format: "jpeg" or "png".
      height, width: size in pixels of what `data` decodes to.
      notes: keys of `NOTES`: what is unusual about the file, and what was done to it.
    """

    data: bytes
    format: str
    height: int
    width: int
    notes: tuple[str, ...] = ()


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
        return _decode_jpeg(image.data, where)
    return _three_channels(_decoded(image.data, where, "png").pixels)


def encode_png(pixels: np.ndarray, notes: Sequence[str] = ()) -> PreparedImage:
    """Encode pixels, uint8 [H, W, 3], for a record, without loss."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    height, width = pixels.shape[:2]
    return PreparedImage(buffer.getvalue(), "png", height, width, tuple(notes))


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
    if kind in ("jpeg", "jpeg2000"):
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
    return _three_channels(upright(decoded.pixels, decoded.orientation))


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
        decoded = _Decoded(_decode_jpeg(data, where), "JPEG", facts.orientation, [])
    else:
        decoded = _decoded(data, where, kind)
    notes = [note for note in decoded.notes if note != "alpha" or _is_transparent(Image.open(io.BytesIO(data)))]
    for note in (*(["turned"] if decoded.orientation != 1 else []), *notes):
        if note in _TOLD:
            console.note(f"{where}: an image {NOTES[note]}")
    return _three_channels(upright(decoded.pixels, decoded.orientation))


def _decode_jpeg(data: bytes, where: str) -> np.ndarray:
    import tensorflow as tf

    try:
        return tf.io.decode_jpeg(data, channels=3).numpy()
    except tf.errors.InvalidArgumentError:
        raise unreadable(where, ValueError("the JPEG is damaged or cut off")) from None


def _is_transparent(image: Image.Image) -> bool:
    return bool(np.asarray(image.convert("RGBA"))[..., 3].min() < 255)


def _three_channels(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels[..., np.newaxis], 3, axis=2) if pixels.ndim == 2 else pixels


def to_rgb(image: Any, where: str = "the image") -> np.ndarray:
    """Any image as RGB.

    Args:
      image: the path of a file, its bytes, an open file, a PIL image, or a uint8 array [H, W], [H, W, 1], [H, W, 3]
        (RGB) or [H, W, 4] (RGBA). The EXIF orientation of files is applied, that of PIL images is not.
      where: its name, for messages; a path names itself.

    Returns:
      uint8 [H, W, 3], 0..255.

    Raises:
      UserError: a file that cannot be read (as `decode_rgb`), an array of another type or shape
        (`unsupported-pixels`), or something else (`not-an-image`).
    """
    if isinstance(image, str) and image.startswith(("http://", "https://")):
        rule, hint = "is an address, and addresses are not opened", "download the file, and give its path"
        raise UserError("not-an-image", rule, hint, where=image)
    if isinstance(image, (str, os.PathLike)):
        return read_image(image)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return decode_rgb(bytes(image), where)
    if isinstance(image, Image.Image):
        return _from_pil(image, where)
    if hasattr(image, "read"):
        return decode_rgb(_content_of(image, where), where)
    if image is None:
        hint = "give the path: cv2.imread and other functions return None for a file that they cannot read"
        raise UserError("not-an-image", "is None", hint, where=where)
    if isinstance(image, (list, tuple)) and any(_may_be_image(each) for each in image):
        rule = f"is a {type(image).__name__} of {len(image)}"
        raise UserError("not-an-image", rule, "give one image; for several, call once per image", where=where)
    if np.ndim(image) == 0:
        rule = f"is of type {type(image).__name__}"
        hint = "give a path, the bytes of a file, an open file, a PIL image, or an array of uint8"
        raise UserError("not-an-image", rule, hint, where=where, value=type(image).__name__)
    return _from_array(np.asarray(image), where)


def _content_of(file: Any, where: str) -> bytes:
    """What is left in an open file."""
    try:
        content = file.read()
    except (OSError, ValueError) as error:  # ValueError: it is closed
        raise UserError("not-an-image", f"is a file that cannot be read: {error}", where=where) from None
    if not isinstance(content, bytes):
        raise UserError("not-an-image", "is a file that was opened as text", "open(path, 'rb')", where=where)
    return content


def _may_be_image(value: Any) -> bool:
    return isinstance(value, (str, bytes, os.PathLike, Image.Image)) or len(getattr(value, "shape", ())) in (2, 3)


def _from_pil(image: Image.Image, where: str) -> np.ndarray:
    data = _jpeg_bytes(image)
    if data:
        return _decode_jpeg(data, where)
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
            rule, hint = f"holds gray values of type {values.dtype}", "save it as 8-bit gray or RGB"
            raise UserError("unsupported-pixels", rule, hint, where=where, value=str(values.dtype))
        console.note(f"{where}: an image {NOTES['sixteen_bit']}")
        return _three_channels((values >> 8).astype(np.uint8))
    has_alpha = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    if has_alpha and _is_transparent(image):
        console.note(f"{where}: an image {NOTES['alpha']}")
    return np.asarray((image.convert("RGBA") if has_alpha else image).convert("RGB"))


def _jpeg_bytes(image: Image.Image) -> bytes | None:
    """The file of a PIL image, if that is an unchanged JPEG file that can still be read.

    So a path and a PIL image of the same file have the same pixels: Pillow's decoder differs from TensorFlow's.
    """
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.mode not in ("RGB", "L"):
        return None
    for data in _sources(image):
        try:
            fresh = Image.open(io.BytesIO(data), formats=("JPEG",))
            if fresh.mode == image.mode and np.array_equal(np.asarray(fresh), np.asarray(image)):
                return data
        except Exception:  # the pixels that Pillow has decoded will do
            return None
    return None


def _sources(image: Image.Image) -> Iterator[bytes]:
    """The bytes from which a PIL image was opened, as far as they can be had: its open stream, then its file."""
    stream = getattr(image, "fp", None)
    if stream is not None and not stream.closed and stream.seekable():
        position = stream.tell()
        stream.seek(0)
        data = stream.read()
        stream.seek(position)
        yield data
    elif os.path.isfile(getattr(image, "filename", "")):
        yield read_file(getattr(image, "filename", ""))


def _from_array(array: np.ndarray, where: str) -> np.ndarray:
    if array.dtype != np.uint8:
        rule = f"must be uint8 from 0 to 255, not {array.dtype}"
        raise UserError("unsupported-pixels", rule, _dtype_hint(array), where=where, value=str(array.dtype))
    if array.ndim == 2:
        array = array[..., np.newaxis]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        rule = f"must be [H, W], [H, W, 3] or [H, W, 4], not {list(array.shape)}"
        raise UserError("unsupported-pixels", rule, _shape_hint(array), where=where, value=array.shape)
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return np.ascontiguousarray(array[..., :3])


def _dtype_hint(array: np.ndarray) -> str:
    """How to convert an array of another type than uint8, as its values suggest."""
    kind = array.dtype.kind
    if kind == "b":
        return "give array.astype('uint8') * 255"
    if kind not in "iuf" or not array.size:
        return "give an array of uint8, [H, W, 3]"
    low, high = array.min(), array.max()
    if not np.isfinite(low) or not np.isfinite(high):
        return "it holds NaN or infinity: replace them, and scale the values to 0..255"
    if kind == "f" and low >= 0 and high <= 1:
        return "its values are in 0..1: give (array * 255).round().astype('uint8')"
    if kind == "f" and low >= -1 and high <= 1:
        return "its values are in -1..1: give ((array + 1) * 127.5).round().astype('uint8')"
    if low >= 0 and high <= 255:
        return "its values are in 0..255: give array.astype('uint8')"
    if kind in "iu" and low >= 0 and high <= 65535:
        bits = 16 if high > 4095 else 12 if high > 1023 else 10
        return f"give (array >> {bits - 8}).astype('uint8') if its values are of {bits} bits"
    return f"its values are in {low:.6g}..{high:.6g}: scale them to 0..255, then .astype('uint8')"


def _shape_hint(array: np.ndarray) -> str:
    """What an array of another shape might be."""
    if 0 in array.shape:
        return "it has no pixels"
    if array.ndim >= 3 and array.shape[0] == 1:
        return "give array[0], one image"
    if array.ndim == 3 and array.shape[0] in (3, 4) and array.shape[0] < min(array.shape[1:]):
        return "channels come last: give array.transpose(1, 2, 0)"
    if array.ndim == 3:
        return "give the channels red, green and blue: array[..., [R, G, B]]"
    return "give one image; for a batch, call once per image" if array.ndim == 4 else "give an array [H, W, 3]"


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
    said = _joined(turning, converting, notes, decoded.notes)
    return PreparedImage(buffer.getvalue(), form, height, width, tuple(said))


def _decoded(data: bytes, where: str, kind: str, page: int = 0) -> _Decoded:
    tags = _tags_of(data) if kind == "tiff" else {}
    _require_plain_tiff(tags, where)
    _require_all_rows(tags, where, len(data))
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
        return max(_numbers(tags, _BITS, 1))
    decoder: Any = image.tile[0][3] if image.format == "PPM" else None  # type: ignore[attr-defined]
    highest = decoder[-1] if isinstance(decoder, tuple) else 0  # PPM states the highest value there can be
    return 16 if image.mode.startswith("I") or (isinstance(highest, int) and highest > 255) else 8


def _loaded(image: Image.Image, tags: Mapping[int, Any], bits: int) -> _Decoded:
    orientation, sound = read_orientation(image)
    image.load()
    pixels = _eight_bits(image, bits)
    if image.mode.startswith("I") and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        pixels = 255 - pixels  # Pillow does so with 8 bits, not with 16
    if image.format == "TIFF":  # these alone Pillow has turned already
        pixels = upright(pixels, _INVERSE.get(orientation, orientation))
    met = {
        "cmyk": image.mode == "CMYK",
        "alpha": image.mode in _WITH_ALPHA or "transparency" in image.info,
        "channels": image.mode in ("RGB", "RGBX") and _numbers(tags, _CHANNELS, 3)[0] == 4,
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
    return not _numbers(tags, _SUBFILE, 0)[0] & _COPY_OR_MASK


# --- TIFF ---------------------------------------------------------------------------------------------------


def _tags_of(data: bytes) -> dict[int, Any]:
    """What the first image of a TIFF says about its values; Pillow does not say it where it cannot read the pixels."""
    try:
        stream = io.BytesIO(data)
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:16] if 43 in data[2:4] else data[:8])
        stream.seek(tags.next)
        tags.load(stream)
        return {tag: tags[tag] for tag in _OF_VALUES if tag in tags}
    except Exception:  # as with images: broken files raise nearly anything
        return {}


def _numbers(tags: Mapping[int, Any], tag: int, default: int) -> tuple[int, ...]:
    found = tags.get(tag, default)
    numbers = found if isinstance(found, tuple) else (found,)
    return numbers if numbers and all(isinstance(number, int) for number in numbers) else (default,)


def _require_plain_tiff(tags: Mapping[int, Any], where: str) -> None:
    """Refuses TIFFs whose values have no plain meaning as 8-bit RGB, and a kind that Pillow reads wrongly.

    Raises:
      UserError: too many channels, floating point, signed, above 16 bits, or 16-bit channels stored apart.
    """
    channels, bits = _numbers(tags, _CHANNELS, 1)[0], max(_numbers(tags, _BITS, 8))
    signs = {sign for sign in _numbers(tags, _KIND, _UNSIGNED) if sign in _KINDS}
    if channels > 4:
        hint = "save the three that matter as RGB, e.g. `gdal_translate -b 3 -b 2 -b 1 IN.tif OUT.tif`"
        rule = f"has {channels} channels; models take three: red, green, blue"
        raise UserError("unsupported-pixels", rule, hint, where=where, value=channels)
    if signs or bits > 16:
        values = f"{_KINDS[min(signs)] if signs else 'unsigned'} values of {bits} bits"
        hint = "scale it to 0..255 or 0..65535 by the same factor for all images, and save it as 8- or 16-bit PNG"
        rule = f"holds {values}, and nothing says which value is black and which is white"
        raise UserError("unsupported-pixels", rule, hint, where=where, value=bits)
    apart = _numbers(tags, _PLANAR, 1)[0] == _APART and channels > 1
    if apart and bits == 16 and _numbers(tags, _COMPRESSION, 1)[0] == _UNCOMPRESSED:
        hint = "save it with the channels of a pixel side by side (planar configuration 1), or as 16-bit PNG"
        rule = f"stores its {channels} channels of 16 bits apart, which cannot be read"
        raise UserError("unsupported-pixels", rule, hint, where=where, value=channels)


def _require_all_rows(tags: Mapping[int, Any], where: str, length: int) -> None:
    """Refuses sizes that so few bytes cannot fill. Pillow would leave missing rows of uncompressed TIFFs black, and
    allocate memory for the others."""
    width, height, channels = (_numbers(tags, tag, 1)[0] for tag in (_WIDTH, _HEIGHT, _CHANNELS))
    stored = max(width, _numbers(tags, _TILE_WIDTH, 0)[0]) * max(height, _numbers(tags, _TILE_HEIGHT, 0)[0])
    least = stored * channels * min(_numbers(tags, _BITS, 1)) // 8
    most = _MAX_PER_BYTE.get(_numbers(tags, _COMPRESSION, 0)[0])
    if most and least > most * length:
        rule = f"is truncated: {width}x{height} pixels cannot come from {length:,} bytes"
        raise UserError("unreadable-image", rule, "copy the file again", where=where)


# --- Writing ------------------------------------------------------------------------------------------------


def write_png(path: str | os.PathLike, pixels: np.ndarray) -> None:
    """Write uint8 [H, W, 3] or [H, W] as PNG, whole or not at all."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    write_atomically(path, buffer.getvalue())
