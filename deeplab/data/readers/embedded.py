"""Pictures that annotation files carry inside, as base64 text: small bitmaps of shapes, or whole images."""

from __future__ import annotations

import base64
import collections
import io

import numpy as np
from PIL import Image

from deeplab.data.image_files import UNREADABLE, png_chunks
from deeplab.utils.errors import UserError


def base64_bytes(text: str, what: str, where: str) -> bytes:
    """Bytes that are written as base64, with or without the head of a data URI.

    Raises:
      UserError: the text is no base64.
    """
    try:
        return base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except ValueError:
        raise UserError(
            "unclassified", f"{what} is no base64", "export it again: it may have been cut off", where=where
        ) from None


def png_bitmap(data: bytes, where: str, height: int, width: int) -> np.ndarray:
    """The pixels of a PNG that belong to a shape: the opaque ones where it has an alpha channel, else those not 0.

    Args:
      data: the PNG; of a larger one than the image only the head is read.
      where: file and shape, for messages.
      height, width: of the image that the shape is drawn on.

    Returns:
      bool [h, w], at most [height, width].

    Raises:
      UserError: no PNG, a damaged one, or one that is larger than the image.
    """
    try:
        picture = Image.open(io.BytesIO(data), formats=["PNG"])
        if picture.height > height or picture.width > width:
            rule = f"its bitmap of {picture.width}x{picture.height} pixels is larger than the image, {width}x{height}"
            raise UserError(
                "unclassified",
                rule,
                "the annotation is of another image, or of one that was resized since",
                where=where,
            )
        collections.deque(png_chunks(data), maxlen=0)  # Pillow reads some that are cut off
        if "transparency" in picture.info or "A" in picture.mode:
            return np.asarray(picture.convert("RGBA"))[..., 3] > 127
        pixels = np.asarray(picture).astype(bool)
        return pixels if pixels.ndim == 2 else np.asarray(pixels.any(axis=-1))
    except UNREADABLE as fault:
        raise UserError(
            "unclassified", f"its bitmap cannot be read as PNG: {fault}", "export it again", where=where
        ) from None
