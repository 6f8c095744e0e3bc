"""Boundary IoU (Cheng et al. 2021, "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation")."""

from __future__ import annotations

import math

import cv2
import numpy as np

from deeplab.evaluation.metrics import ACCUMULATORS

DILATION = 0.02  # width of the boundary as a fraction of the image's diagonal, as in the paper's code


@ACCUMULATORS.register("boundary_iou")
class BoundaryIou:
    """IoU per class of the pixels near each mask's outline, summed over images; 150 classes take no more memory.

    Only pixels of a class that are at most 2 % of the image's diagonal from its outline count. Ignored pixels belong to
    no class, in the label as in the prediction.

    Args:
      num_classes: number of classes.
      ignore_label: label value of pixels that do not count.
    """

    def __init__(self, num_classes: int, ignore_label: int):
        self.num_classes, self.ignore_label = num_classes, ignore_label
        self.intersections, self.unions, self.labeled = np.zeros((3, num_classes), np.int64)

    def add(self, label: np.ndarray, prediction: np.ndarray) -> None:
        """Add one image: integers [H, W]."""
        counted = label != self.ignore_label
        width = boundary_width(*label.shape)
        for index in np.union1d(label[counted], prediction[counted]).tolist():
            in_label, in_prediction = (label == index) & counted, (prediction == index) & counted
            one, other = boundary(in_label, width), boundary(in_prediction, width)
            self.intersections[index] += np.count_nonzero(one & other)
            self.unions[index] += np.count_nonzero(one | other)
            self.labeled[index] += np.count_nonzero(one)

    def per_class(self) -> np.ndarray:
        """Return the boundary IoU per class: float64 [classes], 0..1; NaN for classes absent from the labels."""
        values = np.full(self.num_classes, np.nan)
        return np.divide(self.intersections, self.unions, out=values, where=self.labeled > 0)


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
