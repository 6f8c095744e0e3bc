"""The training loop: one page, read from top to bottom.

`train` sets up data, network, optimizer and starting point, then steps until the end, writing progress,
summaries and checkpoints on the way. What can go wrong in between stops it with the last checkpoint intact.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import keras
import numpy as np
import tensorflow as tf

from deeplab import checkpoint
from deeplab.checkpoint.manager import save_step
from deeplab.checkpoint.names import STEP
from deeplab.config.training_config import TrainConfig
from deeplab.data import colormaps, records
from deeplab.data.dataset import Dataset
from deeplab.losses import segmentation_loss
from deeplab.model import MERGED_LOGITS, build_model
from deeplab.training import distribution, guards, optimizers, precise_bn, start
from deeplab.training.batches import training_batches
from deeplab.training.callbacks.summaries import SummaryWriter
from deeplab.training.settings import Settings
from deeplab.training.step import Batch, Task, make_train_step
from deeplab.utils import console
from slim.layers import variables_by_name


def train(settings: Settings, dataset: Dataset, seed: int) -> str:
    """Trains to `training_number_of_steps`, from the latest checkpoint in `train_logdir` if there is one.

    Args:
      settings: what to train, on what, how long.
      dataset: classes, ignore label and what is known of the pixels.
      seed: of initial weights, shuffling and augmentation.

    Returns:
      Prefix of the last checkpoint.

    Raises:
      UserError: unusable input, a loss that is no longer finite, a checkpoint that does not fit, a full disk.
    """
    config = settings.train

    # ---- devices, network, optimizer
    distribution.allow_memory_growth()
    strategy = distribution.make_strategy(config.num_clones)
    keras.utils.set_random_seed(seed)
    with strategy.scope():
        done = tf.Variable(0.0, trainable=False)  # fraction of the training, with which dropping paths grows
        model = build_model(
            settings.model,
            dataset.num_classes,
            train_batch_norm=config.fine_tune_batch_norm,
            drop_path_keep_probability=config.drop_path_keep_prob,
            training_progress=lambda: done,
        )
        trainable = {name: v for name, v in variables_by_name(model).items() if v.trainable}
        optimizer = optimizers.make(settings.optimizer, trainable)
    loss = segmentation_loss.from_config(settings.loss, dataset.ignore_label)
    task = Task(model, optimizer, loss, settings.loss.weight_decay, settings.optimizer, config.training_number_of_steps)
    train_step = make_train_step(task, strategy)
    state = {**variables_by_name(model), **optimizer.variables_by_name()}

    # ---- starting point
    first_step = start.restore(state, settings)
    if first_step >= config.training_number_of_steps:
        console.note(
            f"{config.train_logdir} is at step {first_step}: `training_number_of_steps=`"
            f"{config.training_number_of_steps} is reached; raise it to train longer"
        )
        return checkpoint.open(config.train_logdir).prefix
    console.note(distribution.describe(strategy, config.train_batch_size))

    # ---- data
    shards = records.list_shards(settings.dataset.dataset_dir, config.train_split)
    batches = iter(training_batches(settings, dataset, shards, strategy, seed, first_step))

    # ---- steps
    writer = SummaryWriter(config.train_logdir, colormaps.colors_for(dataset.colors, dataset.num_classes))
    log = _Log(config, writer, model, first_step)
    saver = _Saver(config, state, first_step)
    profiler = _Profiler(config.profile_logdir, first_step)
    step = first_step
    try:
        for step in range(first_step, config.training_number_of_steps):
            profiler.before_step(step)
            done.assign(step / config.training_number_of_steps)
            batch = guards.next_batch(batches, shards, step)
            results = guards.run_step(train_step, batch, step, config.train_logdir)
            log.after_step(step + 1, results, batch)
            saver.after_step(step + 1)
    except KeyboardInterrupt:
        saver.save(step)
        console.note(f"stopped: step {step} is saved; the same command goes on from there")
        raise

    # ---- the end
    profiler.stop()
    images = (_first_replica(batch)["image"] for batch in batches)
    _calibrate(model, config, images, config.training_number_of_steps)
    prefix = saver.save(config.training_number_of_steps)
    writer.flush()
    console.note(f"done: {prefix}")
    return prefix


def _calibrate(model: keras.Model, config: TrainConfig, images: Iterator[tf.Tensor], steps: int) -> None:
    layers = precise_bn.batch_norm_layers(model)
    needed = precise_bn.batches_needed(layers, steps, config.batch_norm_calibration_batches)
    if needed:
        console.note(f"measuring batch-norm statistics over {needed} training batches")
        precise_bn.calibrate(model, images, needed)


def _first_replica(batch: Batch) -> dict[str, tf.Tensor]:
    """The part of a batch that the first device has; with one device the batch."""
    return {
        name: value.values[0] if isinstance(value, tf.distribute.DistributedValues) else value
        for name, value in batch.items()
    }


class _Profiler:
    """Profiles a few steps for TensorBoard, once the first ones have warmed up."""

    WARM_UP, STEPS = 5, 5

    def __init__(self, folder: str, first_step: int):
        self._folder, self._begin, self._running = folder, first_step + self.WARM_UP, False

    def before_step(self, step: int) -> None:
        """Starts and stops the profile where its steps begin and end."""
        if self._folder and step == self._begin:
            tf.profiler.experimental.start(self._folder)
            self._running = True
        elif step == self._begin + self.STEPS:
            self.stop()

    def stop(self) -> None:
        """Writes the profile, if one is running."""
        if self._running:
            tf.profiler.experimental.stop()
            self._running = False
            console.note(f"profile of {self.STEPS} steps: {self._folder}")


class _Saver:
    """Writes a checkpoint when its time has come, and at step 0."""

    def __init__(self, config: TrainConfig, state: Mapping[str, keras.Variable | tf.Variable], first_step: int):
        self._config, self._state = config, state
        self._saved_at, self._saved_step = time.monotonic(), first_step
        if first_step == 0:
            self.save(0)

    def after_step(self, step: int) -> None:
        """Saves if so many steps or seconds have passed; the last step is saved by its own call."""
        every = self._config.save_interval_steps
        due = time.monotonic() - self._saved_at >= self._config.save_interval_secs
        if (due or (every and step % every == 0)) and step < self._config.training_number_of_steps:
            self.save(step)

    def save(self, step: int) -> str:
        """Writes `model.ckpt-STEP`."""
        tensors = {name: np.asarray(variable.numpy()) for name, variable in self._state.items()}
        tensors[STEP] = np.asarray(step, np.int64)
        prefix = save_step(self._config.train_logdir, step, tensors, self._config.max_checkpoints_to_keep)
        self._saved_at, self._saved_step = time.monotonic(), step
        return prefix


class _Log:
    """Progress lines on the terminal and summaries for TensorBoard."""

    def __init__(self, config: TrainConfig, writer: SummaryWriter, model: keras.Model, first_step: int):
        self._config, self._writer, self._model = config, writer, model
        self._logged_step = first_step
        self._logged_at = self._summarized_at = time.monotonic()
        self._seconds_per_step: float | None = None

    def after_step(self, step: int, results: Mapping[str, float], batch: Batch) -> None:
        """Reports step number `step` (counted from 1) where a report is due."""
        last = step == self._config.training_number_of_steps
        if step % self._config.log_steps == 0 or last or step == 1:
            self._line(step, results)
        if last or time.monotonic() - self._summarized_at >= self._config.save_summaries_secs:
            self._summarize(step, batch)

    def _line(self, step: int, results: Mapping[str, float]) -> None:
        config, now = self._config, time.monotonic()
        seconds = (now - self._logged_at) / max(1, step - self._logged_step)
        first = self._seconds_per_step is None  # the first step holds the compilation: no base for a forecast
        self._logged_at, self._logged_step, self._seconds_per_step = now, step, seconds
        left = "..." if first else console.duration((config.training_number_of_steps - step) * seconds)
        console.note(
            f"step {step}/{config.training_number_of_steps}  loss {results['total_loss']:.4f} "
            f"(task {results['task_loss']:.4f}, weight decay {results['regularization_loss']:.4f})  "
            f"learning rate {results['learning_rate']:.3g}  "
            f"{config.train_batch_size / seconds:.1f} images/s  left {left}"
        )
        self._writer.scalars(results, 1.0 / seconds, step)

    def _summarize(self, step: int, batch: Batch) -> None:
        self._writer.histograms(self._model, step)
        if self._config.save_summaries_images:
            part = _first_replica(batch)
            logits = self._model(part["image"], training=False)[MERGED_LOGITS]
            self._writer.images(part, logits, step)
        self._writer.flush()
        self._summarized_at = time.monotonic()
