"""Masks: pictures whose pixels are classes, read exactly, checked, and written so that any viewer shows them.

A label here is uint8 [H, W] of class indices, in which the ignore label marks pixels that do not count. Masks come
as palette PNG (the index counts, not the color), as gray of 1 to 16 bits (the value counts), or as RGB, and then a
color table says which color is which class.
"""

from __future__ import annotations

import collections
import io
import os
import pathlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from deeplab.data.color_tables import ColorTable, class_name, color_counts, on_pixels, rgb_text, snap_colors
from deeplab.data.colormaps import colors_for
from deeplab.utils.errors import UserError
from deeplab.utils.files import write_atomically

_GRAY_STEP = {1: 255, 2: 85, 4: 17}  # Pillow spreads gray PNGs of so few bits over 0..255; indices are the raw values
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what Pillow raises on bad files


@dataclass(frozen=True)
class LabelRule:
    """How the pixels of masks become labels.

    Attributes:
      num_classes: labels must be below it; None: any value up to 255 is taken for a class.
      ignore_label: the value of pixels that do not count, 0..255.
      mapping: values to replace, all at once: {255: 1, 11: 255}.
      table: colors of RGB masks.
      tolerance: an RGB pixel takes the nearest color of the table within this distance (0: only exact ones).
      ignore_bad: values outside the classes become the ignore label instead of an error.
      by_color: palette PNGs are read by their colors, too, not by their indices.
    """

    num_classes: int | None = None
    ignore_label: int = 255
    mapping: Mapping[int, int] | None = None
    table: ColorTable | None = None
    tolerance: float = 0.0
    ignore_bad: bool = False
    by_color: bool = False


# --- Reading ------------------------------------------------------------------------------------------------


def read_label(path: str | os.PathLike, rule: LabelRule = LabelRule()) -> np.ndarray:
    """A mask file as label, uint8 [H, W], every value a class or the ignore label.

    Raises:
      UserError: unreadable file, RGB without a color table, colors or values that the rule does not know.
    """
    try:
        data = pathlib.Path(path).read_bytes()
    except OSError as fault:
        raise UserError("unclassified", f"cannot be read: {fault.strerror}", where=path) from None
    return decode_label(data, str(path), rule).label


@dataclass(frozen=True)
class DecodedLabel:
    """A mask that was read.

    Attributes:
      label: uint8 [H, W], every value a class or the ignore label.
      counts: pixels of each value 0..255, int64 [256].
      gray_png: the label as 8-bit gray PNG, which is what records hold: every decoder reads its values as they are,
        while of a palette PNG TensorFlow would read the colors.
      snapped: pixels whose color was not in the palette and became the nearest that is.
    """

    label: np.ndarray
    counts: np.ndarray
    gray_png: bytes
    snapped: int = 0


def decode_label(data: bytes, where: str, rule: LabelRule) -> DecodedLabel:
    """An encoded mask as label.

    Args:
      data: the file's bytes.
      where: its name, for messages.
      rule: what values and colors mean.

    Raises:
      UserError: as `read_label`.
    """
    values, snapped, by_color = _values(data, where, rule)
    label, counts = to_label(values, where, rule)
    same_values = label is values and not by_color
    if same_values and _png_kind(data) == (8, 0):
        return DecodedLabel(label, counts, data)
    if same_values and _png_kind(data) == (8, 3):
        return DecodedLabel(label, counts, without_palette(data))
    return DecodedLabel(label, counts, encode_label(label), snapped)


