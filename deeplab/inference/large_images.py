"""Predicts TIFF files of any size window by window, so that memory does not depend on the size of the image.

Owns the order in which tiles are read, predicted, blended and written, and the files that come of it: a GeoTIFF of
labels with the georeference of the image, and reduced images to look at. `predict` uses it for georeferenced and for
large TIFF files (extra `geo`). It blends as `tiles.py` does in memory, and gives the same labels.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from deeplab.data import geotiff
from deeplab.data.bands import ImageBands
from deeplab.data.images import read_raster
from deeplab.data.label_bits import MAX_CLASSES_8_BIT, as_label, bits_of, usual_ignore_label
from deeplab.inference.postprocess import PostprocessedPredictor
from deeplab.inference.predictor import Predictor
from deeplab.inference.tiles import TiledPredictor, ramp, require_probabilities, tile_starts
from deeplab.utils.errors import UserError

AUTOMATIC_TILE, AUTOMATIC_OVERLAP = 1024, 64  # pixels, where the user chooses none
MAX_WHOLE = 4096 * 4096  # pixels of an image that is predicted as a whole unless the user chooses tiles
_MAX_SHOWN = 2048  # longest side of images to look at, in pixels
_RGB_BANDS = (1, 3, 4)

Progress = Callable[[int, int], None]  # tiles done, of how many


@dataclass(frozen=True)
class LargePrediction:
    """What came of one file.

    Attributes:
      image: the image, reduced to 2048 pixels, uint8 [h, w, 3].
      labels: the labels of the same pixels, [h, w]: uint8, or uint16 beyond 256 classes.
      counts: pixels of each class, int64 [classes]; those without a value do not count.
    """

    image: np.ndarray
    labels: np.ndarray
    counts: np.ndarray


def is_read_in_windows(path: str, bands: ImageBands, tile_size: int | None) -> bool:
    """Whether a file is predicted here: a TIFF that has a georeference, or more pixels than are predicted as a whole.

    TIFFs that only Pillow can turn into RGB, and all TIFFs without the extra `geo`, are not.

    Raises:
      UserError: its header is damaged.
    """
    if not (geotiff.is_tiff(path) and geotiff.is_available()):
        return False
    with geotiff.opened(path) as dataset:
        size, count, dtype = (dataset.height, dataset.width), dataset.count, dataset.dtypes[0]
    if bands.is_rgb and not (dtype == "uint8" and count in _RGB_BANDS):
        return False
    is_large = max(size) > tile_size if tile_size else size[0] * size[1] > MAX_WHOLE
    return is_large or geotiff.georeference(path) is not None


def predict_file(
    path: str,
    mask_path: pathlib.Path,
    predictor: Predictor,
    tile_size: int | None = None,
    overlap: int = AUTOMATIC_OVERLAP,
    progress: Progress = lambda done, total: None,
) -> LargePrediction:
    """Predict a TIFF in tiles into a GeoTIFF of labels, which appears whole or not at all.

    In memory are a tile, its probabilities, and those of the rows that the next tiles overlap.

    Args:
      path: the image.
      mask_path: the GeoTIFF: classes with a palette, 255 and marked as nodata where the image has no value. Beyond
        256 classes 16 bits without a palette, and 65535.
      predictor: what predicts a tile; must have probabilities if there are several.
      tile_size: height and width of a tile; None = the whole image, or 1024 if it is large.
      overlap: minimum overlap of tiles, at most half a tile.
      progress: called after every tile.

    Raises:
      UserError: the image cannot be read or is of other bands, or the mask cannot be written.
    """
    height, width, _ = geotiff.size_and_bands(path)
    tile = tile_size or (AUTOMATIC_TILE if height * width > MAX_WHOLE else max(height, width))
    single = max(height, width) <= tile
    if isinstance(predictor, PostprocessedPredictor) and not single:
        rule, hint = "its steps see whole images, and this one is predicted in tiles", "leave it out"
        raise UserError("conflicting-settings", rule, hint, field="postprocess", where=path)
    if not single:
        TiledPredictor(predictor, tile, overlap)  # refuses settings that do not go with tiles
    reader = _Reader(path, predictor.bands)
    number = predictor.num_classes or 1
    no_value = usual_ignore_label(number)
    dtype = np.uint8 if bits_of(number) == 8 else np.uint16
    shown = _Reduced(height, width, dtype)
    counts = np.zeros(no_value + 1, np.int64)
    place = geotiff.georeference(path)
    colors = predictor.colors if dtype == np.uint8 else None
    with geotiff.writing_labels(mask_path, (height, width), place, colors, nodata=no_value) as write:
        blocks = (
            _whole(reader, predictor, (height, width))
            if single
            else _blended(reader, predictor, (height, width), tile, overlap, progress)
        )
        for (top, left), labels, pixels, valid in blocks:
            labels = as_label(labels, number if number > 1 else MAX_CLASSES_8_BIT)
            if valid is not None:
                labels[~valid] = no_value
            write((top, left, *labels.shape), labels)
            counts += np.bincount(labels.ravel(), minlength=len(counts))
            shown.add(top, left, labels, pixels)
    if single:
        progress(1, 1)
    kept = counts[:number] if number <= no_value else counts
    image, labels = shown.image, shown.labels
    return LargePrediction(image, np.where(labels == no_value, 0, labels) if number < no_value else labels, kept)


Block = tuple[tuple[int, int], np.ndarray, np.ndarray, np.ndarray | None]  # place, labels, quick look, valid


class _Reader:
    """Reads windows of a TIFF as a model takes them."""

    def __init__(self, path: str, bands: ImageBands):
        self.path, self.bands = path, bands

    def read(self, window: geotiff.Window) -> tuple[np.ndarray, np.ndarray | None]:
        """Pixels [h, w, C], and which of them have a value; None = all."""
        raster = read_raster(self.path, self.bands.bands, window)
        pixels = raster.pixels
        if self.bands.is_rgb:
            pixels = np.ascontiguousarray(np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else pixels[..., :3])
        self.bands.require(pixels, self.path)
        return pixels, raster.valid

    def shown(self, pixels: np.ndarray) -> np.ndarray:
        return pixels if self.bands.is_rgb else self.bands.quick_look(pixels)


def _whole(reader: _Reader, predictor: Predictor, size: tuple[int, int]) -> Iterator[Block]:
    pixels, valid = reader.read((0, 0, *size))
    yield (0, 0), predictor.predict(pixels, probabilities=False).labels, reader.shown(pixels), valid


def _blended(
    reader: _Reader, predictor: Predictor, size: tuple[int, int], tile: int, overlap: int, progress: Progress
) -> Iterator[Block]:
    """Blocks that no later tile overlaps, each once, together the image.

    A pixel's score is the sum over tiles of row weight times column weight times probability. The tiles form a grid, so
    dividing by the sum of the weights, which is equal for all classes, would not change the best class.
    """
    tops, lefts = (tile_starts(length, tile, overlap) for length in size)
    row_ends, column_ends = [*tops[1:], size[0]], [*lefts[1:], size[1]]
    below: list[np.ndarray] = []  # scores of the rows that the next row of tiles overlaps, block by block
    done = 0
    for top, next_top in zip(tops, row_ends, strict=True):
        rows = next_top - top
        above, below = below, []
        right: np.ndarray | None = None  # scores of the columns that the next tile overlaps
        for number, (left, next_left) in enumerate(zip(lefts, column_ends, strict=True)):
            window = (top, left, min(tile, size[0]), min(tile, size[1]))
            pixels, valid = reader.read(window)
            scores = _weighted(predictor, pixels, overlap)
            if right is not None:
                scores[:, : right.shape[1]] += right
            columns = next_left - left
            right = scores[:, columns:].copy()
            block = scores[:, :columns]
            if above:
                block[: above[number].shape[0]] += above[number]
            below.append(block[rows:].copy())
            shown = reader.shown(pixels[:rows, :columns])
            yield (top, left), block[:rows].argmax(-1), shown, None if valid is None else valid[:rows, :columns]
            done += 1
            progress(done, len(tops) * len(lefts))


def _weighted(predictor: Predictor, pixels: np.ndarray, overlap: int) -> np.ndarray:
    scores = require_probabilities(predictor.predict(pixels))
    rows, columns = (ramp(length, overlap) for length in scores.shape[:2])
    return scores * (rows[:, np.newaxis] * columns)[..., np.newaxis]


class _Reduced:
    """Every n-th pixel of an image and its labels, to look at."""

    def __init__(self, height: int, width: int, dtype: type[np.unsignedinteger]):
        self.step = -(-max(height, width) // _MAX_SHOWN)
        size = -(-height // self.step), -(-width // self.step)
        self.labels, self.image = np.zeros(size, dtype), np.zeros((*size, 3), np.uint8)

    def add(self, top: int, left: int, labels: np.ndarray, image: np.ndarray) -> None:
        """Takes over a block at a place of the whole image."""
        first = -top % self.step, -left % self.step
        part = np.s_[first[0] :: self.step, first[1] :: self.step]
        taken = labels[part]
        y, x = -(-top // self.step), -(-left // self.step)
        place = np.s_[y : y + taken.shape[0], x : x + taken.shape[1]]
        self.labels[place], self.image[place] = taken, image[part]
