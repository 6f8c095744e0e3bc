"""Mask files: how they become labels, and how labels are written.

A *mask* is the file or array that a label comes from: a palette PNG (the index counts, not the color), gray of 1 to 16
bits (the value counts), or RGB, where a color table says which color is which class. Used wherever masks are read and
written: building and checking records, results of prediction, the server. Which values are allowed is decided by
`labels.py` alone.
"""

from __future__ import annotations

import collections
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from deeplab.data import matlab_files
from deeplab.data.colormaps import ColorTable, class_name, color_counts, colors_for, on_pixels, rgb_text, snap_colors
from deeplab.data.containers import read_content
from deeplab.data.dicom_files import read_dicom
from deeplab.data.image_files import UNREADABLE, numpy_array, unreadable
from deeplab.data.labels import LabelSpec, count_values, to_label
from deeplab.data.png_files import MAX_SIDE, png_chunks, png_kind, read_indices, without_palette
from deeplab.utils.errors import UserError
from deeplab.utils.files import write_atomically

_GRAY_STEP = {1: 255, 2: 85, 4: 17}  # Pillow spreads gray PNGs of so few bits over 0..255; indices are the raw values
_ONE_CHANNEL, _COLOR_MODES = ("1", "L", "P"), ("RGB", "RGBA")


# --- Reading ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DecodedLabel:
    """A mask that was read.

    Attributes:
      label: [H, W] of the spec's type, uint8 or uint16, every value a class or the ignore label.
      counts: pixels of each value, int64 [256], or [65536] of 16 bits.
      gray_png: the label as gray PNG of 8 or 16 bits, which is what records hold: every decoder reads its values as
        they are, while TensorFlow would read the colors of a palette PNG.
      snapped: pixels whose color was not in the palette and became the nearest one that is.
    """

    label: np.ndarray
    counts: np.ndarray
    gray_png: bytes
    snapped: int = 0


