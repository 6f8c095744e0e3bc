"""The label of a pair: whether it can be read, which values it holds, what is odd about it."""

from __future__ import annotations

import dataclasses
import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from PIL import Image

from deeplab.data.colormaps import color_codes
from deeplab.data.image_files import png_chunks
from deeplab.data.labels import LabelRule, decode_label, decode_values, to_label
from deeplab.data.readers.source import Mask, Painter
from deeplab.data.validation.check_report import Finding
from deeplab.data.validation.rules import finding
from deeplab.utils.errors import UserError

_COLORS = ("RGB", "RGBA")
_ALPHA = ("LA", "PA", "RGBA")
_GRAY_8_BIT = (8, 0)  # bit depth and color type in a PNG's header

_MOST_COLORS = 512  # of a mask; what has more is a photograph
_FREQUENT = 0.02  # share of the pixels
_LEAST_RARE = 8  # values that are not frequent, below which nothing is suspected
_MOST_INNER = 0.2  # share of the pixels of rare values that may lie within an area of one value
_EVERY = 8  # row and column of a mask that is looked at for values in between
_LEAST_STEPS = 25  # from one value to another one, on those rows and columns
_MOST_BETWEEN = 0.28  # share of such steps that go over a value in between
_NEARLY_ALL = 0.95


@dataclass
class LabelLook:
    """What was seen of a label.

    Attributes:
      size: height and width; None where it cannot be read.
      pixels: uint8 [H, W], values outside the classes included; None where there is no clear meaning.
      counts: pixels of each value, int64 [256]; None where `pixels` is.
      findings: what is wrong.
      colors: 0xRRGGBB of a mask in colors that nobody has explained.
      palette: 0xRRGGBB of each index that a palette mask uses.
    """

    size: tuple[int, int] | None = None
    pixels: np.ndarray | None = None
    counts: np.ndarray | None = None
    findings: list[Finding] = field(default_factory=list)
    colors: frozenset[int] = frozenset()
    palette: Mapping[int, int] = field(default_factory=dict)

    def add(self, rule: str, where: str, split: str, text: str, hint: str = "") -> None:
        """Takes one more finding."""
        self.findings.append(finding(rule, where, text, split=split, hint=hint))


def look_at_label(data: bytes, where: str, split: str, rule: LabelRule, stored: bool) -> LabelLook:
    """Looks at an encoded mask.

    Args:
      data: its bytes.
      where, split: for findings.
      rule: what its values and colors mean.
      stored: it comes out of a record, where only 8-bit gray PNG will do.
    """
    found = LabelLook()
    header = _header(data)
    if header is None:
        text = "is empty" if not data else "cannot be read as a picture: its format is not known"
        found.add("mask-unreadable", where, split, text)
        return found
    found.size = (header.height, header.width)
    if stored and not _is_gray_png(data):
        found.add("label-not-gray-png", where, split, f"its label is {header.format}, pixels of kind {header.mode}")
        return found
    lossy = header.format == "JPEG" and not (rule.table and header.mode == "RGB")
    if lossy:
        _add_lossy(found, data, where, split, header.mode)
    try:
        decoded = decode_label(data, where, rule)
    except UserError as fault:
        _explain(found, data, where, split, rule, header.mode, fault)
        return found
    found.pixels, found.counts = decoded.label, decoded.counts
    if header.mode == "P" and not (stored or rule.mapping or rule.table):
        found.palette = _palette_of(header, decoded.counts)
    if decoded.snapped:
        share = 100 * decoded.snapped / decoded.label.size
        text = f"{decoded.snapped} pixels ({share:.2g} %) had a color that is not in the palette"
        found.add("mask-colors-snapped", where, split, text)
    _look_at_values(found, where, split, rule)
    return found


def _palette_of(picture: Image.Image, counts: np.ndarray) -> dict[int, int]:
    shown = picture.getpalette("RGB") or []
    present = [index for index in np.flatnonzero(counts).tolist() if 3 * index + 2 < len(shown)]
    colors = {index: shown[3 * index : 3 * index + 3] for index in present}
    return {index: red << 16 | green << 8 | blue for index, (red, green, blue) in colors.items()}


