"""Calibration: whether predictions with probability p are right in a fraction p of the cases."""

from __future__ import annotations

from typing import Any

import numpy as np

from deeplab.evaluation.metrics import ACCUMULATORS, Accumulator

BINS = 15  # as in the paper


@ACCUMULATORS.register("calibration")
class Calibration(Accumulator):
    """Expected calibration error over pixels (Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3).

    Pixels are sorted into 15 bins of equal width by the probability of the predicted class; the error is the mean over
    pixels of the difference between a bin's mean probability and its fraction of right predictions. Statistics: float64
    [3, 15]: pixels, sum of their probabilities, right predictions.
    """

    needs_confidence = True

    def measure(self, label: np.ndarray, prediction: np.ndarray, confidence: np.ndarray | None) -> np.ndarray:
        assert confidence is not None
        counted = label != self.ignore_label
        values = np.clip(confidence[counted], 0, 1).astype(np.float64)
        right = (label == prediction)[counted]
        place = np.clip(np.ceil(values * BINS).astype(np.int64) - 1, 0, BINS - 1)
        return np.stack([np.bincount(place, weights, BINS) for weights in (np.ones_like(values), values, right)])

    def per_class(self, total: np.ndarray | None = None) -> dict[str, np.ndarray]:
        return {}

    def overall(self, total: np.ndarray | None = None) -> dict[str, float]:
        pixels, confidence, right = self.total() if total is None else total
        number = pixels.sum()
        error = np.abs(confidence - right).sum() / number if number else float("nan")
        return {"calibration_error": float(error)}

    def details(self) -> dict[str, Any]:
        """Return the reliability plot: per bin the fraction of pixels, mean probability, fraction of right ones."""
        pixels, confidence, right = self.total()
        known = np.maximum(pixels, 1)
        none = [None if number == 0 else 1 for number in pixels.tolist()]
        return {
            "reliability": {
                "pixel_fraction": (pixels / max(pixels.sum(), 1)).tolist(),
                "confidence": [value and one for value, one in zip(none, (confidence / known).tolist(), strict=True)],
                "accuracy": [value and one for value, one in zip(none, (right / known).tolist(), strict=True)],
            }
        }
