"""Polygons of a label: the regions of each class as outlines along the edges of pixels.

Coordinates are pixels, x to the right and y down, with (0, 0) in the top left corner of the image's first pixel, as in
`data/readers/shapes.py`, which paints such polygons back into the same label, pixel for pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

_STEPS = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])  # x, y of directions right, down, left, up


@dataclass(frozen=True, eq=False)
class Region:
    """A connected region of one class.

    Attributes:
      index: class number.
      outline: float64 [N, 2] of x, y, clockwise on the screen; the last point is not the first.
      holes: outlines of the parts inside that do not belong to it, counterclockwise.
      area: pixels.
    """

    index: int
    outline: np.ndarray
    holes: tuple[np.ndarray, ...]
    area: int

    def ring(self) -> np.ndarray:
        """Return one closed line for formats without holes: each hole is joined by a slit without width.

        Slits run along the edges of pixels, so that no pixel's center is on them.
        """
        ring = self.outline
        for hole in self.holes:
            distance = np.abs(ring[:, None] - hole[None]).sum(-1)
            at, start = np.unravel_index(distance.argmin(), distance.shape)
            corner = np.array([[hole[start, 0], ring[at, 1]]])
            inside = np.concatenate([hole[start:], hole[: start + 1]])
            ring = np.concatenate([ring[: at + 1], corner, inside, corner, ring[at:]])
        return ring


def regions(label: np.ndarray, classes: Sequence[int], tolerance: float = 0.0) -> list[Region]:
    """Return the regions of some classes, largest first within a class.

    Args:
      label: integers [H, W].
      classes: class numbers.
      tolerance: maximum distance in pixels between an outline and the edge of its region, for fewer points (Douglas
        and Peucker 1973); 0 = exact. Regions that would vanish keep their outline.
    """
    found = []
    for index in classes:
        of_class = _regions_of(label == index, int(index), tolerance)
        found += sorted(of_class, key=lambda region: -region.area)
    return found


def _regions_of(mask: np.ndarray, index: int, tolerance: float) -> list[Region]:
    if not mask.any():
        return []
    _, numbers, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    outlines: dict[int, np.ndarray] = {}
    holes: dict[int, list[np.ndarray]] = {}
    for number, ring in _rings(mask, numbers):
        if _area(ring) > 0:
            outlines[number] = ring
        else:
            holes.setdefault(number, []).append(ring)
    return [
        Region(
            index,
            simplified(ring, tolerance),
            tuple(simplified(hole, tolerance) for hole in holes.get(number, ())),
            int(facts[number, cv2.CC_STAT_AREA]),
        )
        for number, ring in outlines.items()
    ]


def _rings(mask: np.ndarray, numbers: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Return all closed lines between a mask and the rest, each with the number of its region: float64 [N, 2].

    Every edge of a pixel to the outside is walked with the pixel on its right. Where two pixels touch at a corner only,
    the line turns right, so that regions stay apart.
    """
    padded = np.pad(mask, 1)
    inner = padded[1:-1, 1:-1]
    beyond = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])  # above, right, below, left
    corners = ((0, 0), (0, 1), (1, 1), (1, 0))  # row, column of the start of the top, right, bottom, left edge
    starts, directions, owners = [], [], []
    width = mask.shape[1] + 1
    for side, (other, (down, across)) in enumerate(zip(beyond, corners, strict=True)):
        rows, columns = np.nonzero(inner & ~other)
        starts.append((rows + down) * width + columns + across)
        directions.append(np.full(len(rows), side))
        owners.append(numbers[rows, columns])
    start, direction, owner = np.concatenate(starts), np.concatenate(directions), np.concatenate(owners)
    order = np.argsort(start * 4 + direction)
    start, direction, owner = start[order], direction[order], owner[order]
    follows = _following(start, direction, width)
    return _walk(start, direction, owner, follows, width)


def _following(start: np.ndarray, direction: np.ndarray, width: int) -> np.ndarray:
    """Return for each edge the one that continues it: a right turn if there is one, else straight on, else left."""
    code = start * 4 + direction
    end = start + _STEPS[direction, 0] + _STEPS[direction, 1] * width
    follows = np.full(len(code), -1)
    for turn in (3, 0, 1):  # later ones take precedence
        wanted = end * 4 + (direction + turn) % 4
        place = np.minimum(np.searchsorted(code, wanted), len(code) - 1)
        follows = np.where(code[place] == wanted, place, follows)
    return follows


def _walk(
    start: np.ndarray, direction: np.ndarray, owner: np.ndarray, follows: np.ndarray, width: int
) -> list[tuple[int, np.ndarray]]:
    rings = []
    turns = (direction[follows] != direction).tolist()  # whether an edge ends in a corner
    ahead, seen = follows.tolist(), bytearray(len(start))
    for first in range(len(ahead)):
        if seen[first]:
            continue
        corners, edge = [], first
        while not seen[edge]:
            seen[edge] = 1
            if turns[edge]:
                corners.append(ahead[edge])
            edge = ahead[edge]
        at = start[corners]
        rings.append((int(owner[first]), np.stack([at % width, at // width], axis=1).astype(np.float64)))
    return rings


def _area(ring: np.ndarray) -> float:
    """Signed area: positive for a ring that is clockwise on the screen."""
    x, y = ring.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def simplified(ring: np.ndarray, tolerance: float) -> np.ndarray:
    """Return a ring with fewer points, at most `tolerance` pixels away; itself if fewer than 3 points would be left."""
    if tolerance <= 0:
        return ring
    kept = cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance, True)[:, 0].astype(np.float64)
    return kept if len(kept) > 2 and _area(kept) != 0 else ring