def _add_lossy(found: LabelLook, data: bytes, where: str, split: str, mode: str) -> None:
    if mode != "RGB":
        found.add("mask-lossy", where, split, "is a JPEG, whatever its extension")
        return
    text = f"is a JPEG in {len(_colors_of(data)):,} colors"
    hint = (
        "export it again as PNG, or give `palette=FILE` and `color_tolerance=40`; if it is a photograph, "
        "`image_folder` and `mask_folder` may be swapped"
    )
    found.add("mask-lossy", where, split, text, hint)


def look_at_drawn_label(mask: Mask, split: str, painter: Painter, size: tuple[int, int]) -> LabelLook:
    """Draws a label and looks at it.

    Args:
      mask: what draws it.
      split: for findings.
      painter: classes and rule.
      size: height and width to draw it in.
    """
    found = LabelLook(size)
    try:
        found.pixels, found.counts = to_label(mask.draw(painter, *size), mask.where, painter.rule)
    except UserError as fault:
        found.add("mask-unusable", fault.where, split, fault.rule, fault.hint)
        return found
    _look_at_values(found, mask.where, split, painter.rule, drawn=True)
    return found


def _header(data: bytes) -> Image.Image | None:
    try:
        return Image.open(io.BytesIO(data))
    except Exception:  # on files made to harm, Pillow raises nearly anything
        return None


def _is_gray_png(data: bytes) -> bool:
    return data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) > 25 and (data[24], data[25]) == _GRAY_8_BIT


# --- Masks that are no labels -------------------------------------------------------------------------------


def _explain(
    found: LabelLook, data: bytes, where: str, split: str, rule: LabelRule, mode: str, fault: UserError
) -> None:
    """Which rule a mask breaks that `decode_label` refuses, and what can still be counted of it."""
    lossy = bool(found.findings)  # which explains strange values and colors
    try:
        values = decode_values(data, where, rule)
    except UserError:
        name = _rule_of_undecodable(data, mode, rule)
        found.size = None if name == "mask-unreadable" else found.size
        if name == "mask-is-color" and not lossy:
            _add_colors(found, data, where, split, fault)
        elif name != "mask-is-color":
            found.add(name, where, split, fault.rule, fault.hint + _if_photo(name, data))
        return
    if not lossy:
        found.add("label-out-of-range", where, split, fault.rule, fault.hint)
    try:
        found.pixels, found.counts = to_label(values, where, dataclasses.replace(rule, num_classes=None))
    except UserError:  # values beyond 8 bits
        return
    _look_at_values(found, where, split, rule)


def _if_photo(name: str, data: bytes) -> str:
    if name != "mask-color-unknown" or len(_colors_of(data)) <= _MOST_COLORS:
        return ""
    return "; if it is a photograph, `image_folder` and `mask_folder` may be swapped"


def _add_colors(found: LabelLook, data: bytes, where: str, split: str, fault: UserError) -> None:
    found.colors = _colors_of(data)
    if len(found.colors) <= _MOST_COLORS:
        found.add("mask-is-color", where, split, fault.rule, fault.hint)
        return
    text = f"is RGB with {len(found.colors):,} colors: a photograph, or a mask that was a JPEG once"
    hint = (
        "see whether `image_folder` and `mask_folder` are swapped; a mask that was a JPEG needs `palette=FILE` and "
        "`color_tolerance=40`"
    )
    found.add("mask-is-color", where, split, text, hint)


def _rule_of_undecodable(data: bytes, mode: str, rule: LabelRule) -> str:
    pixels = _decoded(data)
    if pixels is None:
        return "mask-unreadable"
    if mode in _ALPHA and np.ptp(pixels[..., -1]) > 0:
        return "mask-kind"
    if mode in _COLORS or (mode == "P" and rule.by_color):
        return "mask-is-color" if rule.table is None else "mask-color-unknown"
    return "mask-palette-disagrees" if mode == "P" else "mask-kind"


def _decoded(data: bytes) -> np.ndarray | None:
    try:
        if data.startswith(b"\x89PNG"):
            for _ in png_chunks(data):
                pass
        return np.asarray(Image.open(io.BytesIO(data)))
    except Exception:  # as in `_header`
        return None


