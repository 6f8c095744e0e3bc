"""Model files that take prepared images: the description inside them, and the `Predictor` that prepares images.

The file computes labels, probabilities or logits of an image [1, h, w, C], 0..255. Resizing, padding and cropping
happen here, as `prediction.prepare` and `prediction.restore_labels` do them inside other exports; an image that is
larger than the file's size is shrunk to fit, and its prediction is enlarged again, unless the file takes larger sizes.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplab.config.data_config import ResizeConfig
from deeplab.config.fields import Size, as_dict, make
from deeplab.data import transforms
from deeplab.data.bands import DTYPES as IMAGE_DTYPES
from deeplab.data.bands import RGB, ImageBands
from deeplab.data.dataset import Color
from deeplab.inference.file_predictor import FilePredictor, Run
from deeplab.inference.prediction import size_after_resizing
from deeplab.inference.predictor import Prediction, shrunk_size
from deeplab.inference.runtimes import DESCRIPTION_FILE
from deeplab.model.resize import fitting_length
from deeplab.utils import console

DTYPES = ("float32", "uint8", "int8")


@dataclass(frozen=True)
class FixedInput:
    """The description that a file for prepared images must contain.

    Attributes:
      size: height and width of its input; the smallest ones where it takes larger images.
      padding_color: one number per channel, 0..255, that fills the bottom and the right of smaller images.
      resize: how images are resized first.
      class_names, colors: of the classes, as far as they are known.
      dtype: of the input: float32 or uint8, 0..255, or int8, which is 0..255 minus 128.
      stride: of sizes that it takes as well: k * stride + 1 pixels, at least `size`; None = no other size.
      upsample_logits: whether logits are upsampled before the argmax; only for files that compute logits.
      bands: what images are; a file of float32 takes raw values and scales them itself.
      align_corners: how logits are upsampled, as in `slim.kernels.resize_bilinear`; only for files that compute logits.
    """

    size: Size
    padding_color: tuple[float, ...]
    resize: ResizeConfig
    class_names: tuple[str, ...] = ()
    colors: tuple[Color, ...] = ()
    dtype: str = "float32"
    upsample_logits: bool = True
    stride: int | None = None
    bands: ImageBands = RGB
    align_corners: bool = True

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"the input is {self.dtype}, not one of {', '.join(DTYPES)}")
        if min(self.size) < 1 or (self.stride is not None and self.stride < 1):
            raise ValueError(f"the input has size {self.size} and stride {self.stride}")
        if len(self.padding_color) not in (1, self.bands.channels):
            raise ValueError(f"the padding has {len(self.padding_color)} colors, not one for each channel")

    def require_input(self, shape: Sequence[int | None], dtype: str) -> None:
        """Checks that this describes the input of a file of one size.

        Raises:
          ValueError: the input has another shape or type.
        """
        wanted = [1, *self.size, self.bands.channels]
        if list(shape) != wanted or dtype != self.dtype or self.stride is not None:
            raise ValueError(f"its input is {dtype} {list(shape)}, and its description says {self.dtype} {wanted}")

    def prepare(self, image: np.ndarray) -> tuple[np.ndarray, Size]:
        """Resizes, shrinks if it must, and pads an image, as `prediction.prepare` does it inside other exports.

        Args:
          image: uint8 [H, W, C], or raw values as `bands` describes them.

        Returns:
          float32 [h, w, C], 0..255, or raw values for a file that scales them; and height and width of the part that is
          no padding.
        """
        values = self.bands.clipped(image) if self.dtype == "float32" else self.bands.scaled(image)
        pixels = np.asarray(transforms.resize_to_range(values, self.resize))
        height, width = self.size_for(pixels.shape[:2])
        if pixels.shape[0] > height or pixels.shape[1] > width:
            pixels = transforms.resize_bilinear(pixels, shrunk_size(pixels.shape[:2], self.size)).numpy()
        rows, columns = pixels.shape[:2]
        line = np.array(np.broadcast_to(self.padding_color, (width, pixels.shape[2])), np.float32)
        padded = np.empty((height, *line.shape), np.float32)  # a tenth of the time of `transforms.pad_to`
        padded[:rows, :columns], padded[:rows, columns:], padded[rows:] = pixels, line[columns:], line
        return padded, (rows, columns)

    def size_for(self, size: Size) -> Size:
        """Height and width to which an image of a size is padded; smaller than the image if it must be shrunk."""
        if self.stride is None:
            return self.size
        height, width = (
            least if length <= least else fitting_length(length, self.stride)
            for length, least in zip(size, self.size, strict=True)
        )
        return height, width

    def as_input(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels, float32 0..255, in the type of the input."""
        if self.dtype == "float32":
            return pixels
        whole = pixels.round().clip(0, 255)
        return (whole - 128).astype(np.int8) if self.dtype == "int8" else whole.astype(np.uint8)

    def to_json(self) -> str:
        """The description as JSON text."""
        content = {
            "written_by": "deeplab",
            "input": {
                "dtype": self.dtype,
                "layout": "NHWC",
                "channels": "RGB",
                "range": [-128, 127] if self.dtype == "int8" else [0, 255],
                "size": self.size,
                "stride_of_larger_sizes": self.stride,
                **self._of_bands(),
            },
            "padding_color": self.padding_color,
            "resize": as_dict(self.resize),
            "upsample_logits": self.upsample_logits,
            **({} if self.align_corners else {"align_corners": False}),
            "classes": self.class_names,
            "colors": self.colors,
        }
        return json.dumps(content, indent=2) + "\n"

    def _of_bands(self) -> dict[str, Any]:
        bands = self.bands
        if bands.is_rgb:
            return {}
        numbers = list(bands.bands) or list(range(1, bands.channels + 1))
        ends = [list(pair) for pair in zip(bands.low, bands.high, strict=True)]
        raw = {"range": ends} if ends and self.dtype == "float32" else {}
        facts = {"image_dtype": bands.dtype, "all_bands": not bands.bands, "scale_from": ends}
        return {"channels": numbers, **raw, **facts}

    @classmethod
    def from_appended(cls, path: str) -> FixedInput:
        """Read the description in the archive that is appended to a model file.

        Raises:
          OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError: the file cannot be read or has none.
        """
        with zipfile.ZipFile(path) as archive:
            return cls.from_json(archive.read(DESCRIPTION_FILE))

    @classmethod
    def from_json(cls, text: str | bytes) -> FixedInput:
        """Reads `to_json`'s text; damaged text raises ValueError, KeyError, TypeError or UserError."""
        content: Mapping[str, Any] = json.loads(text)
        height, width = content["input"]["size"]
        colors = tuple((int(red), int(green), int(blue)) for red, green, blue in content["colors"])
        padding = tuple(float(value) for value in content["padding_color"])
        names = tuple(map(str, content["classes"]))
        dtype, upsample = str(content["input"]["dtype"]), bool(content.get("upsample_logits", True))
        resize, bands = make(ResizeConfig, content["resize"]), _bands_in(content["input"], len(padding))
        stride = content["input"].get("stride_of_larger_sizes")
        stride = None if stride is None else int(stride)
        align = bool(content.get("align_corners", True))
        return cls((int(height), int(width)), padding, resize, names, colors, dtype, upsample, stride, bands, align)


