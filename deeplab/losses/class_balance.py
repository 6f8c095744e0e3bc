"""Class weights for the loss: the usual schemes, and the one recommendation that every command gives.

`check-data` shows all schemes, and `check-data`, `train` and `eval` recommend the weights of `recommended_weights`.
Weights have mean 1 over the classes that occur, which keeps the meaning of the learning rate. NumPy only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

ClassWeights = Sequence[float | None]  # one per class; None for classes without a pixel

MAX_RATIO = 50.0  # largest over smallest weight; beyond it, models tend to predict the heavy class everywhere
ADAPTIVE = "adaptive"  # as `class_balance`: the loss weighs the classes of each batch, see `SegmentationLoss`
RARE = 0.0005  # fraction of the pixels below which a class is hardly ever found without weights
MAX_CLASSES_IN_TEXT = 40  # classes up to which weights are printed on a terminal


@dataclass(frozen=True)
class ClassCounts:
    """What the schemes are computed from, one number per class; ignored pixels do not count.

    Attributes:
      pixels: pixels of the class.
      images_with: images in which the class occurs; empty where unknown.
      pixels_around: labeled pixels of all classes in those images; empty where unknown.
      images: number of images; 0 where unknown.
    """

    pixels: Sequence[int]
    images_with: Sequence[int] = ()
    pixels_around: Sequence[int] = ()
    images: int = 0

    def present(self) -> np.ndarray:
        """Whether each class has a pixel, bool [classes]."""
        return np.array(self.pixels) > 0

    def fraction(self) -> np.ndarray:
        """Fraction of the pixels of each class that occurs, float64 [present classes]."""
        pixels = np.array(self.pixels, np.float64)[self.present()]
        return pixels / pixels.sum()


@dataclass(frozen=True)
class Scheme:
    """A way to compute class weights.

    Attributes:
      compute: from counts, the weight of each class that occurs up to a common factor, float64 [present classes].
      explanation: the formula, in one line.
      pixels_only: `ClassCounts.pixels` alone suffices.
    """

    compute: Callable[[ClassCounts], np.ndarray]
    explanation: str
    pixels_only: bool = True


def _median(counts: ClassCounts) -> np.ndarray:
    present = counts.present()
    frequency = np.array(counts.pixels, np.float64)[present] / np.array(counts.pixels_around, np.float64)[present]
    return np.median(frequency) / frequency


def _effective(counts: ClassCounts) -> np.ndarray:
    """(1 - beta) / (1 - beta^n), section 4 of "Class-Balanced Loss Based on Effective Number of Samples" (Cui 2019).

    n is the number of images with the class: with pixels, n would be so large that all weights were equal. beta is
    (N - 1) / N as in the paper, N the number of images.
    """
    beta = (counts.images - 1) / counts.images
    return (1 - beta) / (1 - beta ** np.array(counts.images_with, np.float64)[counts.present()])


SCHEMES: Mapping[str, Scheme] = {
    "inverse": Scheme(
        lambda counts: 1 / counts.fraction(),
        "1 / fraction of the pixels: every class counts the same; unstable where one is rare",
    ),
    "sqrt": Scheme(
        lambda counts: 1 / np.sqrt(counts.fraction()),
        "1 / square root of the fraction of the pixels: halfway to inverse",
    ),
    "median": Scheme(
        _median,
        "median fraction / fraction, each within the images that hold the class (Eigen and Fergus, 2015)",
        pixels_only=False,
    ),
    "enet": Scheme(
        lambda counts: 1 / np.log(1.02 + counts.fraction()),
        "1 / ln(1.02 + fraction): a ratio of at most 36, however rare a class is (Paszke et al., 2016)",
    ),
    "effective": Scheme(
        _effective,
        "by the number of images with the class, not of pixels, as neighboring pixels are alike (Cui et al., 2019)",
        pixels_only=False,
    ),
}


def class_weights(scheme: str, counts: ClassCounts) -> list[float | None]:
    """Weights of one scheme, with mean 1 over the classes that occur and None for the others."""
    raw = SCHEMES[scheme].compute(counts)
    numbers = iter((raw / raw.mean()).tolist())
    return [next(numbers) if present else None for present in counts.present().tolist()]


def all_weights(counts: ClassCounts) -> dict[str, list[float | None]]:
    """The weights of every scheme by its name; empty where there is no pixel at all."""
    return {name: class_weights(name, counts) for name in SCHEMES} if any(counts.pixels) else {}


def recommended_scheme(pixels: Sequence[int]) -> str:
    """The scheme to try first: sqrt, or enet where sqrt would exceed `MAX_RATIO`."""
    return "enet" if ratio(class_weights("sqrt", ClassCounts(pixels))) > MAX_RATIO else "sqrt"


def recommended_weights(pixels: Sequence[int]) -> list[float | None]:
    """The weights to try first where rare classes are not found; empty where there is no pixel.

    Args:
      pixels: pixels of each class in the training split.
    """
    return class_weights(recommended_scheme(pixels), ClassCounts(pixels)) if any(pixels) else []


def ratio(weights: ClassWeights) -> float:
    """Largest over smallest weight above 0; 1 where there is none."""
    known = [weight for weight in weights if weight]
    return max(known) / min(known) if known else 1.0


def value_text(weights: ClassWeights) -> str:
    """The value of `label_weights`, three digits per class: `0.5,1.25,1`; 1 for classes without a pixel."""
    return ",".join("1" if weight is None else f"{weight:.3g}" for weight in weights)


def setting_text(weights: ClassWeights) -> str:
    """`label_weights=...` between backquotes; of very many classes, where to find the numbers."""
    if len(weights) <= MAX_CLASSES_IN_TEXT:
        return f"`label_weights={value_text(weights)}`"
    return f"`label_weights` with the {len(weights)} numbers that `check-data` writes with `html` or `json`"
