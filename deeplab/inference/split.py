"""A split of records as prepared batches, and a network's answers to them: what evaluation and drawing share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from deeplab.config import ResizeConfig
from deeplab.data import geometry, input, records
from deeplab.data.dataset import Dataset
from deeplab.errors import UserError
from deeplab.inference.network import Network
from deeplab.inference.prediction import PredictionSettings, fitting, predict_batch, prepare, require_fit


class Batch(NamedTuple):
    """Some images of a split, as NumPy arrays; all but `pixels` and `padded_labels` are lists, one entry an image.

    Attributes:
      pixels: float32 tensor [B, h, w, 3], 0..255, resized and padded.
      padded_labels: int32 [B, h, w], resized likewise and padded with the ignore label; None without labels.
      images: uint8 [H, W, 3], as stored.
      labels: int32 [H, W], as stored; empty without labels.
      names: the images' names.
      sizes: (height, width) of the part of `pixels` that is not padding.
    """

    pixels: tf.Tensor
    padded_labels: np.ndarray | None
    images: list[np.ndarray]
    labels: list[np.ndarray]
    names: list[str]
    sizes: list[tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Split:
    """The images of a split, ready for a network.

    Attributes:
      dataset: what the data set is.
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
    crop_flag: str = "--eval_crop_size"

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
                f"{self.crop_flag}={crop[0]},{crop[1]}",
                f"split {self.name} has images up to {height} pixels high and {width} wide",
                fitting((height, width), self.settings, self.crop_flag),
            )

    def batches(self) -> Iterator[Batch]:
        """All images, in the order of the records; the next ones are decoded meanwhile.

        Raises:
          UserError: damaged records, an image larger than the crop size, label values outside the classes.
        """
        shards = self.shards()
        try:
            for arrays in self._pipeline(shards):
                batch = _as_batch(arrays)
                for name, size in zip(batch.names, batch.sizes, strict=True):
                    require_fit(size, self.settings, name, self.crop_flag)
                yield batch
        except tf.errors.OpError as fault:
            raise input.explain(fault, shards) from fault

    def _pipeline(self, shards: list[str]) -> tf.data.Dataset:
        dataset = self.dataset
        images = input.eval_images(shards, ignore_label=dataset.ignore_label, num_classes=dataset.num_classes)
        # Larger images grow beyond the crop here, so that the check of `batches` can name them.
        settings = dataclasses.replace(self.settings, may_outgrow_crop=True)

        def make(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            frame = prepare(example["image"], settings)
            made = {**example, "pixels": frame.pixels, "size": frame.size}
            if "label" in example:
                label = geometry.resize_label_to_range(example["label"], settings.resize)
                padded = tf.shape(frame.pixels)
                made["padded_label"] = geometry.pad_to(label, padded[0], padded[1], dataset.ignore_label)
            return made

        return images.map(make, num_parallel_calls=tf.data.AUTOTUNE).padded_batch(self.batch_size).prefetch(2)


def _as_batch(arrays: dict[str, tf.Tensor]) -> Batch:
    stored = list(zip(arrays["height"].numpy().tolist(), arrays["width"].numpy().tolist(), strict=True))
    has_labels = "label" in arrays

    def cut(values: tf.Tensor) -> list[np.ndarray]:
        return [one[:height, :width] for one, (height, width) in zip(values.numpy(), stored, strict=True)]

    return Batch(
        pixels=arrays["pixels"],
        padded_labels=arrays["padded_label"].numpy() if has_labels else None,
        images=cut(arrays["image"]),
        labels=cut(arrays["label"]) if has_labels else [],
        names=[name.decode("utf-8", "replace") for name in arrays["image_name"].numpy()],
        sizes=[(int(height), int(width)) for height, width in arrays["size"].numpy()],
    )


def labels_of(network: Network, settings: PredictionSettings) -> Callable[[tf.Tensor], np.ndarray]:
    """The network as a function from prepared pixels, float32 [B, h, w, 3], to labels, int32 [B, h, w].

    It follows the network's weights, and is traced once for all sizes.
    """
    height, width = settings.crop_size or (None, None)
    signature = [tf.TensorSpec([None, height, width, settings.model.input_channels], tf.float32)]

    @tf.function(input_signature=signature)
    def compiled(pixels):
        return predict_batch(network.logits_of, pixels, settings).labels

    def run(pixels: tf.Tensor) -> np.ndarray:
        try:
            return compiled(pixels).numpy()
        except tf.errors.ResourceExhaustedError:
            shape = "x".join(map(str, pixels.shape))
            remedy = "fewer images a batch, fewer scales, or smaller images: --min_resize_value, --max_resize_value"
            raise UserError(f"images of {shape}", "there is not enough memory for the network", remedy) from None

    return run


def original_labels(
    raw: np.ndarray, size: tuple[int, int], stored: tuple[int, int], resize: ResizeConfig
) -> np.ndarray:
    """Raw labels [h, w] without padding, at the stored image's size: int32 [H, W]."""
    cut = raw[: size[0], : size[1]]
    return geometry.resize_nearest(cut, stored).numpy() if resize.min_resize_value else cut