def without_palette(data: bytes) -> bytes:
    """An 8-bit palette PNG as gray PNG of its indices.

    Both kinds store one byte a pixel, so the compressed pixels stay as they are: only the color type in the header
    changes, and the chunks that speak of colors go (PNG specification, 11.2). This costs 3 microseconds, encoding
    anew 1 millisecond.
    """
    kept = [data[:8]]
    for kind, body in png_chunks(data):
        if kind == b"IHDR":
            body = body[:9] + b"\0" + body[10:]  # byte 9: the color type
        if kind in (b"IHDR", b"IDAT", b"IEND"):
            kept += [len(body).to_bytes(4, "big"), kind, body, zlib.crc32(kind + body).to_bytes(4, "big")]
    return b"".join(kept)


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
        if zlib.crc32(kind + body).to_bytes(4, "big") != checksum:
            raise ValueError(f"truncated or damaged at byte {position} of {len(data)}")
        yield kind, body
        position += 12 + length


def decode_values(data: bytes, where: str, rule: LabelRule) -> np.ndarray:
    """The values in an encoded mask, uint8 or uint16 [H, W], before mapping and checks."""
    return _values(data, where, rule)[0]


def _values(data: bytes, where: str, rule: LabelRule) -> tuple[np.ndarray, int, bool]:
    """The values, how many pixels took the nearest color of the table, and whether values were read from colors."""
    picture = _open(data, where)
    if rule.table is not None and _grays_are_meant(picture, rule.table):
        picture = picture.convert("RGB")
    if picture.mode == "P" and rule.table is not None:
        if rule.by_color:
            picture = picture.convert("RGB")
        else:
            _require_same_meaning(picture, where, rule.table)
    mode, pixels = picture.mode, np.asarray(picture)
    if mode in ("LA", "PA", "RGBA"):
        pixels = _without_alpha(pixels, where)
    if mode in ("RGB", "RGBA"):
        return *_from_colors(pixels, where, rule), True
    if mode == "L":
        depth, kind = _png_kind(data) or (8, 0)
        return pixels // _GRAY_STEP[depth] if kind == 0 and depth in _GRAY_STEP else pixels, 0, False
    if mode in ("1", "P", "PA", "LA"):
        return pixels.astype(np.uint8), 0, False
    if mode.startswith("I") and pixels.min() >= 0 and pixels.max() <= 65535:
        return pixels.astype(np.uint16), 0, False
    raise UserError(
        "unclassified", f"pixels of kind {mode!r} are no class indices", "write masks as 8-bit PNG", where=where
    )


def _open(data: bytes, where: str) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
        if picture.format == "PNG":
            collections.deque(png_chunks(data), maxlen=0)
        return picture
    except UNREADABLE as fault:
        raise unreadable(where, fault) from None


def unreadable(where: str, fault: Exception) -> UserError:
    """The error for a picture that Pillow cannot read, with its reason."""
    reason = "its format is not known" if "identify image" in str(fault) else str(fault)
    return UserError(
        "unclassified", f"cannot be read as a picture: {reason}", "save or copy the file again", where=where
    )


def _grays_are_meant(picture: Image.Image, table: ColorTable) -> bool:
    """Whether a mask of one channel shows the grays of an all gray table (0, 128, 255), rather than class indices."""
    if picture.mode not in ("1", "L", "P") or not table.is_gray():
        return False
    return int(np.asarray(picture).max()) >= len(table.names)


def _require_same_meaning(picture: Image.Image, where: str, table: ColorTable) -> None:
    """A palette PNG says everything twice, by index and by color; both must mean the same class."""
    shown = picture.getpalette() or []
    for index in np.unique(np.asarray(picture)).tolist():
        color = tuple(shown[3 * index : 3 * index + 3])
        if color not in table.colors:
            continue
        place = table.colors.index(color)
        if table.classes[place] not in (index, None):
            rule = f"index {index} is drawn in {color}, which the palette file calls {class_name(table, place)}"
            hint = (
                f"leave `palette` out if the indices are right (class {index} is meant); if the colors are, "
                "run datasets/convert_color_masks.py first"
            )
            raise UserError("unclassified", rule, hint, where=where)


def _png_kind(data: bytes) -> tuple[int, int] | None:
    """Bit depth and color type (0 gray, 2 RGB, 3 palette, 4 gray + alpha, 6 RGBA) of a PNG; None for other files."""
    return (data[24], data[25]) if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > 25 else None


