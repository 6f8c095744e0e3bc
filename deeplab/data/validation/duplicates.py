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
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deeplab.data.split_names import must_not_share
from deeplab.data.validation.check_report import Finding
from deeplab.data.validation.rules import DATASET_CHECKS, finding
from deeplab.data.validation.thumbnails import SmallGray
from deeplab.utils.files import writing

Thumbnails = Callable[[np.ndarray], np.ndarray]

if TYPE_CHECKING:
    from deeplab.data.validation.pair_checks import SeenPair
    from deeplab.data.validation.statistics import Summary
from deeplab.utils.text import counted

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
_IN_MEMORY = 1 << 20  # bytes that are kept before there is a temporary file
_ALL_BITS = (1 << 64) - 1
_MAX_NEIGHBORS = 32  # images of a bucket, in the order of their hashes, with which each is compared
_BITS_SET = np.array([value.bit_count() for value in range(256)], np.uint8)
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


_ROW = np.dtype(
    [
        ("thumbnail", np.uint8, (SIDE, SIDE)),
        ("bits", np.uint64),  # difference hash
        ("label", np.uint64),  # digest of the label; 0 where there is none
        ("telling", np.bool_),  # the label has so much detail that two identical ones are no coincidence
        ("digest", np.uint8, (20,)),  # SHA-1 of the image's bytes; zeros where it could not be read
        ("image", np.uint64),  # the first bytes of it
        ("split", np.uint32),  # number of the split
        ("name", np.uint64),  # hash of the name
        ("start", np.uint64),  # of the name, in the file of names
        ("length", np.uint32),  # of the name, in bytes
    ]
)


class ImageIndex:
    """What is kept of every image to find duplicates: `_ROW` and its name.

    These are about 350 bytes each. Those of many images are in temporary files, and memory holds what one step of the
    search needs, 8 to 30 bytes for each image. A place is the number of an image in the order of the check.
    """

    def __init__(self) -> None:
        self.length = 0
        self._rows = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 (see `close`)
        self._names = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 (see `close`)
        self._splits: list[str] = []

    def add(self, pair: SeenPair, label_digest: int) -> None:
        """Takes one image; an unreadable one is kept by its name alone, with a black thumbnail."""
        small, name, split = pair.image.small, pair.loaded.name, pair.loaded.split
        if split not in self._splits:
            self._splits.append(split)
        encoded, row = name.encode("utf-8", "surrogatepass"), np.zeros((), _ROW)
        row["label"], row["split"], row["name"] = label_digest, self._splits.index(split), hash(name) & _ALL_BITS
        if small:
            digest = np.frombuffer(pair.image_digest(), np.uint8)
            row["digest"], row["image"] = digest, digest[:8].view(np.uint64)[0]
            row["bits"], row["thumbnail"] = hash_of(small), thumbnail_of(small)
            row["telling"] = pair.same_size and pair.label.detail >= _MIN_DETAIL
        with writing(tempfile.gettempdir()):
            row["start"], row["length"] = self._names.seek(0, os.SEEK_END), len(encoded)
            self._names.write(encoded)
            self._rows.seek(0, os.SEEK_END)
            self._rows.write(row.tobytes())
        self.length += 1

    def close(self) -> None:
        """Removes the temporary files."""
        self._rows.close()
        self._names.close()

    def rows(self, start: int, number: int = 1) -> np.ndarray:
        """What is kept of so many images from a place on: `_ROW` [number], fewer at the end."""
        with writing(tempfile.gettempdir()):
            self._rows.seek(start * _ROW.itemsize)
            return np.frombuffer(self._rows.read(number * _ROW.itemsize), _ROW)

    def column(self, name: str) -> np.ndarray:
        """A field of all images: [n]."""
        found = np.empty(self.length, _ROW[name])
        for start in range(0, self.length, _AT_ONCE):
            found[start : start + _AT_ONCE] = self.rows(start, _AT_ONCE)[name]
        return found

    def name(self, place: int) -> str:
        """The name of an image."""
        (row,) = self.rows(place)
        self._names.seek(int(row["start"]))
        return self._names.read(int(row["length"])).decode("utf-8", "surrogatepass")

    def split(self, place: int) -> str:
        """The split of an image."""
        return self._splits[self.rows(place)["split"][0]]

    def digest(self, place: int) -> bytes:
        """Digest of an image's bytes; empty where it could not be read."""
        (row,) = self.rows(place)
        return row["digest"].tobytes() if row["digest"].any() else b""

    def label(self, place: int) -> int:
        """Digest of an image's label; 0 where there is none."""
        return int(self.rows(place)["label"][0])

    def thumbnails(self, places: np.ndarray) -> np.ndarray:
        """Those of some images, uint8 [places, 16, 16]."""
        found = np.empty((len(places), SIDE, SIDE), np.uint8)
        for row, place in enumerate(places.tolist()):
            found[row] = self.rows(place)["thumbnail"][0]
        return found

    def named(self, place: int) -> str:
        """`'a3' in train`."""
        return f"{self.name(place)!r} in {self.split(place)}"


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
    labels = images.column("label")
    if (labels != labels[:1]).any():  # else "labels-all-same" says it
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
        if item.rule in _LEAKS and images.digest(item.places[0]) == images.digest(item.places[1]) != b""
    }
    leaks |= {item.places for item, is_copy in nearly if is_copy}
    hint = f"`max_leak={len(leaks)}` makes that a warning, if {counted(len(leaks), 'shared image')} can be accepted"
    for item in [*equal, *(item for item, _ in nearly)]:
        if len(leaks) > max_leak and item.places in leaks and item.rule in (*_LEAKS, _NEAR):
            yield dataclasses.replace(item, severity="error", hint=f"{item.hint}; {hint}")
        else:
            yield item


