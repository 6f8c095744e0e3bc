"""Whether the outlines of labels lie on edges of their pictures: a mask that is mirrored or a stranger has lost them.

Where a label's outline runs, a picture mostly has an edge. The fit of a label is how much stronger edges are on its
outlines than in their neighborhood; it is looked at in four ways: as the label lies, mirrored left to right, upside
down, and both (turned by 180 degrees). Pictures are taken at the small size at which they are compared with each other.

Measured on all pairs of CamVid, FASSEG (with three and with six classes) and 200 of PASCAL VOC: labels as they are have
fits around 0.07 to 0.16, the other ways 0.00 to 0.01 on average. No right label was ever beaten by one of the other
ways by more than 0.02, while 50 to 95 % of the mirrored ones are beaten by 0.05 and more by the right way. The mask of
another image has a fit below an eighth of the usual one in 81 % of the cases (VOC), 51 % (faces) or 8 % (roads, which
are all alike); of the right ones, 2 in 1,245 have. Single masks are judged only in sets whose labels do follow edges.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from deeplab.data.validation.check_report import Finding
from deeplab.data.validation.rules import finding

AS_IT_IS, MIRRORED, UPSIDE_DOWN, TURNED = range(4)
_WAYS = ("as it is", "mirrored left to right", "upside down", "turned by 180 degrees")
_AROUND = 15  # pixels: side of the neighborhood of an outline
_LEAST_OUTLINE = 100  # pixels, below which chance decides
_LEAST_GAIN = 0.05  # of the fit, by which another way must be better
_LEAST_TYPICAL = 0.04  # median of the best fits, below which labels of that set do not follow edges anyway
_LOST = 1 / 8  # of the typical fit, below which a label has lost its edges
_SUSPECT = 0.05  # fit, up to which labels are remembered
_LEAST_IMAGES = 8  # of a split, from which all of them together can be judged
_LEAST_SIGMAS = 6.0  # standard errors by which another way must be better for all together


@dataclass(frozen=True)
class Fit:
    """How well a label's outlines lie on the edges of its picture.

    Attributes:
      ways: the fit as it is, mirrored, upside down, turned; about 0 where outlines and edges have nothing in common.
      outline: pixels of the outline, at the size at which it was looked at.
      detail: rows that differ from the one above; two labels that are the same by chance have few.
    """

    ways: tuple[float, float, float, float]
    outline: int
    detail: int = 0

    @property
    def best(self) -> int:
        """The way that fits best."""
        return int(np.argmax(self.ways))

    @property
    def gain(self) -> float:
        """By how much it is better than the label as it is."""
        return max(self.ways) - self.ways[AS_IT_IS]


def fit_of(gray: np.ndarray, label: np.ndarray) -> Fit | None:
    """The fit of a label to its picture; None where the label has no outline.

    Args:
      gray: float32 [h, w], gray levels of the picture at a small size.
      label: uint8 [H, W], at any size of the same shape.
    """
    small = cv2.resize(label, gray.shape[::-1], interpolation=cv2.INTER_NEAREST)
    rows, columns = np.nonzero(outline_of(small))
    if not len(rows):
        return None
    contrast = edge_contrast(gray)
    height, width = gray.shape
    # Outlines lie between pixels, and are counted with the upper or left one: mirrored, that is the lower or right one.
    placed = ((rows, columns), (rows, width - 1 - columns), (height - 1 - rows, columns))
    ways = [float(contrast[place].mean()) for place in (*placed, (height - 1 - rows, width - 1 - columns))]
    return Fit((ways[0], ways[1], ways[2], ways[3]), len(rows), int((small[1:] != small[:-1]).any(1).sum()))


def outline_of(label: np.ndarray) -> np.ndarray:
    """Pixels whose right or lower neighbor has another value, bool [H, W]."""
    outline = np.zeros(label.shape, bool)
    outline[:, :-1] = label[:, :-1] != label[:, 1:]
    outline[:-1] |= label[:-1] != label[1:]
    return outline


def edge_contrast(gray: np.ndarray) -> np.ndarray:
    """How much stronger the edge at each pixel is than those around it: float32 [h, w], -1 to 1.

    Edges are ranked, strongest 1, so that one bright lamp does not outweigh all else, and count one pixel around.

    Args:
      gray: float32 [h, w].
    """
    calm = cv2.GaussianBlur(gray, (3, 3), 0)
    strength = cv2.magnitude(cv2.Sobel(calm, cv2.CV_32F, 1, 0), cv2.Sobel(calm, cv2.CV_32F, 0, 1))
    scaled = cv2.normalize(np.sqrt(strength), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)  # type: ignore[call-overload]
    rank = cv2.dilate(cv2.equalizeHist(scaled), np.ones((3, 3), np.uint8)).astype(np.float32) / 255
    return rank - cv2.blur(rank, (_AROUND, _AROUND))


# --- All labels of a set ------------------------------------------------------------------------------------


@dataclass
class SplitFits:
    """The fits of one split.

    Attributes:
      ways: four for each label, one after the other.
      suspects: labels that fit better in another way, or hardly at all: where, the fit, and the image's place in the
        order of the check.
    """

    ways: array[float] = field(default_factory=lambda: array("f"))
    suspects: list[tuple[str, Fit, int]] = field(default_factory=list)

    def add(self, fit: Fit, where: str, place: int) -> None:
        """Takes one label."""
        if fit.outline < _LEAST_OUTLINE:
            return
        self.ways.extend(fit.ways)
        if fit.ways[AS_IT_IS] <= _SUSPECT or fit.gain >= _LEAST_GAIN:
            self.suspects.append((where, fit, place))

    @property
    def table(self) -> np.ndarray:
        """float64 [labels, 4]."""
        return np.array(self.ways, np.float64).reshape(-1, 4)


@dataclass(frozen=True)
class Misfit:
    """A finding about a label, and its image's place in the order of the check; -1 where it is about all."""

    finding: Finding
    place: int = -1