def _without_alpha(pixels: np.ndarray, where: str) -> np.ndarray:
    alpha = pixels[..., -1]
    if alpha.min() != alpha.max():
        rule = "the mask is partly transparent, so its colors are not clear classes"
        raise UserError("unclassified", rule, "write it without an alpha channel", where=where)
    return pixels[..., 0] if pixels.shape[-1] == 2 else pixels[..., :3]


def _from_colors(pixels: np.ndarray, where: str, rule: LabelRule) -> tuple[np.ndarray, int]:
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    is_gray = np.array_equal(red, green) and np.array_equal(red, blue)
    # Nearly black pixels of a damaged mask are no indices: where a tolerance is given, colors are meant.
    are_indices = rule.table is not None and is_gray and 0 < red.max() < len(rule.table.names) and not rule.tolerance
    if rule.table is not None and not are_indices:
        return snap_colors(pixels, where, rule.table, rule.ignore_label, rule.tolerance)
    if is_gray:
        return np.ascontiguousarray(red), 0  # a gray mask saved as RGB: nothing to guess
    seen = color_counts(pixels)
    shown = ", ".join(f"{rgb_text(code)} {on_pixels(number)}" for code, number in seen[:5])
    hint = "give `palette=FILE` with a line `R G B name` for each class, in the order of the classes"
    raise UserError(
        "unclassified", f"is RGB with {len(seen)} colors ({shown}): which is which class?", hint, where=where
    )


# --- Mapping and checking -----------------------------------------------------------------------------------


def to_label(values: np.ndarray, where: str, rule: LabelRule) -> tuple[np.ndarray, np.ndarray]:
    """Mask values as label: mapped, checked and counted.

    Args:
      values: uint8 or uint16 [H, W].
      where: the file's name, for messages.
      rule: what the values mean.

    Returns:
      The label, uint8 [H, W] (the same array where nothing had to change), and its pixels of each value, int64 [256].

    Raises:
      UserError: values that are neither a class nor the ignore label, with their counts and a way out.
    """
    if rule.mapping:
        values = _mapped(values, rule.mapping)
    limit = 256 if rule.num_classes is None else rule.num_classes
    counts = count_values(values)
    bad = np.flatnonzero(counts[limit:]) + limit
    bad = bad[bad != rule.ignore_label]
    if len(bad) and not rule.ignore_bad:
        raise _bad_values(where, counts, bad, rule)
    if len(bad):
        values = np.where(np.isin(values, bad), rule.ignore_label, values)
        counts[rule.ignore_label] += counts[bad].sum()
        counts[bad] = 0
    return values if values.dtype == np.uint8 else values.astype(np.uint8), counts[:256]


def _mapped(values: np.ndarray, mapping: Mapping[int, int]) -> np.ndarray:
    table = np.arange(65536, dtype=np.uint16)
    for old, new in mapping.items():
        table[old] = new
    if values.dtype == np.uint8:
        return cv2.LUT(values, table[:256].astype(np.uint8))  # ten times as fast as indexing
    return table[values]


def _bad_values(where: str, counts: np.ndarray, bad: np.ndarray, rule: LabelRule) -> UserError:
    shown = ", ".join(f"{value} {on_pixels(int(counts[value]))}" for value in bad[:6])
    more = f" and {len(bad) - 6} more values" if len(bad) > 6 else ""
    if rule.num_classes is None:
        return UserError(
            "unclassified",
            f"values above 255 are no classes: {shown}{more}",
            "map them with `label_map=OLD:NEW`",
            where=where,
        )
    allowed = f"0 to {rule.num_classes - 1}, and {rule.ignore_label} for ignored pixels"
    present = [int(value) for value in np.flatnonzero(counts) if value != rule.ignore_label]
    return UserError(
        "unclassified", f"values outside the classes ({allowed}): {shown}{more}", _hint(present, rule), where=where
    )