def read_mask(path: str) -> bytes:
    """The bytes of a mask file, or of a member of a container; arrays (`.npy`, `.npz`, `.mat`, DICOM) become gray PNG.

    Raises:
      UserError: as `containers.read_content`; an array that holds no class indices (`not-a-mask`) or cannot be read
        (`unreadable-image`).
    """
    data = read_content(path)
    if data.startswith(matlab_files.START):
        values = _matlab_array(data, path)
    elif data.startswith((b"\x93NUMPY", b"PK\x03\x04")):
        values = numpy_array(data, path)
    elif data[128:132] == b"DICM":
        values = read_dicom(data, path)
    else:
        return data
    indices = _class_indices(values, path)
    return cv2.imencode(".png", indices, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def _class_indices(values: np.ndarray, where: str) -> np.ndarray:
    """An array [H, W] or [H, W, 1] of class indices as uint8 [H, W], or uint16 where a value is above 255.

    Raises:
      UserError: its values are no whole numbers from 0 to 65535 (`not-a-mask`).
    """
    values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    whole = values.dtype.kind in "biu" or (values.dtype.kind == "f" and bool((values == np.floor(values)).all()))
    if values.ndim != 2 or not whole or not values.size or values.min() < 0 or values.max() > 65535:
        rule = f"holds an array {list(values.shape)} of {values.dtype}, not class indices [H, W] from 0 to 65535"
        raise UserError("not-a-mask", rule, "save masks as uint8 [H, W], or as 8-bit PNG", where=where)
    return values.astype(np.uint8 if values.max() < 256 else np.uint16)


def _matlab_array(data: bytes, where: str) -> np.ndarray:
    """The only matrix of numbers in a MATLAB 5 file: [H, W]."""
    try:
        content = matlab_files.read_matrices(data)
    except ValueError as error:
        rule = f"cannot be read as a MATLAB file: {error}"
        raise UserError("unreadable-image", rule, "save it again, with -v7", where=where) from None
    matrices = {
        name: value
        for name, value in content.items()
        if isinstance(value, np.ndarray) and value.ndim == 2 and value.size > 1
    }
    if len(matrices) != 1:
        rule = f"holds {len(matrices)} matrices of numbers ({', '.join(matrices) or 'none'}), not the one of a mask"
        raise UserError("not-a-mask", rule, "save the mask alone", where=where, value=len(matrices))
    return next(iter(matrices.values()))


def decode_label(data: bytes, where: str, spec: LabelSpec) -> DecodedLabel:
    """Decode a mask file to a label.

    Args:
      data: the file's bytes.
      where: its name, for messages.
      spec: what values and colors mean.

    Raises:
      UserError: the file is no image (`unreadable-image`), has colors without a color table (`missing-palette`) or
        colors that the table does not have (`unknown-color`), index and color disagree (`palette-disagrees`), its
        pixels are no indices (`not-a-mask`), or values lie outside the classes (`label-out-of-range`).
    """
    found = _values(data, where, spec)
    label, counts = to_label(found.values, where, spec)
    if label is found.values and not found.from_colors:
        if png_kind(data) == (spec.bits, 0):
            return DecodedLabel(label, counts, data)
        if spec.bits == 8 and png_kind(data) == (8, 3):
            return DecodedLabel(label, counts, found.gray_png or without_palette(data))
    return DecodedLabel(label, counts, encode_label(label), found.snapped)


def decode_label_values(values: np.ndarray, where: str, spec: LabelSpec) -> DecodedLabel:
    """The label of an array of class indices, such as a window of a large TIFF: integers [H, W] or [H, W, 1].

    Raises:
      UserError: its values are no whole numbers from 0 to 65535 (`not-a-mask`), or lie outside the classes
        (`label-out-of-range`).
    """
    label, counts = to_label(_class_indices(values, where), where, spec)
    return DecodedLabel(np.ascontiguousarray(label), counts, encode_label(label))


def decode_values(data: bytes, where: str, spec: LabelSpec) -> np.ndarray:
    """The values in a mask file, uint8 or uint16 [H, W], before they are mapped and checked."""
    return _values(data, where, spec).values


@dataclass(frozen=True)
class _Values:
    """The values in a mask file.

    Attributes:
      values: uint8 or uint16 [H, W], before they are mapped and checked.
      gray_png: the file as `without_palette` gives it; empty where that is not known yet.
      snapped: pixels that took the nearest color of the table.
      from_colors: the values were read from colors.
    """

    values: np.ndarray
    gray_png: bytes = b""
    snapped: int = 0
    from_colors: bool = False


def _values(data: bytes, where: str, spec: LabelSpec) -> _Values:
    spec = spec.before
    try:
        plain = read_indices(data) if spec.table is None and not spec.by_color else None
    except ValueError as error:
        _open(data, where)  # may say more about it
        raise unreadable(where, error) from None
    if plain is not None:
        return _Values(plain.values, plain.gray_png)
    image = _open(data, where)
    if spec.table is None and image.mode in ("RGBA", "LA"):
        image = _alpha_if_mask(image)
    if shows_colors(image, spec):
        pixels = np.asarray(image.convert("RGB")) if image.mode in _ONE_CHANNEL else _opaque(image, where)
        if spec.table is None:
            raise _missing_palette(pixels, where)
        values, snapped = snap_colors(pixels, where, spec.table, spec.ignore_label, spec.tolerance)
        return _Values(values, snapped=snapped, from_colors=True)
    if image.mode == "P" and spec.table is not None:
        _require_same_meaning(image, where, spec.table)
    return _Values(_indices(image, data, where), from_colors=image.mode in _COLOR_MODES)


def shows_colors(image: Image.Image, spec: LabelSpec) -> bool:
    """Whether the colors of a mask say which class a pixel has, rather than its values.

    This is the one place of that decision. Values count in gray and palette masks, and in RGB whose channels are equal.
    Colors count

    - in RGB with differing channels, whether or not there is a table;
    - in gray RGB beside a table, unless its values can only be indices: none above the number of classes, one above
      0. Nearly black pixels of a damaged mask are no indices, so a tolerance says that colors are meant;
    - in masks of one channel beside a table of grays (0, 128, 255), where a value is above the number of classes;
    - in palette masks where `by_color` asks for it.

    Args:
      image: the opened mask.
      spec: the table and how it is to be used.
    """
    table = spec.table
    if image.mode in _ONE_CHANNEL:
        if table is None:
            return False
        grays_are_meant = table.is_gray() and int(np.asarray(image).max()) >= len(table.names)
        return grays_are_meant or (image.mode == "P" and spec.by_color)
    if image.mode not in _COLOR_MODES:
        return False
    red, green, blue = np.asarray(image)[..., :3].transpose(2, 0, 1)
    is_gray = np.array_equal(red, green) and np.array_equal(red, blue)
    if table is None:
        return not is_gray
    return not (is_gray and 0 < red.max() < len(table.names) and not spec.tolerance)


def _indices(image: Image.Image, data: bytes, where: str) -> np.ndarray:
    """The values of an image whose pixels are class indices: uint8 or uint16 [H, W]."""
    pixels = np.asarray(image)
    if image.mode in ("LA", "PA", *_COLOR_MODES):
        pixels = _opaque(image, where)
        return np.ascontiguousarray(pixels[..., 0]).astype(np.uint8)
    if image.mode == "L":
        depth, kind = png_kind(data) or (8, 0)
        return pixels // _GRAY_STEP[depth] if kind == 0 and depth in _GRAY_STEP else pixels
    if image.mode in ("1", "P"):
        return pixels.astype(np.uint8)
    if image.mode.startswith("I") and pixels.min() >= 0 and pixels.max() <= 65535:
        return pixels.astype(np.uint16)
    if image.mode == "F" and bool(((pixels >= 0) & (pixels <= 65535) & (pixels == np.floor(pixels))).all()):
        return pixels.astype(np.uint16)
    rule = f"pixels of mode {image.mode!r} are no class indices"
    raise UserError("not-a-mask", rule, "write masks as 8-bit PNG", where=where)


def _opaque(image: Image.Image, where: str) -> np.ndarray:
    """Pixels [H, W, C] without their alpha channel, which must be the same everywhere."""
    pixels = np.asarray(image)
    if image.mode == "RGB":
        return pixels
    if pixels[..., -1].min() != pixels[..., -1].max():
        rule = "the mask is partly transparent, so its pixels are not clearly of one class"
        raise UserError("not-a-mask", rule, "write it without an alpha channel", where=where)
    return pixels[..., :-1]


def _alpha_if_mask(image: Image.Image) -> Image.Image:
    """The alpha channel of an image in which it is the mask: all that can be seen has one color; else the image."""
    pixels = np.asarray(image)
    alpha, seen = pixels[..., -1], pixels[pixels[..., -1] > 0][:, :-1]
    if alpha.min() == alpha.max() or (seen != seen[:1]).any():
        return image
    return Image.fromarray(alpha)


def _missing_palette(pixels: np.ndarray, where: str) -> UserError:
    seen = color_counts(pixels)
    shown = ", ".join(f"{rgb_text(code)} {on_pixels(number)}" for code, number in seen[:5])
    rule = f"is RGB with {len(seen)} colors ({shown}), and nothing says which color is which class"
    hint = "give `palette=FILE` with a line `R G B name` for each class, in the order of the classes"
    return UserError("missing-palette", rule, hint, where=where)


def _require_same_meaning(image: Image.Image, where: str, table: ColorTable) -> None:
    """Refuses a palette PNG in which an index has the color of another class: both must mean the same."""
    shown = image.getpalette() or []
    for index in np.flatnonzero(count_values(np.asarray(image))).tolist():
        color = tuple(shown[3 * index : 3 * index + 3])
        if color not in table.colors:
            continue
        place = table.colors.index(color)
        if table.classes[place] not in (index, None):
            rule = f"index {index} has the color {color}, which the palette file calls {class_name(table, place)}"
            hint = (
                f"leave `palette` out if the indices are right (class {index} is meant); if the colors are right, "
                "run datasets/convert_color_masks.py first"
            )
            raise UserError("palette-disagrees", rule, hint, where=where, value=index)


def _open(data: bytes, where: str) -> Image.Image:
    if not data:
        raise UserError("unreadable-image", "is empty", "copy the file again", where=where)
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
        if not 0 < min(image.size) <= max(image.size) <= MAX_SIDE:
            raise ValueError(f"its size is {image.height}x{image.width} pixels; sides have 1 to {MAX_SIDE}")
        if image.format == "PNG":
            collections.deque(png_chunks(data), maxlen=0)
        return image
    except UNREADABLE as error:
        raise unreadable(where, error) from None


# --- Writing ------------------------------------------------------------------------------------------------


def encode_label(label: np.ndarray) -> bytes:
    """Encode a label, uint8 or uint16 [H, W], as the gray PNG of 8 or 16 bits that records hold."""
    settings = [cv2.IMWRITE_PNG_COMPRESSION, 3, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT]
    if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # OpenCV 4.11 and later
        # Indices have no gradients for PNG's filters to take away: without them a 500x375 label is written in 0.3 ms
        # instead of 1.1, and training decodes it in 0.25 ms instead of 0.55.
        settings += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
    return cv2.imencode(".png", label, settings)[1].tobytes()


def write_index_png(
    path: str | os.PathLike, label: np.ndarray, colors: Sequence[Sequence[int]] | np.ndarray | None = None
) -> None:
    """Write a label as palette PNG: the pixels are the exact values, and every viewer shows colors.

    A palette has 256 entries, so a label of 16 bits is written as gray PNG of 16 bits.

    Args:
      path: the file; it appears whole or not at all.
      label: class indices, uint8 or uint16 [H, W].
      colors: RGB of each class, 0..255, or a whole table, uint8 [256, 3]; none = `colormaps.colors_for(None)`.

    Raises:
      UserError: a label that is not uint8 or uint16 [H, W] (`not-a-mask`).
    """
    if label.ndim != 2 or label.dtype not in (np.uint8, np.uint16):
        rule = f"a label is uint8 or uint16 [H, W], not {label.dtype} {list(label.shape)}"
        raise UserError("not-a-mask", rule, where=path)
    wide = label.dtype == np.uint16
    write_atomically(path, encode_label(label) if wide else encode_index_png(label, colors_for(colors, num_classes=0)))


def encode_index_png(label: np.ndarray, colors: np.ndarray) -> bytes:
    """Encode a label, uint8 [H, W], as palette PNG with the colors of a table, uint8 [256, 3].

    A label of uint16 becomes gray PNG of 16 bits, as palettes have 256 colors.
    """
    if label.dtype == np.uint16:
        return encode_label(label)
    image = Image.fromarray(label)  # mode L; putpalette makes it P without touching the pixels
    image.putpalette(colors.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
