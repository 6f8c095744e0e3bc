"""Labels: which values they may hold, how mask files become labels, and how labels are written.

A *label* is uint8 [H, W] of class indices, in which the ignore label marks pixels that do not count; beyond 256
classes it is uint16. A *mask* is the file or array that it comes from: a palette PNG (the index counts, not the color),
gray of 1 to 16 bits (the value counts), or RGB, where a color table says which color is which class.

`LabelSpec` is the one judge of label values. Mask files, records, losses and the confusion matrix ask it, and all of
them raise its error (code `label-out-of-range`).
"""

from __future__ import annotations

import collections
import io
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image

from deeplab.data import matlab_files
from deeplab.data.colormaps import ColorTable, class_name, color_counts, colors_for, on_pixels, rgb_text, snap_colors
from deeplab.data.containers import read_content
from deeplab.data.dicom_files import read_dicom
from deeplab.data.image_files import UNREADABLE, numpy_array, unreadable
from deeplab.data.label_bits import bits_of
from deeplab.data.png_files import MAX_SIDE, png_chunks, png_kind, read_indices, without_palette
from deeplab.utils.errors import UserError
from deeplab.utils.files import write_atomically
from deeplab.utils.paths import read_file

_GRAY_STEP = {1: 255, 2: 85, 4: 17}  # Pillow spreads gray PNGs of so few bits over 0..255; indices are the raw values
_MAP_ITEM = re.compile(r"([0-9]{1,5})\s*:\s*([0-9]{1,5})")
_MIN_INDEX_GAP = 8  # highest value below which gaps are classes that do not occur
_FEW_VALUES = 8  # of so many, 0 included, comparisons are faster than a histogram
_MAX_LISTED = 6  # values that a message names


# --- Values -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelSpec:
    """Which values labels may hold, and how the pixels of masks become labels.

    Attributes:
      num_classes: labels are 0..num_classes-1; None: any value of 8 bits is a class, or of 16 where labels have these.
      ignore_label: the value of pixels that do not count. It may be one of the classes (0 in ADE20K).
      mapping: values to replace, all at once: {255: 1, 11: 255}.
      table: colors of RGB masks.
      tolerance: an RGB pixel takes the nearest color of the table within this distance (0: exact colors only).
      ignore_bad: values outside the classes become the ignore label instead of an error.
      by_color: palette PNGs are read by their colors, not by their indices.
      merges: classes of mask files become other ones after they were checked; `num_classes` and `ignore_label` are
        those afterwards.
      wide: labels have 16 bits even if neither the number of classes nor the ignore label needs more than 8.

    Example:
      LabelSpec(3).check(np.array([[0, 1, 7]]), "masks/0007.png")
      # UserError [label-out-of-range] masks/0007.png: label values must be 0..2 or 255 (ignored); found 7 on 1 pixel
    """

    num_classes: int | None = None
    ignore_label: int = 255
    mapping: Mapping[int, int] | None = None
    table: ColorTable | None = None
    tolerance: float = 0.0
    ignore_bad: bool = False
    by_color: bool = False
    merges: Merges | None = None
    wide: bool = False

    @property
    def bits(self) -> int:
        """Bits per pixel of labels: 8, or 16 where there are more than 256 classes or a higher ignore label."""
        return 16 if self.wide else bits_of(self.num_classes, self.ignore_label)

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """Type of labels: uint8 or uint16."""
        return np.uint8 if self.bits == 8 else np.uint16

    @property
    def num_values(self) -> int:
        """Number of values that `bits` have: 256 or 65536; the length of counts of all values."""
        return 1 << self.bits

    @property
    def before(self) -> LabelSpec:
        """What the values of mask files mean, before classes are merged."""
        return self.merges.spec if self.merges else self

    @property
    def limit(self) -> int:
        """The lowest value from 0 up that is no class."""
        return self.num_values if self.num_classes is None else self.num_classes

    @property
    def allowed(self) -> str:
        """The values that a label may hold, in words: `0..2 or 255 (ignored)`."""
        classes = f"0..{self.limit - 1}"
        return classes if 0 <= self.ignore_label < self.limit else f"{classes} or {self.ignore_label} (ignored)"

    @property
    def rule(self) -> str:
        """What must hold of a label, in words."""
        return f"label values must be {self.allowed}"

    def is_outside(self, values: Any) -> Any:
        """Where values are neither a class nor the ignore label.

        Args:
          values: integers of any shape, an array or a tensor whose type can hold `limit`.

        Returns:
          bool of the same shape.
        """
        return ((values < 0) | (values >= self.limit)) & (values != self.ignore_label)

    def check(self, values: np.ndarray, where: object = "", *, in_records: bool = False) -> None:
        """Raises the error if a value is neither a class nor the ignore label.

        Args:
          values: integers of any shape.
          where: the file or the image, for the message.
          in_records: the label comes from finished records, so the hint cannot be a setting of the build alone.
        """
        if self.is_outside(values).any():
            found, pixels = np.unique(values, return_counts=True)
            raise self.error(dict(zip(found.tolist(), pixels.tolist(), strict=True)), where, in_records=in_records)

    def error(self, counts: Mapping[int, int], where: object = "", *, in_records: bool = False) -> UserError:
        """The error for a label with values outside the classes.

        Args:
          counts: pixels of every value that the label holds, the good ones included.
          where, in_records: as in `check`.
        """
        present = sorted(value for value in counts if value != self.ignore_label)
        bad = [value for value in present if not 0 <= value < self.limit]
        listed = ", ".join(f"{value} {on_pixels(counts[value])}" for value in bad[:_MAX_LISTED])
        more = f" and {len(bad) - _MAX_LISTED} more values" if len(bad) > _MAX_LISTED else ""
        hint = (_hint_for_records if in_records else _hint_for_build)(present, bad, self)
        return UserError("label-out-of-range", f"{self.rule}; found {listed}{more}", hint, where=where, value=bad)


