"""Draws a model's predictions for a split: numbered images, index masks, and a grid of the first ones."""

from __future__ import annotations

import os
import pathlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from deeplab.data import colormaps, mask_files
from deeplab.data.images import write_png
from deeplab.data.label_bits import as_label
from deeplab.utils import console
from deeplab.utils.files import remove_partial, writing
from deeplab.utils.parallel import WriteBehind
from deeplab.visualization.image_grid import ImageGrid, LegendKey, Tile, plain_swatch
from deeplab.visualization.label_rendering import most_frequent

RESULTS = "segmentation_results"
RAW_RESULTS = "raw_segmentation_results"
GRID = "image_grid.png"

# Cityscapes' own ids of its 19 training classes: its evaluation server wants these.
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Drawing:
    """What is drawn, and where to.

    Attributes:
      folder: gets `segmentation_results/000000_{image,prediction,overlay}.png`, numbered in the order of the records,
        and `image_grid.png`. Files of an earlier round are replaced.
      colors: RGB of each label value, uint8 [256, 3], or [65536, 3] of labels of 16 bits.
      opacity: of the colors in overlays, 0..1.
      overlay_background: overlays color class 0, too, and have no outlines.
      raw_folder: gets index masks (palette PNG, or 16-bit gray beyond 256 classes) under the images' names; None = none
        are written.
      ids: label ids that index masks hold for classes 0, 1, ...; None = the classes themselves.
      grid_images: images in the grid; 0 = no grid.
    """

    folder: pathlib.Path
    colors: np.ndarray
    opacity: float = 0.5
    overlay_background: bool = False
    raw_folder: pathlib.Path | None = None
    ids: Sequence[int] | None = None
    grid_images: int = 12


@dataclass(frozen=True, eq=False)
class PredictedImage:
    """One image of a split with its prediction.

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

    def drawn(self, drawing: Drawing) -> DrawnPrediction:
        """Its prediction, label and overlay in colors."""
        prediction = colormaps.color_label(self.prediction, drawing.colors)
        label = None if self.label is None else colormaps.color_label(self.label, drawing.colors)
        outlined = None if drawing.overlay_background else self.prediction
        overlay = colormaps.overlay(self.image, prediction, drawing.opacity, outlined)
        values = self.prediction if self.label is None else np.stack([self.prediction, self.label])
        pixels = dict(zip(*(found.tolist() for found in np.unique(values, return_counts=True)), strict=True))
        return DrawnPrediction(self.name, self.image, prediction, overlay, label, pixels)


@dataclass(frozen=True, eq=False)
class DrawnPrediction:
    """A prediction in colors; all images uint8 [H, W, 3], RGB.

    Attributes:
      name: the image's name.
      image, prediction, overlay: the image, the prediction in colors, and one over the other.
      label: the label in colors; None = there is none.
      pixels: of each value that occurs in prediction or label, of both together; the ignore label may be among them.
    """

    name: str
    image: np.ndarray
    prediction: np.ndarray
    overlay: np.ndarray
    label: np.ndarray | None = None
    pixels: Mapping[int, int] = field(default_factory=dict)


def draw(images: Iterable[PredictedImage], class_names: Sequence[str], drawing: Drawing) -> list[str]:
    """Writes all images of a split.

    Returns:
      Paths to look at: the folders and the grid.

    Raises:
      UserError: a folder cannot be written to, or what `images` raises.
    """
    results = drawing.folder / RESULTS
    folders = [results, *([drawing.raw_folder] if drawing.raw_folder else [])]
    for folder in folders:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            remove_partial(folder)
    first, names = [], RawNames()
    with WriteBehind() as writer:
        for predicted in images:
            drawn = predicted.drawn(drawing)
            stem = f"{predicted.number:06d}"
            writer.submit(write_png, results / f"{stem}_image.png", drawn.image)
            writer.submit(write_png, results / f"{stem}_prediction.png", drawn.prediction)
            writer.submit(write_png, results / f"{stem}_overlay.png", drawn.overlay)
            if drawing.raw_folder:
                path = drawing.raw_folder / f"{names.of(predicted)}.png"
                writer.submit(write_index_mask, path, predicted.prediction, drawing)
            if predicted.number < drawing.grid_images:
                first.append(drawn)
    shown = [str(folder) for folder in folders]
    if first:
        write_png(drawing.folder / GRID, prediction_grid(first, class_names, drawing.colors))
        shown.append(str(drawing.folder / GRID))
    return shown


def prediction_grid(drawn: Sequence[DrawnPrediction], class_names: Sequence[str], colors: np.ndarray) -> np.ndarray:
    """Images, predictions, labels and overlays side by side, with a legend of the classes that occur.

    Of very many classes, the legend lists those with the most pixels in these images, and counts the others.

    Args:
      drawn: at least one.
      class_names: one per class.
      colors: RGB of each class, uint8 [256, 3].

    Returns:
      uint8 [height, width, 3], RGB.
    """
    with_label = any(one.label is not None for one in drawn)
    titles = ["image", "prediction", *(["label"] if with_label else []), "overlay"]
    tiles = [
        Tile([one.image, one.prediction, *([one.label] if with_label else []), one.overlay], [one.name])
        for one in drawn
    ]
    pixels = sum((Counter(one.pixels) for one in drawn), Counter[int]())
    shown, rest = most_frequent(sorted(index for index in pixels if index < len(class_names)), pixels)
    legend = [LegendKey(class_names[index], plain_swatch(colors[index])) for index in shown]
    if rest:
        left_out = f"{len(rest)} rarer class{'es' if len(rest) > 1 else ''}"
        legend.append(LegendKey(left_out, plain_swatch((255, 255, 255))))
    return ImageGrid(titles, tiles, legend).draw()


def write_index_mask(path: pathlib.Path, prediction: np.ndarray, drawing: Drawing) -> None:
    """Writes int32 [H, W] classes as palette PNG of classes, or of the ids that stand for them.

    Beyond 256 classes it is gray PNG of 16 bits.
    """
    label, colors = as_label(prediction, len(drawing.colors)), drawing.colors
    if drawing.ids is not None:
        ids = np.array(drawing.ids, np.uint8)
        label, colors = ids[label], np.zeros_like(drawing.colors)
        colors[ids] = drawing.colors[: len(ids)]
    mask_files.write_index_png(path, label, colors)


class RawNames:
    """File names for index masks from the images' names in the records."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, predicted: PredictedImage) -> str:
        """The last part of the image's name, without an image suffix; its number is added if the name is taken."""
        stem, suffix = os.path.splitext(os.path.basename(predicted.name))
        plain = name = stem if suffix.lower() in _IMAGE_SUFFIXES else stem + suffix
        while not name or name in self._taken:
            name = f"{name or 'image'}_{predicted.number:06d}"
        if name != plain:
            console.note(
                f"image {predicted.number} ({predicted.name!r}) has the name of another: its mask is {name}.png"
            )
        self._taken.add(name)
        return name
