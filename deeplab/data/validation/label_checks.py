"""The label of a pair: whether it can be read, which values it holds, and properties that suggest an error."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from deeplab.data.colormaps import color_codes
from deeplab.data.labels import LabelSpec, to_label
from deeplab.data.mask_files import DecodedLabel, decode_label, decode_values
from deeplab.data.png_files import png_kind
from deeplab.data.readers.source import Mask, Painter
from deeplab.data.validation.check_report import Finding
from deeplab.data.validation.repair import MAX_COLORS, sufficient_tolerance
from deeplab.data.validation.rules import PAIR_CHECKS, finding, from_error
from deeplab.data.validation.thumbnails import opened
from deeplab.utils.errors import UserError

if TYPE_CHECKING:
    from deeplab.data.validation.pair_checks import SeenPair

_RULE_OF_CODE: Mapping[str, str] = {  # by the codes of `decode_label`
    "unreadable-image": "mask-unreadable",
    "missing-palette": "mask-is-color",
    "unknown-color": "mask-color-unknown",
    "palette-disagrees": "mask-palette-disagrees",
    "not-a-mask": "mask-kind",
    "label-out-of-range": "label-out-of-range",
}
_MAYBE_SWAPPED = "if it is a photograph, `image_folder` and `mask_folder` may be swapped"

_FREQUENT = 0.02  # fraction of the pixels
_MIN_RARE = 8  # values that are not frequent, below which nothing is suspected
_MAX_INNER = 0.2  # fraction of the pixels of rare values that may be inside an area of one value
_EVERY = 8  # row and column of a mask that is examined for values in between
_MIN_STEPS = 25  # from one value to another one, on those rows and columns
_MAX_BETWEEN = 0.28  # fraction of such steps that pass a value in between
_NEARLY_ALL = 0.95
_DETAIL_ROWS = 64  # rows at which the detail of a label is counted


@dataclass
class SeenLabel:
    """What was seen of a label.

    Attributes:
      size: height and width; None where it cannot be read.
      pixels: uint8 or uint16 [H, W], values outside the classes included; None where they have no clear meaning.
      counts: pixels of each value, int64 [values]; None where `pixels` is.
      findings: why it cannot be used.
      colors: 0xRRGGBB of a mask in colors for which there is no palette.
      palette: 0xRRGGBB of each index that a palette mask uses.
      snapped: pixels that took the nearest color of the palette.
      is_drawn: it was drawn from shapes, not read from a mask file.
      is_lossy: the mask is a JPEG, so values in between are expected.
    """

    size: tuple[int, int] | None = None
    pixels: np.ndarray | None = None
    counts: np.ndarray | None = None
    findings: list[Finding] = field(default_factory=list)
    colors: frozenset[int] = frozenset()
    palette: Mapping[int, int] = field(default_factory=dict)
    snapped: int = 0
    is_drawn: bool = False
    is_lossy: bool = False

    @property
    def detail(self) -> int:
        """Rows that differ from the one above, of 64 or so; labels that are identical by chance have few."""
        if self.pixels is None:
            return 0
        small = self.pixels[:: max(1, self.pixels.shape[0] // _DETAIL_ROWS)]
        return int((small[1:] != small[:-1]).any(1).sum())


def examine_mask(data: bytes, where: str, split: str, spec: LabelSpec, in_record: bool) -> SeenLabel:
    """Examines an encoded mask.

    Args:
      data: its bytes.
      where, split: for findings.
      spec: what its values and colors mean.
      in_record: it comes from a record, which must hold gray PNG of the bits of `spec`.
    """
    header = opened(data)
    if header is None:
        text = "is empty" if not data else "cannot be read as an image: its format is not known"
        return SeenLabel(findings=[finding("mask-unreadable", where, text, split=split)])
    found = SeenLabel((header.height, header.width))
    if in_record and png_kind(data) != (spec.bits, 0):
        text = f"its label is {header.format}, pixels of mode {header.mode}"
        found.findings.append(finding("label-not-gray-png", where, text, split=split))
        return found
    found.is_lossy = header.format == "JPEG" and not (spec.table and (header.mode == "RGB" or spec.table.is_gray()))
    if found.is_lossy:
        found.findings.append(_lossy(data, where, split, header.mode))
    try:
        decoded = decode_label(data, where, spec)
    except UserError as error:
        _explain(found, data, spec, error, split, in_record)
        return found
    found.pixels, found.counts, found.snapped = decoded.label, decoded.counts, decoded.snapped
    if header.mode == "P" and not (in_record or spec.mapping or spec.table):
        found.palette = _palette_of(header, decoded)
    return found


def examine_drawn_mask(mask: Mask, split: str, painter: Painter, size: tuple[int, int]) -> SeenLabel:
    """Draws and examines the label of an annotation.

    Args:
      mask: what draws it.
      split: for findings.
      painter: classes and what label values mean.
      size: height and width of the label.
    """
    found = SeenLabel(size, is_drawn=True)
    try:
        found.pixels, found.counts = to_label(mask.draw(painter, *size), mask.where, painter.rule)
    except UserError as error:
        found.findings.append(from_error("mask-unusable", error, split))
    return found


def _palette_of(image: Image.Image, decoded: DecodedLabel) -> dict[int, int]:
    # Without `getpalette`, which decodes the pixels once more.
    stored = image.palette if image.palette and image.palette.rawmode == "RGB" else None
    shown = list(stored.palette) if stored else image.getpalette("RGB") or []
    present = [index for index in np.flatnonzero(decoded.counts).tolist() if 3 * index + 2 < len(shown)]
    colors = {index: shown[3 * index : 3 * index + 3] for index in present}
    return {index: red << 16 | green << 8 | blue for index, (red, green, blue) in colors.items()}


# --- Masks that are no labels -------------------------------------------------------------------------------


def _lossy(data: bytes, where: str, split: str, mode: str) -> Finding:
    if mode != "RGB":
        return finding("mask-lossy", where, "is a JPEG, whatever its extension says", split=split)
    text = f"is a JPEG in {len(_colors_of(data)):,} colors"
    hint = f"export it again as PNG, or give `palette=FILE` and `color_tolerance=40`; {_MAYBE_SWAPPED}"
    return finding("mask-lossy", where, text, split=split, hint=hint)


def _explain(found: SeenLabel, data: bytes, spec: LabelSpec, error: UserError, split: str, in_record: bool) -> None:
    """Adds the rule that a mask violates which `decode_label` refuses, and what can still be counted of it."""
    rule = _RULE_OF_CODE.get(error.code, "mask-unreadable")
    if rule == "mask-unreadable":
        found.size = None
    if rule == "mask-is-color":
        found.colors = _colors_of(data)
    if not (found.is_lossy and rule in ("mask-is-color", "label-out-of-range")):  # JPEG explains that
        found.findings.append(_finding_of(rule, error, data, spec, split, found.colors))
    if rule != "label-out-of-range":
        return
    any_value = dataclasses.replace(spec.before, num_classes=None, wide=spec.before.bits == 16)
    try:
        found.pixels, found.counts = to_label(decode_values(data, error.where, spec), error.where, any_value)
    except UserError:  # values beyond the bits of labels
        return
    if in_record and found.findings:
        present = np.flatnonzero(found.counts).tolist()
        again = spec.error({value: int(found.counts[value]) for value in present}, error.where, in_records=True)
        found.findings[-1] = from_error(rule, again, split)


def _finding_of(
    rule: str, error: UserError, data: bytes, spec: LabelSpec, split: str, colors: frozenset[int]
) -> Finding:
    if rule == "mask-color-unknown":
        colors = _colors_of(data)
        hint = error.hint if len(colors) <= MAX_COLORS else f"{error.hint}; {_MAYBE_SWAPPED}"
        return finding(rule, error.where, error.rule, split=split, hint=hint, repair=sufficient_tolerance(colors, spec))
    if rule == "mask-is-color" and len(colors) > MAX_COLORS:
        text = f"is RGB with {len(colors):,} colors: a photograph, or a mask that was a JPEG once"
        hint = (
            "see whether `image_folder` and `mask_folder` are swapped; a mask that was a JPEG needs `palette=FILE` and "
            "`color_tolerance=40`"
        )
        return finding(rule, error.where, text, split=split, hint=hint)
    return from_error(rule, error, split)


def _colors_of(data: bytes) -> frozenset[int]:
    image = opened(data)
    if image is None:
        return frozenset()
    return frozenset(np.unique(color_codes(np.asarray(image.convert("RGB")))).tolist())


# --- Values -------------------------------------------------------------------------------------------------


@PAIR_CHECKS.register("label values")
def check_values(pair: SeenPair) -> Iterator[Finding]:
    """Findings about the values of a label. Drawn labels cannot be blurred; JPEG masks have their own finding."""
    label, spec = pair.label, pair.spec
    if label.snapped and label.pixels is not None:
        percent = 100 * label.snapped / label.pixels.size
        text = f"{label.snapped} pixels ({percent:.2g} %) had a color that is not in the palette"
        yield pair.finding("mask-colors-snapped", text, of_mask=True)
    if label.pixels is None or label.counts is None:
        return
    if label.counts[spec.ignore_label] == label.pixels.size:
        text = f"every pixel has the ignore label {spec.ignore_label}"
        yield pair.finding("label-all-ignored", text, of_mask=True)
    if label.is_drawn or pair.task.classes.drawn or label.is_lossy:
        return
    fraction = fraction_between(label.pixels, label.counts)
    if fraction > _MAX_BETWEEN:
        text = f"{100 * fraction:.0f} % of the steps from one value to another pass a value in between"
        yield pair.finding("mask-blurred", text, of_mask=True)
    elif is_blurred(label.pixels, label.counts, spec):
        values = np.count_nonzero(label.counts)
        text = f"holds {values} values, most of them on few pixels beside a frequent one"
        yield pair.finding("mask-blurred", text, of_mask=True)


def fraction_between(label: np.ndarray, counts: np.ndarray) -> float:
    """Fraction of the steps between two values that are not neighbors which pass values in between.

    In sound masks, areas mostly meet directly: of 1,589 masks of CamVid, FASSEG and PASCAL VOC, none has more than 0.2.
    After smooth resizing, blurring or JPEG, 99 % have more than 0.29. Ramps of one pixel and of two are examined, as
    these operations differ in what they do to large and to small steps.

    Args:
      label: uint8 or uint16 [H, W].
      counts: pixels of each value, int64 [values].

    Returns:
      0 to 1; 0 where there are too few steps, or where all pass one class that consists of nothing but such lines:
      borders that were drawn on purpose.
    """
    if np.count_nonzero(counts) < 3 or min(label.shape) < 5:  # runs of five are examined
        return 0.0
    lines = [label[::_EVERY], np.ascontiguousarray(label[:, ::_EVERY].T)]
    return max(_fraction(label, lines, _over_one), _fraction(label, lines, _over_two))


def _fraction(
    label: np.ndarray, lines: Sequence[np.ndarray], steps_of: Callable[[np.ndarray], tuple[np.ndarray, float]]
) -> float:
    found = [steps_of(line) for line in lines]
    between = np.bincount(np.concatenate([values for values, _ in found]), minlength=256)
    steps = between.sum() + sum(direct for _, direct in found)
    fraction = float(between.sum() / steps) if steps >= _MIN_STEPS else 0.0
    return 0.0 if fraction > _MAX_BETWEEN and _is_border(label, int(between.argmax()), between) else fraction


def _over_one(lines: np.ndarray) -> tuple[np.ndarray, float]:
    """Values of single pixels between two others along lines, [n], and the number of direct steps."""
    left, middle, right = lines[:, :-2], lines[:, 1:-1], lines[:, 2:]
    low, high = np.minimum(left, right), np.maximum(left, right)
    far = high - low >= 2
    direct = np.count_nonzero(far & ((middle == low) | (middle == high)))
    return middle[far & (low < middle) & (middle < high)], direct / 2  # each is seen at both of its pixels


def _over_two(lines: np.ndarray) -> tuple[np.ndarray, float]:
    """The same, of values in the middle of five that only rise or only fall."""
    run = [lines[:, shift : lines.shape[1] - 4 + shift] for shift in range(5)]
    steps = list(itertools.pairwise(run))
    rising = np.logical_and.reduce([one <= other for one, other in steps])
    falling = np.logical_and.reduce([one >= other for one, other in steps])
    low, high = np.minimum(run[0], run[4]), np.maximum(run[0], run[4])
    over = (rising | falling) & (high - low >= 2) & (low < run[2]) & (run[2] < high)
    left, right = lines[:, :-1], lines[:, 1:]
    return run[2][over], int(np.count_nonzero(np.maximum(left, right) - np.minimum(left, right) >= 2))


def _is_border(label: np.ndarray, value: int, between: np.ndarray) -> bool:
    """Whether it is nearly always this value that is between others, and never an area of its own."""
    if between[value] < _NEARLY_ALL * between.sum():
        return False
    where = (label == value).astype(np.uint8)
    return not cv2.erode(where, np.ones((3, 3), np.uint8)).any()


def is_blurred(label: np.ndarray, counts: np.ndarray, spec: LabelSpec) -> bool:
    """Whether values look like a few frequent ones with smooth transitions between them.

    Only values that are no known class are suspected: many of them, each on few pixels, nearly none of which is
    surrounded by its own value. Small classes are areas, transitions are lines.

    Args:
      label: uint8 or uint16 [H, W].
      counts: pixels of each value, int64 [values].
      spec: says what the known classes are.
    """
    outside = counts.copy()
    outside[: spec.num_classes or 0] = 0
    outside[spec.ignore_label] = 0
    rare = (counts > 0) & (counts < _FREQUENT * label.size)
    frequent = int(np.count_nonzero(counts >= _FREQUENT * label.size))
    if not outside.any() or not frequent or int(np.count_nonzero(rare)) < max(_MIN_RARE, 2 * frequent):
        return False
    around = np.ones((3, 3), np.uint8)
    inner = cv2.dilate(label, around) == cv2.erode(label, around)
    return bool(np.count_nonzero(inner & rare[label]) < _MAX_INNER * int(counts[rare].sum()))
