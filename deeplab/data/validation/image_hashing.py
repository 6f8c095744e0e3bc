"""Which pictures are almost the same: a short hash that finds candidates, and a closer look that confirms them.

Two pictures are compared twice. Their 64-bit difference hashes must differ in few bits; this is quick, and buckets of
hash bits keep it from comparing all with all. Then their 16x16 thumbnails, brought to one brightness and contrast,
must differ by less than a few gray levels on average.

Measured on CamVid, FASSEG and 200 pictures of PASCAL VOC: of copies that were saved anew (JPEG quality 30, PNG), scaled
(a third to 1.5 times, also without keeping the aspect ratio), brightened by a tenth, darkened, made gray or mirrored,
every one was found; they differ by at most 5 bits and 2.7 levels. The most alike of truly different pictures (video
frames a second apart, one person photographed twice) differ by 3.4 levels within a split and 5.3 across splits. Copies
that were cropped by 2 %, or brightened until large parts were white, are found in part only.
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

NEAR_BITS = 8  # of 64: hashes that differ in more belong to different pictures
NEAR_LEVELS = 3.0  # mean difference of two thumbnails
SIDE = 16  # of a thumbnail
_CONTRAST = 40.0  # standard deviation to which thumbnails are brought, in gray levels
_CALM = 8.0  # added to the contrast of a thumbnail, so that the noise of dull pictures is not blown up
_FLAT = 4.0  # pictures whose thumbnail varies less show nothing that could be compared
_FINE_ENOUGH = 64  # least side to which a picture is reduced while decoding
_AT_ONCE = 4096
_MOST_NEIGHBORS = 32  # of a bucket's pictures, in the order of their hashes, with which each is compared
_ONES = np.array([value.bit_count() for value in range(256)])
_MIRRORED = np.array([255 - int(f"{value:08b}"[::-1], 2) for value in range(256)], np.uint8)  # of a row of a hash


@dataclass(frozen=True)
class Look:
    """What is kept of a picture to find its likes: 264 bytes.

    Attributes:
      bits: the difference hash, 64 bits: for 8 rows of 9 cells, whether each is brighter than its left neighbor.
      thumbnail: uint8 [16, 16], gray.
    """

    bits: int
    thumbnail: np.ndarray


@dataclass(frozen=True)
class Small:
    """A picture in gray at a small size.

    Attributes:
      pixels: float32 [h, w], 0..255.
      rows, columns: how many of them the picture really fills; the last ones may be filled in part.
      mode: Pillow's name for the kind of pixels that the picture has.
    """

    pixels: np.ndarray
    rows: float
    columns: float
    mode: str


def look_at(data: bytes, height: int, width: int) -> Look | None:
    """The hash and thumbnail of an encoded picture of that size; None where it cannot be decoded."""
    small = small_gray(data, height, width)
    return look_of(small) if small else None


def look_of(small: Small) -> Look:
    """The hash and thumbnail of a picture."""
    cells = _mean_cells(small.pixels, small.rows, small.columns, 8, 9)
    bits = int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes(), "big")
    thumbnail = _mean_cells(small.pixels, small.rows, small.columns, SIDE, SIDE)
    return Look(bits, np.rint(thumbnail).astype(np.uint8))


def small_gray(data: bytes, height: int, width: int) -> Small | None:
    """An encoded picture of that size in small; None where it cannot be decoded.

    JPEG is decoded at an eighth to a half of its size, which spares most of the work: half a millisecond on one core
    for a picture of CamVid's size, 0.9 for one of PASCAL VOC's. EXIF rotation is not heeded.
    """
    factor = next((f for f in (8, 4, 2) if min(height, width) // f >= _FINE_ENOUGH), 1)
    picture = opened(data)
    if picture is None:
        return None
    mode = picture.mode
    picture.draft("L", (width // factor, height // factor))  # JPEG alone, at 1/8, 1/4, 1/2 or full size
    pixels = gray_of(picture)
    if pixels is None:
        return None
    if picture.size != (width, height):  # the last cell of a row may stand for fewer pixels than the others
        factor = round(width / picture.width)
        return Small(pixels.astype(np.float32), height / factor, width / factor, mode)
    if factor > 1:
        pixels = cv2.resize(pixels, (-(-width // factor), -(-height // factor)), interpolation=cv2.INTER_AREA)
    return Small(pixels.astype(np.float32), pixels.shape[0], pixels.shape[1], mode)


def opened(data: bytes) -> Image.Image | None:
    """An encoded picture of which only the header is read; None where it is none."""
    try:
        return Image.open(io.BytesIO(data))
    except Exception:  # on files made to harm, Pillow raises nearly anything
        return None


def gray_of(picture: Image.Image) -> np.ndarray | None:
    """Gray levels of a picture, uint8 [H, W], the upper 8 bits of 16; None where it cannot be decoded.

    Pillow, because OpenCV's libraries write to the terminal what they think of odd files, without naming them.
    """
    try:
        if picture.mode.startswith("I"):
            return (np.asarray(picture) >> 8).astype(np.uint8)
        return np.asarray(picture.convert("L"))
    except Exception:  # as above
        return None


def _mean_cells(pixels: np.ndarray, rows: float, columns: float, height: int, width: int) -> np.ndarray:
    """Means over a grid of height x width cells that cover the picture: float32 [height, width]."""
    return _shares(height, pixels.shape[0], rows) @ pixels @ _shares(width, pixels.shape[1], columns).T


@functools.lru_cache(maxsize=4096)
def _shares(cells: int, pixels: int, filled: float) -> np.ndarray:
    """Share of each pixel in each cell, float32 [cells, pixels]; exact, so that scaled copies give the same means."""
    edges = np.linspace(0, filled, cells + 1)
    starts = np.arange(pixels)
    overlap = np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts)
    overlap = np.clip(overlap, 0, None)
    return (overlap / overlap.sum(1, keepdims=True)).astype(np.float32)


# --- Search -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NearPair:
    """Two almost equal pictures.

    Attributes:
      one, other: their places, the earlier one first.
      levels: mean difference of their thumbnails, in gray levels.
      mirrored: one is the other mirrored left to right.
    """

    one: int
    other: int
    levels: float
    mirrored: bool


def near_pairs(bits: np.ndarray, thumbnails: np.ndarray, groups: np.ndarray) -> list[NearPair]:
    """Pairs of almost the same pictures that stand in different groups, mirrored ones among them.

    The 64 bits are cut into four bands of 16 in two ways; only pictures that agree in one of these eight bands are
    compared. Bands must agree whole, so up to 3 differing bits are always found, up to 8 nearly always. Within a band
    a picture is compared with the next 32 in the order of the hashes: the work grows with n log n.

    Args:
      bits: difference hashes, uint64 [n].
      thumbnails: uint8 [n, 16, 16].
      groups: integers [n], such as the number of each picture's split.

    Returns:
      The most alike first.
    """
    parts = np.array_split(thumbnails, len(thumbnails) // _AT_ONCE + 1)  # NumPy takes them for float64 meanwhile
    usable = np.flatnonzero(np.concatenate([part.std((1, 2)) for part in parts]) >= _FLAT)
    number = len(usable)
    if number < 2:
        return []
    both_ways = np.concatenate([bits[usable], mirrored_bits(bits[usable])])
    one, other = candidates(both_ways, np.tile(groups[usable], 2))
    fresh = one < number  # two mirrored pictures are alike where they are alike as they are
    places = np.sort(np.stack([one, other % number], -1)[fresh])
    found = np.unique(np.column_stack([places, other[fresh] >= number]), axis=0)
    pairs, mirrored = usable[found[:, :2]], found[:, 2] > 0
    cut = np.array_split(np.arange(len(pairs)), len(pairs) // _AT_ONCE + 1)
    levels = np.concatenate([differing_levels(thumbnails, pairs[part], mirrored[part]) for part in cut])
    near = np.flatnonzero(levels < NEAR_LEVELS).tolist()
    alike = [
        NearPair(int(pairs[place, 0]), int(pairs[place, 1]), float(levels[place]), bool(mirrored[place]))
        for place in near
    ]
    return sorted(alike, key=lambda pair: (pair.levels, pair.one, pair.other))


def mirrored_bits(bits: np.ndarray) -> np.ndarray:
    """Difference hashes of the mirrored pictures, uint64 [n]: rows run backwards, and brighter becomes darker."""
    return _MIRRORED[bits.view(np.uint8)].view(np.uint64)


def differing_levels(thumbnails: np.ndarray, pairs: np.ndarray, mirrored: np.ndarray | None = None) -> np.ndarray:
    """Mean differences of thumbnails, in gray levels, float32 [pairs].

    Args:
      thumbnails: uint8 [n, 16, 16].
      pairs: places, integers [pairs, 2].
      mirrored: whether the second one is to be mirrored, bool [pairs]; None: nowhere.
    """
    one, other = (normalized(thumbnails[places]) for places in pairs.T)
    if mirrored is not None:
        other[mirrored] = other[mirrored][:, :, ::-1]
    return np.abs(one - other).mean((1, 2))


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
        for step in range(1, min(_MOST_NEIGHBORS, len(bits) - 1) + 1):
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
    return _ONES[(one ^ other).view(np.uint8).reshape(-1, 8)].sum(1)


def _bands(bits: np.ndarray) -> list[np.ndarray]:
    """Eight selections of 16 of the 64 bits: runs of neighbors, and every fourth."""
    runs = [bits >> np.uint64(16 * part) & np.uint64(0xFFFF) for part in range(4)]
    combs = [bits & np.uint64(0x1111111111111111 << part) for part in range(4)]
    return [*runs, *combs]


def normalized(thumbnails: np.ndarray) -> np.ndarray:
    """Thumbnails, uint8 [n, 16, 16], brought to mean 0 and one contrast: float32 [n, 16, 16]."""
    levels = thumbnails.astype(np.float32)
    levels -= levels.mean((1, 2), keepdims=True)
    return levels / (levels.std((1, 2), keepdims=True) + _CALM) * _CONTRAST
