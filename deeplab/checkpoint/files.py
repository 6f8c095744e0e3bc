"""Reading and writing checkpoints: the door that training, evaluation and export use.

    tensors = files.read("logs/model.ckpt-300")       # or a folder, or one of the checkpoint's files
    files.save_step("logs", 400, tensors, keep=5)     # logs/model.ckpt-400, and logs/checkpoint names it
    files.latest("logs")                              # "logs/model.ckpt-400"

A checkpoint is a dict from TensorFlow-1 variable names (no `:0`) to arrays, with `global_step` and the
optimizer's slots (`NAME/Momentum`, ...) among them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from deeplab.checkpoint.bundle import Reader
from deeplab.checkpoint.find import find
from deeplab.checkpoint.manager import all_checkpoints, latest, save_step, step_in_name
from deeplab.checkpoint.writer import write

__all__ = [
    "Checkpoint",
    "InMemory",
    "Reader",
    "all_checkpoints",
    "find",
    "latest",
    "open_reader",
    "read",
    "save_step",
    "step_of",
    "write",
]


class InMemory:
    """Arrays that are there already, with the face of a Reader."""

    prefix = "the given arrays"

    def __init__(self, tensors: Mapping[str, np.ndarray | tf.Tensor]):
        self._tensors = tensors
        self.shapes = {name: tuple(value.shape) for name, value in tensors.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def array(self, name: str) -> np.ndarray:
        """One variable's values."""
        return np.asarray(self._tensors[name])


Checkpoint = str | os.PathLike | Mapping[str, np.ndarray] | Reader | InMemory


def open_reader(checkpoint: Checkpoint) -> Reader | InMemory:
    """Names and shapes of a checkpoint at once, arrays when asked for.

    Args:
      checkpoint: prefix, file of a checkpoint, folder (its latest whole checkpoint), `zoo:NAME`, arrays, or a reader.

    Raises:
      UserError: there is no such checkpoint, or it is damaged.
    """
    if isinstance(checkpoint, Reader | InMemory):
        return checkpoint
    if isinstance(checkpoint, Mapping):
        return InMemory(checkpoint)
    return Reader(find(checkpoint, checksums=True))


def read(checkpoint: str | os.PathLike) -> dict[str, np.ndarray]:
    """All arrays of a checkpoint by name, in the dtypes they were stored with. As `open_reader`."""
    reader = open_reader(checkpoint)
    return {name: reader.array(name) for name in reader.shapes}


def step_of(checkpoint: Checkpoint) -> int:
    """The global step: as stored, else the number in the checkpoint's name, else 0."""
    reader = open_reader(checkpoint)
    if "global_step" in reader:
        return int(reader.array("global_step"))
    return step_in_name(reader.prefix) or 0
