"""The image of a pair: whether it can be read, how a record stores it, and properties that suggest an error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from deeplab.data.image_files import inspect_image, kind_of
from deeplab.data.images import NOTES, PreparedImage, prepare
from deeplab.data.validation.check_report import Finding
from deeplab.data.validation.rules import PAIR_CHECKS, finding, from_error
from deeplab.data.validation.thumbnails import SmallGray, opened, small_gray
from deeplab.utils.errors import UserError

if TYPE_CHECKING:
    from deeplab.data.validation.pair_checks import SeenPair

_FLAT = 2  # gray levels: what JPEG makes of one
_MIN_SIDE = 33  # pixels: below it, the features at output stride 16 are one or two cells
_RULE_OF_NOTE: Mapping[str, tuple[str, str]] = {  # by the keys of transcode.NOTES
    "turned": ("image-rotated", "has an EXIF rotation, which is applied: it is stored upright, as viewers show it"),
    "unturned": ("image-rotated", "has an EXIF rotation, which its mask does not have: it is stored without rotation"),
    "converted": ("image-converted", "has a format that records do not hold: it is stored as PNG, without loss"),
    "cmyk": ("image-cmyk", "is CMYK, made for print: it is stored as RGB, and its color profile is ignored"),
    "alpha": ("image-alpha", "has an alpha channel, which is dropped: the colors behind it count"),
    "channels": ("image-alpha", "has a fourth channel that is not alpha (near infrared?), which is dropped"),
    "sixteen_bit": ("image-16-bit", "has more than 8 bits per channel: the upper 8 of 16 are kept"),
    "dark": ("image-dark", "has more than 8 bits per channel, but no value above 4095: models see it nearly black"),
    "pages": ("image-pages", "holds several pages or frames: the first is stored"),
    "damaged": ("image-damaged", "violates its file format, but can be read"),
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
class SeenImage:
    """What was seen of an image.

    Attributes:
      stored: the image as a record holds it; None where it cannot be read.
      mode: Pillow's name for the kind of its pixels; empty where Pillow does not know the file.
      kind: such as "jpeg, RGB"; empty where it cannot be read.
      small: to compare it with other images; None where Pillow cannot read it.
      findings: why it cannot be read.
    """

    stored: PreparedImage | None = None
    mode: str = ""
    kind: str = ""
    small: SmallGray | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width; None where it cannot be read."""
        return (self.stored.height, self.stored.width) if self.stored else None


def examine_image(
    data: bytes, where: str, split: str, mask_size: tuple[int, int] | None, exif: str, in_record: bool
) -> SeenImage:
    """Examines an encoded image.

    Args:
      data: its bytes.
      where, split: for findings.
      mask_size: height and width of its mask, where known; it decides whether an EXIF rotation is applied.
      exif: as `LabelConfig.exif`.
      in_record: it comes from a record, so it is used as it is.
    """
    try:
        kind = kind_of(data, where)
        stored = _as_stored(data, where) if in_record else prepare(data, where, mask_size, exif)
    except UserError as error:
        is_unknown = error.code == "unsupported-format" and not in_record
        rule = "image-unknown-format" if is_unknown else "image-unreadable"
        return SeenImage(findings=[from_error(rule, error, split)])
    small = small_gray(stored.data, stored.height, stored.width)
    if small is None and not _tensorflow_reads(stored.data):
        return SeenImage(findings=[finding("image-unreadable", where, "its pixels cannot be decoded", split=split)])
    image = opened(data) if small is None or stored.data is not data else None
    mode = image.mode if image else small.mode if small else ""
    return SeenImage(stored, mode, f"{kind}, {_MODES.get(mode, mode)}", small)


def _as_stored(data: bytes, where: str) -> PreparedImage:
    """The image of a record: nothing is rotated or converted any more.

    Raises:
      UserError: TensorFlow cannot decode it.
    """
    facts = inspect_image(data, where)
    if not facts.direct and not _tensorflow_reads(data):
        rule = "is a JPEG of a kind that TensorFlow does not decode (lossless, or arithmetic-coded)"
        hint = "save it as an ordinary JPEG or as PNG, and build the records again"
        raise UserError("unreadable-image", rule, hint, where=where)
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
    import tensorflow as tf

    try:
        tf.io.decode_image(data, channels=3)
        return True
    except tf.errors.OpError:
        return False


@PAIR_CHECKS.register("image")
def check_image(pair: SeenPair) -> Iterator[Finding]:
    """Findings about an image that can be read."""
    image = pair.image
    if image.stored is None:
        return
    notes = image.stored.notes
    for note in notes:
        if note != "sixteen_bit" or "dark" not in notes:
            rule, text = _RULE_OF_NOTE.get(note, ("image-converted", NOTES.get(note, note)))
            yield pair.finding(rule, text)
    if image.mode in _GRAY:
        yield pair.finding("image-gray", "has one channel")
    if image.small and np.ptp(image.small.pixels) <= _FLAT:
        yield pair.finding("image-flat", f"is {image.small.pixels[0, 0]:.0f} of 255 bright everywhere")
    if min(image.stored.height, image.stored.width) < _MIN_SIDE:
        yield pair.finding("image-tiny", f"is {image.stored.height}x{image.stored.width} (height x width)")
