"""What TensorBoard shows of a training, under the reference's tags."""

from __future__ import annotations

import os
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from deeplab.data import colormaps
from slim import kernels
from slim.layers import variables_by_name

TAGS = {
    "total_loss": "total_loss_1",
    "task_loss": "Losses/clone_loss",
    "regularization_loss": "Losses/regularization_loss",
    "learning_rate": "learning_rate",
}
MOST_IMAGES = 4  # of a batch


class SummaryWriter:
    """Writes scalars, histograms and images of a training into its folder.

    Args:
      folder: the training folder.
      colors: uint8 [256, 3], RGB of each label value.
    """

    def __init__(self, folder: str | os.PathLike, colors: np.ndarray):
        self._writer = tf.summary.create_file_writer(os.fspath(folder))
        self._colors = colors

    def scalars(self, results: Mapping[str, float], steps_per_second: float, step: int) -> None:
        """Losses and learning rate of one step, and the speed."""
        with self._writer.as_default(step):
            for name, tag in TAGS.items():
                tf.summary.scalar(tag, results[name])
            tf.summary.scalar("global_step/sec", steps_per_second)

    def histograms(self, model: keras.Model, step: int) -> None:
        """The spread of every weight."""
        with self._writer.as_default(step):
            for name, variable in variables_by_name(model).items():
                tf.summary.histogram(f"{name}_1", variable.value)

    def images(self, batch: Mapping[str, tf.Tensor], logits: tf.Tensor, step: int) -> None:
        """Images, labels and predictions of a batch, side by side in three rows of pictures.

        Args:
          batch: image float32 [B, H, W, C], 0..255, and label int32 [B, H, W].
          logits: float32 [B, h, w, classes].
          step: global step.
        """
        labels = batch["label"][:MOST_IMAGES].numpy()
        resized = kernels.resize_bilinear(logits[:MOST_IMAGES], *labels.shape[1:3])
        predictions = tf.argmax(resized, axis=-1, output_type=tf.int32).numpy()
        pictures = {
            "samples/image": tf.cast(batch["image"][:MOST_IMAGES, ..., :3], tf.uint8),
            "samples/label": colormaps.color_label(labels, self._colors),
            "samples/semantic": colormaps.color_label(predictions, self._colors),
        }
        with self._writer.as_default(step):
            for tag, picture in pictures.items():
                tf.summary.image(tag, picture, max_outputs=MOST_IMAGES)

    def flush(self) -> None:
        """Brings everything to the disk."""
        self._writer.flush()
