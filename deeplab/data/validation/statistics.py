"""What a check adds up while pairs pass by: sums, and of each image about a kilobyte to find its likes by."""

from __future__ import annotations

import collections
import dataclasses
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from deeplab.data.validation.check_report import SplitFacts
from deeplab.data.validation.image_hashing import SIDE
from deeplab.data.validation.outlines import SplitFits
from deeplab.data.validation.pair_checks import Inspected

_LEAST_DETAIL = 12  # rows of a label, seen small, that differ from the one above


@dataclass
class SplitTally:
    """Sums over the pairs of one split.

    Attributes:
      images: pairs.
      unread: pairs of which image or label could not be read.
      counts: pixels of each label value, int64 [256].
      images_with: images in which each value occurs, int64 [256].
      pixels_around: pixels that count, in those images, int64 [256].
      sizes: images of each (height, width).
      kinds: images of each kind.
      highest, widest: where the image of the largest height stands, and that of the largest width.
      label_digests: of the labels; at most two different ones are kept.
      fits: how labels lie on the edges of their images.
      of_one_class: where labels lie that hold a single class, and which.
    """

    images: int = 0
    unread: int = 0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    images_with: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    pixels_around: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    sizes: collections.Counter[tuple[int, int]] = field(default_factory=collections.Counter)
    kinds: collections.Counter[str] = field(default_factory=collections.Counter)
    highest: tuple[int, str] = (0, "")
    widest: tuple[int, str] = (0, "")
    label_digests: set[int] = field(default_factory=set)
    fits: SplitFits = field(default_factory=SplitFits)
    of_one_class: list[tuple[str, int]] = field(default_factory=list)

    def add(self, seen: Inspected, ignore_label: int, place: int) -> None:
        """Takes one pair into the sums; `place` is its place in the order of the check."""
        self.images += 1
        self.unread += seen.size is None or seen.counts is None
        if seen.size:
            self.sizes[seen.size] += 1
            self.kinds[seen.kind] += 1
            self.highest = max(self.highest, (seen.size[0], seen.where), key=lambda pair: pair[0])
            self.widest = max(self.widest, (seen.size[1], seen.where), key=lambda pair: pair[0])
        if seen.fit:
            self.fits.add(seen.fit, seen.mask_where, place)
        if seen.counts is not None:
            present = seen.counts > 0
            classes = [value for value in np.flatnonzero(present).tolist() if value != ignore_label]
            if len(classes) == 1:
                self.of_one_class.append((seen.mask_where, classes[0]))
            self.counts += seen.counts
            self.images_with += present
            self.pixels_around += present * (seen.counts.sum() - seen.counts[ignore_label])
            if len(self.label_digests) < 2:
                self.label_digests.add(seen.label_digest)

    def renumbered(self, mapping: Mapping[int, int]) -> SplitTally:
        """The same with other label values, no two of which become one."""

        def moved(sums: np.ndarray) -> np.ndarray:
            result = np.zeros_like(sums)
            for value in np.flatnonzero(sums).tolist():
                result[mapping.get(value, value)] = sums[value]
            return result

        return dataclasses.replace(
            self,
            counts=moved(self.counts),
            images_with=moved(self.images_with),
            pixels_around=moved(self.pixels_around),
        )

    def facts(self, num_classes: int, ignore_label: int) -> SplitFacts:
        """The sums as a report has them; an ignore label within the classes counts as ignored."""
        counts, images_with = self.counts.copy(), self.images_with.copy()
        ignored = int(counts[ignore_label])
        counts[ignore_label] = images_with[ignore_label] = 0
        return SplitFacts(
            self.images,
            tuple(counts[:num_classes].tolist()),
            ignored,
            tuple(images_with[:num_classes].tolist()),
            dict(sorted(self.sizes.items())),
            dict(self.kinds.most_common()),
        )


@dataclass
class Likes:
    """What is kept of every image to find the same or nearly the same elsewhere.

    Attributes:
      names, splits: of each image; splits are numbered in the order in which they come.
      digests: of their bytes; empty where an image could not be read.
      labels: digests of their labels; 0 where there is none.
      telling: whether a label has so much detail that two of the same are no coincidence.
    """

    names: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    labels: array[int] = field(default_factory=lambda: array("Q"))
    telling: bytearray = field(default_factory=bytearray)
    _bits: array[int] = field(default_factory=lambda: array("Q"))
    _thumbnails: bytearray = field(default_factory=bytearray)

    def add(self, seen: Inspected) -> None:
        """Takes one image; an unreadable one is kept by its name alone."""
        self.names.append(seen.name)
        self.splits.append(seen.split)
        self.digests.append(seen.digest if seen.look else b"")
        self.labels.append(seen.label_digest)
        self.telling.append(seen.fit is not None and seen.fit.detail >= _LEAST_DETAIL)
        self._bits.append(seen.look.bits if seen.look else 0)
        self._thumbnails += seen.look.thumbnail.tobytes() if seen.look else bytes(SIDE * SIDE)

    @property
    def bits(self) -> np.ndarray:
        """Difference hashes, uint64 [n]."""
        return np.array(self._bits, np.uint64)

    @property
    def thumbnails(self) -> np.ndarray:
        """uint8 [n, 16, 16]; black where an image could not be read."""
        return np.frombuffer(self._thumbnails, np.uint8).reshape(-1, SIDE, SIDE)
