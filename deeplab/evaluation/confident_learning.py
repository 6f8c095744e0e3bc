"""Label errors by confident learning: where a model that is sure enough of another class contradicts the label.

A class's threshold is the mean probability that the model gives it where it is labeled (Northcutt, Jiang and Chuang
2021, "Confident Learning", equation 2). A pixel is suspect if the predicted class is another one than labeled and
reaches its threshold. Images are ranked by the sum of the margins of their suspect pixels, relative to the pixels of
their objects. A model judges labels best that it was not trained on. The command `find_label_errors` uses this.
"""

from __future__ import annotations

import csv
import io
import os
import pathlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from deeplab.data.labels import LabelSpec
from deeplab.evaluation.split_images import SplitImages
from deeplab.inference.predictor import Predictor
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import write_atomically
from deeplab.utils.text import harmless
from deeplab.visualization import html_page
from deeplab.visualization.html_page import Figure, jpeg
from deeplab.visualization.label_rendering import LabelColors

TEMPLATE = pathlib.Path(__file__).with_name("label_errors.html.j2")
IMAGES_FILE, REGIONS_FILE, PAGE_FILE, OVERLAYS = "images.csv", "regions.csv", "report.html", "overlay"
_MIN_OBJECTS = 0.02  # of the labeled pixels: images with fewer object pixels are not ranked up by that alone
_MAX_REGIONS = 20  # of one image
_SUSPECT = np.array([214, 40, 40], np.float32)


@dataclass(frozen=True, eq=False)
class Judged:
    """What a model says about one image's label, compressed in memory.

    Attributes:
      name: of the image.
      source: number of the split that it came from, and its place there.
      shape: height and width.
      data: label and prediction, each [H, W] of `dtype`, then the probabilities of the prediction and of the label
        (0..255), each uint8 [H, W].
      dtype: uint8, or uint16 of labels of 16 bits.
    """

    name: str
    source: tuple[int, int]
    shape: tuple[int, int]
    data: bytes
    dtype: type[np.uint8] | type[np.uint16] = np.uint8

    @classmethod
    def of(cls, name: str, source: tuple[int, int], label: np.ndarray, scores: np.ndarray, ignore_label: int) -> Judged:
        """Judge a label, integers [H, W], by probabilities, float32 [H, W, classes]."""
        prediction = scores.argmax(-1)
        labeled = np.where((label == ignore_label) | (label >= scores.shape[-1]), 0, label)
        of_label = np.take_along_axis(scores, labeled[..., None].astype(np.int64), -1)[..., 0]
        rounded = np.rint(255 * np.stack([scores.max(-1), of_label])).astype(np.uint8)
        dtype = LabelSpec(scores.shape[-1], ignore_label).dtype
        classes = np.stack([label, prediction]).astype(dtype)
        return cls(name, source, label.shape, zlib.compress(classes.tobytes() + rounded.tobytes(), 1), dtype)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return label and prediction, [H, W] of `dtype`, and the probabilities of prediction and label, float32."""
        data, pixels = zlib.decompress(self.data), self.shape[0] * self.shape[1]
        label, prediction = np.frombuffer(data, self.dtype, 2 * pixels).reshape(2, *self.shape)
        sure, of_label = np.frombuffer(data, np.uint8)[-2 * pixels :].reshape(2, *self.shape) / np.float32(255)
        return label, prediction, sure, of_label


@dataclass(frozen=True)
class SuspectRegion:
    """A connected region of suspect pixels that are predicted as one class.

    Attributes:
      left, top, width, height: its box in pixels.
      pixels: their number.
      labeled, predicted: class numbers; the labeled one is the most frequent.
      margin: mean probability of the predicted class, less that of the labeled one.
    """

    left: int
    top: int
    width: int
    height: int
    pixels: int
    labeled: int
    predicted: int
    margin: float


@dataclass(frozen=True, eq=False)
class Suspicion:
    """An image with its score.

    Attributes:
      judged: the image.
      score: 0..1; higher = more likely wrong.
      pixels: suspect pixels.
      regions: the largest ones first.
    """

    judged: Judged
    score: float
    pixels: int
    regions: Sequence[SuspectRegion]


def judge(predictor: Predictor, images: SplitImages, number: int = 0) -> Iterator[Judged]:
    """Yield what a model says about every label of a split, with a progress bar.

    Args:
      predictor: must have probabilities.
      images: the split.
      number: of the split, for `Judged.source`.

    Raises:
      UserError: no labels, or no probabilities.
    """
    place = 0
    with console.progress(total=len(images), what=f"judging {images.name}", unit="image") as bar:
        for batch in images.batches():
            if not batch.labels:
                rule = "has no labels to examine"
                raise UserError("missing-label", rule, "give a split that was built with masks", where=images.name)
            for name, image, label in zip(batch.names, batch.images, batch.labels, strict=True):
                scores = predictor.predict(image).probabilities
                if scores is None:
                    rule, hint = "this model file has no probabilities", "give the checkpoint"
                    raise UserError("no-probabilities", rule, hint, where=predictor.source)
                yield Judged.of(name, (number, place), label, scores, images.dataset.ignore_label)
                place += 1
                bar.update()


def thresholds(judged: Iterable[Judged], num_classes: int, ignore_label: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each class's mean probability where it is labeled, and its labeled pixels: two float64 [classes].

    A class without labels has threshold 1: only a certain prediction of it counts.
    """
    sums, pixels = np.zeros((2, num_classes))
    for one in judged:
        label, _, _, of_label = one.arrays()
        counted = (label != ignore_label) & (label < num_classes)
        sums += np.bincount(label[counted], of_label[counted], num_classes)
        pixels += np.bincount(label[counted], minlength=num_classes)
    return np.where(pixels > 0, sums / np.maximum(pixels, 1), 1.0), pixels


