"""Trimap IoU: mean IoU in bands around the objects' outlines (DeepLab v3+, Chen et al. 2018, section 4.4, figure 5)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from deeplab.evaluation.metrics import ACCUMULATORS, Accumulator, mean_of_known

WIDTHS = (1, 2, 4, 8, 16, 32)  # pixels


@ACCUMULATORS.register("trimap_iou")
class TrimapIou(Accumulator):
    """Mean IoU of the pixels at most some width from the outlines, for several widths.

    The bands are those of the paper: the ignored pixels, which surround the objects of Pascal VOC, dilated by a square
    of 2 * width + 1 pixels. In an image without ignored pixels, the pixels at the edge between two classes are dilated
    instead, by one pixel less, as they belong to the band themselves. Statistics: int64 [widths, 3, classes]: right
    predictions, labeled pixels, predicted pixels.
    """

    def measure(self, label: np.ndarray, prediction: np.ndarray, confidence: np.ndarray | None = None) -> np.ndarray:
        distance = distance_to_outlines(label, self.ignore_label)
        near = (label != self.ignore_label) & (distance <= WIDTHS[-1])
        of_label, of_prediction = label[near].astype(np.int64), prediction[near].astype(np.int64)
        ring = np.searchsorted(WIDTHS, distance[near]) * self.num_classes
        hits = of_label == of_prediction
        cells = (ring[hits] + of_label[hits], ring + of_label, ring + of_prediction)
        shape = (len(WIDTHS), self.num_classes)
        rings = [np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape) for cell in cells]
        return np.stack(rings, axis=1).cumsum(axis=0)

    def per_class(self, total: np.ndarray | None = None) -> dict[str, np.ndarray]:
        return {}

    def overall(self, total: np.ndarray | None = None) -> dict[str, float]:
        hits, labeled, predicted = np.moveaxis(self.total() if total is None else total, 1, 0)
        union = np.asarray(labeled + predicted - hits, np.float64)
        iou = np.divide(hits, union, out=np.full(union.shape, np.nan), where=np.asarray(labeled) > 0)
        return {f"trimap_iou_{width}": mean_of_known(row) for width, row in zip(WIDTHS, iou, strict=True)}

    def details(self) -> dict[str, Any]:
        """Return the curve of figure 5: widths in pixels and mean IoU."""
        return {"trimap_width": list(WIDTHS), "trimap_mean_iou": list(self.overall().values())}


def distance_to_outlines(label: np.ndarray, ignore_label: int) -> np.ndarray:
    """Return the distance of every pixel to the nearest outline: float32 [H, W], in pixels (Chebyshev).

    0 at ignored pixels, 1 beside them; without ignored pixels, 1 on both sides of an edge between classes; infinite if
    there is neither.
    """
    ignored = label == ignore_label
    seeds, added = (ignored, 0) if ignored.any() else (at_edges(label), 1)
    if not seeds.any():
        return np.full(label.shape, np.inf, np.float32)
    return cv2.distanceTransform((~seeds).astype(np.uint8), cv2.DIST_C, 3) + added


def at_edges(label: np.ndarray) -> np.ndarray:
    """Return the pixels with another class above, below, left or right of them: bool [H, W]."""
    edges = np.zeros(label.shape, bool)
    below, right = label[1:] != label[:-1], label[:, 1:] != label[:, :-1]
    edges[1:] |= below
    edges[:-1] |= below
    edges[:, 1:] |= right
    edges[:, :-1] |= right
    return edges
