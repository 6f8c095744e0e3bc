"""TensorBoard summaries, under the reference's tags."""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab.config.training_config import TENSORBOARD
from deeplab.data import colormaps
from deeplab.evaluation import examples
from deeplab.evaluation.evaluator import Evaluator
from deeplab.model import MERGED_LOGITS
from deeplab.training.callbacks import Callback, Pace, register
from deeplab.training.state import TrainState
from deeplab.training.step import PART
from deeplab.utils.errors import UserError
from deeplab.visualization.prediction_images import Drawing, PredictedImage, prediction_grid
from slim import kernels
from slim.layers import variables_by_name

TAGS = {
    "total_loss": "total_loss_1",
    "task_loss": "Losses/clone_loss",
    "regularization_loss": "Losses/regularization_loss",
    "learning_rate": "learning_rate",
}
MAX_IMAGES = 4  # of a batch


@register("summaries")
class Summaries(Callback):
    """Writes scalars every `log_steps` steps, and scalars and images after evaluations.

    Histograms of all weights, and images, are written every `save_summaries_secs`.
    """

    def on_start(self, state: TrainState) -> None:
        self._writer: Any = None
        if TENSORBOARD not in state.config.trackers():
            return
        self._pace, self._summarized_at = Pace(state.step), time.monotonic()
        dataset = state.dataset
        self._colors = colormaps.colors_for(dataset.colors, dataset.num_classes, dataset.ignore_label)
        with writing(state):
            self._writer = tf.summary.create_file_writer(state.config.train_logdir)

    def after_step(self, state: TrainState) -> None:
        if self._writer is None:
            return
        self._pace.step(state.step)
        with writing(state), self._writer.as_default(state.step):
            if state.is_log_step:
                for name, tag in {
                    **TAGS,
                    **{part: f"Losses/{part.removeprefix(PART)}" for part in state.parts},
                }.items():
                    tf.summary.scalar(tag, state.results[name])
                seconds = self._pace.lap(state.step)
                tf.summary.scalar("global_step/sec", 1.0 / seconds if seconds else 0.0)
            if state.is_last_step or time.monotonic() - self._summarized_at >= state.config.save_summaries_secs:
                self._summarize(state)

    def on_evaluation(self, state: TrainState, metrics: dict[str, Any]) -> None:
        if self._writer is None:
            return
        self._pace.interrupt()
        with writing(state), self._writer.as_default(state.step):
            for name, value in metrics.items():
                tf.summary.scalar(f"evaluation/{name}", value)
            if state.evaluation:
                tf.summary.image("evaluation/images", evaluated_images(state.evaluation[1], self._colors)[np.newaxis])

    def on_end(self, state: TrainState) -> None:
        if self._writer is not None:
            with writing(state):
                self._writer.flush()

    def _summarize(self, state: TrainState) -> None:
        for name, variable in variables_by_name(state.model).items():
            tf.summary.histogram(f"{name}_1", variable.value)
        if state.config.save_summaries_images:
            for tag, images in samples(state, self._colors).items():
                tf.summary.image(tag, images, max_outputs=MAX_IMAGES)
        self._writer.flush()
        self._summarized_at = time.monotonic()


def evaluated_images(evaluator: Evaluator, colors: np.ndarray) -> np.ndarray:
    """Images spread over the split with prediction, label and overlay, and the classes' names beside their colors.

    Args:
      evaluator: its predictor predicts them again.
      colors: uint8 [256, 3], RGB of each class.

    Returns:
      uint8 [height, width, 3], RGB.
    """
    images, drawing = evaluator.images, Drawing(pathlib.Path(), colors)
    positions = np.unique(np.linspace(0, len(images) - 1, MAX_IMAGES).astype(int)).tolist()
    found = examples.read(images, examples.predict_with(evaluator.predictor, images), positions)
    drawn = [
        PredictedImage(position, one.name, one.image, one.prediction, one.label).drawn(drawing)
        for position, one in found
    ]
    return prediction_grid(drawn, images.dataset.class_names, colors)


def samples(state: TrainState, colors: np.ndarray) -> dict[str, np.ndarray]:
    """Images, labels and predictions of the last batch, uint8 [MAX_IMAGES or fewer, H, W, 3], by their tag.

    Images of one or two bands are gray: [..., 1].

    Args:
      state: its batch is of the first device where there are several.
      colors: uint8 [256, 3], RGB of each label value.
    """
    batch = state.replica_batches()[0]
    labels = batch["label"][:MAX_IMAGES].numpy()
    images = batch["image"][:MAX_IMAGES]
    small = state.model(images, training=False)[MERGED_LOGITS]
    _, height, width = labels.shape
    logits = kernels.resize_bilinear(small, height, width, state.trainer.loss.align_corners)
    predictions = tf.argmax(logits, axis=-1, output_type=tf.int32).numpy()
    return {
        "samples/image": tf.cast(images[..., :3] if images.shape[-1] >= 3 else images[..., :1], tf.uint8).numpy(),
        "samples/label": colormaps.color_label(labels, colors),
        "samples/semantic": colormaps.color_label(predictions, colors),
    }


@contextlib.contextmanager
def writing(state: TrainState) -> Iterator[None]:
    """Turns an error of TensorBoard's writer, a full disk for instance, into a UserError."""
    try:
        yield
    except tf.errors.OpError as error:
        rule = f"the TensorBoard summaries cannot be written: {str(error.message).splitlines()[0]}"
        hint = "free space on the disk; the same command resumes from the last checkpoint"
        raise UserError("unwritable-file", rule, hint, where=state.config.train_logdir) from error
