"""One pair: its image, its label, and how they go together."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from deeplab.data.labels import LabelSpec
from deeplab.data.readers.classes import DatasetClasses
from deeplab.data.validation import thumbnails
from deeplab.data.validation.check_report import Finding, Sample, size_text
from deeplab.data.validation.image_checks import SeenImage, examine_image
from deeplab.data.validation.label_checks import SeenLabel, examine_drawn_mask, examine_mask
from deeplab.data.validation.rules import PAIR_CHECKS, finding
from deeplab.data.validation.subject import LoadedPair, StatedFields, UnreadPair
from deeplab.utils import fast_zlib
from deeplab.visualization.label_rendering import LabelColors

_MIN_PIXELS_PER_BYTE = 8  # of the file of a mask; photographs have two or three


@dataclass(frozen=True)
class PairTask:
    """How every pair of a check is examined.

    Attributes:
      classes: what labels should hold.
      exif: as `LabelConfig.exif`.
      wants_preview: whether the report still wants a preview of a finding of that rule.
      colors: how labels are drawn.
    """

    classes: DatasetClasses
    exif: str
    wants_preview: Callable[[str], bool]
    colors: LabelColors


@dataclass
class SeenPair:
    """What was seen of a pair. Checks of `PAIR_CHECKS` get it.

    Attributes:
      loaded: names, places and bytes of image and mask.
      image, label: what was seen of them.
      task: how the pair is examined.
      findings: what is wrong.
      sample: small images of the pair, if requested.
    """

    loaded: LoadedPair
    image: SeenImage
    label: SeenLabel
    task: PairTask
    findings: list[Finding] = field(default_factory=list)
    sample: Sample | None = None

    @property
    def spec(self) -> LabelSpec:
        """Which values the label may hold."""
        return self.task.classes.rule

    @property
    def same_size(self) -> bool:
        """Whether image and label can be read and have the same size."""
        return self.image.size is not None and self.image.size == self.label.size

    def finding(
        self, rule: str, text: str, *, of_mask: bool = False, hint: str = "", repair: dict[str, str] | None = None
    ) -> Finding:
        """A finding about the image, or about the mask."""
        where = self.loaded.mask_where if of_mask else self.loaded.where
        return finding(rule, where, text, split=self.loaded.split, hint=hint, repair=repair)

    def image_digest(self) -> bytes:
        """Digest of the image's bytes; empty where there are none."""
        data = self.loaded.image
        return hashlib.sha1(data, usedforsecurity=False).digest() if data else b""  # a sixth of blake2b's time

    def label_digest(self) -> int:
        """Digest of the label's pixels, 64 bits; 0 where there is none. Two checksums of 32 bits, which are fast."""
        if self.label.pixels is None:
            return 0
        pixels = np.ascontiguousarray(self.label.pixels).data
        return fast_zlib.crc32(pixels) << 32 | fast_zlib.adler32(pixels)


def inspect(unread: UnreadPair, task: PairTask, as_sample: bool = False) -> SeenPair:
    """Reads and examines a pair. Whatever is wrong becomes a finding: nothing is raised.

    Args:
      unread: the pair.
      task: how to examine it.
      as_sample: draw it for the report.
    """
    loaded = unread.load()
    label = _read_label(loaded, task)
    mask_size = label.size if isinstance(loaded.mask, bytes) else loaded.mask.size if loaded.mask else None
    in_record = loaded.fields is not None
    image = SeenImage()
    if loaded.image is not None:
        image = examine_image(loaded.image, loaded.where, loaded.split, mask_size, task.exif, in_record)
    image.kind = loaded.kind or image.kind
    if image.size and loaded.mask is not None and not isinstance(loaded.mask, bytes):
        label = _drawn_label(loaded, image.size, task)
    pair = SeenPair(loaded, image, label, task)
    pair.findings = [*loaded.findings, *image.findings, *label.findings]
    for name in PAIR_CHECKS:
        pair.findings += PAIR_CHECKS.get(name)(pair)
    if any(item.rule == "image-is-mask" for item in pair.findings):  # it looks flat, and is gray
        pair.findings = [
            item for item in pair.findings if not item.rule.startswith("image-") or item.rule == "image-is-mask"
        ]
    return _with_previews(pair, as_sample)


def _read_label(loaded: LoadedPair, task: PairTask) -> SeenLabel:
    if not isinstance(loaded.mask, bytes):
        return SeenLabel()
    return examine_mask(loaded.mask, loaded.mask_where, loaded.split, task.classes.rule, loaded.fields is not None)


