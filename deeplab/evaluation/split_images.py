"""The images of a split of records, and a network's answers to them: what evaluation and drawing share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from deeplab.config.data_config import ResizeConfig
from deeplab.data import pipeline, records, transforms
from deeplab.data.dataset import Dataset
from deeplab.inference.checkpoint_model import Network
from deeplab.inference.prediction import PredictionSettings, fitting, predict_batch, prepare, require_fit
from deeplab.utils.errors import UserError


class Batch(NamedTuple):
    """Some images of a split; lists with one entry an image.

    Attributes:
      names: the images' names.
      images: uint8 [H, W, 3], as stored.
      labels: int32 [H, W], as stored; empty without labels.
      sizes: (height, width) after resizing, before padding.
      pixels: float32 tensor [B, h, w, 3], 0..255, resized and padded; None for a single image, which the network's
        graph prepares itself: its operations use all cores, those of an input pipeline one each.
    """

    names: list[str]
    images: list[np.ndarray]
    labels: list[np.ndarray]
    sizes: list[tuple[int, int]]
    pixels: tf.Tensor | None


LabelsOf = Callable[[Batch], list[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Split:
    """The images of a split, ready for a network.

    Attributes:
      dataset: what the dataset is.
      folder, name: of the records and of the split.
      settings: sizes.
      batch_size: images in a batch; more than 1 needs a crop size.
      crop_flag: the command's flag of the crop size, for messages.
    """

    dataset: Dataset
    folder: str
    name: str
    settings: PredictionSettings
    batch_size: int = 1
    crop_flag: str = "`eval_crop_size`"

    def __len__(self) -> int:
        """Number of images."""
        return records.count(self.shards())

    def shards(self) -> list[str]:
        """Paths of the record files, in order."""
        return records.list_shards(self.folder, self.name)

    def require_crop_fits_all(self) -> None:
        """Stops before anything is done when `dataset.yml` says that some image is larger than the crop size.

        Raises:
          UserError: with the crop size that would do.
        """
        crop, largest = self.settings.crop_size, self.dataset.size_range.get(self.name)
        if crop is None or largest is None or self.settings.resize.min_resize_value:
            return
        height, width = largest.max_height, largest.max_width
        if height > crop[0] or width > crop[1]:
            raise UserError(
                "unclassified",
                f"split {self.name} has images up to {height} pixels high and {width} wide",
                fitting((height, width), self.settings, self.crop_flag),
                where=f"{self.crop_flag}={crop[0]},{crop[1]}",
            )

    def batches(self) -> Iterator[Batch]:
        """All images, in the order of the records; the next ones are decoded meanwhile.

        Raises:
          UserError: damaged records, an image larger than the crop size, label values outside the classes.
        """
        shards = self.shards()
        try:
            for arrays in self._pipeline(shards):
                batch = _as_batch(arrays, self.settings.resize)
                for name, size in zip(batch.names, batch.sizes, strict=True):
                    require_fit(size, self.settings, name, self.crop_flag)
                yield batch
        except tf.errors.OpError as fault:
            raise pipeline.explain(fault, shards) from fault

    def _pipeline(self, shards: list[str]) -> tf.data.Dataset:
        dataset = self.dataset
        images = pipeline.eval_images(shards, ignore_label=dataset.ignore_label, num_classes=dataset.num_classes)
        if self.batch_size == 1:
            return images.batch(1).prefetch(2)
        # Larger images grow beyond the crop here, so that the check of `batches` can name them.
        settings = dataclasses.replace(self.settings, may_outgrow_crop=True)

        def make(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return {**example, "pixels": prepare(example["image"], settings).pixels}

        return images.map(make, num_parallel_calls=tf.data.AUTOTUNE).padded_batch(self.batch_size).prefetch(2)


def _as_batch(arrays: dict[str, tf.Tensor], resize: ResizeConfig) -> Batch:
    stored = list(zip(arrays["height"].numpy().tolist(), arrays["width"].numpy().tolist(), strict=True))

    def cut(values: tf.Tensor) -> list[np.ndarray]:
        return [one[:height, :width] for one, (height, width) in zip(values.numpy(), stored, strict=True)]

    return Batch(
        names=[name.decode("utf-8", "replace") for name in arrays["image_name"].numpy()],
        images=cut(arrays["image"]),
        labels=cut(arrays["label"]) if "label" in arrays else [],
        sizes=[_resized(size, resize) for size in stored],
        pixels=arrays.get("pixels"),
    )


def _resized(size: tuple[int, int], resize: ResizeConfig) -> tuple[int, int]:
    if resize.min_resize_value is None:
        return size
    height, width = transforms.resized_size(tf.constant(size), resize).numpy().tolist()
    return height, width


# ---- answers ---------------------------------------------------------------------------------------------


def labels_of(network: Network, settings: PredictionSettings) -> LabelsOf:
    """The network as a function from a batch to a list of labels, int32 [h, w], at the size after resizing.

    It follows the network's weights, and is traced once for all sizes.
    """
    height, width = settings.crop_size or (None, None)
    channels = settings.model.input_channels

    @tf.function(input_signature=[tf.TensorSpec([None, height, width, channels], tf.float32)])
    def of_pixels(pixels):
        return predict_batch(network.logits_of, pixels, settings).labels

    @tf.function(input_signature=[tf.TensorSpec([None, None, channels], tf.uint8)])
    def of_image(image):
        frame = prepare(image, settings)
        return of_pixels(frame.pixels[tf.newaxis])[0, : frame.size[0], : frame.size[1]]

    def run(batch: Batch) -> list[np.ndarray]:
        try:
            if batch.pixels is None:
                return [of_image(image).numpy() for image in batch.images]
            raw = of_pixels(batch.pixels).numpy()
            return [one[:height, :width] for one, (height, width) in zip(raw, batch.sizes, strict=True)]
        except tf.errors.ResourceExhaustedError:
            hint = "fewer images a batch, fewer scales, or smaller images: `min_resize_value`, `max_resize_value`"
            raise UserError(
                "unclassified", "there is not enough memory for the network", hint, where=", ".join(batch.names)
            ) from None

    return run


def resized_label(label: np.ndarray, resize: ResizeConfig) -> np.ndarray:
    """A stored label [H, W] at the size after resizing, where evaluation compares: int32 [h, w]."""
    return np.asarray(transforms.resize_label_to_range(label, resize))


def original_labels(labels: np.ndarray, stored: tuple[int, int], resize: ResizeConfig) -> np.ndarray:
    """Answers [h, w] at the size after resizing, brought to the stored image's size: int32 [H, W]."""
    return transforms.resize_nearest(labels, stored).numpy() if resize.min_resize_value else labels
