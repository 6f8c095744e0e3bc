"""Ranks unlabeled images for labeling: those with the highest uncertainty that differ from one another.

Images are chosen one after the other (farthest-first traversal, as in Sener and Savarese 2018, "Active Learning for
Convolutional Neural Networks: A Core-Set Approach", with uncertainty as a second aim). The command `rank_unlabeled`
uses this.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from deeplab.inference.segmenter import Segmentation
from deeplab.utils.text import harmless

_GRID = 4  # rows and columns of the mean colors that describe an image


@dataclass(frozen=True, eq=False)
class Candidate:
    """An unlabeled image.

    Attributes:
      path: of the file.
      uncertainty: 1 minus the mean probability of the predicted class, 0..1.
      features: float32 [n], its description: mean probabilities of the classes, and mean colors of a grid of parts.
    """

    path: str
    uncertainty: float
    features: np.ndarray

    @classmethod
    def of(cls, path: str, result: Segmentation) -> Candidate:
        """Describe an image by its prediction, which must have probabilities."""
        scores = result.probabilities
        assert scores is not None
        small = cv2.resize(result.image, (_GRID, _GRID), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        features = np.concatenate([scores.reshape(-1, scores.shape[-1]).mean(axis=0), small.ravel() / _GRID])
        return cls(path, 1.0 - float(scores.max(-1).mean()), features)


@dataclass(frozen=True)
class Ranked:
    """A place in the order of labeling.

    Attributes:
      index: of the candidate.
      distance: from the images chosen before, 0..1 of the largest one; 1 for the first.
      chosen: whether diversity was considered; the rest follows by uncertainty alone.
    """

    index: int
    distance: float
    chosen: bool


def rank(candidates: Sequence[Candidate], number: int, diversity: float) -> list[Ranked]:
    """Return all candidates in the order in which to label them.

    Args:
      candidates: at least one.
      number: how many are chosen for diversity, too.
      diversity: weight of the distance, 0..1; that of the uncertainty is the rest. Both are relative to the largest.
    """
    uncertainty = np.array([one.uncertainty for one in candidates])
    relative = uncertainty / max(float(uncertainty.max()), 1e-9)
    features = np.stack([one.features for one in candidates])
    distance = np.full(len(candidates), np.inf)
    left = np.ones(len(candidates), bool)
    found: list[Ranked] = []
    while left.any() and len(found) < number:
        largest = max(float(distance[left].max()), 1e-9)
        unlike = np.ones(len(candidates)) if not found else distance / largest
        score = np.where(left, diversity * unlike + (1 - diversity) * relative, -np.inf)
        index = int(score.argmax())
        found.append(Ranked(index, float(unlike[index]), True))
        left[index] = False
        distance = np.minimum(distance, np.linalg.norm(features - features[index], axis=1))
    rest = sorted(np.flatnonzero(left).tolist(), key=lambda index: -uncertainty[index])
    largest = max(float(distance.max()), 1e-9)
    return found + [Ranked(index, float(distance[index] / largest), False) for index in rest]


def ranking_csv(candidates: Sequence[Candidate], order: Sequence[Ranked]) -> str:
    """Format the table: rank, image, uncertainty, distance, chosen."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["rank", "image", "uncertainty", "distance", "chosen"])
    for number, place in enumerate(order, 1):
        one = candidates[place.index]
        values = (f"{one.uncertainty:.6f}", f"{place.distance:.6f}", "yes" if place.chosen else "no")
        writer.writerow([number, harmless(one.path), *values])
    return buffer.getvalue()