def _drawn_label(loaded: LoadedPair, size: tuple[int, int], task: PairTask) -> SeenLabel:
    assert loaded.mask is not None and not isinstance(loaded.mask, bytes)
    if loaded.mask.size not in (None, size):
        return SeenLabel(loaded.mask.size, is_drawn=True)  # which may be enormous: the finding is that it differs
    return examine_drawn_mask(loaded.mask, loaded.split, task.classes.painter, size)


# --- Image and label together -------------------------------------------------------------------------------


@PAIR_CHECKS.register("sizes")
def check_sizes(pair: SeenPair) -> Iterator[Finding]:
    """An image and a mask of different sizes."""
    size, label_size = pair.image.size, pair.label.size
    if size is None or label_size is None or size == label_size:
        return
    image = "its image" if pair.loaded.fields else f"its image {os.path.basename(pair.loaded.where)}"
    text = f"the mask is {size_text(label_size)} pixels (height x width), {image} {size_text(size)}"
    if pair.label.is_drawn:
        text = f"was annotated at {size_text(label_size)} pixels (height x width), {image} has {size_text(size)}"
    if label_size != size[::-1]:
        yield pair.finding("size-differs", text, of_mask=True)
    elif pair.image.stored and {"turned", "unturned"} & set(pair.image.stored.notes):
        hint = "the image has an EXIF rotation: leave `exif=auto`, or save the image upright"
        repair = {"exif": "auto"} if pair.task.exif != "auto" and not pair.loaded.fields else None
        yield pair.finding("mask-transposed", text, of_mask=True, hint=hint, repair=repair)
    else:
        yield pair.finding("mask-transposed", text, of_mask=True)


@PAIR_CHECKS.register("image is mask")
def check_image_is_mask(pair: SeenPair) -> Iterator[Finding]:
    """An image that shows its own label."""
    if pair.same_size and is_its_mask(pair):
        yield pair.finding("image-is-mask", f"holds the same pixels as {pair.loaded.mask_where}")


def is_its_mask(pair: SeenPair) -> bool:
    """Whether the image shows its own label. Masks are small files, so photographs are not decoded for this."""
    label, stored = pair.label.pixels, pair.image.stored
    if label is None or stored is None or len(stored.data) * _MIN_PIXELS_PER_BYTE > label.size or not np.ptp(label):
        return False
    if pair.loaded.image == pair.loaded.mask:
        return True
    image = thumbnails.opened(stored.data)
    if image is None:
        return False
    pixels = np.asarray(image if image.mode in ("L", "P", "1") else image.convert("L"))
    return np.array_equal(outline_of(pixels), outline_of(label))  # whatever the values mean


def outline_of(label: np.ndarray) -> np.ndarray:
    """Pixels whose right or lower neighbor has another value, bool [H, W]."""
    outline = np.zeros(label.shape, bool)
    outline[:, :-1] = label[:, :-1] != label[:, 1:]
    outline[:-1] |= label[:-1] != label[1:]
    return outline


@PAIR_CHECKS.register("record fields")
def check_fields(pair: SeenPair) -> Iterator[Finding]:
    """What a record states about its image and is wrong; the reference's readers rely on size and format."""
    fields, stored = pair.loaded.fields, pair.image.stored
    if fields is None or stored is None:
        return
    wrong = list(_wrong_fields(fields, stored.format, (stored.height, stored.width)))
    if wrong:
        yield pair.finding("record-fields-wrong", "; ".join(wrong))


def _wrong_fields(fields: StatedFields, image_format: str, size: tuple[int, int]) -> Iterator[str]:
    stated = (fields.height, fields.width)
    if any(stated) and stated != size:
        yield f"states {size_text(stated)} (height x width), the image is {size_text(size)}"
    kind = "jpeg" if fields.format.lower() == "jpg" else fields.format.lower()
    if kind and kind != image_format:
        yield f"states format {fields.format!r}, the image is {image_format}"


# --- Previews -----------------------------------------------------------------------------------------------


def _with_previews(pair: SeenPair, as_sample: bool) -> SeenPair:
    wanted = [pair.task.wants_preview(item.rule) for item in pair.findings]
    if not any(wanted) and not as_sample:
        return pair
    image = thumbnails.shrunk(pair.image.stored.data) if pair.image.stored else None
    overlay = thumbnails.as_jpeg(thumbnails.overlaid(image, pair.label.pixels, pair.task.colors))
    pair.findings = [
        dataclasses.replace(item, preview=overlay) if is_wanted else item
        for item, is_wanted in zip(pair.findings, wanted, strict=True)
    ]
    if as_sample and image is not None:
        pair.sample = Sample(pair.loaded.name, pair.loaded.split, thumbnails.as_jpeg(image), overlay)
    return pair
