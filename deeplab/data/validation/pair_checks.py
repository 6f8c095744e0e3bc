"""One pair looked at closely: what it is, and what is wrong with it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deeplab.data.images import PreparedImage
from deeplab.data.readers.classes import Classes
from deeplab.data.validation import thumbnails
from deeplab.data.validation.check_report import Finding, Sample
from deeplab.data.validation.crop_advice import size_text
from deeplab.data.validation.image_checks import ImageLook, look_at_image
from deeplab.data.validation.image_hashing import Look, look_of, opened
from deeplab.data.validation.items import Fields, Item, Loaded
from deeplab.data.validation.label_checks import LabelLook, look_at_drawn_label, look_at_label
from deeplab.data.validation.outlines import Fit, fit_of, outline_of
from deeplab.data.validation.rules import finding
from deeplab.visualization import label_rendering

_LEAST_PIXELS_A_BYTE = 8  # of a mask's file; photographs have two or three
_TURNS = "its EXIF data turn it: leave `exif=auto`, or save it upright"


@dataclass(frozen=True)
class Task:
    """How every pair of a check is looked at.

    Attributes:
      classes: what labels are to hold.
      exif: as `exif`.
      shows: whether the report still wants a picture of a finding of that rule.
      palette: how labels are drawn.
    """

    classes: Classes
    exif: str
    shows: Callable[[str], bool]
    palette: label_rendering.Classes


@dataclass(frozen=True)
class Inspected:
    """What was seen of a pair.

    Attributes:
      name, split, where, mask_where: as in `Loaded`.
      size: height and width of the image; None where it cannot be read.
      kind: such as "jpeg, RGB"; empty where it cannot be read.
      counts: pixels of each label value, int64 [256]; None where there is no label that could be counted.
      digest: of the image's bytes.
      label_digest: of the label's pixels; 0 where there is none.
      look: hash and thumbnail of the image; None where it cannot be read.
      findings: what is wrong.
      colors: 0xRRGGBB of a mask in colors that nobody has explained.
      palette: 0xRRGGBB of each index that a palette mask uses.
      fit: how the label's outlines lie on the image's edges; None where that cannot be told.
      sample: the pair in small, if that was asked for.
    """

    name: str
    split: str
    where: str
    mask_where: str
    size: tuple[int, int] | None
    kind: str
    counts: np.ndarray | None
    digest: bytes
    label_digest: int
    look: Look | None
    findings: Sequence[Finding]
    colors: frozenset[int]
    palette: Mapping[int, int]
    fit: Fit | None
    sample: Sample | None = None


def inspect(item: Item, task: Task, as_sample: bool = False) -> Inspected:
    """Reads a pair and looks at image, label and how they go together. Faults are findings: nothing is raised."""
    loaded = item.load()
    label = _label_of(loaded, task)
    image = _image_of(loaded, label.size if label else None, task.exif)
    if not label and image.picture:
        label = _drawn_label_of(loaded, image.picture, task)
    image, label = image or ImageLook(), label or LabelLook()
    together = _together(loaded, image.picture, label)
    if any(item.rule == "image-is-mask" for item in together):  # which looks flat, and is gray
        image.findings.clear()
    found = [*loaded.findings, *image.findings, *label.findings, *together]
    result = Inspected(
        name=loaded.name,
        split=loaded.split,
        where=loaded.where,
        mask_where=loaded.mask_where,
        size=(image.picture.height, image.picture.width) if image.picture else None,
        kind=image.kind,
        counts=label.counts,
        digest=hashlib.blake2b(loaded.image, digest_size=16).digest() if loaded.image else b"",
        label_digest=_digest(label.pixels),
        look=look_of(image.small) if image.small else None,
        findings=found,
        colors=label.colors,
        palette=label.palette,
        fit=_fit(image, label),
    )
    return _with_pictures(result, image.picture, label.pixels, task, as_sample)


def _digest(label: np.ndarray | None) -> int:
    """Of a label's pixels, 64 bits; 0 where there is none. Two checksums: one of 32 bits is not unique for long."""
    if label is None:
        return 0
    pixels = label.tobytes()
    return zlib.crc32(pixels) << 32 | zlib.adler32(pixels)


def _fit(image: ImageLook, label: LabelLook) -> Fit | None:
    if not image.picture or not image.small or label.pixels is None or label.size != _size(image.picture):
        return None
    return fit_of(image.small.pixels, label.pixels)


