"""Labels: which values they may hold, how values are mapped, merged and counted.

A *label* is uint8 [H, W] of class indices, in which the ignore label marks pixels that do not count; beyond 256
classes it is uint16. The files that labels come from are read by `mask_files.py`.

`LabelSpec` is the one judge of label values. Mask files, records, losses and the confusion matrix ask it, and all of
them raise its error (code `label-out-of-range`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from deeplab.data.colormaps import ColorTable, on_pixels
from deeplab.data.label_bits import bits_of
from deeplab.utils.errors import UserError

_MAP_ITEM = re.compile(r"([0-9]{1,5})\s*:\s*([0-9]{1,5})")
_MIN_INDEX_GAP = 8  # highest value below which gaps are classes that do not occur
_FEW_VALUES = 8  # of so many, 0 included, comparisons are faster than a histogram
_MAX_LISTED = 6  # values that a message names


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
