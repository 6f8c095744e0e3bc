"""Example images of an evaluation: the best, the worst, the most uncertain, and those of the most confused classes.

Which images they are follows from the counts per image; they are then read and predicted a second time, so that an
evaluation keeps no images. The HTML reports show them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from deeplab.data import colormaps, records
from deeplab.evaluation.cell_counts import CellCounts
from deeplab.evaluation.image_counts import ImageCounts
from deeplab.evaluation.split_images import SplitImages, original_labels
from deeplab.inference.predictor import Predictor
from deeplab.visualization.dataset_browser import browsed, read_records
from deeplab.visualization.html_page import Figure, jpeg
from deeplab.visualization.label_rendering import LabelColors

PER_KIND = 6  # images of each kind
_WRONG, _RIGHT_OPACITY = np.array([214, 40, 40], np.uint8), 0.35


@dataclass(frozen=True)
class ConfusedPair:
    """Two classes of which one is predicted in place of the other.

    Attributes:
      label, prediction: class numbers.
      pixels: of the label's class that are predicted as the other.
      image: the image with most of them.
    """

    label: int
    prediction: int
    pixels: int
    image: int


def best(images: ImageCounts, number: int = PER_KIND) -> list[int]:
    """Return the images with the highest mean IoU, best first."""
    return _ranked(-images.mean_iou(), number)


def worst(images: ImageCounts, number: int = PER_KIND) -> list[int]:
    """Return the images with the lowest mean IoU, worst first."""
    return _ranked(images.mean_iou(), number)


def most_uncertain(images: ImageCounts, number: int = PER_KIND) -> list[int]:
    """Return the images in which the model is least sure, least sure first; empty if that is unknown."""
    return _ranked(-np.array(images.uncertainties), number)


def _ranked(values: np.ndarray, number: int) -> list[int]:
    order = np.argsort(values, kind="stable")
    return [int(index) for index in order if np.isfinite(values[index])][:number]


def confused_pairs(counts: np.ndarray | CellCounts, images: ImageCounts, number: int = 10) -> list[ConfusedPair]:
    """Return the pairs of classes with the most wrong pixels, most first.

    Args:
      counts: integers [classes, classes], rows = label, columns = prediction.
      images: counts per image.
      number: maximum number of pairs.
    """
    used = CellCounts.of(counts)
    row, column = np.divmod(used.cells, len(counts))
    wrong = np.flatnonzero(row != column)
    chosen = wrong[np.argsort(-used.numbers[wrong], kind="stable")[:number]]
    order = used.cells[chosen].tolist()
    pixels = dict(zip(order, used.numbers[chosen].tolist(), strict=True))
    most = dict.fromkeys(order, (0, 0))  # pixels, minus the image
    for index, (cells, numbers) in enumerate(images.cells):
        for cell in np.intersect1d(cells, order).tolist():
            most[cell] = max(most[cell], (int(numbers[np.searchsorted(cells, cell)]), -index))
    classes = len(counts)
    return [ConfusedPair(cell // classes, cell % classes, pixels[cell], -most[cell][1]) for cell in order]


@dataclass(frozen=True, eq=False)
class Example:
    """An image with its label and prediction, at its own size.

    Attributes:
      name: of the image.
      image: uint8 [H, W, 3].
      label, prediction: integers [H, W].
    """

    name: str
    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray

    def figure(self, colors: LabelColors, caption: str, max_side: int = 320) -> Figure:
        """Image, label, prediction and errors side by side."""
        views = (
            ("image", self.image, True),
            ("label", colors.draw(self.label), False),
            ("prediction", colors.draw(self.prediction), False),
            ("errors", error_map(self.image, self.label, self.prediction, colors.ignore_label), True),
        )
        return Figure(tuple((title, jpeg(view, max_side, smooth)) for title, view, smooth in views), caption)


def error_map(image: np.ndarray, label: np.ndarray, prediction: np.ndarray, ignore_label: int) -> np.ndarray:
    """Return an image, uint8 [H, W, 3], with wrong pixels red, right ones faded, ignored ones in the color of those."""
    gray = image.mean(-1, keepdims=True) * _RIGHT_OPACITY + 255 * (1 - _RIGHT_OPACITY)
    drawn = np.repeat(gray, 3, axis=-1).astype(np.uint8)
    drawn[label != prediction] = _WRONG
    drawn[label == ignore_label] = colormaps.IGNORED
    return drawn


def read(
    images: SplitImages, predict: Callable[[np.ndarray], np.ndarray], positions: Sequence[int]
) -> Iterator[tuple[int, Example]]:
    """Yield the examples at places in the split, in ascending order; those that cannot be decoded are left out.

    Args:
      images: the split.
      predict: from an image as it is stored to integers [H, W].
      positions: places of the images, from 0.
    """
    for position, record in read_records(images.shards(), sorted(set(positions))):
        bands = images.dataset.image_bands
        found = browsed(position, record, bands)
        if found.image is not None and found.label is not None:
            pixels = found.image if bands.is_rgb else records.decode_values(record)
            yield position, Example(found.name, found.image, found.label, predict(pixels))


def predict_with(predictor: Predictor, images: SplitImages) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from an image to its labels at its own size."""

    def predict(image: np.ndarray) -> np.ndarray:
        return original_labels(predictor.predict_resized(image), image.shape[:2], images.resize)

    return predict