def _groups(hashes: np.ndarray, key: Callable[[int], object]) -> list[list[int]]:
    """Places of equal keys, where there is more than one.

    Args:
      hashes: uint64 [n], equal where the keys are; images of 0 do not count.
      key: that of a place.
    """
    ordered = np.sort(hashes)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    groups: dict[object, list[int]] = collections.defaultdict(list)
    for place in np.flatnonzero(np.isin(hashes, repeated[repeated > 0])).tolist():
        groups[key(place)].append(place)
    return [group for group in groups.values() if len(group) > 1]


def _pairs(images: ImageIndex, group: Sequence[int]) -> Iterator[tuple[int, int, bool]]:
    """The pairs worth naming among equal images, and whether they leak from training into another split.

    The first of each split is compared with the first of the other splits, and the others of a split with its first: a
    thousand equal images make a thousand pairs, not a million.
    """
    first: dict[str, int] = {}
    for place in group:
        split = images.split(place)
        if split in first:
            yield first[split], place, False
            continue
        for other, other_place in first.items():
            if must_not_share(other, split):
                yield other_place, place, True
        first[split] = place


def _by_name(images: ImageIndex) -> Iterator[Finding]:
    for group in _groups(images.column("name"), images.name):
        for one, other, leaks in _pairs(images, group):
            name, split = images.name(one), images.split(one)
            if leaks:
                text = f"is in split {split!r} and in {images.split(other)!r}"
                yield _finding("name-in-two-splits", name, text, images, one, other)
            else:
                yield _finding("name-repeated", name, f"is in split {split!r} more than once", images, one, other)


def _finding(rule: str, where: str, text: str, images: ImageIndex, one: int, other: int) -> Finding:
    return finding(rule, where, text, split=images.split(other), places=(one, other))


def _by_bytes(images: ImageIndex, known: set[tuple[int, ...]]) -> Iterator[Finding]:
    for group in _groups(images.column("image"), images.digest):
        for one, other, leaks in _pairs(images, group):
            if (one, other) in known or (images.name(one) == images.name(other) and not leaks):
                continue
            rule = "image-in-two-splits" if leaks else "image-repeated"
            text = f"is the same file, byte for byte, as {images.named(one)}"
            yield _finding(rule, images.name(other), text, images, one, other)
        yield from _other_labels(images, group)