def rank(judged: Sequence[Judged], num_classes: int, ignore_label: int, min_pixels: int = 50) -> list[Suspicion]:
    """Return all images, the most suspicious first.

    Args:
      judged: from `judge`.
      num_classes: number of classes.
      ignore_label: label value of pixels that do not count.
      min_pixels: smallest region that is listed.
    """
    limits, pixels = thresholds(judged, num_classes, ignore_label)
    frequent = int(pixels.argmax())  # usually the background: where both agree on it, nothing is at stake
    found = [_suspicion(one, limits, frequent, ignore_label, min_pixels) for one in judged]
    return sorted(found, key=lambda one: -one.score)


def suspects(one: Judged, limits: np.ndarray, ignore_label: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the suspect pixels of an image, bool [H, W], and their margins, float32 [H, W], 0 elsewhere."""
    label, prediction, sure, of_label = one.arrays()
    counted = (label != ignore_label) & (label < len(limits))
    suspect = counted & (prediction != label) & (sure >= limits[prediction] - 0.5 / 255)
    return suspect, np.where(suspect, sure - of_label, 0).astype(np.float32)


def _suspicion(one: Judged, limits: np.ndarray, frequent: int, ignore_label: int, min_pixels: int) -> Suspicion:
    label, prediction, _, _ = one.arrays()
    suspect, margin = suspects(one, limits, ignore_label)
    counted = label != ignore_label
    objects = counted & ((label != frequent) | (prediction != frequent))
    whole = max(np.count_nonzero(objects), _MIN_OBJECTS * np.count_nonzero(counted), 1)
    regions = _regions(suspect, margin, label, prediction, min_pixels)
    return Suspicion(one, float(margin.sum() / whole), int(np.count_nonzero(suspect)), regions)


def _regions(
    suspect: np.ndarray, margin: np.ndarray, label: np.ndarray, prediction: np.ndarray, min_pixels: int
) -> list[SuspectRegion]:
    found = []
    for index in np.unique(prediction[suspect]).tolist():
        mask = suspect & (prediction == index)
        number, regions, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        sums = np.bincount(regions.ravel(), margin.ravel(), number)
        for region in range(1, number):
            left, top, width, height, pixels = (int(value) for value in facts[region])
            if pixels < min_pixels:
                continue
            part = np.s_[top : top + height, left : left + width]
            labeled = int(np.bincount(label[part][regions[part] == region]).argmax())
            found.append(SuspectRegion(left, top, width, height, pixels, labeled, index, float(sums[region] / pixels)))
    return sorted(found, key=lambda region: -region.pixels * region.margin)[:_MAX_REGIONS]


# --- Files --------------------------------------------------------------------------------------------------


def images_csv(found: Sequence[Suspicion]) -> str:
    """Format the table of images: rank, image, score, suspect pixels and their fraction of the image."""
    rows = [
        (number, harmless(one.judged.name), f"{one.score:.6f}", one.pixels, f"{one.pixels / _size(one):.6f}")
        for number, one in enumerate(found, 1)
    ]
    return _csv(("rank", "image", "score", "suspect_pixels", "suspect_fraction"), rows)


def regions_csv(found: Sequence[Suspicion], class_names: Sequence[str]) -> str:
    """Format the table of regions: image, box in pixels, labeled and predicted class, pixels, margin."""
    rows = [
        (
            number,
            harmless(one.judged.name),
            *(region.left, region.top, region.width, region.height),
            harmless(class_names[region.labeled]),
            harmless(class_names[region.predicted]),
            region.pixels,
            f"{region.margin:.4f}",
        )
        for number, one in enumerate(found, 1)
        for region in one.regions
    ]
    header = ("rank", "image", "left", "top", "width", "height", "labeled", "predicted", "pixels", "margin")
    return _csv(header, rows)


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()


def _size(one: Suspicion) -> int:
    return one.judged.shape[0] * one.judged.shape[1]


def write_results(
    found: Sequence[Suspicion],
    drawn: Iterable[tuple[Suspicion, np.ndarray]],
    colors: LabelColors,
    limits: np.ndarray,
    folder: str | os.PathLike,
) -> list[pathlib.Path]:
    """Write the tables, an overlay for each given image, and the page.

    Args:
      found: all images, the most suspicious first.
      drawn: those that get an overlay, with their pixels, uint8 [H, W, 3].
      colors: of the classes.
      limits: thresholds of the classes.
      folder: exists.

    Returns:
      The files and the folder of the overlays.
    """
    folder = pathlib.Path(folder)
    paths = [folder / name for name in (IMAGES_FILE, REGIONS_FILE, PAGE_FILE)]
    ranks = {id(one): number for number, one in enumerate(found, 1)}
    figures = []
    for one, image in drawn:
        figure = _figure(one, image, colors, limits, ranks[id(one)])
        figures.append((ranks[id(one)], figure))
        (folder / OVERLAYS).mkdir(exist_ok=True)
        name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in one.judged.name)
        overlay = jpeg(marked(image, suspects(one.judged, limits, colors.ignore_label)[0]), max(image.shape))
        write_atomically(folder / OVERLAYS / f"{ranks[id(one)]:05d}_{name[:150]}.jpg", overlay)
    write_atomically(paths[0], images_csv(found).encode())
    write_atomically(paths[1], regions_csv(found, colors.names).encode())
    values = {
        "number": len(found),
        "figures": [figure for _, figure in sorted(figures, key=lambda pair: pair[0])],
        "classes": [(name, f"{limits[index]:.3f}") for index, name in enumerate(colors.names)],
    }
    write_atomically(paths[2], html_page.render(TEMPLATE, values).encode())
    return [*paths, *([folder / OVERLAYS] if figures else [])]


def marked(image: np.ndarray, suspect: np.ndarray) -> np.ndarray:
    """Return an image, uint8 [H, W, 3], with suspect pixels in red."""
    mixed = image.astype(np.float32)
    mixed[suspect] = 0.4 * mixed[suspect] + 0.6 * _SUSPECT
    return mixed.astype(np.uint8)


def _figure(one: Suspicion, image: np.ndarray, colors: LabelColors, limits: np.ndarray, number: int) -> Figure:
    label, prediction, _, _ = one.judged.arrays()
    suspect, _ = suspects(one.judged, limits, colors.ignore_label)
    views = [("image", image), ("label", colors.draw(label)), ("prediction", colors.draw(prediction))]
    views.append(("suspect", marked(image, suspect)))
    shown = tuple((title, jpeg(view, smooth=title in ("image", "suspect"))) for title, view in views)
    first = one.regions[0] if one.regions else None
    what = f": {colors.names[first.labeled]}, should be {colors.names[first.predicted]}?" if first else ""
    return Figure(shown, f"{number}. {one.judged.name}, score {one.score:.3f}{what}")
