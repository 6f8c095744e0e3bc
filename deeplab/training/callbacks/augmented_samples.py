"""Draws the first images of a training with their labels, as the training step gets them."""

from __future__ import annotations

import pathlib
from typing import Any

import cv2
import numpy as np
import tensorflow as tf

from deeplab.config.model_config import ModelConfig
from deeplab.config.training_config import TENSORBOARD
from deeplab.model import padding_color
from deeplab.training.callbacks import Callback, register
from deeplab.training.callbacks.summaries import writing
from deeplab.training.state import TrainState
from deeplab.utils.files import write_atomically
from deeplab.visualization.dataset_browser import GridStyle, RecordSplit, batch_grids

FILE_NAME = "augmented_samples.png"
COUNT = 16
CELL = 240  # pixels


@register("augmented_samples")
class AugmentedSamples(Callback):
    """Writes `augmented_samples.png`, and the same as a TensorBoard image, when 16 images have been trained on.

    A training that resumes does not write it again.
    """

    def on_start(self, state: TrainState) -> None:
        self._parts: list[dict[str, Any]] = []
        self._done = state.step > 0

    def after_step(self, state: TrainState) -> None:
        if self._done:
            return
        part = {name: np.asarray(value) for name, value in state.replica_batches()[0].items()}
        self._parts.append(part)
        if sum(len(part["image"]) for part in self._parts) >= COUNT or state.is_last_step:
            self._done = True
            self._write(state)

    def _write(self, state: TrainState) -> None:
        batch = {name: np.concatenate([part[name] for part in self._parts])[:COUNT] for name in self._parts[0]}
        self._parts = []
        count, height, width, _ = batch["image"].shape
        sizes = {"height": np.full(count, height), "width": np.full(count, width)}
        padding = padding_color(state.configs.model if state.configs else ModelConfig())
        operations = state.configs.augmentation.amounts() if state.configs else {}
        chosen = ", ".join(f"{name} {amount:g}" for name, amount in operations.items()) or "scale, crop and mirroring"
        split = RecordSplit(state.dataset, state.config.train_split, [])
        heading = (f"the first {count} images of the training", chosen)
        style = GridStyle(COUNT, min(CELL, max(height, width)))
        grid = next(iter(batch_grids(split, {**sizes, **batch}, padding, heading, style)))
        drawn = grid.draw()
        if TENSORBOARD in state.config.trackers():
            with writing(state):
                writer = tf.summary.create_file_writer(state.config.train_logdir, filename_suffix=".samples")
                with writer.as_default(state.step):
                    tf.summary.image("augmented_samples", drawn[np.newaxis])
                writer.close()
        encoded = cv2.imencode(".png", np.ascontiguousarray(drawn[..., ::-1]))[1]
        write_atomically(pathlib.Path(state.config.train_logdir) / FILE_NAME, encoded.tobytes())
