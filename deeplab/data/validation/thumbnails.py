"""Small pictures for the report: an image, and its label laid over it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from deeplab.data.colormaps import TABLE_SIZE, colors_for, overlay
from deeplab.data.readers.classes import Classes
from deeplab.data.validation.image_hashing import gray_of, opened
from deeplab.visualization import label_rendering

SIDE = 320  # longest side of a picture in the report, in pixels
OPACITY = 0.55
_GAP = 8  # pixels between two pictures side by side
_QUALITY = 80
_SAME_SHAPE = 0.02  # ratio by which the shapes of image and label may differ after shrinking


def palette_of(classes: Classes) -> label_rendering.Classes:
    """How labels are drawn: classes in their colors, ignored pixels and values that are no class in patterns."""
    number = classes.num_classes or TABLE_SIZE
    names = classes.names or tuple(map(str, range(number)))
    own = classes.colors if len(classes.colors) == number else None
    return label_rendering.Classes(names, colors_for(own, 0), classes.rule.ignore_label)


def shrunk(data: bytes, side: int = SIDE) -> np.ndarray | None:
    """An encoded image at most `side` pixels long, as it is stored.

    Returns:
      uint8 [h, w, 3], RGB; None where it cannot be decoded.
    """
    picture = opened(data)
    if picture is None:
        return None
    picture.draft("RGB", (side, side))  # JPEG alone: decoded at the next larger of 1/8, 1/4, 1/2
    if picture.mode.startswith("I"):
        gray = gray_of(picture)
        return None if gray is None else _fit(np.dstack([gray] * 3), side, cv2.INTER_AREA)
    try:
        return _fit(np.asarray(picture.convert("RGB")), side, cv2.INTER_AREA)
    except Exception:  # on files made to harm, Pillow raises nearly anything
        return None


def _fit(pixels: np.ndarray, side: int, interpolation: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(pixels, size, interpolation=interpolation)


def laid_over(
    image: np.ndarray | None, label: np.ndarray | None, palette: label_rendering.Classes
) -> np.ndarray | None:
    """A small image with its label in colors over it; what there is of the two; None where there is nothing.

    Where their shapes differ, the two stand side by side.

    Args:
      image: uint8 [h, w, 3], RGB, shrunk.
      label: uint8 [H, W].
      palette: from `palette_of`.
    """
    if label is None:
        return image
    small = palette.picture(_fit(label, SIDE, cv2.INTER_NEAREST))
    if image is None:
        return small
    if abs(image.shape[0] * small.shape[1] / (image.shape[1] * small.shape[0]) - 1) > _SAME_SHAPE:
        return side_by_side([image, small])
    size = (image.shape[1], image.shape[0])
    return overlay(image, palette.picture(cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)), OPACITY)


def side_by_side(pictures: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Pictures in a row on white, uint8 [h, w, 3]; those that are None are left out."""
    present = [picture for picture in pictures if picture is not None]
    if not present:
        return None
    height = max(picture.shape[0] for picture in present)
    width = sum(picture.shape[1] for picture in present) + _GAP * (len(present) - 1)
    row = np.full((height, width, 3), 255, np.uint8)
    left = 0
    for picture in present:
        row[: picture.shape[0], left : left + picture.shape[1]] = picture
        left += picture.shape[1] + _GAP
    return row


def as_jpeg(picture: np.ndarray | None) -> bytes:
    """A picture, uint8 [h, w, 3], RGB, as JPEG; nothing for None."""
    if picture is None:
        return b""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