def _bands_in(content: Mapping[str, Any], colors: int) -> ImageBands:
    """The bands that `FixedInput.to_json` wrote; RGB where it wrote none, or as many as the padding has colors."""
    if "image_dtype" not in content:
        return RGB if colors in (1, 3) else ImageBands(colors)
    numbers = tuple(int(number) for number in content["channels"])
    dtype = content["image_dtype"]
    if dtype not in IMAGE_DTYPES or not 1 <= len(numbers) <= 1024:
        raise ValueError(f"unknown images: {len(numbers)} channels of {dtype!r}")
    pairs = [(float(low), float(high)) for low, high in content["scale_from"]]
    if pairs and (len(pairs) != len(numbers) or any(not low < high for low, high in pairs)):
        raise ValueError("unknown range of values")
    low, high = tuple(low for low, _ in pairs), tuple(high for _, high in pairs)
    return ImageBands(len(numbers), dtype, () if content["all_bands"] else numbers, low, high)


def has_appended_description(path: str) -> bool:
    """Whether a file is a model of this program with an appended description."""
    try:
        return bool(FixedInput.from_appended(path))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return False


class FixedSizePredictor(FilePredictor):
    """Predicts images of any size with a file of one size.

    Args:
      source: the file.
      run: an image [1, h, w, C] of the description's size and type, and whether probabilities are wanted -> labels,
        integers [1, h, w], and probabilities float32 [1, h, w, classes] or None.
      num_classes: None if the file does not tell.
      fixed: its description.
    """

    def __init__(self, source: str, run: Run, num_classes: int | None, fixed: FixedInput):
        super().__init__(source, run, num_classes)
        self.fixed, self.bands = fixed, fixed.bands
        self._has_noted = False
        if fixed.class_names and not self.names_are_known:
            self.set_classes(fixed.class_names, fixed.colors)

    def _predict(self, image: np.ndarray, probabilities: bool) -> Prediction:
        padded, (rows, columns) = self.fixed.prepare(image)
        size = size_after_resizing(image.shape[:2], self.fixed.resize)
        if np.greater(size, self.fixed.size_for(size)).any():
            self._note_shrinking()
        labels, scores = super()._predict(self.fixed.as_input(padded), probabilities)
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
