"""Draws a network's answers to a split of records: numbered pictures, index masks, and a sheet to look at."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from deeplab.data import colormaps, labels
from deeplab.evaluation.split_images import SplitImages, original_labels, predict_labels
from deeplab.inference.predictor import Predictor
from deeplab.inference.segmenter import write_png
from deeplab.utils import console
from deeplab.utils.parallel import WriteBehind
from deeplab.visualization.prediction_grid import Row, contact_sheet

RESULTS = "segmentation_results"
RAW_RESULTS = "raw_segmentation_results"
SHEET = "image_grid.png"

# Cityscapes' own ids of its 19 training classes: its evaluation server wants these.
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Drawing:
    """What is drawn, and where to.

    Attributes:
      folder: gets `segmentation_results/000000_{image,prediction,overlay}.png`, numbered in the order of the records,
        and `image_grid.png`. Files of an earlier round are replaced.
      colors: RGB of each class, uint8 [256, 3].
      opacity: of the colors in overlays, 0..1.
      overlay_background: overlays color class 0, too, and have no outlines.
      raw_folder: gets index masks (palette PNG) under the images' names; None = none are written.
      ids: label ids that stand in index masks for classes 0, 1, ...; None = the classes themselves.
      sheet_images: images on the sheet; 0 = no sheet.
    """

    folder: pathlib.Path
    colors: np.ndarray
    opacity: float = 0.5
    overlay_background: bool = False
    raw_folder: pathlib.Path | None = None
    ids: Sequence[int] | None = None
    sheet_images: int = 12


@dataclass(frozen=True, eq=False)
class PredictedImage:
    """One image of a split with its answer.

    Attributes:
      number: place in the split, from 0.
      name: the image's name in the records.
      image: uint8 [H, W, 3].
      prediction: int32 [H, W], at the image's own size.
      label: int32 [H, W], or None.
    """

    number: int
    name: str
    image: np.ndarray
    prediction: np.ndarray
    label: np.ndarray | None = field(repr=False, default=None)


def predicted_images(split: SplitImages, predictor: Predictor) -> Iterator[PredictedImage]:
    """Every image of a split with the network's labels, with a progress bar meanwhile.

    Raises:
      UserError: as `SplitImages.batches`.
    """
    number = 0
    with console.progress(total=len(split), what=f"drawing {split.name}", unit="image") as bar:
        for batch in split.batches():
            for index, resized in enumerate(predict_labels(predictor, batch)):
                image = batch.images[index]
                prediction = original_labels(resized, image.shape[:2], split.resize)
                label = batch.labels[index] if batch.labels else None
                yield PredictedImage(number, batch.names[index], image, prediction, label)
                number += 1
            bar.update(len(batch.names))


def draw(split: SplitImages, predictor: Predictor, drawing: Drawing) -> list[str]:
    """Writes all pictures of a split.

    Returns:
      Paths to look at: the folders and the sheet.

    Raises:
      UserError: as `SplitImages.batches`, or a folder that cannot be written to.
    """
    results = drawing.folder / RESULTS
    folders = [results, *([drawing.raw_folder] if drawing.raw_folder else [])]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    rows, names = [], RawNames()
    with WriteBehind() as writer:
        for answer in predicted_images(split, predictor):
            row = row_of(answer, drawing)
            stem = f"{answer.number:06d}"
            writer.submit(write_png, results / f"{stem}_image.png", row.image)
            writer.submit(write_png, results / f"{stem}_prediction.png", row.prediction)
            writer.submit(write_png, results / f"{stem}_overlay.png", row.overlay)
            if drawing.raw_folder:
                path = drawing.raw_folder / f"{names.of(answer)}.png"
                writer.submit(write_index_mask, path, answer.prediction, drawing)
            if answer.number < drawing.sheet_images:
                rows.append(row)
    shown = [str(folder) for folder in folders]
    if rows:
        write_png(drawing.folder / SHEET, contact_sheet(rows, split.dataset.class_names, drawing.colors))
        shown.append(str(drawing.folder / SHEET))
    return shown


def row_of(answer: PredictedImage, drawing: Drawing) -> Row:
    """An answer's pictures."""
    prediction = colormaps.color_label(answer.prediction, drawing.colors)
    seen = np.unique(answer.prediction if answer.label is None else np.stack([answer.prediction, answer.label]))
    return Row(
        name=answer.name,
        image=answer.image,
        prediction=prediction,
        label=None if answer.label is None else colormaps.color_label(answer.label, drawing.colors),
        overlay=colormaps.overlay(
            answer.image, prediction, drawing.opacity, None if drawing.overlay_background else answer.prediction
        ),
        classes=frozenset(seen.tolist()),
    )


def write_index_mask(path: pathlib.Path, prediction: np.ndarray, drawing: Drawing) -> None:
    """Writes int32 [H, W] classes as palette PNG of classes, or of the ids that stand for them."""
    label, colors = prediction.astype(np.uint8), drawing.colors
    if drawing.ids is not None:
        ids = np.array(drawing.ids, np.uint8)
        label, colors = ids[label], np.zeros_like(drawing.colors)
        colors[ids] = drawing.colors[: len(ids)]
    labels.write_index_png(path, label, [tuple(color) for color in colors.tolist()])


class RawNames:
    """File names for index masks from the images' names in the records."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, answer: PredictedImage) -> str:
        """The last part of the image's name, without a picture's suffix; a number is added where it came before."""
        stem, suffix = os.path.splitext(os.path.basename(answer.name))
        name = stem if suffix.lower() in _PICTURE_SUFFIXES else stem + suffix
        if not name or name in self._taken:
            name = f"{name or 'image'}_{answer.number:06d}"
            console.note(f"image {answer.number} ({answer.name!r}) shares its name: its mask is {name}.png")
        self._taken.add(name)
        return name
