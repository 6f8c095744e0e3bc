"""What can be mended for certain: the masks of the whole set are looked at before any is changed.

Two things are decided for all masks together: values that are no class indices are numbered in their order, as
`label_rules.certain_map` says; and colors are read by the palette of a known dataset, where just one has them all.
Whatever is less clear than that is left to the user.
"""

from __future__ import annotations

import collections
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from deeplab.data import dataset as datasets
from deeplab.data.colormaps import ColorTable, color_counts, table_of
from deeplab.data.dataset import Dataset
from deeplab.data.image_files import UNREADABLE
from deeplab.data.labels import LabelRule, count_values, decode_values
from deeplab.data.readers.classes import Classes, settle
from deeplab.data.validation.check_report import Finding
from deeplab.data.validation.items import Item
from deeplab.data.validation.label_statistics import certain_map
from deeplab.data.validation.subject import Subject
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.parallel import ordered_map

_MOST_COLORS = 512  # in one mask; more are no classes
_LEAST_COLORS = 3  # from which a palette can be recognized: two colors occur in many


@dataclass(frozen=True)
class Plan:
    """How all pairs are mended.

    Attributes:
      classes: number, names, colors, and the rule by which masks of values are read, `mapping` included.
      of_colors: the rule by which masks in colors are read.
      exif: as `exif`.
      mapping: values that are numbered anew, though the user has not said so; empty where none are.
      palette: whose colors the masks have; empty where none is taken.
    """

    classes: Classes
    of_colors: LabelRule
    exif: str = "auto"
    mapping: Mapping[int, int] = field(default_factory=dict)
    palette: str = ""

    def said(self) -> list[str]:
        """What is done to all masks, in sentences."""
        names, sentences = self.classes.names, []
        if self.mapping:
            shown = ", ".join(f"{old} becomes {new} {names[new]}" for old, new in sorted(self.mapping.items()))
            sentences.append(f"values of masks are numbered in their order: {shown}")
        if self.palette:
            sentences.append(f"colors of masks are read as those of {self.palette}: {', '.join(names)}")
        return sentences


def plan_for(subject: Subject, workers: int = 1) -> Plan:
    """Looks at all masks of a dataset, and decides.

    Raises:
      UserError: what the labels are to hold cannot be told, so nothing is certain; with what to say.
    """
    items = (item for item in subject.items() if not isinstance(item, Finding))
    survey = Survey.of(items, subject.classes.rule, workers, subject.total)
    return decide(survey, subject.classes, subject.exif)


def decide(survey: Survey, classes: Classes, exif: str = "auto") -> Plan:
    """What to do with masks that hold these values and colors.

    Raises:
      UserError: as `plan_for`.
    """
    rule, palette = classes.rule, None
    if survey.colors and rule.table is None:
        palette = known_palette(list(survey.colors), classes, mixed=bool(survey.values))
    if palette:
        classes = dataclasses.replace(
            classes, num_classes=palette.num_classes, names=palette.class_names, colors=palette.colors
        )
    table = table_of(palette) if palette else rule.table
    mapping = certain_map(survey.values, dataclasses.replace(rule, num_classes=classes.num_classes))
    if mapping and classes.num_classes is None:
        kept = {mapping.get(value, value) for value in survey.values} - {rule.ignore_label}
        classes = dataclasses.replace(classes, num_classes=max(kept) + 1)
    known = _settled(classes, survey, rule.mapping or mapping, table)
    by_value = dataclasses.replace(rule, num_classes=known.num_classes, mapping=rule.mapping or mapping or None)
    return Plan(
        classes=dataclasses.replace(known, rule=by_value),
        of_colors=dataclasses.replace(rule, num_classes=known.num_classes, table=table),
        exif=exif,
        mapping=mapping,
        palette=(palette.name or "the classes") if palette else "",
    )


def _settled(classes: Classes, survey: Survey, mapping: Mapping[int, int], table: ColorTable | None) -> Classes:
    """Classes with a number, names and colors."""
    if classes.num_classes is not None:  # then that is what the masks are to hold, whatever they do
        return settle(classes, np.ones(256, np.int64))
    return settle(classes, survey.label_counts(mapping, table))


# --- Colors --------------------------------------------------------------------------------------------------


