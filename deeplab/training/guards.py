"""Conditions that stop a training: records that cannot be read, a loss that is not finite, too little memory, a signal.

Losses are checked on the device's own time: a GPU works ahead, and waiting for it after each step would leave it idle.
So the scalars of steps stay on the device until they are needed: for a progress line (every `log_steps` steps), or
before a checkpoint is written, which never holds weights of a training whose loss was not finite. On a CPU, where
results cost nothing, they are checked after each step. The bad batch is saved in either case: batches follow from the
seed and the step, so it is made again.
"""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab.data import pipeline
from deeplab.data.decoding import reported
from deeplab.training.distillation import TEACHER
from deeplab.training.loss_watch import LossWatch
from deeplab.training.step import TrainingBatch
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import write_atomically
from deeplab.utils.processes import extend_grace, interrupt


def next_batch(batches: Iterator[TrainingBatch], shards: list[str]) -> TrainingBatch:
    """The next batch; an error in the records is explained by file and record.

    Raises:
      UserError: a record that cannot be read or used.
    """
    try:
        return next(batches)
    except tf.errors.OpError as error:
        raise pipeline.explain(error, shards) from error


def run_step(
    train_step: Callable,
    batch: TrainingBatch,
    step: int,
    folder: str,
    advise: Callable[[], tuple[str, str]] = lambda: ("", "lower `train_batch_size`, then `train_crop_size`"),
) -> dict[str, tf.Tensor]:
    """Runs step number `step`, counted from 0, and returns its scalars, on the device.

    Args:
      train_step: see `step.make_train_step`.
      batch: with the images' names.
      step: updates done so far.
      folder: where a batch that the step refuses is saved; empty for a worker that writes nothing.
      advise: gives what a step needs of memory, and how to lower it.

    Raises:
      UserError: the batch has a label that is no class (it is saved in `folder`), or memory ran out.
    """
    try:
        tensors = {name: value for name, value in batch.items() if name in ("image", "label", TEACHER)}
        return train_step(tensors, tf.constant(step, tf.int64))
    except tf.errors.ResourceExhaustedError:
        need, hint = advise()
        rule = f"step {step + 1} does not fit into memory" + (f": {need}" if need else "")
        hint += "; `output_stride=16` needs a quarter of the memory of 8"
        raise UserError("out-of-memory", rule, hint, field="train_batch_size") from None
    except tf.errors.InvalidArgumentError as error:
        raise _unusable(batch, step, error, folder) from error


def _unusable(batch: TrainingBatch, step: int, error: tf.errors.OpError, folder: str) -> UserError:
    """The error of a batch that the step refused, for instance for labels that are no classes."""
    path = save_batch(batch, pathlib.Path(folder) / f"bad_batch_step_{step + 1}.npz") if folder else ""
    known = reported(error) or UserError("unusable-batch", str(error.message).splitlines()[0])
    rule = f"{known.rule}; images: {_names(batch)}" + (f"; the batch is saved in {path}" if path else "")
    hint = known.hint or "correct the masks of those images and build the records again"
    return UserError(known.code, rule, hint, where=f"step {step + 1}", value=path)


