"""What stops a training in the middle: data that cannot be read, a loss that is no number, too little memory."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab.data import pipeline
from deeplab.training.step import Batch
from deeplab.utils import console
from deeplab.utils.errors import UserError


def next_batch(batches: Iterator[Batch], shards: list[str], step: int) -> Batch:
    """The next batch; a fault in the records is explained by file and record.

    Raises:
      UserError: a record that cannot be read or used.
    """
    try:
        return next(batches)
    except tf.errors.OpError as fault:
        raise pipeline.explain(fault, shards) from fault


def run_step(train_step: Callable, batch: Batch, step: int, folder: str) -> dict[str, float]:
    """Runs a step and looks at its loss.

    Returns:
      The step's scalars as Python numbers.

    Raises:
      UserError: the loss is not finite (the batch is saved in `folder`), or memory ran out.
    """
    try:
        tensors = {name: value for name, value in batch.items() if name in ("image", "label")}
        results = {name: float(value) for name, value in train_step(tensors, tf.constant(step, tf.int64)).items()}
    except tf.errors.ResourceExhaustedError:
        raise UserError(
            "unclassified",
            f"step {step + 1} does not fit",
            "lower `train_batch_size` (with `fine_tune_batch_norm=false` below 12), then `train_crop_size`; "
            "`output_stride=16` needs a quarter of 8's memory",
            where="memory",
        ) from None
    except tf.errors.InvalidArgumentError as fault:
        raise _unusable(batch, step, fault, folder) from fault
    if not np.isfinite(results["total_loss"]):
        raise _not_finite(batch, step, results, folder)
    if results["labeled_share"] == 0:
        console.warning(f"step {step + 1}: no pixel of the batch is labeled, so it teaches nothing")
    return results


def _unusable(batch: Batch, step: int, fault: tf.errors.OpError, folder: str) -> UserError:
    """A batch that the step refused, for instance for labels that are no classes."""
    path = save_batch(batch, pathlib.Path(folder) / f"bad_batch_step_{step + 1}.npz")
    reason = str(fault.message).splitlines()[0]
    return UserError(
        "unclassified",
        f"{reason}; images: {_names(batch)}; the batch is saved in {path}",
        "mend those images' masks and build the records anew",
        where=f"step {step + 1}",
    )


def _not_finite(batch: Batch, step: int, results: dict[str, float], folder: str) -> UserError:
    path = save_batch(batch, pathlib.Path(folder) / f"bad_batch_step_{step + 1}.npz")
    values, counts = np.unique(_merged(batch["label"]), return_counts=True)
    histogram = ", ".join(f"{value}: {count}" for value, count in zip(values, counts, strict=True))
    return UserError(
        "unclassified",
        f"the loss is {results['total_loss']} (task {results['task_loss']}, weight decay "
        f"{results['regularization_loss']}) at learning rate {results['learning_rate']:.3g}; images: {_names(batch)}; "
        f"pixels by label: {histogram}; the batch is saved in {path}",
        "lower `base_learning_rate`, or start with `slow_start_step`; checkpoints before this step are intact",
        where=f"step {step + 1}",
    )


def save_batch(batch: Batch, path: str | os.PathLike) -> str:
    """Writes a batch's images, labels and names as an .npz file, whole or not at all, and returns its path."""
    path, temporary = os.fspath(path), f"{os.fspath(path)}.{os.getpid()}.partial.npz"
    arrays: dict[str, Any] = {name: _merged(value) for name, value in batch.items()}
    np.savez_compressed(temporary, **arrays)
    os.replace(temporary, path)
    return path


def _merged(value: tf.Tensor) -> np.ndarray:
    """A batch's tensor as one array, also where several devices hold parts of it."""
    if isinstance(value, tf.distribute.DistributedValues):
        return np.concatenate([part.numpy() for part in value.values])
    return value.numpy()


def _names(batch: Batch) -> str:
    return ", ".join(name.decode(errors="replace") for name in _merged(batch["image_name"]))