@dataclass(frozen=True)
class Merges:
    """How classes of mask files become other ones.

    Attributes:
      spec: what the values of mask files mean.
      values: the label value of each class of `spec`, and of its ignore label; -1 for values that are no class.
    """

    spec: LabelSpec
    values: Mapping[int, int]

    def applied(
        self, label: np.ndarray, counts: np.ndarray, where: object, after: LabelSpec
    ) -> tuple[np.ndarray, np.ndarray]:
        """The merged label, [H, W] of the type of the spec `after` merging, and its pixels of each value, int64.

        Raises:
          UserError: a value that belongs to no class (`label-out-of-range`).
        """
        table = np.zeros(len(counts), after.dtype)
        merged = np.zeros(after.num_values, np.int64)
        for value in np.flatnonzero(counts).tolist():
            new = self.values.get(value, -1)
            if new < 0:
                rule = f"label value {value} {on_pixels(counts[value])} is in no entry of `classes`"
                hint = f"add it to an entry, such as ignore={value}"
                raise UserError("label-out-of-range", rule, hint, where=where, value=[value])
            table[value] = new
            merged[new] += counts[value]
        return _looked_up(label, table), merged


def _hint_for_build(present: Sequence[int], bad: Sequence[int], spec: LabelSpec) -> str:
    """What to do while the records are not built yet, guessed from which values the mask holds."""
    if spec.num_classes is None:
        return "map them with `label_map=OLD:NEW`"
    highest, classes = present[-1], spec.num_classes
    if _are_tones(present, bad, spec):
        return f"`label_map={spread_map(present)}` if these are the classes in order"
    if highest == classes:
        return (
            f"`num_classes={classes + 1}` if {highest} is a class (the background counts as one; where the others have "
            "names, give it one), "
            f"or `label_map={highest}:{spec.ignore_label}` if it is to be ignored"
        )
    ignored = ",".join(f"{value}:{spec.ignore_label}" for value in bad[:_MAX_LISTED])
    return f"`num_classes={highest + 1}` if all are classes, `label_map={ignored}` if these are to be ignored"


def _hint_for_records(present: Sequence[int], bad: Sequence[int], spec: LabelSpec) -> str:
    """What to do when the values are in records already: correct dataset.yml, or build the records again."""
    highest, again = present[-1], "build the records again with"
    if bad[0] < 0:
        return f"class indices are 0 or more; set 'ignore_label' to {bad[0]} if it marks pixels that do not count"
    count = f"num_classes={highest + 1} (the background counts, the ignore label does not)"
    void = f"set 'ignore_label: {bad[0]}' in dataset.yml if {bad[0]} marks pixels that do not count"
    if bad == [255]:
        return void
    if bad == [spec.num_classes]:
        return f"{void}; if it is a class, name it in dataset.yml: {count}"
    if bad == list(range(spec.limit, highest + 1)) and highest < 2 * spec.limit:
        return f"if they are classes, name them in dataset.yml and train with {count}"
    if _are_tones(present, bad, spec):
        return f"these look like gray levels; {again} `label_map={spread_map(present)}` if they are classes in order"
    ignored = ",".join(f"{value}:{spec.ignore_label}" for value in bad[:_MAX_LISTED])
    return f"{again} `num_classes={highest + 1}` if all are classes, or with `label_map={ignored}` to ignore these"


def _are_tones(present: Sequence[int], bad: Sequence[int], spec: LabelSpec) -> bool:
    """Whether the values look like gray levels for classes, such as 0, 150, 250 for three."""
    good = present[: len(present) - len(bad)]
    return list(good) in ([], [0]) and 1 < len(present) <= spec.limit < present[-1]


