"""Converts every accepted form of an image to pixels: paths, bytes, open files, PIL images, arrays.

Prediction, the comparison of exports and the Python API call it (`to_rgb`, `to_pixels`). Files are read by `images.py`,
so that an image has the same pixels in whatever form it is given. For anything else, the hint of the error names the
mistake.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin

from deeplab.data.bands import ImageBands
from deeplab.data.images import (
    NOTES,
    decode_jpeg,
    decode_rgb,
    is_transparent,
    read_bands,
    read_image,
    three_channels,
)
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import read_file


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
    try:
        array = np.asarray(image)
    except ValueError:  # rows of different lengths
        rule = f"is a {type(image).__name__} that is no array: its rows have different lengths"
        raise UserError("not-an-image", rule, "give an array of uint8, [H, W, 3]", where=where) from None
    if array.ndim == 0:
        rule = f"is of type {type(image).__name__}"
        hint = "give a path, the bytes of a file, an open file, a PIL image, or an array of uint8"
        raise UserError("not-an-image", rule, hint, where=where, value=type(image).__name__)
    return _from_array(array, where)


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


def to_pixels(image: Any, bands: ImageBands, where: str = "the image") -> np.ndarray:
    """Any image as a model of these bands takes it.

    Args:
      image: as for `to_rgb`; arrays and PIL images must have the model's channels, in its order, and its type; of
        files, the model's bands are read.
      bands: what the model takes.
      where: its name, for messages; a path names itself.

    Returns:
      Raw values [H, W, C] of the type of `bands`; of a model for RGB uint8 [H, W, 3].

    Raises:
      UserError: as `to_rgb` and `read_bands`.
    """
    if bands.is_rgb:
        return to_rgb(image, where)
    if isinstance(image, (str, os.PathLike)):
        return read_bands(image, bands).pixels
    if hasattr(image, "read") and not isinstance(image, Image.Image):
        image = image.read()
    if isinstance(image, (bytes, bytearray, memoryview)):
        with tempfile.NamedTemporaryFile(suffix=".image") as file:
            file.write(image)
            file.flush()
            try:
                return read_bands(file.name, bands).pixels
            except UserError as error:
                raise UserError(
                    error.code, error.rule, error.hint, field=error.field, where=where, value=error.value
                ) from None
    array = np.asarray(image)
    if array.ndim == 2 and bands.channels == 1:
        array = array[..., np.newaxis]
    bands.require(array, where)
    return np.ascontiguousarray(array)


def _from_pil(image: Image.Image, where: str) -> np.ndarray:
    data = _jpeg_bytes(image)
    if data:
        return decode_jpeg(data, where)
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
            rule, hint = f"holds gray values of type {values.dtype}", "save it as 8-bit gray or RGB"
            raise UserError("unsupported-pixels", rule, hint, where=where, value=str(values.dtype))
        console.note(f"{where}: an image {NOTES['sixteen_bit']}")
        return three_channels((values >> 8).astype(np.uint8))
    has_alpha = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    if has_alpha and is_transparent(image):
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