def _label_of(loaded: Loaded, task: Task) -> LabelLook | None:
    if not isinstance(loaded.mask, bytes):
        return None
    return look_at_label(loaded.mask, loaded.mask_where, loaded.split, task.classes.rule, loaded.fields is not None)


def _drawn_label_of(loaded: Loaded, picture: PreparedImage, task: Task) -> LabelLook | None:
    if loaded.mask is None or isinstance(loaded.mask, bytes):
        return None
    size = (picture.height, picture.width)
    if loaded.mask.size not in (None, size):
        return LabelLook(loaded.mask.size)  # a size that may be enormous: the finding is that it differs
    return look_at_drawn_label(loaded.mask, loaded.split, task.classes.painter, size)


def _image_of(loaded: Loaded, mask_size: tuple[int, int] | None, exif: str) -> ImageLook:
    if loaded.image is None:
        return ImageLook()
    if loaded.mask is not None and not isinstance(loaded.mask, bytes):
        mask_size = loaded.mask.size
    return look_at_image(loaded.image, loaded.where, loaded.split, mask_size, exif, loaded.fields is not None)


# --- Image and label together -------------------------------------------------------------------------------


def _together(loaded: Loaded, picture: PreparedImage | None, label: LabelLook) -> list[Finding]:
    if picture is None:
        return []
    found = []
    if label.size not in (None, _size(picture)):
        found.append(_sizes_differ(loaded, picture, label.size))
    elif label.pixels is not None and is_its_mask(loaded, picture, label.pixels):
        text = f"holds the same pixels as {loaded.mask_where}"
        found.append(finding("image-is-mask", loaded.where, text, split=loaded.split))
    if loaded.fields:
        wrong = wrong_fields(loaded.fields, picture)
        if wrong:
            found.append(finding("record-fields-wrong", loaded.where, "; ".join(wrong), split=loaded.split))
    return [item for item in found if item]


def is_its_mask(loaded: Loaded, picture: PreparedImage, label: np.ndarray) -> bool:
    """Whether the image shows its own label. Masks are small files; photographs need not be decoded for this."""
    if len(picture.data) * _LEAST_PIXELS_A_BYTE > label.size or not np.ptp(label):
        return False
    if loaded.image == loaded.mask:
        return True
    shown = opened(picture.data)
    if shown is None:
        return False
    pixels = np.asarray(shown if shown.mode in ("L", "P", "1") else shown.convert("L"))
    return np.array_equal(outline_of(pixels), outline_of(label))  # whatever the values stand for


def _size(picture: PreparedImage) -> tuple[int, int]:
    return picture.height, picture.width


def _sizes_differ(loaded: Loaded, picture: PreparedImage, label_size: tuple[int, int] | None) -> Finding | None:
    if label_size is None:
        return None
    image = "its image" if loaded.fields else f"its image {os.path.basename(loaded.where)}"
    text = f"the mask is {size_text(label_size)} pixels (height x width), {image} {size_text(_size(picture))}"
    if label_size != _size(picture)[::-1]:
        return finding("size-differs", loaded.mask_where, text, split=loaded.split)
    turns = "turned" in picture.notes or "unturned" in picture.notes
    return finding("mask-transposed", loaded.mask_where, text, split=loaded.split, hint=_TURNS if turns else "")


def wrong_fields(fields: Fields, picture: PreparedImage) -> list[str]:
    """What a record says of its image that is not so; the reference's readers need size and format to be right."""
    wrong = []
    said = (fields.height, fields.width)
    if any(said) and said != _size(picture):
        wrong.append(f"says {size_text(said)} (height x width), the image is {size_text(_size(picture))}")
    kind = "jpeg" if fields.format.lower() == "jpg" else fields.format.lower()
    if kind and kind != picture.format:
        wrong.append(f"says format {fields.format!r}, the image is {picture.format}")
    return wrong


# --- Pictures -----------------------------------------------------------------------------------------------


def _with_pictures(
    result: Inspected, picture: PreparedImage | None, label: np.ndarray | None, task: Task, as_sample: bool
) -> Inspected:
    wanted = [item for item in result.findings if task.shows(item.rule)]
    if not wanted and not as_sample:
        return result
    image = thumbnails.shrunk(picture.data) if picture else None
    overlay = thumbnails.as_jpeg(thumbnails.laid_over(image, label, task.palette))
    found = [dataclasses.replace(item, picture=overlay) if item in wanted else item for item in result.findings]
    sample = (
        Sample(result.name, result.split, thumbnails.as_jpeg(image), overlay)
        if as_sample and image is not None
        else None
    )
    return dataclasses.replace(result, findings=found, sample=sample)