def _colors_of(data: bytes) -> frozenset[int]:
    pixels = _decoded(data)
    return frozenset() if pixels is None else frozenset(np.unique(color_codes(pixels[..., :3])).tolist())


# --- Values -------------------------------------------------------------------------------------------------


def _look_at_values(found: LabelLook, where: str, split: str, rule: LabelRule, drawn: bool = False) -> None:
    """What is odd about a label's values; nothing blurs labels that are drawn, nor what is known to be a JPEG."""
    assert found.counts is not None and found.pixels is not None
    if found.counts[rule.ignore_label] == found.pixels.size:
        found.add("label-all-ignored", where, split, f"every pixel has the ignore label {rule.ignore_label}")
    if drawn or any(item.rule == "mask-lossy" for item in found.findings):
        return
    share = share_between(found.pixels, found.counts)
    if share > _MOST_BETWEEN:
        text = f"{100 * share:.0f} % of the steps from one value to another go over a value in between"
        found.add("mask-blurred", where, split, text)
    elif is_blurred(found.pixels, found.counts, rule):
        values = np.count_nonzero(found.counts)
        found.add(
            "mask-blurred", where, split, f"holds {values} values, most of them on few pixels beside a frequent one"
        )


def share_between(label: np.ndarray, counts: np.ndarray) -> float:
    """Share of the steps between two values that are not neighbors which go over values in between.

    In sound masks, areas mostly meet directly: of 1,589 masks of CamVid, FASSEG and PASCAL VOC, none has more than 0.2.
    After smooth resizing, blurring or JPEG, 99 % have more than 0.29. Ramps of one pixel and of two are looked for, as
    they differ in what they do to large and to small steps.

    Args:
      label: uint8 [H, W].
      counts: pixels of each value, int64 [256].

    Returns:
      0 to 1; 0 where there are too few steps, or where all go over one class that is nothing but such lines: borders
      that were drawn on purpose.
    """
    if np.count_nonzero(counts) < 3 or min(label.shape) < 5:  # runs of five are looked at
        return 0.0
    lines = [label[::_EVERY], np.ascontiguousarray(label[:, ::_EVERY].T)]
    return max(_share(label, lines, _over_one), _share(label, lines, _over_two))


def _share(
    label: np.ndarray, lines: Sequence[np.ndarray], look: Callable[[np.ndarray], tuple[np.ndarray, float]]
) -> float:
    found = [look(line) for line in lines]
    between = np.bincount(np.concatenate([values for values, _ in found]), minlength=256)
    steps = between.sum() + sum(direct for _, direct in found)
    share = float(between.sum() / steps) if steps >= _LEAST_STEPS else 0.0
    return 0.0 if share > _MOST_BETWEEN and _is_border(label, int(between.argmax()), between) else share


def _over_one(lines: np.ndarray) -> tuple[np.ndarray, float]:
    """Values of single pixels between two others along lines, uint8 [n], and the number of direct steps."""
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
    """Whether it is nearly always this value that lies between others, and never an area of its own."""
    if between[value] < _NEARLY_ALL * between.sum():
        return False
    where = (label == value).astype(np.uint8)
    return not cv2.erode(where, np.ones((3, 3), np.uint8)).any()


def is_blurred(label: np.ndarray, counts: np.ndarray, rule: LabelRule) -> bool:
    """Whether values look like a few frequent ones with smooth transitions between them.

    Only values that are no known class are suspected, many of them, each on few pixels, nearly none of which has
    neighbors of its own value alone: small classes are areas, transitions are lines.

    Args:
      label: uint8 [H, W].
      counts: pixels of each value, int64 [256].
      rule: says what the known classes are.
    """
    outside = counts.copy()
    outside[: rule.num_classes or 0] = 0
    outside[rule.ignore_label] = 0
    rare = (counts > 0) & (counts < _FREQUENT * label.size)
    frequent = np.count_nonzero(counts >= _FREQUENT * label.size)
    if not outside.any() or not frequent or int(np.count_nonzero(rare)) < max(_LEAST_RARE, 2 * int(frequent)):
        return False
    around = np.ones((3, 3), np.uint8)
    inner = cv2.dilate(label, around) == cv2.erode(label, around)
    return bool(np.count_nonzero(inner & rare[label]) < _MOST_INNER * int(counts[rare].sum()))
