"""The dense prediction cell: a head found by search that stands in for ASPP (Chen et al. 2018, arXiv:1809.04184).

A cell is a JSON list of operations, each on the backbone's features (`input` -1) or on an earlier operation's result
(its index):

    {"op": "conv", "kernel": 3, "rate": [1, 6], "input": -1}
    {"op": "conv", "kernel": 1, "input": 0}
    {"op": "pyramid_pooling", "grid_size": [2, 2], "input": 0}

Rates are those at output stride 16, height first. The cell published for Cityscapes lies beside this file.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from keras import ops

from deeplab.config.model_config import ModelConfig
from deeplab.model.aspp import KEEP_PROBABILITY, XAVIER, separable_unit
from deeplab.model.head_layers import ResizeLike
from deeplab.model.resize import strided_length
from deeplab.utils.errors import UserError, nearest
from slim.layers import Norm, conv_unit, dotted

SCOPE = "meta_architecture"
FILTERS = 256  # of every operation and of the projection, section 3.2 of the paper
RATES_AT_STRIDE = 16
FIELD = "dense_prediction_cell_json"
PUBLISHED = "dense_prediction_cell_branch5_top1_cityscapes.json"


@dataclass(frozen=True)
class Operation:
    """One operation of a cell.

    Attributes:
      op: "conv" or "pyramid_pooling".
      input: index of the operation whose result it takes, or -1 for the features.
      kernel: side of a convolution's kernel, 1 or 3.
      rate: atrous rates (height, width) of a 3x3 convolution, at output stride 16.
      grid_size: into how many windows pooling divides (height, width).
    """

    op: str
    input: int
    kernel: int = 1
    rate: tuple[int, int] = (1, 1)
    grid_size: tuple[int, int] = (1, 1)


def dense_prediction_cell(features, image, config: ModelConfig, norm: Norm):
    """Runs the cell that `config.dense_prediction_cell_json` names.

    Args:
      features: [B, h, w, C] of the backbone.
      image: [B, H, W, C]; only its size counts, and only for pooling.
      config: names the file; gives the output stride.
      norm: batch norm of the head.

    Returns:
      [B, h, w, 256].

    Raises:
      UserError: the file cannot be read as a cell.
    """
    results: list = []
    for index, operation in enumerate(load_cell(config.dense_prediction_cell_json)):
        inputs = features if operation.input < 0 else results[operation.input]
        name = f"{SCOPE}/branch{index}"
        if operation.op == "pyramid_pooling":
            results.append(_pooled(inputs, features, image, name, operation, config, norm))
        elif operation.kernel == 1:
            results.append(conv_unit(inputs, name, FILTERS, norm=norm, initializer=XAVIER()))
        else:
            rate = tuple(side * RATES_AT_STRIDE // config.output_stride or 1 for side in operation.rate)
            results.append(separable_unit(inputs, name, FILTERS, rate, norm, "relu"))
    net = ops.concatenate(results, axis=-1) if len(results) > 1 else results[0]
    net = keras.layers.Dropout(1.0 - KEEP_PROBABILITY, name=f"{SCOPE}.concat_projection_dropout")(net)
    return conv_unit(net, f"{SCOPE}/concat_projection", FILTERS, norm=norm, initializer=XAVIER())


def _pooled(inputs, features, image, name: str, operation: Operation, config: ModelConfig, norm: Norm):
    """The means of windows, sliding by one cell, through a 1x1 convolution, back to the features' size."""
    crop_size = config.image_pooling_crop_size
    window = WindowMean(operation.grid_size, config.output_stride, crop_size, name=dotted(f"{name}_mean"))
    net = conv_unit(window(inputs, image), name, FILTERS, norm=norm, initializer=XAVIER())
    return ResizeLike(name=dotted(f"{name}_resize"))(net, features)


