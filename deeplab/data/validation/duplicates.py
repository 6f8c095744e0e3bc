"""Duplicates: the same or nearly the same image in two splits or twice in one, and labels that two images share.

Near-duplicates are found in two steps. The 64-bit difference hashes of two images must differ in few bits; this is
fast, and buckets of hash bits avoid comparing all with all. Then their 16x16 thumbnails, normalized in brightness and
contrast, must differ by less than a few gray levels on average.

Measured on CamVid, FASSEG and 200 images of PASCAL VOC: of copies that were saved again (JPEG quality 30, PNG), scaled
(a third to 1.5 times, also without keeping the aspect ratio), brightened by a tenth, darkened, made gray or mirrored,
every one was found; they differ by at most 5 bits and 2.7 levels. Across the published splits, really different images
differ by 5.3 levels and more. Copies that were cropped by 2 %, or brightened until large parts were white, are found in
part only.

Frames of a video can differ by 0.2 levels only, where little moves, so that the mean does not tell them from copies:
the cell that differs most does. It differs by 2.4 levels and more in all pairs of CamVid's frames, and by less than 2.0
for all of 316 images that were saved again as JPEG of quality 30 to 95, for 306 saved as PNG, 312 of half the size and
207 of 1.5 times the size. Only pairs below that count as a leak, of which more than a few are an error. Others are
warnings, since frames of a video in two splits may be wanted.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from deeplab.data.split_names import must_not_share
from deeplab.data.validation.check_report import Finding
from deeplab.data.validation.rules import DATASET_CHECKS, finding
from deeplab.data.validation.thumbnails import SmallGray

if TYPE_CHECKING:
    from deeplab.data.validation.pair_checks import SeenPair
    from deeplab.data.validation.statistics import Summary

NEAR_BITS = 8  # of 64: images whose hashes differ in more are different
COPY_LEVELS = 2.0  # difference of the cell that differs most; copies that were saved again differ by less
NEAR_LEVELS = 3.0  # mean difference of two thumbnails
SIDE = 16  # of a thumbnail
_CONTRAST = 40.0  # standard deviation to which thumbnails are normalized, in gray levels
_CALM = 8.0  # added to the contrast of a thumbnail, so that noise of dull images is not amplified
_FLAT = 4.0  # images whose thumbnail varies less show nothing that could be compared
_MIN_DETAIL = 12  # rows of a label that differ from the one above; labels with fewer may be identical by chance
_LEAKS = ("name-in-two-splits", "image-in-two-splits")
_NEAR = "near-duplicate-in-two-splits"
_AT_ONCE = 512  # thumbnails that are computed with at once
_MAX_NEIGHBORS = 32  # images of a bucket, in the order of their hashes, with which each is compared
_BITS_SET = np.array([value.bit_count() for value in range(256)])
_MIRRORED = np.array([255 - int(f"{value:08b}"[::-1], 2) for value in range(256)], np.uint8)  # of a row of a hash


# --- What is kept of an image -------------------------------------------------------------------------------


def hash_of(small: SmallGray) -> int:
    """The difference hash, 64 bits: for 8 rows of 9 cells, whether each is brighter than its left neighbor."""
    cells = _mean_cells(small.pixels, small.rows, small.columns, 8, 9)
    return int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes(), "big")


def thumbnail_of(small: SmallGray) -> np.ndarray:
    """uint8 [16, 16], gray."""
    return np.rint(_mean_cells(small.pixels, small.rows, small.columns, SIDE, SIDE)).astype(np.uint8)


def _mean_cells(pixels: np.ndarray, rows: float, columns: float, height: int, width: int) -> np.ndarray:
    """Means over a grid of height x width cells that cover the image: float32 [height, width]."""
    return _cell_weights(height, pixels.shape[0], rows) @ pixels @ _cell_weights(width, pixels.shape[1], columns).T


@functools.lru_cache(maxsize=4096)
def _cell_weights(cells: int, pixels: int, filled: float) -> np.ndarray:
    """Part of each pixel in each cell, float32 [cells, pixels]; exact, so that scaled copies give the same means."""
    edges = np.linspace(0, filled, cells + 1)
    starts = np.arange(pixels)
    overlap = np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts)
    overlap = np.clip(overlap, 0, None)
    return (overlap / overlap.sum(1, keepdims=True)).astype(np.float32)


@dataclass
class ImageIndex:
    """What is kept of every image to find duplicates: about 300 bytes each.

    Attributes:
      names, splits: of each image, in the order of the check.
      digests: of their bytes; empty where an image could not be read.
      labels: digests of their labels; 0 where there is none.
      telling: whether a label has so much detail that two identical ones are no coincidence.
    """

    names: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    labels: array[int] = field(default_factory=lambda: array("Q"))
    telling: bytearray = field(default_factory=bytearray)
    _bits: array[int] = field(default_factory=lambda: array("Q"))
    _thumbnails: bytearray = field(default_factory=bytearray)

    def add(self, pair: SeenPair, label_digest: int) -> None:
        """Takes one image; an unreadable one is kept by its name alone."""
        small = pair.image.small
        self.names.append(pair.loaded.name)
        self.splits.append(pair.loaded.split)
        self.digests.append(pair.image_digest() if small else b"")
        self.labels.append(label_digest)
        self.telling.append(small is not None and pair.same_size and pair.label.detail >= _MIN_DETAIL)
        self._bits.append(hash_of(small) if small else 0)
        self._thumbnails += thumbnail_of(small).tobytes() if small else bytes(SIDE * SIDE)

    @property
    def bits(self) -> np.ndarray:
        """Difference hashes, uint64 [n]."""
        return np.array(self._bits, np.uint64)

    @property
    def thumbnails(self) -> np.ndarray:
        """uint8 [n, 16, 16]; black where an image could not be read."""
        return np.frombuffer(self._thumbnails, np.uint8).reshape(-1, SIDE, SIDE)

    def named(self, place: int) -> str:
        """`'a3' in train`."""
        return f"{self.names[place]!r} in {self.splits[place]}"


# --- The check ----------------------------------------------------------------------------------------------


@DATASET_CHECKS.register("duplicates")
def find_duplicates(summary: Summary) -> Iterator[Finding]:
    """Images that two splits share, by name, by bytes or nearly; repeated images; labels that two images share."""
    images = summary.images
    by_name = list(_by_name(images))
    in_two_splits = {item.places for item in by_name if item.rule == "name-in-two-splits"}
    by_bytes = list(_by_bytes(images, in_two_splits))
    nearly = list(_nearly(images, {item.places for item in [*by_name, *by_bytes]}))
    yield from _judged(images, [*by_name, *by_bytes], nearly, summary.config.max_leak)
    if len(set(images.labels)) > 1:  # else "labels-all-same" says it
        yield from _by_label(images)


def _judged(
    images: ImageIndex, equal: Sequence[Finding], nearly: Sequence[tuple[Finding, bool]], max_leak: int
) -> Iterator[Finding]:
    """The findings; where more than a few images of the training split are in another one, these are errors.

    Args:
      images: all of them.
      equal: images with equal names or bytes.
      nearly: near-duplicates, and whether each is a copy that was saved again.
      max_leak: how many are a few.
    """
    leaks = {
        item.places
        for item in equal
        if item.rule in _LEAKS and images.digests[item.places[0]] == images.digests[item.places[1]] != b""
    }
    leaks |= {item.places for item, is_copy in nearly if is_copy}
    hint = f"{len(leaks)} images leak into evaluation: `max_leak={len(leaks)}` makes that a warning, if it is meant"
    for item in [*equal, *(item for item, _ in nearly)]:
        if len(leaks) > max_leak and item.places in leaks and item.rule in (*_LEAKS, _NEAR):
            yield dataclasses.replace(item, severity="error", hint=f"{item.hint}; {hint}")
        else:
            yield item


def _groups(keys: Sequence[object]) -> Iterator[list[int]]:
    """Places of equal keys, where there is more than one; empty keys do not count."""
    seen: set[object] = set()
    repeated: set[object] = set()
    for key in keys:
        if key:
            (repeated if key in seen else seen).add(key)
    del seen
    places: dict[object, list[int]] = collections.defaultdict(list)  # no list for each of a million different keys
    for place, key in enumerate(keys):
        if key in repeated:
            places[key].append(place)
    return iter(places.values())


def _pairs(images: ImageIndex, group: Sequence[int]) -> Iterator[tuple[int, int, bool]]:
    """The pairs worth naming among equal images, and whether they leak from training into another split.

    The first of each split is compared with the first of the other splits, and the others of a split with its first: a
    thousand equal images make a thousand pairs, not a million.
    """
    first: dict[str, int] = {}
    for place in group:
        split = images.splits[place]
        if split in first:
            yield first[split], place, False
            continue
        for other, other_place in first.items():
            if must_not_share(other, split):
                yield other_place, place, True
        first[split] = place


def _by_name(images: ImageIndex) -> Iterator[Finding]:
    for group in _groups(images.names):
        for one, other, leaks in _pairs(images, group):
            name, split = images.names[one], images.splits[one]
            if leaks:
                text = f"is in split {split!r} and in {images.splits[other]!r}"
                yield _finding("name-in-two-splits", name, text, images, one, other)
            else:
                yield _finding("name-repeated", name, f"is in split {split!r} more than once", images, one, other)


def _finding(rule: str, where: str, text: str, images: ImageIndex, one: int, other: int) -> Finding:
    return finding(rule, where, text, split=images.splits[other], places=(one, other))


def _by_bytes(images: ImageIndex, known: set[tuple[int, ...]]) -> Iterator[Finding]:
    for group in _groups(images.digests):
        for one, other, leaks in _pairs(images, group):
            if (one, other) in known or (images.names[one] == images.names[other] and not leaks):
                continue
            rule = "image-in-two-splits" if leaks else "image-repeated"
            text = f"is the same file, byte for byte, as {images.named(one)}"
            yield _finding(rule, images.names[other], text, images, one, other)
        yield from _other_labels(images, group)


def _other_labels(images: ImageIndex, group: Sequence[int]) -> Iterator[Finding]:
    """Equal images whose labels differ from that of the first."""
    labeled = [place for place in group if images.labels[place]]
    for other in labeled[1:]:
        one = labeled[0]
        if images.labels[other] != images.labels[one]:
            text = f"is the same image as {images.named(one)}, but has another label"
            yield _finding("same-image-other-label", images.names[other], text, images, one, other)


def _nearly(images: ImageIndex, known: set[tuple[int, ...]]) -> Iterator[tuple[Finding, bool]]:
    """Near-duplicates in two splits, and whether each is a copy that was saved again."""
    numbers = {split: number for number, split in enumerate(dict.fromkeys(images.splits))}
    if len(numbers) < 2:
        return
    groups = np.array([numbers[split] for split in images.splits])
    named: set[int] = set()
    for pair in near_pairs(images.bits, images.thumbnails, groups):
        one, other = pair.one, pair.other
        equal = images.names[one] == images.names[other] or images.digests[one] == images.digests[other]
        if equal or (one, other) in known or not must_not_share(images.splits[one], images.splits[other]):
            continue
        if other in named:  # of all frames of a video, the most similar is named
            continue
        named.add(other)
        way = ", mirrored left to right" if pair.mirrored else ""
        text = (
            f"is nearly the same as {images.named(one)}{way}: their thumbnails differ by {pair.levels:.1f} gray levels "
            "on average"
        )
        if pair.peak < COPY_LEVELS:
            text += ", as if one were saved again"
        yield _finding(_NEAR, images.names[other], text, images, one, other), pair.peak < COPY_LEVELS


def _by_label(images: ImageIndex) -> Iterator[Finding]:
    """Different images with the same label; frames of a still video are similar."""
    digests = [label if told else 0 for label, told in zip(images.labels, images.telling, strict=True)]
    for group in _groups(digests):
        one = group[0]
        others = [place for place in group[1:] if images.digests[place] != images.digests[one]]
        pairs = np.array([(one, other) for other in others], np.int64).reshape(-1, 2)
        for other, level in zip(others, differing_levels(images.thumbnails, pairs).tolist(), strict=True):
            if level >= 2 * NEAR_LEVELS and images.digests[one] and images.digests[other]:
                text = f"has the same label as {images.named(one)}, pixel for pixel, although the images differ"
                yield _finding("label-repeated", images.names[other], text, images, one, other)


# --- Search for near-duplicates -----------------------------------------------------------------------------


@dataclass(frozen=True)
class NearPair:
    """Two nearly equal images.

    Attributes:
      one, other: their places, the earlier one first.
      levels: mean difference of their thumbnails, in gray levels.
      peak: difference of the cell of the thumbnails that differs most.
      mirrored: one is the other mirrored left to right.
    """

    one: int
    other: int
    levels: float
    peak: float
    mirrored: bool


def near_pairs(bits: np.ndarray, thumbnails: np.ndarray, groups: np.ndarray) -> list[NearPair]:
    """Pairs of nearly equal images in different groups, mirrored ones included.

    The 64 bits are cut into four bands of 16 in two ways; only images that agree in one of these eight bands are
    compared. Bands must agree whole, so up to 3 differing bits are always found, up to 8 nearly always. Within a band
    an image is compared with the next 32 in the order of the hashes: the work grows with n log n.

    Args:
      bits: difference hashes, uint64 [n].
      thumbnails: uint8 [n, 16, 16].
      groups: integers [n], such as the number of each image's split.

    Returns:
      The most similar first.
    """
    parts = np.array_split(thumbnails, len(thumbnails) // _AT_ONCE + 1)  # each becomes float64 meanwhile
    usable = np.flatnonzero(np.concatenate([part.std((1, 2)) for part in parts]) >= _FLAT)
    number = len(usable)
    if number < 2:
        return []
    both_ways = np.concatenate([bits[usable], mirrored_bits(bits[usable])])
    one, other = candidates(both_ways, np.tile(groups[usable], 2))
    fresh = one < number  # two mirrored images are as similar as the two as they are
    places = np.sort(np.stack([one, other % number], -1)[fresh])
    found = np.unique(np.column_stack([places, other[fresh] >= number]), axis=0)
    pairs, mirrored = usable[found[:, :2]], found[:, 2] > 0
    cut = np.array_split(np.arange(len(pairs)), len(pairs) // _AT_ONCE + 1)
    differences = (_differences(thumbnails, pairs[part], mirrored[part]) for part in cut)
    levels, peaks = np.concatenate([[cells.mean((1, 2)), cells.max((1, 2))] for cells in differences], axis=1)
    near = np.flatnonzero(levels < NEAR_LEVELS).tolist()
    similar = [
        NearPair(int(one), int(other), float(levels[place]), float(peaks[place]), bool(mirrored[place]))
        for place, (one, other) in zip(near, pairs[near], strict=True)
    ]
    return sorted(similar, key=lambda pair: (pair.levels, pair.one, pair.other))


def mirrored_bits(bits: np.ndarray) -> np.ndarray:
    """Difference hashes of the mirrored images, uint64 [n]: rows are reversed, and brighter becomes darker."""
    return _MIRRORED[bits.view(np.uint8)].view(np.uint64)


def differing_levels(thumbnails: np.ndarray, pairs: np.ndarray, mirrored: np.ndarray | None = None) -> np.ndarray:
    """Mean differences of thumbnails, in gray levels, float32 [pairs].

    Args:
      thumbnails: uint8 [n, 16, 16].
      pairs: places, integers [pairs, 2].
      mirrored: whether the second one is mirrored first, bool [pairs]; None: nowhere.
    """
    return _differences(thumbnails, pairs, mirrored).mean((1, 2))


def _differences(thumbnails: np.ndarray, pairs: np.ndarray, mirrored: np.ndarray | None) -> np.ndarray:
    """Differences of each cell in gray levels, float32 [pairs, 16, 16]."""
    one, other = (normalized(thumbnails[places]) for places in pairs.T)
    if mirrored is not None:
        other[mirrored] = other[mirrored][:, :, ::-1]
    return np.abs(one - other)


def candidates(bits: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of different groups whose hashes differ in few bits.

    Args:
      bits: uint64 [n].
      group: integers [n].

    Returns:
      Places of the earlier and of the later one, int64 [pairs] each, no pair twice.
    """
    codes = [np.zeros(0, np.int64)]
    for band in _bands(bits):
        order = np.lexsort((bits, band))
        for step in range(1, min(_MAX_NEIGHBORS, len(bits) - 1) + 1):
            one, other = order[:-step], order[step:]
            same = band[one] == band[other]
            if not same.any():
                break
            one, other = one[same], other[same]
            near = (differing_bits(bits[one], bits[other]) <= NEAR_BITS) & (group[one] != group[other])
            low, high = np.minimum(one[near], other[near]), np.maximum(one[near], other[near])
            codes.append(low * len(bits) + high)
    return np.divmod(np.unique(np.concatenate(codes)), len(bits))


def differing_bits(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Number of bits in which hashes differ: uint64 [n] each, int64 [n]."""
    return _BITS_SET[(one ^ other).view(np.uint8).reshape(-1, 8)].sum(1)


def _bands(bits: np.ndarray) -> list[np.ndarray]:
    """Eight selections of 16 of the 64 bits: runs of neighbors, and every fourth."""
    runs = [bits >> np.uint64(16 * part) & np.uint64(0xFFFF) for part in range(4)]
    combs = [bits & np.uint64(0x1111111111111111 << part) for part in range(4)]
    return [*runs, *combs]


def normalized(thumbnails: np.ndarray) -> np.ndarray:
    """Thumbnails, uint8 [n, 16, 16], with mean 0 and the same contrast: float32 [n, 16, 16]."""
    levels = thumbnails.astype(np.float32)
    levels -= levels.mean((1, 2), keepdims=True)
    return levels / (levels.std((1, 2), keepdims=True) + _CALM) * _CONTRAST
