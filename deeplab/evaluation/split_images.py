"""The images of a split of records, and a Predictor's labels of them: shared by evaluation and visualization."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from deeplab.config.data_config import ResizeConfig
from deeplab.data import pipeline, records, transforms
from deeplab.data.dataset import Dataset
from deeplab.inference.prediction import PredictionSettings, fitting_crop, prepare, require_fit, size_after_resizing
from deeplab.inference.predictor import ModelPredictor, Predictor
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.visualization.prediction_images import PredictedImage

Arrays = dict[str, tf.Tensor]  # an element of the pipeline: names, images, labels ... of some images
_MAX_WAITING = 4  # batches of images that wait for others of their size


class ImageBatch(NamedTuple):
    """Some images of a split; lists with one entry per image.

    Attributes:
      positions: places of the images in the split, from 0.
      names: the images' names.
      images: uint8 [H, W, 3], or raw values [H, W, C], as stored.
      labels: int32 [H, W], as stored; empty without labels.
      sizes: (height, width) after resizing, before padding.
      pixels: float32 tensor [B, h, w, 3], 0..255, resized and padded; None for a single image, which the model's graph
        prepares itself: its operations use all cores, those of an input pipeline one each.
    """

    positions: list[int]
    names: list[str]
    images: list[np.ndarray]
    labels: list[np.ndarray]
    sizes: list[tuple[int, int]]
    pixels: tf.Tensor | None


@dataclasses.dataclass(frozen=True)
class SplitImages:
    """The images of a split of records, ready for a Predictor.

    Attributes:
      dataset: description of the dataset.
      folder, name: of the records and of the split.
      settings: the Predictor's: sizes; None for an exported file, which prepares images itself.
      batch_size: images per batch. Without a crop size, a batch holds images of one padded size, and the images come in
        another order.
      part: number of the first image, and the step to the next one, for evaluation in several processes.
    """

    dataset: Dataset
    folder: str
    name: str
    settings: PredictionSettings | None = None
    batch_size: int = 1
    part: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        if self.batch_size > 1 and self.settings is None:
            rule, hint = "an exported file takes one image at a time", "use a batch size of 1, or give the checkpoint"
            raise UserError("settings-built-in", rule, hint, where=self.name, value=self.batch_size)

    def __len__(self) -> int:
        """Number of images."""
        first, step = self.part
        return len(range(first, records.count(self.shards()), step))

    @property
    def resize(self) -> ResizeConfig:
        """How images and labels are resized before they are compared."""
        return self.settings.resize if self.settings else ResizeConfig()

    def shards(self) -> list[str]:
        """Paths of the record files, in order."""
        return records.list_shards(self.folder, self.name)

    def require_crop_fits_all(self) -> None:
        """Stop before the first image if `dataset.yml` says that some image is larger than the crop size.

        Raises:
          UserError: with a crop size that holds all images.
        """
        largest = self.dataset.size_range.get(self.name)
        if self.settings is None or self.settings.crop_size is None or largest is None or self.resize.min_resize_value:
            return
        height, width = largest.max_height, largest.max_width
        crop, field = self.settings.crop_size, self.settings.crop_field
        if height > crop[0] or width > crop[1]:
            size = f"{height} pixels high and {width} wide"
            rule = f"split {self.name} has images up to {size}, the crop is {crop[0]},{crop[1]}"
            hint = fitting_crop((height, width), self.settings)
            raise UserError("larger-than-crop", rule, hint, field=field, value=crop)

    def batches(self) -> Iterator[ImageBatch]:
        """Yield all images; the next ones are decoded in the background.

        They come in the order of the records, except in batches without a crop size.

        Raises:
          UserError: damaged records, an image larger than the crop size, label values outside the classes.
        """
        shards = self.shards()
        try:
            for positions, arrays in self._grouped(self._pipeline(shards)):
                batch = _as_batch(positions, arrays, self.resize)
                for name, size in zip(batch.names, batch.sizes, strict=True):
                    if self.settings:
                        require_fit(size, self.settings, name)
                yield batch
        except tf.errors.OpError as error:
            raise pipeline.explain(error, shards) from error

    def _pipeline(self, shards: list[str]) -> tf.data.Dataset:
        dataset = self.dataset
        spec: dict[str, Any] = {"ignore_label": dataset.ignore_label, "num_classes": dataset.num_classes}
        images = pipeline.eval_images(shards, **spec, bands=dataset.image_bands, part=self.part)
        if self.batch_size == 1 or self.settings is None:
            return images.batch(1).prefetch(2)
        # Images larger than the crop keep their size here, so that the check of `batches` can name them.
        settings = dataclasses.replace(self.settings, may_outgrow_crop=True)

        def make(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return {**example, "pixels": prepare(example["image"], settings).pixels}

        prepared = images.map(make, num_parallel_calls=tf.data.AUTOTUNE)
        of_one_size = self.settings.crop_size is not None
        return prepared.padded_batch(self.batch_size if of_one_size else 1).prefetch(2)

    def _grouped(
        self, stored: Iterable[dict[str, tf.Tensor]]
    ) -> Iterator[tuple[list[int], list[dict[str, tf.Tensor]]]]:
        """Positions and arrays of each batch: one element of the pipeline, or several of one padded size."""
        first, step = self.part
        done = 0
        groups: dict[tuple[int, ...], list[tuple[int, Arrays]]] = {}
        for arrays in stored:
            number = len(arrays["image_name"])
            positions = [first + step * (done + index) for index in range(number)]
            done += number
            if self.batch_size == 1 or self.settings is None or self.settings.crop_size:
                yield positions, [arrays]
                continue
            shape = tuple(arrays["pixels"].shape)
            groups.setdefault(shape, []).append((positions[0], arrays))
            waiting = sum(map(len, groups.values()))
            if len(groups[shape]) == self.batch_size or waiting >= _MAX_WAITING * self.batch_size:
                largest = max(groups, key=lambda each: len(groups[each]))
                yield _together(groups.pop(largest))
        for group in groups.values():
            yield _together(group)


def _together(group: list[tuple[int, Arrays]]) -> tuple[list[int], list[Arrays]]:
    return [position for position, _ in group], [arrays for _, arrays in group]


def _as_batch(positions: list[int], parts: list[Arrays], resize: ResizeConfig) -> ImageBatch:
    found = [_arrays_of(arrays) for arrays in parts]
    pixels = [arrays["pixels"] for arrays in parts if "pixels" in arrays]
    return ImageBatch(
        positions=positions,
        names=[name for names, _, _, _ in found for name in names],
        images=[image for _, images, _, _ in found for image in images],
        labels=[label for _, _, labels, _ in found for label in labels],
        sizes=[size_after_resizing(size, resize) for _, _, _, stored in found for size in stored],
        pixels=tf.concat(pixels, axis=0) if pixels else None,
    )


def _arrays_of(
    arrays: dict[str, tf.Tensor],
) -> tuple[list[str], list[np.ndarray], list[np.ndarray], list[tuple[int, int]]]:
    """Names, images, labels and stored sizes of an element of the pipeline, without what `padded_batch` added."""
    stored = list(zip(arrays["height"].numpy().tolist(), arrays["width"].numpy().tolist(), strict=True))

    def cut(values: tf.Tensor) -> list[np.ndarray]:
        return [one[:height, :width] for one, (height, width) in zip(values.numpy(), stored, strict=True)]

    names = [name.decode("utf-8", "replace") for name in arrays["image_name"].numpy()]
    return names, cut(arrays["image"]), cut(arrays["label"]) if "label" in arrays else [], stored


# ---- predictions -----------------------------------------------------------------------------------------


def predicted_images(images: SplitImages, predictor: Predictor) -> Iterator[PredictedImage]:
    """Every image of a split with the model's prediction at its own size, with a progress bar meanwhile.

    Raises:
      UserError: as `SplitImages.batches`.
    """
    number = 0
    with console.progress(total=len(images), what=f"drawing {images.name}", unit="image") as bar:
        for batch in images.batches():
            for index, resized in enumerate(predict_labels(predictor, batch)):
                image = batch.images[index]
                prediction = original_labels(resized, image.shape[:2], images.resize)
                label = batch.labels[index] if batch.labels else None
                shown = image if images.dataset.image_bands.is_rgb else images.dataset.image_bands.quick_look(image)
                yield PredictedImage(number, batch.names[index], shown, prediction, label)
                number += 1
            bar.update(len(batch.names))


def predict_labels(predictor: Predictor, batch: ImageBatch) -> list[np.ndarray]:
    """Labels of a batch, int32 [h, w] each, at the size after resizing, where evaluation compares."""
    if batch.pixels is None:
        return [predictor.predict_resized(image) for image in batch.images]
    assert isinstance(predictor, ModelPredictor)
    padded = predictor.predict_padded(batch.pixels)
    return [one[:height, :width] for one, (height, width) in zip(padded, batch.sizes, strict=True)]


def predict_confident(predictor: Predictor, batch: ImageBatch) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """As `predict_labels`, each with the probability of the predicted class, float32 [h, w]; None if unknown."""
    if batch.pixels is None:
        return [predictor.predict_confident(image) for image in batch.images]
    assert isinstance(predictor, ModelPredictor)
    found = zip(*predictor.predict_confident_padded(batch.pixels), batch.sizes, strict=True)
    return [(labels[:height, :width], sure[:height, :width]) for labels, sure, (height, width) in found]


def resized_label(label: np.ndarray, resize: ResizeConfig) -> np.ndarray:
    """A stored label [H, W] at the size after resizing, where evaluation compares: int32 [h, w]."""
    return np.asarray(transforms.resize_label_to_range(label, resize))


def original_labels(labels: np.ndarray, stored: tuple[int, int], resize: ResizeConfig) -> np.ndarray:
    """Labels [h, w] at the size after resizing, resized to the stored image's size: int32 [H, W]."""
    return transforms.resize_nearest(labels, stored).numpy() if resize.min_resize_value else labels
