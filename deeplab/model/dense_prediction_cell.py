"""The dense prediction cell: a head found by search, in place of ASPP (Chen et al. 2018, arXiv:1809.04184).

A cell is a JSON list of operations, each on the backbone's features (`input` -1) or on an earlier operation's result
(its index):

    {"op": "conv", "kernel": 3, "rate": [1, 6], "input": -1}
    {"op": "conv", "kernel": 1, "input": 0}
    {"op": "pyramid_pooling", "grid_size": [2, 2], "input": 0}

Rates are those at output stride 16, height first. The cell published for Cityscapes is beside this file.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from deeplab.config.model_config import ModelConfig
from deeplab.model.aspp import KEEP_PROBABILITY, XAVIER, separable_unit
from deeplab.model.head_layers import WindowMean, concatenated
from deeplab.utils.errors import UserError, nearest
from deeplab.utils.remote_files import local_copy
from slim.layers import Norm, ResizeLike, conv_unit, dotted

SCOPE = "meta_architecture"
FILTERS = 256  # of every operation and of the projection, as in the published cell
RATES_AT_STRIDE = 16
FIELD = "dense_prediction_cell_json"
PUBLISHED = "dense_prediction_cell_branch5_top1_cityscapes.json"

_LIKE_THE_PUBLISHED = "write [{...}, {...}], as in the published cell"
_KEYS = ("op", "input", "kernel", "rate", "grid_size")


@dataclass(frozen=True)
class Operation:
    """One operation of a cell.

    Attributes:
      op: "conv" or "pyramid_pooling".
      input: index of the operation whose result it takes, or -1 for the features.
      kernel: side of a convolution's kernel, 1 or 3.
      rate: atrous rates (height, width) of a 3x3 convolution, at output stride 16.
      grid_size: number of windows, along height and width, that pooling divides the image into.
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
      image: [B, H, W, C]; only its size is used, and only for pooling.
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
    net = concatenated(results, f"{SCOPE}.concatenation", norm)
    net = keras.layers.Dropout(1.0 - KEEP_PROBABILITY, name=f"{SCOPE}.concat_projection_dropout")(net)
    return conv_unit(net, f"{SCOPE}/concat_projection", FILTERS, norm=norm, initializer=XAVIER())


def _pooled(inputs, features, image, name: str, operation: Operation, config: ModelConfig, norm: Norm):
    """Means of windows that slide by one position, then a 1x1 convolution, resized to the size of the features."""
    crop_size = config.image_pooling_crop_size
    window = WindowMean(operation.grid_size, config.output_stride, crop_size, name=dotted(f"{name}_mean"))
    net = conv_unit(window(inputs, image), name, FILTERS, norm=norm, initializer=XAVIER())
    return ResizeLike(name=dotted(f"{name}_resize"))(net, features)


def load_cell(name: str) -> list[Operation]:
    """The operations of a cell's JSON file.

    Args:
      name: a path; where there is no such file, the published cell is found by its bare file name.

    Raises:
      UserError: no such file, no JSON, or an operation that breaks a rule; the message says which.
    """
    path = Path(local_copy(name))  # the config of a training may name a remote file
    beside = Path(__file__).parent / path.name
    if not path.exists() and beside.suffix == ".json" and beside.exists():
        path = beside
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        code = "file-not-found" if isinstance(error, FileNotFoundError) else "unreadable-file"
        hint = f"`{FIELD}={PUBLISHED}` is the published cell"
        raise UserError(code, f"{name} cannot be read: {reason}", hint, field=FIELD, value=name) from None
    except ValueError as error:
        raise UserError("invalid-cell", f"is not JSON: {error}", _LIKE_THE_PUBLISHED, where=path) from None
    if not isinstance(entries, list) or not entries:
        raise UserError("invalid-cell", "must be a list of operations", _LIKE_THE_PUBLISHED, where=path)
    return [_operation(f"{path}, operation {index}", index, entry) for index, entry in enumerate(entries)]


def _operation(where: str, index: int, entry: Any) -> Operation:
    if not isinstance(entry, dict):
        raise UserError("invalid-cell", f"must be an object with op and input, not {entry!r}", where=where, value=entry)
    for key in sorted(set(entry) - set(_KEYS)):
        raise UserError("invalid-cell", f"has an unknown key {key!r}", nearest(key, _KEYS), where=where, value=key)
    op, source = entry.get("op"), entry.get("input")
    if op not in ("conv", "pyramid_pooling"):
        raise UserError("invalid-cell", f"'op' must be conv or pyramid_pooling, not {op!r}", where=where, value=op)
    if type(source) is not int or not -1 <= source < index:
        rule = f"'input' must be -1 (the features) or an earlier operation, not {source!r}"
        raise UserError("invalid-cell", rule, where=where, value=source)
    if op == "pyramid_pooling":
        return Operation(op, source, grid_size=_pair(where, "grid_size", entry))
    kernel = entry.get("kernel")
    kernel = kernel[0] if isinstance(kernel, list) and len(kernel) == 2 and kernel[0] == kernel[1] else kernel
    if kernel not in (1, 3):
        given = entry.get("kernel")
        raise UserError("invalid-cell", f"'kernel' must be 1 or 3, not {given!r}", where=where, value=given)
    return Operation(op, source, kernel, _pair(where, "rate", entry) if kernel == 3 else (1, 1))


def _pair(where: str, key: str, entry: dict) -> tuple[int, int]:
    value = entry.get(key)
    pair = [value, value] if type(value) is int else value
    if not isinstance(pair, list) or len(pair) != 2 or not all(type(side) is int and side > 0 for side in pair):
        rule = f"{key!r} must be two whole numbers above 0, height and width, not {value!r}"
        raise UserError("invalid-cell", rule, where=where, value=value)
    return pair[0], pair[1]
