"""`Segmenter` turns images into `Segmentation`s: the Python interface for images."""

from __future__ import annotations

import os
import pathlib
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deeplab.config.fields import coerce, fields_of
from deeplab.data import colormaps, image_files, mask_files
from deeplab.data.given_images import to_pixels
from deeplab.data.images import write_png
from deeplab.data.label_bits import as_label
from deeplab.inference import large_images
from deeplab.inference.load import load
from deeplab.inference.polygons import Region, regions
from deeplab.inference.postprocess import PostprocessedPredictor
from deeplab.inference.prediction import prepare
from deeplab.inference.predictor import ModelPredictor, Prediction, Predictor
from deeplab.inference.runtimes import checkpoint
from deeplab.inference.tiles import TiledPredictor
from deeplab.utils.errors import UserError, nearest
from deeplab.utils.parallel import worker_count

_MIN_AHEAD, _MAX_AHEAD = 2, 8  # images that are read while the model is busy: as many as there are processor cores


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The result for one image.

    Attributes:
      image: the image, uint8 [H, W, 3], RGB; of other bands what `ImageBands.quick_look` shows of it.
      labels: [H, W], the class of every pixel: uint8, or uint16 beyond 256 classes.
      probabilities: float32 [H, W, classes], 0..1, sum 1 over the classes; None if they were not asked for, or if an
        exported file has none.
      class_names: one name per class; empty if their number is unknown.
      colors: RGB of each class, uint8 [256, 3], or [65536, 3] beyond 256 classes.
    """

    image: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray | None
    class_names: tuple[str, ...]
    colors: np.ndarray = field(repr=False)

    def color_mask(self) -> np.ndarray:
        """Every pixel in the color of its class: uint8 [H, W, 3], RGB."""
        return colormaps.color_label(self.labels, self.colors)

    def overlay(self, opacity: float = 0.5, background: bool = False) -> np.ndarray:
        """The color mask over the image, uint8 [H, W, 3], with outlines; class 0 stays untouched.

        Args:
          opacity: of the mask, from 0 to 1.
          background: color class 0 as well, and draw no outlines.
        """
        return colormaps.overlay(self.image, self.color_mask(), opacity, None if background else self.labels)

    def fractions(self) -> dict[str, float]:
        """Each class's fraction of the image, 0..1, by name; classes that do not occur are included."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.class_names))
        names = [*self.class_names, *(f"class_{index}" for index in range(len(self.class_names), len(counts)))]
        return dict(zip(names, (counts / self.labels.size).tolist(), strict=True))

    def areas(self) -> dict[str, int]:
        """Each class's area in the image, in pixels, by name; classes that do not occur are included."""
        return {name: round(fraction * self.labels.size) for name, fraction in self.fractions().items()}

    @property
    def nbytes(self) -> int:
        """The memory of the arrays, in bytes."""
        return self.image.nbytes + self.labels.nbytes + (0 if self.probabilities is None else self.probabilities.nbytes)

    def cutout(self, classes: Sequence[int] | None = None) -> np.ndarray:
        """The image with everything else transparent: uint8 [H, W, 4], RGB and alpha.

        With probabilities, alpha is soft: 0 where the classes together have a probability of up to 1/4, 255 from 3/4.

        Args:
          classes: class numbers to keep; None = all but class 0, the background.
        """
        kept = list(classes) if classes is not None else list(range(1, max(len(self.class_names), len(self.colors))))
        if self.probabilities is None:
            alpha = np.isin(self.labels, kept).astype(np.float32)
        else:
            inside = [index for index in kept if index < self.probabilities.shape[-1]]
            alpha = np.clip(2 * self.probabilities[..., inside].sum(-1) - 0.5, 0, 1)
        return np.dstack([self.image, np.rint(alpha * 255).astype(np.uint8)])

    def regions(self, tolerance: float = 0.0) -> list[Region]:
        """The connected regions of all classes but the background, with their outlines.

        Args:
          tolerance: pixels by which outlines may differ, for fewer points; 0 = exact.
        """
        return regions(self.labels, [index for index in np.unique(self.labels).tolist() if index], tolerance)

    def save(self, folder: str | os.PathLike, name: str, opacity: float = 0.5) -> dict[str, pathlib.Path]:
        """Write `mask/NAME.png` (class numbers, see `save_mask`), `color/NAME.png` and `overlay/NAME.png`.

        Existing files are replaced. `name` may hold folders (`day1/img7`).

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
        """Write the labels as palette PNG: pixels are class numbers, viewers show the colors.

        Labels of uint16 become 16-bit gray PNG.
        """
        mask_files.write_index_png(path, self.labels, self.colors)


class Segmenter:
    """Turns images into masks.

    Args:
      source: a training folder (its latest checkpoint), a checkpoint's prefix, `zoo:NAME`, `hf://USER/NAME`, an
        exported file, or a model of `deeplab.create_model`.
      dataset: known name or `dataset.yml` from which class names and colors are taken (default: as trained).
      crop_size: height, width in pixels to which images are padded (default: each image keeps its own size).
      shrink_large_images: shrink images that exceed the crop, and enlarge their masks again.
      tile_size: predict larger images in overlapping tiles of this many pixels, blended (default: as a whole).
      tile_overlap: minimum overlap of tiles in pixels, at most half a tile.
      **settings: anything of `ModelConfig`, `ResizeConfig` and `InferenceConfig` that should differ from the training:
        `eval_scales=(0.5, 1.0, 1.5)`, `add_flipped_images=True`, `output_stride=8`. For a checkpoint of TensorFlow 1
        without a `config.yml`, the architecture is inferred from its variables as far as they show it.

    Attributes:
      class_names: one name per class.
      colors: RGB of each class, uint8 [256, 3].
      bands: channels, type and scaling of the images that it takes.

    Raises:
      UserError: there is no such model, it is unsafe, or settings do not fit it.

    Example:
      from deeplab import Segmenter

      segmenter = Segmenter("logs/train")
      result = segmenter("portrait.jpg")
      result.labels              # uint8 [H, W]
      result.probabilities       # float32 [H, W, classes]
      result.fractions()         # {"background": 0.61, "hair": 0.14, "skin": 0.25}
      result.save("out", "portrait")
      for path, result in segmenter.folder("holiday"):
          print(path, result.fractions())
    """

    def __init__(
        self,
        source: str | os.PathLike | keras.Model | Predictor,
        *,
        dataset: str = "",
        crop_size: tuple[int, int] | int | None = None,
        shrink_large_images: bool = False,
        tile_size: int | None = None,
        tile_overlap: int = 64,
        **settings: Any,
    ):
        crop = (crop_size, crop_size) if isinstance(crop_size, int) else crop_size
        self._predictor = self._of_tile = load(source, _typed(settings), dataset, crop, shrink_large_images)
        self._tiles = tile_size, tile_overlap
        if tile_size:
            self._predictor = _tiled(self._predictor, tile_size, tile_overlap)
        self.bands = self._predictor.bands
        self.class_names, self.colors = self._predictor.class_names, self._predictor.colors
        self._num_classes = self._predictor.num_classes

    def __call__(self, image: Any, probabilities: bool = True) -> Segmentation:
        """Segment one image.

        Args:
          image: a path, an image file's bytes, an open file, a PIL image, or a uint8 array [H, W, 3] RGB, [H, W] gray
            or [H, W, 4] RGBA (alpha is dropped); any size. The EXIF orientation of files is applied. Models of other
            bands than RGB take files with these bands, and arrays [H, W, C] of raw values of the type in `bands`.
          probabilities: whether to return them as well; without, it is faster and takes less memory.

        Raises:
          UserError: an unreadable image, a wrong dtype or shape, or an image larger than the model takes.
        """
        pixels = to_pixels(image, self.bands)
        labels, scores = self._predictor.predict(pixels, probabilities)
        shown = pixels if self.bands.is_rgb else self.bands.quick_look(pixels)
        return Segmentation(shown, as_label(labels, self._num_classes), scores, self.class_names, self.colors)

    def batch(self, several: Sequence[Any], probabilities: bool = False) -> list[Segmentation]:
        """Segment several images; without probabilities, a model or checkpoint predicts those of equal size together.

        Args:
          several: images as for one call; they may differ in size.
          probabilities: whether to return them as well; the images are then predicted one by one.

        Returns:
          One result per image, in their order.

        Raises:
          UserError: as for one call; nothing is returned then.
        """
        predictor = self._predictor
        one_by_one = probabilities or predictor.max_size is not None or not self.bands.is_rgb
        if one_by_one or not isinstance(predictor, ModelPredictor) or predictor.settings.resize.min_resize_value:
            return [self(image, probabilities) for image in several]
        pixels = [to_pixels(image, self.bands) for image in several]
        by_size: dict[tuple[int, ...], list[int]] = {}
        for index, one in enumerate(pixels):
            by_size.setdefault(one.shape, []).append(index)
        labels: dict[int, np.ndarray] = {}
        for (height, width, *_), indices in by_size.items():
            prepared = tf.stack([prepare(tf.constant(pixels[index]), predictor.settings).pixels for index in indices])
            found = as_label(predictor.predict_padded(prepared)[:, :height, :width], self._num_classes)
            labels |= dict(zip(indices, found, strict=True))
        return [
            Segmentation(one, labels[index], None, self.class_names, self.colors) for index, one in enumerate(pixels)
        ]

    def warm_up(self, height: int = 513, width: int = 513) -> Segmenter:
        """Predict a black image, so that the first real one takes no longer than the others; returns itself.

        Args:
          height, width: size of the image in pixels; that of the real ones, where memory matters.
        """
        self._predictor.predict(np.zeros((height, width, self.bands.channels), self.bands.dtype), True)
        return self

    def close(self) -> None:
        """Free the memory of the model; a closed Segmenter can no longer be used."""
        self._predictor = self._of_tile = _Closed(self._predictor)

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def reads_in_windows(self, path: str | os.PathLike) -> bool:
        """Whether `to_geotiff` predicts this file: a TIFF that has a georeference, or is large."""
        return large_images.is_read_in_windows(os.fspath(path), self.bands, self._tiles[0])

    def to_geotiff(
        self, path: str | os.PathLike, mask_path: str | os.PathLike, progress: large_images.Progress | None = None
    ) -> large_images.LargePrediction:
        """Segment a TIFF of any size, window by window, into a GeoTIFF of class numbers with the same georeference.

        Memory does not grow with the image: tiles of `tile_size` (1024 for large images) are blended as they are read.

        Args:
          path: the image; needs the extra `geo`.
          mask_path: the GeoTIFF; 255, marked as nodata, where the image has no value. An existing file is replaced.
          progress: called with the number of finished tiles and that of all.

        Returns:
          The image and the labels, reduced to 2048 pixels, and the pixels of each class.

        Raises:
          UserError: the image cannot be read or is of other bands, or the mask cannot be written.
        """
        return large_images.predict_file(
            os.fspath(path),
            pathlib.Path(mask_path),
            self._of_tile,
            *self._tiles,
            progress=progress or (lambda done, total: None),
        )

    def read(self, file: image_files.ImageFile) -> np.ndarray:
        """The pixels of an image file as the model takes them: uint8 [H, W, 3], RGB, or raw values [H, W, C].

        Raises:
          UserError: it cannot be read, or has other bands than the model.
        """
        return to_pixels(file.path, self.bands)

    def folder(
        self, folder: str | os.PathLike, recursive: bool = False, probabilities: bool = False
    ) -> Iterator[tuple[str, Segmentation]]:
        """Yield (path, segmentation) of every image in a folder, by name; the next ones are read in the background.

        Raises:
          UserError: there is no image, or one cannot be read; the ones after it are not processed.
        """
        for image, pixels in read_ahead(image_files.find_images([os.fspath(folder)], recursive), self.read):
            if isinstance(pixels, UserError):
                raise pixels
            assert pixels is not None
            yield image.path, self(pixels, probabilities)

    def video(
        self,
        source: str | os.PathLike | int,
        smoothing: float = 0.0,
        max_frames: int | None = None,
        probabilities: bool = False,
    ) -> Iterator[Segmentation]:
        """Yield the segmentation of every frame of a video file or camera.

        Args:
          source: path of a file, or number of a camera.
          smoothing: weight of the previous frames' probabilities in those of a frame, from 0 to below 1.
          max_frames: frames after which it ends; None = at its end.
          probabilities: whether to return them as well.

        Raises:
          UserError: it cannot be opened or decoded (`unreadable-video`).
        """
        from deeplab.inference import video  # here: it imports this module

        frames = video.Video(str(source), max_frames)
        yield from video.segment_video(self, frames, smoothing, probabilities)


class _Closed(Predictor):
    """Replaces the Predictor of a closed Segmenter; every prediction is an error."""

    def __init__(self, former: Predictor):
        super().__init__(former.source, former.num_classes)

    def _predict(self, image: np.ndarray, probabilities: bool) -> Prediction:
        rule, hint = "was closed and no longer holds a model", "use it inside its `with` block, or make another one"
        raise UserError("used-after-close", rule, hint, where=self.source)


def read_ahead(
    files: Sequence[image_files.ImageFile],
    read: Callable[[image_files.ImageFile], np.ndarray],
    without: Collection[image_files.ImageFile] = (),
) -> Iterator[tuple[image_files.ImageFile, np.ndarray | UserError | None]]:
    """Yield every image file with its pixels, or with the error that kept it from being read; with None if it is in
    `without`."""

    def pixels_of(file: image_files.ImageFile) -> np.ndarray | UserError | None:
        if file in without:
            return None
        try:
            return read(file)
        except UserError as error:
            return error

    ahead = min(max(_MIN_AHEAD, worker_count()), _MAX_AHEAD)
    with ThreadPoolExecutor(ahead) as pool:
        waiting: deque[tuple[image_files.ImageFile, Future]] = deque()
        for file in files:
            waiting.append((file, pool.submit(pixels_of, file)))
            if len(waiting) > ahead:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()


def _tiled(predictor: Predictor, tile_size: int, overlap: int) -> Predictor:
    """Predict in tiles; post-processing sees the whole image."""
    if isinstance(predictor, PostprocessedPredictor):
        return PostprocessedPredictor(TiledPredictor(predictor.inner, tile_size, overlap), predictor.steps)
    return TiledPredictor(predictor, tile_size, overlap)


def _typed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments as settings, each in its field's type."""
    known = fields_of(checkpoint.GROUPS)
    for name in settings:
        if name not in known:
            raise UserError("unknown-name", f"there is no setting {name!r}", nearest(name, list(known)), value=name)
    return {name: coerce(*known[name], value) for name, value in settings.items()}
