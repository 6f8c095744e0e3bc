"""What every reader of a layout hands on: images, where each one's label comes from, and what the classes are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from deeplab.data.dataset import Color
from deeplab.data.labels import LabelRule
from deeplab.utils.errors import UserError, nearest

UNDIVIDED = ""  # the split of pairs that the split settings divide
BACKGROUND = "background"
_BACKGROUND_NAMES = (BACKGROUND, "_background_")  # labelme's own in second place
_IGNORE_NAMES = ("ignore", "__ignore__", "void")


@dataclass(frozen=True)
class Painter:
    """What a mask that is drawn from shapes or put together from several files needs to know of the classes.

    Attributes:
      indices: label value of each class name; names that stand for ignored pixels have the ignore label.
      ignore_label: value of pixels that do not count.
      rule: for masks that read pixel files on the way.
    """

    indices: Mapping[str, int]
    ignore_label: int
    rule: LabelRule

    def value(self, name: str, where: str) -> int:
        """Label value of a class name.

        Raises:
          UserError: no such class, with the nearest that there is; not with `on_bad_label=ignore`.
        """
        if name in self.indices:
            return self.indices[name]
        if self.rule.ignore_bad:
            return self.ignore_label
        classes = [known for known in self.indices if known not in (*_BACKGROUND_NAMES[1:], *_IGNORE_NAMES)]
        hint = f"{nearest(name, classes)} (or `on_bad_label=ignore`, which takes its pixels for ignored)"
        raise UserError("unclassified", f"{name!r} is no class of this dataset", hint, where=where)


class Mask(Protocol):
    """Where a label comes from when it is not one file of pixels. Must be picklable: Beam sends it to its workers."""

    @property
    def where(self) -> str:
        """The file to name in messages."""

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that the mask itself states; None where it fits whatever image it belongs to."""

    def draw(self, painter: Painter, height: int, width: int) -> np.ndarray:
        """The label, uint8 [height, width].

        Raises:
          UserError: what the mask is made of cannot be read, or names a class that is not there.
        """


@dataclass(frozen=True)
class Pair:
    """One image and its mask.

    Attributes:
      name: the image's name without extension; what records and messages call it.
      image: path of the image.
      mask: path of a mask in pixels, or what draws one.
    """

    name: str
    image: str
    mask: str | Mask

    @property
    def mask_file(self) -> str:
        """The file that the label comes from, for messages."""
        return self.mask if isinstance(self.mask, str) else self.mask.where


Splits = Mapping[str, Sequence[Pair]]


@dataclass(frozen=True)
class Source:
    """A dataset as it lies there, before any pixel is read.

    Attributes:
      splits: pairs by split; the one split UNDIVIDED where the layout knows none.
      class_names: the layout's own classes in the order of their label values; empty where it has none.
      colors: their colors, or empty.
      ignore_label: the layout's own ignore label.
      label_map: what values of mask files mean before anything else is done to them; `label_map` goes in its place.
      drawn: labels are drawn from named shapes: what no shape covers is the background.
      known: name of a descriptor in datasets/ that gives classes, colors and ignore label instead.
      palette: path of a palette file that mask files are colored by, used unless `palette` is given.
    """

    splits: Splits
    class_names: tuple[str, ...] = ()
    colors: tuple[Color, ...] = ()
    ignore_label: int = 255
    label_map: Mapping[int, int] = field(default_factory=dict)
    drawn: bool = False
    known: str = ""
    palette: str = ""

    def pairs(self) -> list[Pair]:
        """All pairs, split after split."""
        return [pair for pairs in self.splits.values() for pair in pairs]


def with_background(names: Iterable[str]) -> tuple[str, ...]:
    """Class names of drawn masks: the background first, names for ignored pixels left out, no name twice."""
    kept = [name for name in names if name not in _BACKGROUND_NAMES and name not in _IGNORE_NAMES]
    return (BACKGROUND, *dict.fromkeys(kept))


def indices_of(names: Sequence[str], ignore_label: int) -> dict[str, int]:
    """Label value of every class name, labelme's `_background_` and the names of ignored pixels among them."""
    indices = dict.fromkeys(_IGNORE_NAMES, ignore_label)
    if BACKGROUND in names:
        indices |= {name: names.index(BACKGROUND) for name in _BACKGROUND_NAMES}
    return {**indices, **{name: index for index, name in enumerate(names)}}
