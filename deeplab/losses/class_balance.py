"""Class weights to choose from: the usual schemes side by side, from the pixels of the training split.

Each is scaled so that its mean over the classes that occur is 1, which leaves the learning rate its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Weights = Mapping[str, Sequence[float | None]]

MOST_IN_FLAG = 40  # classes up to which the flag is printed on a terminal

INVERSE, ROOT, MEDIAN = "inverse", "square root", "median"
ENET, EFFECTIVE = "enet", "effective number"

EXPLANATIONS: Mapping[str, str] = {
    INVERSE: "1 / share of the pixels: every class counts the same; restless where one is rare",
    ROOT: "1 / root of that share: half way to it, a good first try",
    MEDIAN: "median share / share, each among the images that hold the class (Eigen and Fergus, 2015)",
    ENET: "1 / ln(1.02 + share): at most 50 before scaling, whatever the share (Paszke et al., 2016)",
    EFFECTIVE: "by the number of images with the class, not of pixels: neighbors tell the same (Cui et al., 2019)",
}


def schemes(pixels: Sequence[int], images_with: Sequence[int], pixels_around: Sequence[int], images: int) -> Weights:
    """Weights by scheme.

    Args:
      pixels: pixels of each class; ignored ones do not count.
      images_with: for each class the number of images in which it occurs.
      pixels_around: for each class the pixels of all classes in those images.
      images: number of images in all.

    Returns:
      For each name in `EXPLANATIONS` one number a class, None for classes without a pixel. Empty where there is no
      pixel at all.
    """
    counts = np.array(pixels, np.float64)
    present = counts > 0
    if not present.any():
        return {}
    share = counts[present] / counts.sum()
    around = counts[present] / np.array(pixels_around, np.float64)[present]
    raw = {
        INVERSE: 1 / share,
        ROOT: 1 / np.sqrt(share),
        MEDIAN: np.median(around) / around,
        ENET: 1 / np.log(1.02 + share),
        EFFECTIVE: effective_number(np.array(images_with, np.float64)[present], images),
    }
    return {name: _spread(values / values.mean(), present) for name, values in raw.items()}


def effective_number(images_with: np.ndarray, images: int) -> np.ndarray:
    """(1 - beta) / (1 - beta^n), equation 4 of "Class-Balanced Loss Based on Effective Number of Samples" (Cui 2019).

    n is the number of images with the class: with pixels, n would be so large that all weights were equal. beta is
    (N - 1) / N as in the paper, N the number of images, beyond which a further one brings little that is new.

    Args:
      images_with: float [classes], all above 0.
      images: N.
    """
    beta = (images - 1) / images
    return (1 - beta) / (1 - beta**images_with)


def _spread(values: np.ndarray, present: np.ndarray) -> list[float | None]:
    numbers = iter(values.tolist())
    return [next(numbers) if there else None for there in present]


def ratio(weights: Sequence[float | None]) -> float:
    """Largest over smallest weight."""
    known = [weight for weight in weights if weight is not None]
    return max(known) / min(known)


def as_flag(weights: Sequence[float | None]) -> str:
    """`label_weights=`... with three digits; 1 for classes without a pixel, where no weight matters."""
    return "`label_weights=`" + ",".join("1" if weight is None else f"{weight:.3g}" for weight in weights)


def flag_of(weights: Sequence[float | None]) -> str:
    """The flag; where it would be too long to read, where it stands."""
    if len(weights) <= MOST_IN_FLAG:
        return as_flag(weights)
    return f"`label_weights` with the {len(weights)} weights that `html` and `json` list"
