"""Boundary IoU (Cheng et al. 2021, "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation")."""

from __future__ import annotations

import math

import cv2
import numpy as np

from deeplab.evaluation.metrics import ACCUMULATORS, Accumulator

DILATION = 0.02  # width of the boundary as a fraction of the image's diagonal, as in the paper's code


@ACCUMULATORS.register("boundary_iou")
class BoundaryIou(Accumulator):
    """IoU per class of the pixels near each mask's outline, summed over images; 150 classes take no more memory.

    Only pixels of a class that are at most 2 % of the image's diagonal from its outline count. Ignored pixels belong to
    no class, in the label as in the prediction. Statistics: int64 [3, classes]: intersection, union and labeled pixels.
    """

    def measure(self, label: np.ndarray, prediction: np.ndarray, confidence: np.ndarray | None = None) -> np.ndarray:
        counted = label != self.ignore_label
        width = boundary_width(*label.shape)
        found = np.zeros((3, self.num_classes), np.int64)
        for index in np.union1d(label[counted], prediction[counted]).tolist():
            one = boundary((label == index) & counted, width)
            other = boundary((prediction == index) & counted, width)
            found[:, index] = [np.count_nonzero(part) for part in (one & other, one | other, one)]
        return found

    def per_class(self, total: np.ndarray | None = None) -> dict[str, np.ndarray]:
        intersections, unions, labeled = self.total() if total is None else total
        values = np.full(self.num_classes, np.nan)
        return {"boundary_iou": np.divide(intersections, unions, out=values, where=labeled > 0)}


def boundary_width(height: int, width: int, dilation: float = DILATION) -> int:
    """Return the width of the boundary in pixels, at least 1."""
    return max(1, round(dilation * math.hypot(height, width)))


def boundary(mask: np.ndarray, width: int) -> np.ndarray:
    """Return the pixels of a mask within a distance of its outline: bool [H, W].

    The mask is eroded `width` times by 3x3 pixels; beyond the image's border there is no mask.
    """
    padded = np.pad(mask.astype(np.uint8), 1)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)
    return mask & (eroded[1:-1, 1:-1] == 0)
