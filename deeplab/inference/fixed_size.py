"""Model files that take one size only: the description inside them, and the `Predictor` that fits images to them.

The file computes labels or probabilities of a float32 image [1, h, w, C], 0..255. Resizing, padding and cropping happen
here, as `prediction.prepare` and `prediction.restore_labels` do them inside other exports; an image that is larger than
the file's size is shrunk to fit, and its prediction is enlarged again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplab.config.data_config import ResizeConfig
from deeplab.config.fields import Size, as_dict, make
from deeplab.data import transforms
from deeplab.data.dataset import Color
from deeplab.inference.file_predictor import FilePredictor, Run
from deeplab.inference.predictor import Prediction, shrunk_size
from deeplab.utils import console


@dataclass(frozen=True)
class FixedInput:
    """What a file of one size must tell about itself.

    Attributes:
      size: height and width of its input.
      padding_color: one number per channel, 0..255, that fills the bottom and the right of smaller images.
      resize: how images are resized first.
      class_names, colors: of the classes, as far as they are known.
    """

    size: Size
    padding_color: tuple[float, ...]
    resize: ResizeConfig
    class_names: tuple[str, ...] = ()
    colors: tuple[Color, ...] = ()

    def to_json(self) -> str:
        """The description as JSON text."""
        content = {
            "written_by": "deeplab",
            "input": {"dtype": "float32", "channels": "RGB", "range": [0, 255], "size": self.size},
            "padding_color": self.padding_color,
            "resize": as_dict(self.resize),
            "classes": self.class_names,
            "colors": self.colors,
        }
        return json.dumps(content, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> FixedInput:
        """Reads `to_json`'s text; damaged text raises ValueError, KeyError, TypeError or UserError."""
        content: Mapping[str, Any] = json.loads(text)
        height, width = content["input"]["size"]
        colors = tuple((int(red), int(green), int(blue)) for red, green, blue in content["colors"])
        padding = tuple(float(value) for value in content["padding_color"])
        names = tuple(map(str, content["classes"]))
        return cls((int(height), int(width)), padding, make(ResizeConfig, content["resize"]), names, colors)


class FixedSizePredictor(FilePredictor):
    """Predicts images of any size with a file of one size.

    Args:
      source: the file.
      run: float32 [1, h, w, C], 0..255, and whether probabilities are wanted -> labels, integers [1, h, w], and
        probabilities float32 [1, h, w, classes] or None.
      num_classes: None if the file does not tell.
      fixed: its description.
    """

    def __init__(self, source: str, run: Run, num_classes: int | None, fixed: FixedInput):
        super().__init__(source, run, num_classes)
        self.fixed = fixed
        self._has_noted = False
        if fixed.class_names and not self.names_are_known:
            self.set_classes(fixed.class_names, fixed.colors)

    def _predict(self, image: np.ndarray, probabilities: bool) -> Prediction:
        pixels = np.asarray(transforms.resize_to_range(image.astype(np.float32), self.fixed.resize))
        height, width = self.fixed.size
        if pixels.shape[0] > height or pixels.shape[1] > width:
            self._note_shrinking()
            pixels = transforms.resize_bilinear(pixels, shrunk_size(pixels.shape[:2], self.fixed.size)).numpy()
        padded = np.asarray(transforms.pad_to(pixels, height, width, self.fixed.padding_color))
        labels, scores = super()._predict(padded, probabilities)
        rows, columns = pixels.shape[:2]
        labels, scores = labels[:rows, :columns], None if scores is None else scores[:rows, :columns]
        if (rows, columns) == image.shape[:2]:
            return Prediction(labels, scores)
        labels = transforms.resize_nearest(labels, image.shape[:2]).numpy()
        return Prediction(
            labels, None if scores is None else transforms.resize_bilinear(scores, image.shape[:2]).numpy()
        )

    def _note_shrinking(self) -> None:
        if not self._has_noted:
            self._has_noted = True
            size = "{}x{}".format(*self.fixed.size)
            console.note(f"{self.source} takes {size} pixels: larger images are shrunk, and their masks enlarged")