class UncheckedResults:
    """Scalars of steps that are still on the device.

    Args:
      batch_of: the batch of a step, counted from 0.
      folder: where a batch whose loss is not finite is saved; empty where another process does it.
      watch: sees every loss.
    """

    def __init__(self, batch_of: Callable[[int], TrainingBatch], folder: str, watch: LossWatch | None = None):
        self._batch_of, self._folder = batch_of, folder
        self._watch = watch or LossWatch("off")
        self._pending: list[tuple[int, Mapping[str, tf.Tensor]]] = []
        self._latest: dict[str, float] = {}

    def add(self, step: int, results: Mapping[str, tf.Tensor]) -> None:
        """Takes the scalars of a step, counted from 1."""
        self._pending.append((step, results))

    def latest(self) -> dict[str, float]:
        """Fetches the scalars of all steps since the last call and returns those of the newest, by name.

        Raises:
          UserError: the loss of one of these steps is not finite; its batch is saved. Or as `LossWatch.add`.
        """
        pending, self._pending = self._pending, []
        if not pending:
            return self._latest
        names = list(pending[0][1])
        table = tf.stack([results[name] for _, results in pending for name in names]).numpy()
        for (step, _), values in zip(pending, table.reshape(len(pending), len(names)).tolist(), strict=True):
            self._latest = dict(zip(names, values, strict=True))
            if not np.isfinite(self._latest["total_loss"]):
                raise self._not_finite(step)
            if self._latest["labeled_fraction"] == 0:
                console.warning(f"step {step}: no pixel of the batch is labeled, so the step changes little")
                continue
            self._watch.add(step, self._latest["task_loss"])
        return self._latest

    def _not_finite(self, step: int) -> UserError:
        if not self._folder:
            rule = "the loss is not finite; the chief saves the batch"
            return UserError("loss-not-finite", rule, where=f"step {step}")
        batch, results = self._batch_of(step - 1), self._latest
        path = save_batch(batch, pathlib.Path(self._folder) / f"bad_batch_step_{step}.npz")
        values, counts = np.unique(_merged(batch["label"]), return_counts=True)
        histogram = ", ".join(f"{value}: {count}" for value, count in zip(values, counts, strict=True))
        return UserError(
            "loss-not-finite",
            f"the loss is {results['total_loss']} (task {results['task_loss']}, weight decay "
            f"{results['regularization_loss']}) at learning rate {results['learning_rate']:.3g}; images: "
            f"{_names(batch)}; pixels by label: {histogram}; the batch is saved in {path}",
            "lower `base_learning_rate`, start with a warm-up (`warmup=0.05`) or limit the gradients "
            "(`gradient_clip_norm=1`); earlier checkpoints are intact",
            where=f"step {step}",
            value=path,
        )


def save_batch(batch: TrainingBatch, path: pathlib.Path) -> str:
    """Writes a batch's images, labels and names as an .npz file, whole or not at all, and returns its path."""
    content = io.BytesIO()
    arrays: dict[str, Any] = {name: _merged(value) for name, value in batch.items()}
    np.savez_compressed(content, **arrays)
    write_atomically(path, content.getvalue())
    return str(path)


def _merged(value: Any) -> np.ndarray:
    """A batch's tensor as one array, also where several devices hold parts of it."""
    return np.concatenate([part.numpy() for part in getattr(value, "values", (value,))])


def _names(batch: TrainingBatch) -> str:
    return ", ".join(name.decode(errors="replace") for name in _merged(batch["image_name"]))


# ---- signals -------------------------------------------------------------------------------------------

SECONDS_TO_SAVE = 120.0  # for the step in hand and its checkpoint; everything else ends in less than two


class StopRequest:
    """Whether Ctrl-C or SIGTERM has asked the training to stop.

    Attributes:
      received: a signal came.
      has_raised: it has ended a block of `at_once`.
      is_urgent: a second one came: the program ends at once.
    """

    def __init__(self) -> None:
        self.received = self.has_raised = self.is_urgent = False
        self._may_raise = False

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within the block a signal raises KeyboardInterrupt: nothing would be counted half, and it may take long."""
        self._may_raise = True
        try:
            yield
        finally:
            self._may_raise = False

    def __call__(self, number: int, frame: Any) -> None:
        """Takes a signal: the first is noted, or ends a block of `at_once`; the second ends the program."""
        if self.received:
            self.is_urgent = True
            raise KeyboardInterrupt
        self.received = True
        if self._may_raise:
            self._may_raise, self.has_raised = False, True
            interrupt()
        with contextlib.suppress(OSError):  # not through the console, which may be in the middle of a line
            os.write(2, b"\nstopping with a checkpoint after this step (again: at once, without)\n")


@contextlib.contextmanager
def interrupted(stop: StopRequest) -> Iterator[None]:
    """Ends the block at the KeyboardInterrupt of a first signal, or what TensorFlow makes of it, before the saving."""
    try:
        yield
    except BaseException:
        if stop.is_urgent or not stop.has_raised:
            raise


@contextlib.contextmanager
def deferred_signals() -> Iterator[StopRequest]:
    """Notes Ctrl-C and SIGTERM instead of raising them, so that no step is counted half.

    Outside the main thread, which alone receives signals, it changes nothing.
    """
    request = StopRequest()
    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):  # not the main thread
                before[number] = signal.signal(number, request)
        yield request
    finally:
        extend_grace(0)
        for number, handler in before.items():
            signal.signal(number, handler)
