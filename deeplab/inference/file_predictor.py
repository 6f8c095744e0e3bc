"""`FilePredictor`: an exported model file as a `Predictor`, with checks of what the file gives back."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab.config.fields import Size, make
from deeplab.config.model_config import ModelConfig
from deeplab.data import transforms
from deeplab.data.bands import RGB, ImageBands, bands_of
from deeplab.data.dataset import Color
from deeplab.data.label_bits import MAX_CLASSES_8_BIT
from deeplab.inference.prediction import LargerThanCrop
from deeplab.inference.predictor import Prediction, Predictor
from deeplab.utils import console
from deeplab.utils.errors import UserError

LABELS_FILE = "labels.txt"
METADATA_FILES = ("metadata.json", "contract.json")  # the second: written before version 0.2
_EXPORT_AGAIN = "export the model again"

# Images [1, H, W, C], and whether probabilities are wanted -> integers [1, H, W], float32 [1, H, W, classes] or None.
Run = Callable[[np.ndarray, bool], tuple[np.ndarray, np.ndarray | None]]


class FilePredictor(Predictor):
    """Predicts with an exported file.

    Args:
      source: the file or folder.
      run: the function of arrays; any exception that it raises becomes a UserError.
      num_classes: None if the file does not tell.
      max_size: height and width of the model's input, which images must not exceed; None = any.
      bands: what images it takes; see `bands_beside`.
    """

    def __init__(
        self, source: str, run: Run, num_classes: int | None, max_size: Size | None = None, bands: ImageBands = RGB
    ):
        super().__init__(source, num_classes, *classes_beside(source), max_size=max_size)
        self.run, self.bands = run, bands
        self._has_warned = False

    def _predict(self, image: np.ndarray, probabilities: bool) -> Prediction:
        try:
            labels, scores = self.run(image[np.newaxis], probabilities)
        except (UserError, MemoryError, tf.errors.ResourceExhaustedError):
            raise
        except Exception as error:  # a program of others: anything may be wrong with it
            raise self._failure(image, error) from error
        labels = self._checked_labels(np.asarray(labels))
        scores = None if scores is None else self._checked_scores(np.asarray(scores))
        if labels.shape == image.shape[:2] and (scores is None or scores.shape[:2] == image.shape[:2]):
            return Prediction(labels, scores)
        return self._at_size_of(image, labels, scores)

    def _failure(self, image: np.ndarray, error: Exception) -> UserError:
        height, width = image.shape[:2]
        if self.max_size and (height > self.max_size[0] or width > self.max_size[1]):
            rule = f"takes images up to {self.max_size[0]}x{self.max_size[1]} (height x width), not {height}x{width}"
            hint = (
                "`shrink_large_images=true` shrinks such images to fit and enlarges their masks again; for sharper "
                f"masks export with `crop_size={height},{width}`, or predict from the checkpoint, which takes any size"
            )
            return LargerThanCrop("larger-than-crop", rule, hint, where=self.source, value=(height, width))
        rule = f"cannot run on an image of {height}x{width}: {first_line(error)}"
        return UserError("model-failed", rule, _EXPORT_AGAIN, where=self.source)

    def _checked_labels(self, labels: np.ndarray) -> np.ndarray:
        """Labels as int32 [h, w]."""
        if labels.ndim != 3 or labels.shape[0] != 1 or labels.dtype.kind not in "iu" or not labels.size:
            raise self._unexpected("labels", labels, "integers [1, H, W]")
        smallest, largest = int(labels.min()), int(labels.max())
        limit = self.num_classes or max(MAX_CLASSES_8_BIT, len(self.class_names))
        if smallest < 0 or largest >= limit:
            value = smallest if smallest < 0 else largest
            rule = f"predicts class {value}, but classes must be in 0..{limit - 1}"
            raise UserError("prediction-out-of-range", rule, _EXPORT_AGAIN, where=self.source, value=value)
        return labels[0].astype(np.int32)

    def _checked_scores(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities as float32 [h, w, classes]."""
        if scores.ndim != 4 or scores.shape[0] != 1 or scores.dtype.kind != "f" or not scores.size:
            raise self._unexpected("probabilities", scores, "floats [1, H, W, classes]")
        if not np.isfinite(scores).all():
            rule = "predicts probabilities that are not finite: the training had diverged"
            raise UserError("not-finite", rule, "use an earlier checkpoint", where=self.source)
        return scores[0].astype(np.float32, copy=False)

    def _unexpected(self, what: str, array: np.ndarray, wanted: str) -> UserError:
        found = f"{array.dtype} {list(array.shape)}"
        rule = f"predicts {what} of type and shape {found}, not {wanted}"
        return UserError("unexpected-output", rule, _EXPORT_AGAIN, where=self.source, value=found)

    def _at_size_of(self, image: np.ndarray, labels: np.ndarray, scores: np.ndarray | None) -> Prediction:
        """Predictions of another size, resized to the image's; with a warning, since the file may not mean that."""
        size = image.shape[:2]
        if not self._has_warned:
            self._has_warned = True
            found, wanted = (f"{height}x{width}" for height, width in (labels.shape, size))
            console.warning(f"{self.source} predicts {found} labels for an image of {wanted}: they are resized")
        labels = transforms.resize_nearest(labels, size).numpy()
        return Prediction(labels, None if scores is None else transforms.resize_bilinear(scores, size).numpy())