def look_at_fits(fits: dict[str, SplitFits]) -> Iterator[Misfit]:
    """Labels that fit their pictures better when they are mirrored or turned: all of a split, or single ones.

    Args:
      fits: by split.
    """
    tables = [of_split.table for of_split in fits.values() if of_split.ways]
    if not tables:
        return
    typical = float(np.median(np.concatenate(tables).max(1)))
    if typical < _LEAST_TYPICAL:
        return
    for split, of_split in fits.items():
        way = _way_of_all(of_split.table)
        if way:
            yield Misfit(_all_misfit(split, of_split.table, way))
            continue
        for where, fit, place in of_split.suspects:
            found = _judged(fit, typical, where, split)
            if found:
                yield Misfit(found, place)


def _judged(fit: Fit, typical: float, where: str, split: str) -> Finding | None:
    """What is wrong with a single label, where the labels of its set mostly have a certain fit."""
    before, after = fit.ways[AS_IT_IS], fit.ways[fit.best]
    if fit.gain >= _LEAST_GAIN and after >= typical / 2 and before <= typical / 4:
        text = (
            f"fits its picture better {_WAYS[fit.best]}: the fit of outlines and edges is then {after:.2f} instead of "
            f"{before:.2f}; that of most masks is about {typical:.2f}"
        )
        return finding("mask-mirrored", where, text, split=split)
    if before <= _LOST * typical:
        text = (
            f"its outlines are on no edges: their fit is {max(before, 0):.2f}, that of most masks about {typical:.2f}"
        )
        return finding("mask-off-edges", where, text, split=split)
    return None


def _way_of_all(table: np.ndarray) -> int:
    """The way in which all labels together fit better for certain, such as MIRRORED; AS_IT_IS where there is none."""
    if len(table) < _LEAST_IMAGES:
        return AS_IT_IS
    means = table.mean(0)
    way = int(np.argmax(means))
    gain = table[:, way] - table[:, AS_IT_IS]
    certain = gain.mean() >= _LEAST_SIGMAS * gain.std() / np.sqrt(len(table))
    clear = means[way] >= _LEAST_TYPICAL and means[AS_IT_IS] <= means[way] / 2
    return way if certain and clear else AS_IT_IS


def _all_misfit(split: str, table: np.ndarray, way: int) -> Finding:
    before, after = table.mean(0)[[AS_IT_IS, way]]
    text = (
        f"all {len(table)} masks together fit their pictures better {_WAYS[way]}: the fit of outlines and edges is "
        f"then {after:.2f} on average instead of {before:.2f}"
    )
    hint = "look at some overlays; then turn all masks, or their images, before building"
    return finding("mask-mirrored", split, text, split=split, hint=hint)