def to_label(values: np.ndarray, where: object, spec: LabelSpec) -> tuple[np.ndarray, np.ndarray]:
    """The values of a mask as label: mapped, checked and counted.

    Args:
      values: uint8 or uint16 [H, W].
      where: the file, for messages.
      spec: what the values mean.

    Returns:
      The label, [H, W] of the type of `spec` (the same array where nothing had to change), and its pixels of each
      value, int64 [256], or [65536] of 16 bits.

    Raises:
      UserError: values outside the classes (`label-out-of-range`).
    """
    if spec.merges:
        return spec.merges.applied(*to_label(values, where, spec.merges.spec), where, spec)
    if spec.mapping:
        values = _mapped(values, spec.mapping)
    counts = count_values(values, spec.num_values)
    present = np.flatnonzero(counts)
    bad = present[spec.is_outside(present)]
    if len(bad) and not spec.ignore_bad:
        raise spec.error({int(value): int(counts[value]) for value in present}, where)
    if len(bad):
        values = np.where(np.isin(values, bad), spec.ignore_label, values)
        counts[spec.ignore_label] += counts[bad].sum()
        counts[bad] = 0
    return values.astype(spec.dtype, copy=False), counts[: spec.num_values]  # every value fits: all are allowed ones


def _mapped(values: np.ndarray, mapping: Mapping[int, int]) -> np.ndarray:
    table = np.arange(65536, dtype=np.uint16)
    for old, new in mapping.items():
        table[old] = new
    if values.dtype == np.uint8 and table[:256].max() < 256:
        table = table[:256].astype(np.uint8)
    return _looked_up(values, table)


def _looked_up(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The entry of a table for each value."""
    if values.dtype == table.dtype == np.uint8:
        return cv2.LUT(values, table)  # ten times as fast as indexing
    return table[values]


def count_values(values: np.ndarray, num_values: int = 256) -> np.ndarray:
    """Pixels of each value, int64 [num_values or more], of uint8 or uint16 [H, W]."""
    if values.dtype == np.uint8 and values.size < 2**24:
        highest = int(values.max(initial=0))
        counts = _count_few(values, highest) if highest < _FEW_VALUES else _histogram(values)
        return counts if num_values == 256 else np.pad(counts, (0, num_values - 256))
    return np.bincount(values.ravel(), minlength=num_values).astype(np.int64)


def _count_few(values: np.ndarray, highest: int) -> np.ndarray:
    """Pixels of each value, int64 [256], by a comparison for each above 1: of three a quarter of a histogram's time."""
    above = [values.size, cv2.countNonZero(values)]  # pixels of at least 0, 1, 2 ... `highest`, and of more
    above += [cv2.countNonZero((values > value).view(np.uint8)) for value in range(1, highest + 1)]
    counts = np.zeros(256, np.int64)
    counts[: highest + 1] = [more - fewer for more, fewer in itertools.pairwise(above)]
    return counts


def _histogram(values: np.ndarray) -> np.ndarray:
    """Pixels of each value, int64 [256]: OpenCV is three times as fast as NumPy; it counts in float32, up to 2^24."""
    return cv2.calcHist([values], [0], None, [256], [0, 256]).ravel().astype(np.int64)


def add_counts(total: np.ndarray, more: np.ndarray) -> np.ndarray:
    """Add counts of values to others: in place, unless those are of 8-bit labels [256] and these are not [65536]."""
    if len(total) < len(more):
        total, more = more.copy(), total
    total[: len(more)] += more
    return total


def are_gray_levels(present: Sequence[int]) -> bool:
    """Whether the values of all masks together, sorted, are gray levels such as 0, 150, 250 rather than class indices.

    As indices, most classes would be absent. A few gaps are classes that do not occur.
    """
    return bool(present) and present[-1] >= _MIN_INDEX_GAP and 2 * len(present) < present[-1]


def spread_map(values: Sequence[int]) -> str:
    """A `label_map` that numbers the given values 0, 1, 2 ... in their order: `150:1,250:2`."""
    return ",".join(f"{value}:{index}" for index, value in enumerate(sorted(values)) if value != index)


def parse_label_map(text: str) -> dict[int, int]:
    """`label_map`: "255:1,11:255" as {255: 1, 11: 255}.

    Raises:
      UserError: not of that form (`invalid-label-map`), a value out of range, or a value that is mapped twice.
    """
    mapping: dict[int, int] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        match = _MAP_ITEM.fullmatch(item)
        old, new = map(int, match.groups()) if match else (65536, 65536)
        if max(old, new) > 65535:
            rule = f"{item!r} is not OLD:NEW with both from 0 to 65535"
            raise UserError("invalid-label-map", rule, field="label_map", value=item)
        if mapping.setdefault(old, new) != new:
            rule = f"{old} is mapped to {mapping[old]} and to {new}"
            raise UserError("invalid-label-map", rule, field="label_map", value=item)
    return mapping


# --- Reading ------------------------------------------------------------------------------------------------


def read_label(path: str | os.PathLike, spec: LabelSpec = LabelSpec()) -> np.ndarray:
    """Read a mask file as label, uint8 or uint16 [H, W] as `spec` says, every value a class or the ignore label.

    Raises:
      UserError: as `decode_label`, or the file cannot be read.
    """
    return decode_label(read_file(path), str(path), spec).label


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


_ONE_CHANNEL, _COLOR_MODES = ("1", "L", "P"), ("RGB", "RGBA")


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