def first_line(error: Exception) -> str:
    """The beginning of an error's text, on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


# ---- classes -----------------------------------------------------------------------------------------------


def classes_beside(path: str) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    """Names and colors of the classes from the files that an export writes beside itself; empty if there are none.

    Args:
      path: a model file, or a SavedModel's folder.
    """
    for content in _metadata_beside(path):
        described = _classes_in(content)
        if described[0]:
            return described
    for folder in _places(path)[0]:
        names = _read_labels(os.path.join(folder, LABELS_FILE))
        if names:
            return names, ()
    return (), ()


def bands_beside(path: str, channels: int | None, dtype: str) -> ImageBands:
    """What images a model file takes: its input tensor, completed by the description that an export writes beside it.

    Args:
      path: a model file, or a SavedModel's folder.
      channels, dtype: of the input tensor; None = unknown, which means RGB.
    """
    for content in _metadata_beside(path):
        try:
            described = bands_of(make(ModelConfig, content["model"]))
        except (UserError, KeyError, TypeError, ValueError):  # of another program
            continue
        if (described.channels, described.dtype) == (channels, dtype):
            return described
    return ImageBands(channels or RGB.channels, dtype)


def _places(path: str) -> tuple[list[str], str]:
    """The folders where descriptions of a model file may be, and the stem of its name."""
    if os.path.isdir(path):
        return [os.path.join(path, "assets"), os.path.dirname(path.rstrip(os.sep)) or "."], ""
    return [os.path.dirname(path) or "."], os.path.splitext(os.path.basename(path))[0]


def _metadata_beside(path: str) -> Iterator[dict[str, Any]]:
    """The descriptions that may belong to a model file, nearest first."""
    folders, stem = _places(path)
    for folder in folders:
        for name in (*(f"{stem}_{one}" for one in METADATA_FILES), *METADATA_FILES):
            try:
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    content = json.load(file)
            except (OSError, ValueError, RecursionError):  # of another program
                continue
            if isinstance(content, dict):
                yield content


def _classes_in(content: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    try:
        names = tuple(map(str, content["classes"]))
        colors = content.get("colors", content.get("colours"))  # the second spelling: written before version 0.2
        return names, tuple((int(red), int(green), int(blue)) for red, green, blue in colors)
    except (ValueError, KeyError, TypeError):  # of another program
        return (), ()


def _read_labels(path: str) -> tuple[str, ...]:
    """One name per line; numbers before the names are dropped if they are the line numbers."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file if line.strip()]
    except (OSError, ValueError):
        return ()
    numbered = [re.fullmatch(rf"{index}[\s:]+(.+)", line) for index, line in enumerate(lines)]
    return tuple(match[1] for match in numbered if match) if all(numbered) else tuple(lines)