def _other_labels(images: ImageIndex, group: Sequence[int]) -> Iterator[Finding]:
    """Equal images whose labels differ from that of the first."""
    labeled = [place for place in group if images.label(place)]
    for other in labeled[1:]:
        one = labeled[0]
        if images.label(other) != images.label(one):
            text = f"is the same image as {images.named(one)}, but has another label"
            yield _finding("same-image-other-label", images.name(other), text, images, one, other)


def _nearly(images: ImageIndex, known: set[tuple[int, ...]]) -> Iterator[tuple[Finding, bool]]:
    """Near-duplicates in two splits, and whether each is a copy that was saved again."""
    groups = images.column("split")
    if (groups == groups[:1]).all():
        return
    named: set[int] = set()
    for pair in near_pairs(images.column("bits"), images.thumbnails, groups):
        one, other = pair.one, pair.other
        equal = images.name(one) == images.name(other) or images.digest(one) == images.digest(other)
        if equal or (one, other) in known or not must_not_share(images.split(one), images.split(other)):
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
        yield _finding(_NEAR, images.name(other), text, images, one, other), pair.peak < COPY_LEVELS


def _by_label(images: ImageIndex) -> Iterator[Finding]:
    """Different images with the same label; frames of a still video are similar."""
    for group in _groups(images.column("label") * images.column("telling"), images.label):
        one = group[0]
        others = [place for place in group[1:] if images.digest(place) != images.digest(one)]
        levels = differing_levels(images.thumbnails, one, others)
        for other, level in zip(others, levels, strict=True):
            if level >= 2 * NEAR_LEVELS and images.digest(one) and images.digest(other):
                text = f"has the same label as {images.named(one)}, pixel for pixel, although the images differ"
                yield _finding("label-repeated", images.name(other), text, images, one, other)


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


def near_pairs(bits: np.ndarray, thumbnails: Thumbnails, groups: np.ndarray) -> list[NearPair]:
    """Pairs of nearly equal images in different groups, mirrored ones included.

    The 64 bits are cut into four bands of 16 in two ways; only images that agree in one of these eight bands are
    compared. Bands must agree whole, so up to 3 differing bits are always found, up to 8 nearly always. Within a band
    an image is compared with the next 32 in the order of the hashes: the work grows with n log n.

    Args:
      bits: difference hashes, uint64 [n].
      thumbnails: gives those of some places, uint8 [places, 16, 16].
      groups: integers [n], such as the number of each image's split.

    Returns:
      The most similar first.
    """
    parts = np.array_split(np.arange(len(bits)), len(bits) // _AT_ONCE + 1)  # each becomes float64 meanwhile
    usable = np.flatnonzero(np.concatenate([thumbnails(part).std((1, 2)) for part in parts]) >= _FLAT)
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


def differing_levels(thumbnails: Thumbnails, one: int, others: Sequence[int]) -> list[float]:
    """Mean differences between the thumbnail of one image and those of others, in gray levels."""
    found: list[float] = []
    for start in range(0, len(others), _AT_ONCE):
        pairs = np.array([(one, other) for other in others[start : start + _AT_ONCE]], np.int64)
        found += _differences(thumbnails, pairs).mean((1, 2)).tolist()
    return found


def _differences(thumbnails: Thumbnails, pairs: np.ndarray, mirrored: np.ndarray | None = None) -> np.ndarray:
    """Differences of each cell in gray levels, float32 [pairs, 16, 16].

    Args:
      thumbnails: gives those of some places.
      pairs: places, integers [pairs, 2].
      mirrored: whether the second one is mirrored first, bool [pairs]; None: nowhere.
    """
    one, other = (normalized(thumbnails(places)) for places in pairs.T)
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
    return _BITS_SET[(one ^ other).view(np.uint8).reshape(-1, 8)].sum(1, dtype=np.int64)


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
