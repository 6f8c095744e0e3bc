"""Reads the weights in a Keras `.h5` file, of `save_weights` or `save`, as `LAYER/WEIGHT` without `:0`.

A file of `save` describes the layers as well; of that, only their dilation rates are read.

Only plain datasets of numbers inside the file are read: links to other files, and data that would be larger than the
file by more than compression explains, are refused.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from deeplab.checkpoint.foreign.tensor_file import MAX_TENSORS, checked_shape, damaged

MAX_RATIO = 200  # bytes of all weights per byte of the file
MAX_DEPTH = 12
MAX_DESCRIPTION = 16 << 20  # bytes
_WEIGHTS = "model_weights"  # group of the weights in a file of `model.save`
_SKIPPED = ("optimizer_weights", "top_level_model_weights")


class Hdf5File:
    """A Keras `.h5` file; see `TensorFile`.

    Attributes:
      dilation_rates: of its layers by name, as far as the file describes them.

    Raises:
      UserError: it is damaged, or refers to other files.
    """

    has_our_axes = True

    def __init__(self, path: str):
        import h5py

        self.path = path
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._places: dict[str, str] = {}
        self._bytes = 0
        try:
            with h5py.File(path, "r") as file:
                root = file.get(_WEIGHTS, file)
                self._walk(root, [])
                self.dilation_rates = _dilation_rates(file.attrs.get("model_config"))
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, UnicodeError) as error:
            raise damaged(path, f"is truncated or damaged: {str(error)[:150]}") from error

    def _walk(self, group: Any, parents: list[str]) -> None:
        import h5py

        if len(parents) > MAX_DEPTH:
            raise damaged(self.path, "its groups are nested too deeply")
        for name in group:
            if not parents and name in _SKIPPED:
                continue
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise damaged(self.path, f"{'/'.join([*parents, name])[:100]} is a link, possibly to another file")
            member = group[name]
            if isinstance(member, h5py.Group):
                self._walk(member, [*parents, name])
            elif isinstance(member, h5py.Dataset):
                self._add(member, [*parents, name])

    def _add(self, dataset: Any, parts: list[str]) -> None:
        name = f"{_layer(parts[:-1])}/{parts[-1]}".removesuffix(":0") if len(parts) > 1 else parts[0]
        if dataset.dtype.kind not in "fiub" or dataset.external or dataset.is_virtual:
            raise damaged(self.path, f"{name[:100]} is not an array of numbers inside the file", name[:100])
        self.shapes[name] = checked_shape(tuple(map(int, dataset.shape)), self.path, name)
        self._places[name] = dataset.name
        self._bytes += dataset.nbytes
        if len(self.shapes) > MAX_TENSORS or self._bytes > MAX_RATIO * os.path.getsize(self.path):
            raise damaged(self.path, "would hold far more values than bytes")

    def array(self, name: str) -> np.ndarray:
        import h5py

        place = self._places[name]
        try:
            with h5py.File(self.path, "r") as file:
                return np.asarray(file[place][()])
        except (OSError, RuntimeError, ValueError, KeyError, MemoryError) as error:
            raise damaged(self.path, f"is truncated or damaged (at {name}): {str(error)[:150]}", name) from error


def _layer(groups: list[str]) -> str:
    """The layer of a weight in these groups: its name, then its name again where the name has several parts."""
    half = len(groups) // 2
    return "/".join(groups[:half]) if half and groups[:half] == groups[half:] else groups[0]


def _dilation_rates(description: Any) -> dict[str, int]:
    """Layer -> dilation rate, from Keras' description of a model as JSON; empty where there is none."""
    if not isinstance(description, (str, bytes)) or len(description) > MAX_DESCRIPTION:
        return {}
    try:
        layers = json.loads(description)["config"]["layers"]
        configs = [layer["config"] for layer in layers]
        return {str(each["name"]): int(each["dilation_rate"][0]) for each in configs if "dilation_rate" in each}
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return {}
