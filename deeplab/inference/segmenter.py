"""The door for pictures: `Segmenter` turns a picture into a `Segmentation`."""

from __future__ import annotations

import dataclasses
import io
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from deeplab.config.fields import coerce
from deeplab.data import colormaps, image_files, images
from deeplab.data import labels as masks
from deeplab.inference import load
from deeplab.utils.errors import UserError, nearest
from deeplab.utils.files import write_atomically

_AHEAD = 2  # pictures that are read while the network is busy


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The answer to one picture.

    Attributes:
      image: the picture, uint8 [H, W, 3], RGB.
      labels: uint8 [H, W], the class of every pixel.
      probabilities: float32 [H, W, classes], 0..1, sum 1 over the classes; None if they were not asked for, or if a
        frozen graph has none.
      class_names: one name a class; empty where nobody knows how many there are.
      colors: RGB of each class, uint8 [256, 3].
    """

    image: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray | None
    class_names: tuple[str, ...]
    colors: np.ndarray = field(repr=False)

    def color_mask(self) -> np.ndarray:
        """Every pixel in its class's color: uint8 [H, W, 3], RGB."""
        return colormaps.color_label(self.labels, self.colors)

    def overlay(self, opacity: float = 0.5, background: bool = False) -> np.ndarray:
        """The color mask over the image, uint8 [H, W, 3], with outlines; class 0 stays untouched.

        Args:
          opacity: of the mask, from 0 to 1.
          background: color class 0, too, and draw no outlines.
        """
        return colormaps.overlay(self.image, self.color_mask(), opacity, None if background else self.labels)

    def shares(self) -> dict[str, float]:
        """Each class's part of the picture, 0..1, by name; classes that do not occur are among them."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.class_names))
        names = [*self.class_names, *(f"class_{index}" for index in range(len(self.class_names), len(counts)))]
        return dict(zip(names, (counts / self.labels.size).tolist(), strict=True))

    def save(self, folder: str | os.PathLike, name: str, opacity: float = 0.5) -> dict[str, pathlib.Path]:
        """Writes `mask/NAME.png` (palette PNG: pixels are class numbers), `color/NAME.png` and `overlay/NAME.png`.

        Files of these names are replaced. `name` may hold folders (`day1/img7`).

        Returns:
          The paths by kind: mask, color, overlay.
        """
        paths = {kind: pathlib.Path(folder) / kind / f"{name}.png" for kind in ("mask", "color", "overlay")}
        for path in paths.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        self.save_mask(paths["mask"])
        write_png(paths["color"], self.color_mask())
        write_png(paths["overlay"], self.overlay(opacity))
        return paths

    def save_mask(self, path: str | os.PathLike) -> None:
        """Writes the labels as palette PNG: pixels are class numbers, viewers show the colors."""
        masks.write_index_png(path, self.labels, [tuple(color) for color in self.colors.tolist()])


def write_png(path: str | os.PathLike, picture: np.ndarray) -> None:
    """Writes uint8 [H, W, 3] or [H, W] as PNG, whole or not at all."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=3)
    write_atomically(path, buffer.getvalue())


class Segmenter:
    """Turns pictures into masks.

    Args:
      source: a training folder (its latest checkpoint), a checkpoint's prefix, a frozen graph (`.pb`), or a
        SavedModel folder.
      dataset: known name or `dataset.yml` from which class names and colors are taken (default: as trained).
      crop_size: height, width in pixels to which pictures are padded (default: each picture at its own size).
      shrink_large_images: shrink pictures that exceed the crop, and enlarge their masks again.
      **settings: anything of `ModelConfig`, `ResizeConfig` and `InferenceConfig`, where it shall differ from the
        training's: `eval_scales=(0.5, 1.0, 1.5)`, `add_flipped_images=True`, `output_stride=8`. For a checkpoint of
        TensorFlow 1 with no `config.yml` beside it, the architecture is told from its variables as far as they show it.

    Attributes:
      class_names: one name a class.
      colors: RGB of each class, uint8 [256, 3].

    Raises:
      UserError: no such model, or settings that do not fit it.

    Example:
      from deeplab import Segmenter

      segmenter = Segmenter("logs/train")
      result = segmenter("portrait.jpg")
      result.labels              # uint8 [H, W]
      result.probabilities       # float32 [H, W, classes]
      result.shares()            # {"background": 0.61, "hair": 0.14, "skin": 0.25}
      result.save("out", "portrait")
      for path, result in segmenter.folder("holiday"):
          print(path, result.shares())
    """

    def __init__(
        self,
        source: str | os.PathLike,
        *,
        dataset: str = "",
        crop_size: tuple[int, int] | int | None = None,
        shrink_large_images: bool = False,
        **settings: Any,
    ):
        crop = (crop_size, crop_size) if isinstance(crop_size, int) else crop_size
        self._predictor = load.load(source, _typed(settings), dataset, crop, shrink_large_images)
        self.class_names, self.colors = self._predictor.class_names, self._predictor.colors

    def __call__(self, image: Any, probabilities: bool = True) -> Segmentation:
        """Segments one picture.

        Args:
          image: path of a picture (its EXIF rotation is applied), PIL image, or uint8 array [H, W, 3] RGB, [H, W]
            gray, [H, W, 4] RGBA (alpha is dropped). Any size.
          probabilities: whether to give them, too; without, it is faster and takes less memory.

        Raises:
          UserError: unreadable picture, wrong dtype or shape, or larger than the model takes.
        """
        pixels = images.to_rgb(image)
        labels, scores = self._predictor.answer(pixels, probabilities)
        return Segmentation(pixels, labels.astype(np.uint8), scores, self.class_names, self.colors)

    def folder(
        self, folder: str | os.PathLike, recursive: bool = False, probabilities: bool = False
    ) -> Iterator[tuple[str, Segmentation]]:
        """(path, segmentation) of every picture in a folder, by name; the next ones are read meanwhile.

        Raises:
          UserError: no picture there, or one that cannot be read: nothing after it is done.
        """
        for picture, pixels in read_ahead(image_files.find_images([os.fspath(folder)], recursive)):
            if isinstance(pixels, UserError):
                raise pixels
            yield picture.path, self(pixels, probabilities)


def read_ahead(
    pictures: Sequence[image_files.ImageFile],
) -> Iterator[tuple[image_files.ImageFile, np.ndarray | UserError]]:
    """Every picture with its pixels, uint8 [H, W, 3], or with the fault that kept it from being read."""

    def pixels_of(picture: image_files.ImageFile) -> np.ndarray | UserError:
        try:
            return images.read_image(picture.path)
        except UserError as fault:
            return fault

    with ThreadPoolExecutor(_AHEAD) as pool:
        waiting = []
        for picture in pictures:
            waiting.append((picture, pool.submit(pixels_of, picture)))
            if len(waiting) > _AHEAD:
                done, future = waiting.pop(0)
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()


def _typed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments as settings, each in its field's type."""
    known = {field.name: (field, group) for group in load.GROUPS for field in dataclasses.fields(group)}
    for name in settings:
        if name not in known:
            raise UserError("unclassified", f"{name!r} is no setting", nearest(name, list(known)), where="Segmenter")
    return {name: coerce(*known[name], value) for name, value in settings.items()}