class WindowMean(keras.Layer):
    """Means over sliding windows of a fraction of the image: [B, h, w, C] -> [B, h - a + 1, w - b + 1, C].

    Args:
      grid_size: into how many windows (height, width) the image is divided.
      output_stride: image size over feature size.
      crop_size: height, width in pixels that stands for the image's own; None = the image's.
    """

    def __init__(self, grid_size, output_stride: int, crop_size, **kwargs):
        super().__init__(**kwargs)
        self.grid_size, self.output_stride, self.crop_size = grid_size, output_stride, crop_size

    def call(self, features, image):
        size = ops.shape(image)[1:3] if self.crop_size is None else self.crop_size
        height, width = (
            ops.minimum(strided_length(length, self.output_stride * grid), most)
            for length, grid, most in zip(size, self.grid_size, ops.shape(features)[1:3], strict=True)
        )
        # Sums over windows as differences of running sums: the window's size may be known only at run time.
        sums = ops.cumsum(ops.cumsum(ops.cast(features, "float32"), axis=1), axis=2)
        sums = ops.pad(sums, ((0, 0), (1, 0), (1, 0), (0, 0)))
        rows = sums[:, height:] - sums[:, : ops.shape(sums)[1] - height]
        windows = rows[:, :, width:] - rows[:, :, : ops.shape(sums)[2] - width]
        return ops.cast(windows / ops.cast(height * width, "float32"), features.dtype)


def load_cell(name: str) -> list[Operation]:
    """The operations of a cell's JSON file.

    Args:
      name: a path; where nothing lies there, the published cell is found by its bare file name.

    Raises:
      UserError: no such file, no JSON, or an operation that breaks a rule; the text says which.
    """
    path = Path(name)
    beside = Path(__file__).parent / path.name
    if not path.exists() and beside.suffix == ".json" and beside.exists():
        path = beside
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        reason = os.strerror(fault.errno) if fault.errno else str(fault)
        raise UserError(
            "unclassified", f"cannot read {name}: {reason}", f"`{FIELD}={PUBLISHED}` is the published cell", field=FIELD
        ) from None
    except ValueError as fault:
        raise UserError(
            "unclassified", f"is not JSON: {fault}", "write a list of operations as in the published cell", where=path
        ) from None
    if not isinstance(entries, list) or not entries:
        raise UserError(
            "unclassified", "must hold a list of operations", "[{...}, {...}], as in the published cell", where=path
        )
    return [_operation(path, index, entry) for index, entry in enumerate(entries)]


def _operation(path: Path, index: int, entry: Any) -> Operation:
    where = f"{path}, operation {index}"
    if not isinstance(entry, dict):
        raise UserError("unclassified", f"must be an object with op and input, not {entry!r}", where=where)
    unknown = sorted(set(entry) - set(_KEYS))
    if unknown:
        raise UserError(
            "unclassified", f"has an unknown key {unknown[0]!r}", nearest(unknown[0], list(_KEYS)), where=where
        )
    op, source = entry.get("op"), entry.get("input")
    if op not in ("conv", "pyramid_pooling"):
        raise UserError("unclassified", f"op must be conv or pyramid_pooling, not {op!r}", where=where)
    if type(source) is not int or not -1 <= source < index:
        raise UserError(
            "unclassified", f"input must be -1 (the features) or an earlier operation, not {source!r}", where=where
        )
    if op == "pyramid_pooling":
        return Operation(op, source, grid_size=_pair(where, "grid_size", entry))
    kernel = entry.get("kernel")
    kernel = kernel[0] if isinstance(kernel, list) and len(kernel) == 2 and kernel[0] == kernel[1] else kernel
    if kernel not in (1, 3):
        raise UserError("unclassified", f"kernel must be 1 or 3, not {entry.get('kernel')!r}", where=where)
    return Operation(op, source, kernel, _pair(where, "rate", entry) if kernel == 3 else (1, 1))


_KEYS = ("op", "input", "kernel", "rate", "grid_size")


def _pair(where: str, key: str, entry: dict) -> tuple[int, int]:
    value = entry.get(key)
    pair = [value, value] if type(value) is int else value
    if not isinstance(pair, list) or len(pair) != 2 or not all(type(side) is int and side > 0 for side in pair):
        raise UserError(
            "unclassified", f"{key} must be two whole numbers above 0, height and width, not {value!r}", where=where
        )
    return pair[0], pair[1]
