"""Pictures as people have them -> uint8 [H, W, 3], and the files of a folder.

Gray becomes RGB, alpha is dropped, palettes are resolved, 16 bits become 8, and a camera's rotation mark (EXIF) is
applied, since every viewer applies it, too. Whatever is more than gray or palette to RGB is said.
"""

from __future__ import annotations

import glob
import io
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from deeplab.data.transcode import upright
from deeplab.utils import console
from deeplab.utils.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
_ORIENTATION = 0x0112  # EXIF tag; 1 = upright
_AGAIN = "write or copy the file again"
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what Pillow raises on bad files


def to_rgb(image: Any, where: str = "the image") -> np.ndarray:
    """Any picture as RGB.

    Args:
      image: path of a picture, PIL image, or uint8 array [H, W], [H, W, 1], [H, W, 3] (RGB) or [H, W, 4] (RGBA).
      where: its name, for messages; a path names itself.

    Returns:
      uint8 [H, W, 3], 0..255.

    Raises:
      UserError: unreadable file, or an array of another dtype or shape.
    """
    if isinstance(image, (str, os.PathLike)):
        return read(image)
    if isinstance(image, Image.Image):
        return _from_picture(image, where)
    return _from_array(np.asarray(image), where)


def read(path: str | os.PathLike) -> np.ndarray:
    """A picture file as uint8 [H, W, 3].

    JPEGs are decoded by TensorFlow, as records are: Pillow's pixels differ by up to 19 levels.

    Raises:
      UserError: the file is missing, is no picture, or is cut off.
    """
    try:
        data = pathlib.Path(path).read_bytes()
        with Image.open(io.BytesIO(data)) as picture:
            turned = picture.getexif().get(_ORIENTATION, 1)
            if turned != 1:
                console.note(f"{path}: turned upright as its EXIF mark ({turned}) says")
            if picture.format == "JPEG" and picture.mode in ("RGB", "L"):
                return upright(tf.io.decode_jpeg(data, channels=3).numpy(), turned)
            return _from_picture(ImageOps.exif_transpose(picture), str(path))
    except FileNotFoundError:
        raise UserError("unclassified", "no such file", where=path) from None
    except tf.errors.InvalidArgumentError:
        raise UserError(
            "unclassified", "cannot be read as a picture: the JPEG is damaged or cut off", _AGAIN, where=path
        ) from None
    except _UNREADABLE as fault:
        reason = "its format is not known" if "identify image" in str(fault) else str(fault)
        raise UserError("unclassified", f"cannot be read as a picture: {reason}", _AGAIN, where=path) from None


def _from_picture(picture: Image.Image, where: str) -> np.ndarray:
    if picture.mode.startswith("I") or picture.mode == "F":
        return _from_array(_eight_bits(np.asarray(picture), where), where)
    has_alpha = picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info
    rgba = np.asarray(picture.convert("RGBA")) if has_alpha else None
    if rgba is not None and rgba[..., 3].min() < 255:
        console.note(f"{where}: its transparency is dropped; the colors behind it count")
    return np.asarray(picture.convert("RGB")) if rgba is None else np.ascontiguousarray(rgba[..., :3])


def _eight_bits(values: np.ndarray, where: str) -> np.ndarray:
    """Gray of 16 bits as 8; Pillow's own conversion would clip everything above 255 to white."""
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise UserError(
            "unclassified", f"holds gray values of kind {values.dtype}", "save it as 8-bit gray or RGB", where=where
        )
    console.note(f"{where}: 16-bit gray is divided by 257")
    return (values // 257).astype(np.uint8)


def _from_array(array: np.ndarray, where: str) -> np.ndarray:
    if array.dtype != np.uint8:
        raise UserError(
            "unclassified", f"must be uint8 from 0 to 255, not {array.dtype}", _dtype_hint(array), where=where
        )
    if array.ndim == 2:
        array = array[..., np.newaxis]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        hint = "give one image: for a batch, call once for each"
        raise UserError(
            "unclassified", f"must be [H, W], [H, W, 3] or [H, W, 4], not {list(array.shape)}", hint, where=where
        )
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return np.ascontiguousarray(array[..., :3])


def _dtype_hint(array: np.ndarray) -> str:
    if array.dtype.kind == "f" and array.size and array.min() >= 0 and array.max() <= 1:
        return "its values lie within 0..1: give (array * 255).round().astype('uint8')"
    return "give array.astype('uint8') if its values are 0..255"


# ---- files -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picture:
    """A picture file, and its name for results: the path below the folder that was given, without suffix."""

    path: str
    name: str


def find(inputs: Sequence[str], recursive: bool = False) -> list[Picture]:
    """The picture files that a person means, in their order, folders sorted by name.

    Args:
      inputs: files, folders, or patterns such as `holiday/*.jpg`; one text may hold several with commas between.
      recursive: take the folders inside folders, too.

    Raises:
      UserError: nothing there, no picture in a folder, or two pictures whose results would have one name.
    """
    pictures = [picture for text in inputs for part in _parts(text) for picture in _pictures(part, recursive)]
    by_name: dict[str, str] = {}
    for picture in {picture.path: picture for picture in pictures}.values():
        other = by_name.setdefault(picture.name, picture.path)
        if other != picture.path:
            rule = f"{other} and {picture.path} would both be written as {picture.name!r}"
            raise UserError("unclassified", rule, "predict them in two runs with two output folders", field="input")
    return list(dict.fromkeys(pictures))


def _parts(text: str) -> Iterable[str]:
    return [text] if os.path.exists(text) else [part.strip() for part in text.split(",") if part.strip()]


def _pictures(text: str, recursive: bool) -> list[Picture]:
    text = os.path.expanduser(text)
    if os.path.isdir(text):
        return _in_folder(pathlib.Path(text), recursive)
    if os.path.isfile(text):
        return [Picture(text, pathlib.Path(text).stem)]
    matches = sorted(path for path in glob.glob(text, recursive=True) if os.path.isfile(path))
    if not matches:
        raise UserError("unclassified", f"there is no file, folder or match of {text!r}", _near(text), field="input")
    return [Picture(path, pathlib.Path(path).stem) for path in matches]


def _in_folder(folder: pathlib.Path, recursive: bool) -> list[Picture]:
    found = [path for path in _walk(folder, recursive) if path.suffix.lower() in SUFFIXES]
    if not found:
        inner = [path.name for path in sorted(folder.iterdir()) if path.is_dir()]
        hint = f"`recursive=true` looks into its folders, too ({', '.join(inner[:3])})" if inner else ""
        raise UserError(
            "unclassified", f"holds no picture ({', '.join(SUFFIXES)})", hint or "check the path", where=folder
        )
    return [Picture(str(path), path.relative_to(folder).with_suffix("").as_posix()) for path in found]


def _walk(folder: pathlib.Path, recursive: bool) -> Iterator[pathlib.Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and recursive:
            yield from _walk(path, recursive)
        elif path.is_file() and not path.name.startswith("."):
            yield path


def _near(text: str) -> str:
    folder = pathlib.Path(text).parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    names = sorted(path.name for path in folder.iterdir())
    return f"{folder} holds {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}" if names else "check the path"
