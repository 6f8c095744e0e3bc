"""The fully connected CRF as a post-processing step (Kraehenbuhl and Koltun 2011, "Efficient Inference in Fully
Connected CRFs with Gaussian Edge Potentials"), in NumPy.

`postprocess.py` finds it under the name `crf`. Messages between pixels of similar color and place are filtered on a
permutohedral lattice, those between near pixels by a Gaussian blur. No library for it installs everywhere: pydensecrf,
pydensecrf2 and SimpleCRF have no wheels and need a compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from deeplab.inference.postprocess import STEPS, Step
from deeplab.utils.errors import UserError

_MIN_PROBABILITY = 1e-5  # lower probabilities are raised to it, so that their logarithm is finite
_MIN_PRESENT = 0.02  # classes whose probability exceeds it in no pixel are left out: time is proportional to the others
_MAX_ITERATIONS = 100
Filter = Callable[[np.ndarray], np.ndarray]  # float32 [H, W, n] -> [H, W, n], linear in it


@STEPS.register("crf")
def crf(
    iterations: int = 10,
    color_weight: int = 4,
    color_pixels: int = 67,
    color_levels: int = 3,
    near_weight: int = 3,
    near_pixels: int = 1,
) -> Step:
    """Move outlines to edges of the image by a fully connected CRF; defaults are DeepLab v2's for Pascal VOC.

    Args:
      iterations: of mean-field inference.
      color_weight: weight of the kernel between pixels of similar color.
      color_pixels, color_levels: its standard deviations, in pixels and in levels of 0..255.
      near_weight: weight of the kernel between near pixels of any color.
      near_pixels: its standard deviation in pixels.
    """
    for name, value, largest in (
        ("iterations", iterations, _MAX_ITERATIONS),
        ("color_pixels", color_pixels, 10_000),
        ("color_levels", color_levels, 1000),
        ("near_pixels", near_pixels, 1000),
    ):
        if not 1 <= value <= largest:
            rule = f"{name} of crf must be from 1 to {largest}, not {value}"
            raise UserError("out-of-range", rule, "crf alone takes the defaults", field="postprocess", value=value)

    def step(probabilities: np.ndarray, image: np.ndarray) -> np.ndarray:
        present = np.flatnonzero(probabilities.reshape(-1, probabilities.shape[-1]).max(axis=0) > _MIN_PRESENT)
        if len(present) < 2:
            return probabilities
        similar = bilateral_filter(image, color_pixels, color_levels)
        kernels = [(color_weight, similar), (near_weight, spatial_filter(near_pixels))]
        found = np.zeros_like(probabilities)
        found[..., present] = mean_field(probabilities[..., present], kernels, iterations)
        return found

    return step


def mean_field(probabilities: np.ndarray, kernels: Sequence[tuple[float, Filter]], iterations: int) -> np.ndarray:
    """Mean-field inference with Potts compatibility (the paper's algorithm 1), kernels normalized symmetrically.

    Args:
      probabilities: float32 [H, W, classes] of the model.
      kernels: weight and filter of each Gaussian kernel.
      iterations: number of updates.

    Returns:
      float32 [H, W, classes], sum 1.
    """
    unary = np.log(np.maximum(probabilities, _MIN_PROBABILITY))
    ones = np.ones((*probabilities.shape[:2], 1), np.float32)
    # Dividing by the root of the filtered ones on both sides is the authors' published normalization.
    scaled = [(weight, smooth, 1 / np.sqrt(smooth(ones) + 1e-20)) for weight, smooth in kernels if weight]
    q = _softmax(unary)
    for _ in range(iterations):
        energy = unary.copy()
        for weight, smooth, norm in scaled:
            energy += weight * norm * smooth(q * norm)
        q = _softmax(energy)
    return q


def _softmax(values: np.ndarray) -> np.ndarray:
    # NumPy reduces the first axis several times as fast as a last one of a few classes.
    planes = np.moveaxis(values, -1, 0).astype(np.float32, order="C")
    planes -= planes.max(axis=0)
    np.exp(planes, out=planes)
    planes /= planes.sum(axis=0)
    return np.ascontiguousarray(np.moveaxis(planes, 0, -1))


def spatial_filter(pixels: float) -> Filter:
    """Return a Gaussian blur with a standard deviation in pixels; beyond the border, everything is 0."""

    def smooth(values: np.ndarray) -> np.ndarray:
        size = 2 * int(np.ceil(4 * pixels)) + 1
        parts = [
            cv2.GaussianBlur(values[..., index].copy(), (size, size), pixels, borderType=cv2.BORDER_CONSTANT)
            for index in range(values.shape[-1])
        ]
        return np.stack(parts, axis=-1)

    return smooth


def bilateral_filter(image: np.ndarray, pixels: float, levels: float) -> Filter:
    """Return the Gaussian filter over place and color of an image, uint8 [H, W, 3].

    Args:
      image: RGB.
      pixels: standard deviation of the place, in pixels.
      levels: standard deviation of each color channel, in levels of 0..255.
    """
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32) / pixels
    features = np.dstack([columns, rows, image.astype(np.float32) / levels])
    lattice = PermutohedralLattice(features.reshape(-1, features.shape[-1]))

    def smooth(values: np.ndarray) -> np.ndarray:
        return lattice.filter(values.reshape(-1, values.shape[-1])).reshape(values.shape)

    return smooth


class PermutohedralLattice:
    """Gaussian filtering in many dimensions (Adams, Baek and Davis 2010, "Fast High-Dimensional Filtering Using the
    Permutohedral Lattice").

    Args:
      features: float32 [N, d], the places of the points, in standard deviations.
    """

    def __init__(self, features: np.ndarray):
        number, d = features.shape
        rounded, rank, weights = _simplex(_elevated(features), d)
        low = rounded[:, :d].min(axis=0) - 2 * (d + 1)
        sizes = rounded[:, :d].max(axis=0) - low + 2 * (d + 1)
        self._strides = np.concatenate([np.cumprod(sizes[::-1])[::-1][1:], [1]]).astype(np.int64)
        # Corner r adds r to the coordinates of ranks up to d - r, and r - (d + 1) to the others; the last coordinate is
        # left out of the codes, because the sum of all is 0.
        by_rank = np.zeros((number, d + 1), np.int64)
        np.put_along_axis(by_rank, rank[:, :d], np.broadcast_to(self._strides, (number, d)), axis=1)
        beyond = np.cumsum(by_rank[:, ::-1], axis=1)  # of the ranks from d - r + 1, at r - 1
        corners = np.arange(d + 1) * self._strides.sum() + ((rounded[:, :d] - low) @ self._strides)[:, None]
        corners[:, 1:] -= (d + 1) * beyond[:, :-1]
        codes, vertices = np.unique(corners, return_inverse=True)
        self._vertices = vertices.reshape(number, d + 1)
        self._corners = np.ascontiguousarray(self._vertices.T)
        self._weights = weights.astype(np.float32)
        self._neighbors = [self._beside(codes, direction, d) for direction in range(d + 1)]
        self._number, self._alpha = len(codes), np.float32(1 / (1 + 2.0**-d))

    def _beside(self, codes: np.ndarray, direction: int, d: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the two neighbors of every vertex along a direction; one beyond the last where there is none."""
        offset = np.full(d, -1)
        if direction < d:
            offset[direction] = d
        shift = int(offset @ self._strides)
        found = []
        for wanted in (codes + shift, codes - shift):
            place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
            found.append(np.where(codes[place] == wanted, place, len(codes)))
        return found[0], found[1]

    def filter(self, values: np.ndarray) -> np.ndarray:
        """Filter float32 [N, n]."""
        flat = self._vertices.ravel()
        splat = np.zeros((self._number + 1, values.shape[1]), np.float32)  # the last row stays 0
        for index in range(values.shape[1]):
            spread = (self._weights * values[:, index, None]).ravel()
            splat[:-1, index] = np.bincount(flat, spread, self._number)
        # `take` into a buffer, without a check of each index, is several times as fast as an index in brackets.
        one, other = np.empty((2, self._number, values.shape[1]), np.float32)
        for before, after in self._neighbors:
            np.take(splat, before, axis=0, out=one, mode="clip")
            np.take(splat, after, axis=0, out=other, mode="clip")
            one += other
            one *= 0.5
            splat[:-1] += one
        found, part = np.zeros((2, *values.shape), np.float32)
        for corner, weights in zip(self._corners, self._weights.T, strict=True):
            np.take(splat, corner, axis=0, out=part, mode="clip")
            part *= weights[:, None]
            found += part
        return found * self._alpha


def _elevated(features: np.ndarray) -> np.ndarray:
    """Points on the hyperplane of the lattice: float64 [N, d + 1], sum 0."""
    number, d = features.shape
    scale = np.sqrt(2 / 3) * (d + 1) / np.sqrt((np.arange(d) + 1) * (np.arange(d) + 2))
    scaled = features.astype(np.float64) * scale
    elevated = np.zeros((number, d + 1))
    total = np.zeros(number)
    for index in range(d, 0, -1):
        elevated[:, index] = total - index * scaled[:, index - 1]
        total += scaled[:, index - 1]
    elevated[:, 0] = total
    return elevated


def _simplex(elevated: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The simplex around each point: its vertex of remainder 0, the order of the coordinates, barycentric weights."""
    rounded = (np.rint(elevated / (d + 1)) * (d + 1)).astype(np.int64)
    total = rounded.sum(axis=1, keepdims=True) // (d + 1)
    order = np.argsort(-(elevated - rounded), axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(d + 1)[None], axis=1)
    rank += total
    rounded += (d + 1) * ((rank < 0).astype(np.int64) - (rank > d))
    rank += (d + 1) * ((rank < 0).astype(np.int64) - (rank > d))
    delta = (elevated - rounded) / (d + 1)
    by_rank = np.take_along_axis(delta, np.argsort(-rank, axis=1), axis=1)  # of ranks d, d - 1, ..., 0
    weights = by_rank.copy()
    weights[:, 1:] -= by_rank[:, :-1]
    weights[:, 0] += 1 - by_rank[:, -1]
    return rounded, rank, weights
