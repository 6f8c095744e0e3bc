"""What every reader returns: a `Source` of images, where the label of each comes from, and what the classes are."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from deeplab.data.class_names import BACKGROUND, is_background, is_ignored
from deeplab.data.dataset import Color
from deeplab.data.labels import LabelSpec
from deeplab.utils.errors import UserError, nearest

UNDIVIDED = ""  # the split of pairs that the split settings divide


@dataclass(frozen=True)
class Painter:
    """What a mask that is drawn from shapes, or combined from several files, needs to know about the classes.

    Attributes:
      class_names: in the order of the label values. Names that mean the background or ignored pixels need no entry.
      merged: the label value of every name that annotations use, where `classes` merges them; None: its pixels are
        ignored.
      rule: what label values mean, for masks that read pixel files.
    """

    class_names: tuple[str, ...]
    rule: LabelSpec
    merged: Mapping[str, int | None] = field(default_factory=dict)

    @property
    def ignore_label(self) -> int:
        """Value of pixels that do not count."""
        return self.rule.ignore_label

    @functools.cached_property
    def indices(self) -> Mapping[str, int]:
        """Label value of each class name."""
        return {name: index for index, name in enumerate(self.class_names)}

    @property
    def background(self) -> int:
        """Label value of pixels that no shape covers: the background, or the ignore label if no class is that."""
        value = self.merged.get(BACKGROUND, self.indices.get(BACKGROUND, self.ignore_label))
        return self.ignore_label if value is None else value

    def value(self, name: str, where: str) -> int:
        """Label value of a class name.

        Raises:
          UserError: no class has this name (code `unknown-class`); not raised with `on_bad_label=ignore`.
        """
        known: Mapping[str, int | None] = self.merged or self.indices
        if name in known:
            value = known[name]
            return self.ignore_label if value is None else value
        if is_ignored(name):
            return self.ignore_label
        if is_background(name) and BACKGROUND in known:
            return self.background
        if self.rule.ignore_bad:
            return self.ignore_label
        hint = f"{nearest(name, known)} (`on_bad_label=ignore` ignores its pixels)"
        raise UserError("unknown-class", f"{name!r} is not a class of this dataset", hint, where=where, value=name)


class Mask(Protocol):
    """Where a label comes from when it is not a single image file. Must be picklable: Beam sends it to its workers."""

    @property
    def where(self) -> str:
        """The file to name in messages."""

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that the mask itself states; None if it fits any image."""

    def draw(self, painter: Painter, height: int, width: int) -> np.ndarray:
        """Draws the label, [height, width] of the type of the painter's rule, uint8 or uint16.

        Raises:
          UserError: a file that the mask consists of cannot be read, or a class is unknown.
        """


@dataclass(frozen=True, slots=True)
class Pair:
    """One image and its mask.

    Attributes:
      name: the image's name without extension, for records and messages.
      image: path of the image.
      mask: path of a mask file, or an object that draws the mask.
      window: the tile of the image that is meant: top, left, height, width in pixels; None = all of it.
    """

    name: str
    image: str
    mask: str | Mask
    window: tuple[int, int, int, int] | None = None

    @property
    def mask_file(self) -> str:
        """The file that the label comes from, for messages."""
        return self.mask if isinstance(self.mask, str) else self.mask.where


Splits = Mapping[str, Sequence[Pair]]


@dataclass(frozen=True)
class Source:
    """A dataset before any pixel is read.

    Attributes:
      splits: pairs by split; the only split is UNDIVIDED if the format has no splits.
      class_names: the format's own classes in the order of their label values; empty if it has none.
      colors: their colors, or empty.
      ignore_label: the format's own ignore label.
      label_map: how to map the values of mask files; the setting `label_map` replaces it.
      drawn: labels are drawn from named shapes, and what no shape covers is the background.
      known: name of a descriptor in datasets/ that gives classes, colors and ignore label instead.
      palette: path of a palette file for the colors of mask files, used unless `palette` is set.
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
