"""Metrics by the size of objects: which fraction of small, medium and large objects is found."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from deeplab.evaluation.metrics import ACCUMULATORS, Accumulator, mean_of_known

SIZES = {"small": 32**2, "medium": 96**2, "large": None}  # upper limits of the area in pixels, as COCO's
_FOUND = 0.5  # an object is found if more than this fraction of its pixels is predicted as its class


@ACCUMULATORS.register("object_size")
class ObjectSize(Accumulator):
    """Recall of pixels and of objects by size; an object is an 8-connected region of one class in the label.

    Wrong predictions elsewhere belong to no object, so there is no IoU by size. Sizes are those of COCO: small up to
    32 * 32 pixels, medium up to 96 * 96. Statistics: int64 [3 sizes, 4, classes]: objects, found ones, pixels, right
    predictions.
    """

    def measure(self, label: np.ndarray, prediction: np.ndarray, confidence: np.ndarray | None = None) -> np.ndarray:
        found = np.zeros((len(SIZES), 4, self.num_classes), np.int64)
        limits = [limit for limit in SIZES.values() if limit is not None]
        for index in np.unique(label).tolist():
            if index == self.ignore_label:
                continue
            mask = label == index
            number, regions, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
            areas = facts[1:, cv2.CC_STAT_AREA].astype(np.int64)
            hits = np.bincount(regions[mask & (prediction == index)], minlength=number)[1:]
            sizes = np.searchsorted(limits, areas)
            for row, values in enumerate((np.ones_like(areas), hits > _FOUND * areas, areas, hits)):
                found[:, row, index] = np.bincount(sizes, values, len(SIZES))
        return found

    def per_class(self, total: np.ndarray | None = None) -> dict[str, np.ndarray]:
        objects, _, pixels, hits = np.moveaxis(self.total() if total is None else total, 1, 0)
        recall = np.divide(hits, pixels, out=np.full(objects.shape, np.nan), where=np.asarray(objects) > 0)
        return {f"accuracy_{name}": row for name, row in zip(SIZES, recall, strict=True)}

    def overall(self, total: np.ndarray | None = None) -> dict[str, float]:
        objects, found, _, _ = np.moveaxis(self.total() if total is None else total, 1, 0)
        ratio = np.divide(found, objects, out=np.full(objects.shape, np.nan), where=np.asarray(objects) > 0)
        of_objects = {f"mean_found_{name}": mean_of_known(row) for name, row in zip(SIZES, ratio, strict=True)}
        return super().overall(total) | of_objects

    def details(self) -> dict[str, Any]:
        """Return the number of objects by size."""
        return {"objects": {name: int(row[0].sum()) for name, row in zip(SIZES, self.total(), strict=True)}}
