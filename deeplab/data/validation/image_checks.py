"""The image of a pair: its kind, its size, what is odd about it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf
from PIL import Image

from deeplab.data.image_files import inspect_image, kind_of
from deeplab.data.images import NOTES, PreparedImage, prepare
from deeplab.data.validation.check_report import Finding
from deeplab.data.validation.image_hashing import Small, small_gray
from deeplab.data.validation.rules import finding
from deeplab.utils.errors import UserError

_FLAT = 2  # gray levels: what JPEG makes of one
_LEAST_SIDE = 33  # pixels: with fewer, the features at output stride 16 are a cell or two
_RULE_OF: Mapping[str, tuple[str, str]] = {  # by the keys of transcode.NOTES
    "turned": ("image-turned", "its EXIF data turn it: it goes in upright, as viewers show it"),
    "unturned": ("image-turned", "its EXIF data turn it, its mask lies as the pixels are stored: it goes in as stored"),
    "converted": ("image-converted", "is of a kind that records do not hold: it goes in as PNG, without loss"),
    "cmyk": ("image-cmyk", "is CMYK, made for print: it goes in as RGB, without regard to its color profile"),
    "alpha": ("image-alpha", "has an alpha channel: it is dropped, and the colors behind it count"),
    "channels": ("image-alpha", "has a fourth channel that is not alpha (near infrared?): it is dropped"),
    "sixteen_bit": ("image-16-bit", "has more than 8 bits a channel: the upper 8 of 16 are kept"),
    "dark": ("image-dark", "has more than 8 bits a channel, but no value above 4095: networks see it nearly black"),
    "pages": ("image-pages", "holds several pages or frames: the first goes in"),
    "damaged": ("image-damaged", "breaks the rules of its format, but can be read"),
}
_MODES: Mapping[str, str] = {
    "L": "gray",
    "1": "black and white",
    "P": "palette",
    "LA": "gray with alpha",
    "I": "gray of 16 bits",
    "I;16": "gray of 16 bits",
    "I;16B": "gray of 16 bits",
}
_GRAY = ("L", "1", "LA", "I", "I;16", "I;16B")


@dataclass
class ImageLook:
    """What was seen of an image.

    Attributes:
      picture: as a record holds it; None where it cannot be read.
      kind: such as "jpeg, RGB"; empty where it cannot be read.
      small: to find its likes, and to see whether its label fits.
      findings: what is wrong.
    """

    picture: PreparedImage | None = None
    kind: str = ""
    small: Small | None = None
    findings: list[Finding] = field(default_factory=list)


def look_at_image(
    data: bytes, where: str, split: str, mask_size: tuple[int, int] | None, exif: str, stored: bool
) -> ImageLook:
    """Looks at an encoded image.

    Args:
      data: its bytes.
      where, split: for findings.
      mask_size: height and width of its mask, where that is known; it decides which way up a photo goes in.
      exif: as `exif`.
      stored: it comes out of a record, so it is taken as it is.
    """
    found = ImageLook()
    try:
        kind = kind_of(data, where)
        picture = _as_stored(data, where) if stored else prepare(data, where, mask_size, exif)
    except UserError as fault:
        rule = "image-unreadable" if not data or _is_known(data) else "image-unknown-format"
        found.findings.append(finding(rule, where, fault.rule, split=split, hint=fault.hint))
        return found
    small = small_gray(picture.data, picture.height, picture.width)
    if small is None and not _tensorflow_reads(picture.data):
        found.findings.append(finding("image-unreadable", where, "its pixels cannot be decoded", split=split))
        return found
    mode = small.mode if small and picture.data is data else _mode(data)
    found.picture, found.small, found.kind = picture, small, f"{kind}, {_MODES.get(mode, mode)}"
    for rule, text in _oddities(picture, mode, small):
        found.findings.append(finding(rule, where, text, split=split))
    return found


def _is_known(data: bytes) -> bool:
    with contextlib.suppress(UserError):
        kind_of(data, "")
        return True
    return False


def _as_stored(data: bytes, where: str) -> PreparedImage:
    """The picture of a record: nothing is turned or converted any more.

    Raises:
      UserError: TensorFlow cannot decode it.
    """
    facts = inspect_image(data, where)
    if not facts.direct and not _tensorflow_reads(data):
        rule = "is a JPEG of a kind that TensorFlow does not decode (lossless, or arithmetic-coded)"
        raise UserError(
            "unclassified", rule, "save it as an ordinary JPEG or as PNG, and build the records anew", where=where
        )
    met = {
        "unturned": facts.rotated,
        "cmyk": facts.cmyk,
        "alpha": facts.alpha,
        "sixteen_bit": facts.deep,
        "pages": facts.pages,
        "damaged": facts.damaged,
    }
    return PreparedImage(
        data, facts.format, facts.height, facts.width, tuple(note for note, is_met in met.items() if is_met)
    )


def _tensorflow_reads(data: bytes) -> bool:
    try:
        tf.io.decode_image(data, channels=3)
        return True
    except tf.errors.OpError:
        return False


def _mode(data: bytes) -> str:
    """Pillow's name for the kind of pixels; empty where it does not know the file."""
    try:
        return Image.open(io.BytesIO(data)).mode
    except Exception:  # a record may hold what TensorFlow reads and Pillow does not
        return ""


def _oddities(picture: PreparedImage, mode: str, small: Small | None) -> list[tuple[str, str]]:
    """Rules and texts on a picture that can be read."""
    notes = [note for note in picture.notes if note != "sixteen_bit" or "dark" not in picture.notes]
    found = [_RULE_OF.get(note, ("image-converted", NOTES.get(note, note))) for note in notes]
    if mode in _GRAY:
        found.append(("image-gray", "has one channel"))
    if small and np.ptp(small.pixels) <= _FLAT:
        found.append(("image-flat", f"is {small.pixels[0, 0]:.0f} of 255 bright all over"))
    if min(picture.height, picture.width) < _LEAST_SIDE:
        found.append(("image-tiny", f"is {picture.height}x{picture.width} (height x width)"))
    return found