def known_palette(colors: Sequence[int], classes: Classes, mixed: bool = False) -> Dataset | None:
    """The one dataset that has all these colors; None where there is none, or more than one.

    Args:
      colors: 0xRRGGBB of all masks.
      classes: number, names and colors that are known. Where there are colors, these are the only candidate; names
        must be the candidate's, in its order.
      mixed: other masks hold values: whether these count the classes in the order of a palette that was merely
        recognized, nobody knows.
    """
    if classes.names and len(set(classes.colors)) == classes.num_classes:
        own = Dataset(_known_name(classes), classes.names, classes.colors)
        return own if _holds(own, colors, classes.rule.tolerance) else None
    if mixed or len(colors) < _LEAST_COLORS:
        return None
    candidates = [datasets.load_known(name) for name in datasets.known_names()]
    fitting = [
        known
        for known in candidates
        if len(set(known.colors)) == known.num_classes
        and classes.num_classes in (None, known.num_classes)
        and classes.names in ((), known.class_names)
        and _holds(known, colors, classes.rule.tolerance)
    ]
    return fitting[0] if len(fitting) == 1 else None


def _known_name(classes: Classes) -> str:
    """Name of the known dataset that has these classes and colors; empty where none has."""
    for name in datasets.known_names():
        known = datasets.load_known(name)
        if (known.class_names, known.colors) == (classes.names, classes.colors):
            return name
    return ""


def _holds(known: Dataset, colors: Sequence[int], tolerance: float) -> bool:
    theirs = np.array(table_of(known).colors, np.float64)
    ours = np.array([(code >> 16, code >> 8 & 255, code & 255) for code in colors], np.float64)
    distance = np.linalg.norm(ours[:, None] - theirs[None], axis=-1).min(1)
    return bool((distance <= tolerance).all())


# --- Looking at all masks -------------------------------------------------------------------------------------


@dataclass
class Survey:
    """What the masks of a set hold.

    Attributes:
      values: pixels of each value, of the masks that are read by value.
      colors: pixels of each color 0xRRGGBB, of those that are in colors.
      readable: number of masks that could be looked at.
    """

    values: collections.Counter[int] = field(default_factory=collections.Counter)
    colors: collections.Counter[int] = field(default_factory=collections.Counter)
    readable: int = 0

    @classmethod
    def of(cls, items: Iterable[Item], rule: LabelRule, workers: int, total: int) -> Survey:
        """What the masks of these pairs hold; those that are drawn, and those that cannot be read, are passed over."""
        survey = cls()
        looks = ordered_map(lambda item: look_at(item, rule), items, workers)
        for values, colors in console.progress(looks, total=total, what="looking at all masks", unit="mask"):
            survey.values.update(values)
            survey.colors.update(colors)
            survey.readable += bool(values or colors)
        return survey

    def label_counts(self, mapping: Mapping[int, int], table: ColorTable | None) -> np.ndarray:
        """Pixels of each label value, int64 [256], once values are mapped and colors read by a table."""
        counts = np.zeros(256, np.int64)
        for value, number in self.values.items():
            counts[min(mapping.get(value, value), 255)] += number
        known = dict(zip(table.colors, table.classes, strict=True)) if table else {}
        for code, number in self.colors.items():
            index = known.get((code >> 16, code >> 8 & 255, code & 255))
            counts[255 if index is None else index] += number
        return counts


Counts = Mapping[int, int]


def look_at(item: Item, rule: LabelRule) -> tuple[Counts, Counts]:
    """Values of a mask, or its colors, with their pixels; neither where it is drawn or cannot be read."""
    loaded = item.load()
    if not isinstance(loaded.mask, bytes):
        return {}, {}
    colors = colors_of(loaded.mask)
    if colors is not None:
        return {}, dict(colors) if len(colors) <= _MOST_COLORS else {}
    try:
        counts = count_values(decode_values(loaded.mask, loaded.mask_where, dataclasses.replace(rule, table=None)))
    except UserError:
        return {}, {}
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}, {}


def colors_of(data: bytes) -> list[tuple[int, int]] | None:
    """Colors of an encoded mask that is in colors, most frequent first; None where it is not, or cannot be read."""
    try:
        picture = Image.open(io.BytesIO(data))
        if picture.mode not in ("RGB", "RGBA"):
            return None
        pixels = np.asarray(picture)[..., :3]
    except UNREADABLE:
        return None
    return color_counts(pixels) if (pixels != pixels[..., :1]).any() else None
