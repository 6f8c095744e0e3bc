"""Small images: in gray, to compare images with each other, and in color, for the report."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from deeplab.data.colormaps import TABLE_SIZE, colors_for, overlay
from deeplab.data.readers.classes import DatasetClasses
from deeplab.visualization.label_rendering import LabelColors

SIDE = 320  # longest side of an image in the report, in pixels
OPACITY = 0.55
_MIN_GRAY_SIDE = 64  # shortest side to which an image is reduced in gray
_GAP = 8  # pixels between two images side by side
_QUALITY = 80
_SAME_SHAPE = 0.02  # ratio by which the shapes of image and label may differ after shrinking


def opened(data: bytes) -> Image.Image | None:
    """An encoded image of which only the header is read; None where it is none."""
    try:
        return Image.open(io.BytesIO(data))
    except Exception:  # on malicious files, Pillow raises nearly anything
        return None


# --- Gray ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SmallGray:
    """An image in gray at a small size.

    Attributes:
      pixels: float32 [h, w], 0..255.
      rows, columns: how many of them the image really fills; the last ones may be filled in part.
      mode: Pillow's name for the kind of pixels of the image.
    """

    pixels: np.ndarray
    rows: float
    columns: float
    mode: str


def small_gray(data: bytes, height: int, width: int) -> SmallGray | None:
    """An encoded image of that size as a small gray one; None where it cannot be decoded.

    JPEG is decoded at an eighth to a half of its size, which saves most of the work: half a millisecond on one core
    for an image of CamVid's size, 0.9 for one of PASCAL VOC's. EXIF rotation is not applied.
    """
    factor = next((f for f in (8, 4, 2) if min(height, width) // f >= _MIN_GRAY_SIDE), 1)
    image = opened(data)
    if image is None:
        return None
    mode = image.mode
    image.draft("L", (width // factor, height // factor))  # JPEG only, at 1/8, 1/4, 1/2 or full size
    pixels = gray_of(image)
    if pixels is None:
        return None
    if image.size != (width, height):  # the last cell of a row may cover fewer pixels than the others
        factor = round(width / image.width)
        return SmallGray(pixels.astype(np.float32), height / factor, width / factor, mode)
    if factor > 1:
        pixels = cv2.resize(pixels, (-(-width // factor), -(-height // factor)), interpolation=cv2.INTER_AREA)
    return SmallGray(pixels.astype(np.float32), pixels.shape[0], pixels.shape[1], mode)


def gray_of(image: Image.Image) -> np.ndarray | None:
    """Gray levels of an image, uint8 [H, W], the upper 8 bits of 16; None where it cannot be decoded.

    Pillow, because OpenCV's libraries print warnings on odd files without naming them.
    """
    try:
        if image.mode.startswith("I"):
            return (np.asarray(image) >> 8).astype(np.uint8)
        return np.asarray(image.convert("L"))
    except Exception:  # as above
        return None


# --- Color --------------------------------------------------------------------------------------------------


def label_colors(classes: DatasetClasses) -> LabelColors:
    """How labels are drawn: classes in their colors, ignored pixels and values that are no class in patterns."""
    number = classes.num_classes or TABLE_SIZE
    names = classes.names or tuple(map(str, range(number)))
    own = classes.colors if len(classes.colors) == number else None
    return LabelColors(names, colors_for(own, number, classes.rule.ignore_label), classes.rule.ignore_label)


def shrunk(data: bytes, side: int = SIDE) -> np.ndarray | None:
    """An encoded image at most `side` pixels long, as it is stored.

    Returns:
      uint8 [h, w, 3], RGB; None where it cannot be decoded.
    """
    image = opened(data)
    if image is None:
        return None
    image.draft("RGB", (side, side))  # JPEG only: decoded at the next larger of 1/8, 1/4, 1/2
    if image.mode.startswith("I"):
        gray = gray_of(image)
        return None if gray is None else _fit(np.dstack([gray] * 3), side, cv2.INTER_AREA)
    try:
        return _fit(np.asarray(image.convert("RGB")), side, cv2.INTER_AREA)
    except Exception:  # as above
        return None


def _fit(pixels: np.ndarray, side: int, interpolation: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(pixels, size, interpolation=interpolation)


def overlaid(image: np.ndarray | None, label: np.ndarray | None, colors: LabelColors) -> np.ndarray | None:
    """A small image with its label overlaid in colors, or the one of the two that there is; None without both.

    Where their shapes differ, the two are side by side.

    Args:
      image: uint8 [h, w, 3], RGB, shrunk.
      label: uint8 [H, W].
      colors: from `label_colors`.
    """
    if label is None:
        return image
    small = colors.draw(_fit(label, SIDE, cv2.INTER_NEAREST))
    if image is None:
        return small
    if abs(image.shape[0] * small.shape[1] / (image.shape[1] * small.shape[0]) - 1) > _SAME_SHAPE:
        return side_by_side([image, small])
    label = cv2.resize(label, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_NEAREST)
    return overlay(image, colors.draw(label), OPACITY, label)


def side_by_side(images: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Images in a row on white, uint8 [h, w, 3]; those that are None are left out."""
    present = [image for image in images if image is not None]
    if not present:
        return None
    height = max(image.shape[0] for image in present)
    width = sum(image.shape[1] for image in present) + _GAP * (len(present) - 1)
    row = np.full((height, width, 3), 255, np.uint8)
    left = 0
    for image in present:
        row[: image.shape[0], left : left + image.shape[1]] = image
        left += image.shape[1] + _GAP
    return row


def as_jpeg(image: np.ndarray | None) -> bytes:
    """An image, uint8 [h, w, 3], RGB, as JPEG; empty for None."""
    if image is None:
        return b""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
