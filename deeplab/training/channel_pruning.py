"""Structured pruning of MobileNetV2: blocks with fewer expanded channels, as a smaller model that is then trained.

An inverted residual expands its input to many channels, filters each, and projects them back to few. An expanded
channel can be removed from the three layers without a change elsewhere, and costs about 1/n of the block. The least
important ones are: those with a small batch-norm scale behind the depthwise convolution (Liu et al. 2017,
arXiv:1708.06519) times a small L1 norm of the weights that read them (Li et al. 2017, arXiv:1608.08710). Used once,
before the first step: it turns settings and an initial checkpoint into those of the smaller model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deeplab.checkpoint.bundle import ArrayCheckpoint, Checkpoint
from deeplab.checkpoint.names import is_bookkeeping
from deeplab.checkpoint.restore import averaged_name, masked
from deeplab.config.model_config import ModelConfig
from deeplab.utils.errors import UserError
from slim import mobilenet_v2

MULTIPLE = 8  # of channels that are kept, for the vectors of processors
VARIANT = "mobilenet_v2"
SCOPE = mobilenet_v2.LAYOUTS[VARIANT].scope


def widths(model: ModelConfig) -> tuple[int, ...]:
    """The expanded channels of a model's blocks, from the second on.

    Raises:
      UserError: it is of another backbone.
    """
    if model.model_variant != VARIANT:
        rule = f"prunes the blocks of {VARIANT}; those of {model.model_variant} are different"
        raise UserError("unsupported-by-backbone", rule, "leave it out", field="prune_channels")
    return model.expansion_channels or mobilenet_v2.expansion_channels(model.depth_multiplier, model.divisible_by)


def narrowed(model: ModelConfig, fraction: float) -> ModelConfig:
    """The config of a model whose blocks have lost a fraction of their expanded channels.

    Args:
      model: of MobileNetV2; its `expansion_channels` may be those of a model that was pruned before.
      fraction: that is taken out, 0..1; the channels that are left are rounded to multiples of 8, and at least 8.

    Raises:
      UserError: as `widths`.
    """
    before = widths(model)
    return dataclasses.replace(model, expansion_channels=tuple(_kept(width, fraction) for width in before))


def _kept(width: int, fraction: float) -> int:
    return min(width, max(MULTIPLE, round((1 - fraction) * width / MULTIPLE) * MULTIPLE))


def cut(checkpoint: Checkpoint | ArrayCheckpoint, model: ModelConfig, averages: bool = False) -> ArrayCheckpoint:
    """The weights of a wide model, without the expanded channels that the narrow one does not have.

    Args:
      checkpoint: of the wide model, or of a part of it.
      model: the narrow one; its widths tell how many channels are kept.
      averages: take running averages of the weights, where the checkpoint has them.

    Returns:
      Weights by name, without optimizer slots.

    Raises:
      UserError: a block of the checkpoint has fewer channels than the narrow model.
    """
    weights = [name for name in checkpoint.shapes if not is_bookkeeping(name)]
    source = {name: averaged_name(name, checkpoint) if averages else name for name in weights}
    arrays = {name: masked(name, np.asarray(checkpoint.array(source[name])), checkpoint) for name in weights}
    for block, width in enumerate(model.expansion_channels, start=1):
        scope = f"{SCOPE}/expanded_conv_{block}"
        if f"{scope}/project/weights" not in arrays:
            continue
        found = arrays[f"{scope}/project/weights"].shape[2]
        if found < width:
            rule = f"block {block} of {checkpoint.prefix} has only {found} expanded channels; {width} would be kept"
            hint = "start from the model that was not pruned, or prune more channels"
            raise UserError("checkpoint-mismatch", rule, hint, field="prune_channels", value=found)
        chosen = most_important(arrays, scope, width)
        for name, axis in places(arrays, block, model).items():
            arrays[name] = np.take(arrays[name], chosen, axis=axis)
    narrow = ArrayCheckpoint(arrays)
    narrow.prefix = checkpoint.prefix
    return narrow


def most_important(arrays: Mapping[str, np.ndarray], scope: str, number: int) -> np.ndarray:
    """Indices of a block's most important expanded channels, ascending: int64 [number].

    Args:
      arrays: weights by name.
      scope: of the block.
      number: of channels to keep.
    """
    reading = np.abs(arrays[f"{scope}/project/weights"]).sum(axis=(0, 1, 3))
    gammas = [f"{scope}/depthwise/{norm}/gamma" for norm in ("BatchNorm", "GroupNorm")]
    scales = [arrays[name] for name in gammas if name in arrays]
    importance = reading * np.abs(scales[0]) if scales else reading
    return np.sort(np.argsort(-importance, kind="stable")[:number])


def places(arrays: Mapping[str, Any], block: int, model: ModelConfig) -> dict[str, int]:
    """Variables with an axis for the expanded channels of a block, which write, filter or read them, and that axis.

    Args:
      arrays: all weights by name.
      block: its number, from 1.
      model: whose decoder may read the expanded channels as well, after the depthwise convolution.
    """
    scope = f"{SCOPE}/expanded_conv_{block}"
    found = {f"{scope}/expand/weights": 3, f"{scope}/depthwise/depthwise_weights": 2, f"{scope}/project/weights": 2}
    for layer in ("expand", "depthwise"):
        vectors = [name for name in arrays if name.startswith(f"{scope}/{layer}/") and np.ndim(arrays[name]) == 1]
        found |= dict.fromkeys(vectors, 0)
    strides = [stride for stride, number in mobilenet_v2.DECODER_BLOCKS.items() if number == block]
    for index, stride in enumerate(model.decoder_output_stride):
        if stride in strides:
            found[f"decoder/feature_projection0{f'_{index}' if index else ''}/weights"] = 2
    if strides == [max(mobilenet_v2.DECODER_BLOCKS)]:
        found["auxiliary/conv/weights"] = 2
    return {name: axis for name, axis in found.items() if name in arrays}


def changes(before: Sequence[int], after: Sequence[int]) -> str:
    """One line for the user: how many channels are left."""
    total, left = sum(before), sum(after)
    return f"{left:,} of {total:,} expanded channels are kept ({100 * left / total:.0f} %), in {len(after)} blocks"
