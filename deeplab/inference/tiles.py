"""Prediction of large images in overlapping tiles."""

from __future__ import annotations

import math

import numpy as np

from deeplab.inference.predictor import Prediction, Predictor
from deeplab.utils.errors import UserError


class TiledPredictor(Predictor):
    """Another Predictor that sees large images in tiles; in overlaps, the tiles' probabilities are blended.

    A tile's weight decreases linearly towards its edges, so that no seams appear. The model needs memory for one tile
    only; the probabilities of the whole image are in memory. Images of up to one tile are predicted as a whole.

    Args:
      inner: must have probabilities.
      tile_size: height and width of a tile in pixels.
      overlap: minimum overlap of neighbors in pixels, at most half a tile.

    Raises:
      UserError: the overlap does not fit the tile, or the model resizes its images.
    """

    def __init__(self, inner: Predictor, tile_size: int, overlap: int):
        if not 0 <= overlap <= tile_size // 2:
            rule = f"must be from 0 to {tile_size // 2}, half of `tile_size={tile_size}`, not {overlap}"
            raise UserError("out-of-range", rule, field="tile_overlap", value=overlap)
        if inner.settings and inner.settings.resize.min_resize_value:
            rule, hint = "tiles cannot be resized one by one", "leave out `min_resize_value` or `tile_size`"
            raise UserError("conflicting-settings", rule, hint, field="tile_size", value=tile_size)
        super().__init__(inner.source, inner.num_classes)
        self.class_names, self.colors, self.names_are_known = inner.class_names, inner.colors, inner.names_are_known
        self.inner, self.tile_size, self.overlap, self.settings = inner, tile_size, overlap, inner.settings
        self.bands = inner.bands

    @property
    def step(self) -> int:  # type: ignore[override]
        return self.inner.step

    def _predict(self, image: np.ndarray, probabilities: bool) -> Prediction:
        height, width = image.shape[:2]
        if max(height, width) <= self.tile_size:
            return self.inner.predict(image, probabilities)
        total: np.ndarray | None = None
        weights = np.zeros((height, width, 1), np.float32)
        for top in tile_starts(height, self.tile_size, self.overlap):
            for left in tile_starts(width, self.tile_size, self.overlap):
                part = np.s_[top : top + self.tile_size, left : left + self.tile_size]
                scores = require_probabilities(self.inner.predict(np.ascontiguousarray(image[part])))
                rows, columns = (ramp(length, self.overlap) for length in scores.shape[:2])
                weight = (rows[:, np.newaxis] * columns)[..., np.newaxis]
                if total is None:
                    total = np.zeros((height, width, scores.shape[-1]), np.float32)
                total[part] += weight * scores
                weights[part] += weight
        assert total is not None
        total /= weights
        return Prediction(total.argmax(-1).astype(np.int32), total if probabilities else None)


def require_probabilities(prediction: Prediction) -> np.ndarray:
    """Return the probabilities of a tile, float32 [h, w, classes].

    Raises:
      UserError: the model file has none (`no-probabilities`).
    """
    if prediction.probabilities is None:
        rule, hint = "this model file has no probabilities", "leave it out, or predict from the checkpoint"
        raise UserError("no-probabilities", rule, hint, field="tile_size")
    return prediction.probabilities


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """Return the first pixels of tiles along one side: evenly spaced, overlapping by at least `overlap` pixels."""
    if length <= tile:
        return [0]
    number = math.ceil((length - overlap) / (tile - overlap))
    return [(length - tile) * index // (number - 1) for index in range(number)]


def ramp(length: int, overlap: int) -> np.ndarray:
    """Return a tile's weights along one side: float32 [length], above 0, 1 from `overlap` pixels inside."""
    to_edge = np.minimum(np.arange(length), np.arange(length)[::-1]) + 1
    return np.minimum(1, to_edge / (overlap + 1)).astype(np.float32)