def _hint(present: Sequence[int], rule: LabelRule) -> str:
    """What to do with values that are no classes, guessed from which there are."""
    classes = rule.num_classes or 0
    highest = max(present)
    bad = [value for value in present if value >= classes]
    if len(present) <= classes < highest and present[: -len(bad)] in ([], [0]):  # tones: 0, 150, 250
        return f"`label_map={spread_map(present)}` if these are the classes in order"
    if highest == classes:
        return (
            f"`num_classes={classes + 1}` if {highest} is a class (the background counts as one), "
            f"or `label_map={highest}:{rule.ignore_label}` if it is to be ignored"
        )
    ignored = ",".join(f"{value}:{rule.ignore_label}" for value in bad[:6])
    return f"`num_classes={highest + 1}` if all are classes, `label_map={ignored}` if these are to be ignored"


def spread_map(values: Sequence[int]) -> str:
    """A `label_map` that numbers the given values 0, 1, 2 ... in their order: `150:1,250:2`."""
    return ",".join(f"{value}:{index}" for index, value in enumerate(sorted(values)) if value != index)


def count_values(values: np.ndarray) -> np.ndarray:
    """Pixels of each value, int64 [256 or more], of uint8 or uint16 [H, W]."""
    if values.dtype == np.uint8 and values.size < 2**24:  # OpenCV counts in float32: exact below 2^24, and 3x faster
        return cv2.calcHist([values], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    return np.bincount(values.ravel(), minlength=256).astype(np.int64)


def parse_label_map(text: str) -> dict[int, int]:
    """`label_map`: "255:1,11:255" as {255: 1, 11: 255}.

    Raises:
      UserError: not of that form, a value out of range, or one value mapped twice.
    """
    mapping: dict[int, int] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        old, colon, new = (part.strip() for part in item.partition(":"))
        if not (colon and old.isdigit() and new.isdigit() and int(old) < 65536 and int(new) < 256):
            raise UserError(
                "unclassified", f"{item!r} is not OLD:NEW with OLD up to 65535 and NEW up to 255", field="label_map"
            )
        if mapping.get(int(old), int(new)) != int(new):
            raise UserError("unclassified", f"{old} is mapped to {mapping[int(old)]} and to {new}", field="label_map")
        mapping[int(old)] = int(new)
    return mapping


# --- Writing ------------------------------------------------------------------------------------------------


def encode_label(label: np.ndarray) -> bytes:
    """A label, uint8 [H, W], as 8-bit gray PNG: what records hold."""
    settings = [cv2.IMWRITE_PNG_COMPRESSION, 3, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT]
    if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # OpenCV 4.11 and later
        # Indices have no gradients for PNG's filters to take away: without them a 500x375 label is written in 0.3 ms
        # instead of 1.1, and training decodes it in 0.25 ms instead of 0.55.
        settings += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
    return cv2.imencode(".png", label, settings)[1].tobytes()


def write_index_png(
    path: str | os.PathLike, label: np.ndarray, colors: Sequence[Sequence[int]] | np.ndarray | None = None
) -> None:
    """Writes a label as palette PNG: the pixels are the exact values, and every viewer shows colors.

    Args:
      path: the file; it appears whole or not at all.
      label: class indices, uint8 [H, W].
      colors: RGB of each class, 0..255, or a whole table, uint8 [256, 3]; none = `colormap.colors_for(None)`.

    Raises:
      UserError: a label that is not uint8 [H, W].
    """
    if label.ndim != 2 or label.dtype != np.uint8:
        raise UserError("unclassified", f"a label is uint8 [H, W], not {label.dtype} {list(label.shape)}", where=path)
    write_atomically(path, encode_index_png(label, colors_for(colors, num_classes=0)))


def encode_index_png(label: np.ndarray, colors: np.ndarray) -> bytes:
    """A label, uint8 [H, W], as palette PNG with the colors of a table, uint8 [256, 3]."""
    picture = Image.fromarray(label)  # mode L; putpalette makes it P without touching the pixels
    picture.putpalette(colors.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
