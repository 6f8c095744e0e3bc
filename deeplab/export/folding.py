"""Batch norm folded into the convolution before it.

At inference batch norm multiplies each channel by gamma / sqrt(variance + epsilon) and adds a constant. Both fit into
the convolution: its kernel takes the factor, a bias the constant (Jacob et al. 2018, arXiv:1712.05877, section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np

from slim.layers import BatchNorm, variables_by_name

_SUFFIX = "/BatchNorm"


class Affine(NamedTuple):
    """What a batch norm does to its channels: x * scale + shift, both float64 [C]."""

    scale: np.ndarray
    shift: np.ndarray


def folded_weights(model: keras.Model, folded_model: keras.Model) -> dict[str, np.ndarray]:
    """The weights with which the folded network computes what the model computes.

    Args:
      model: a network with batch norm; its moving averages are used.
      folded_model: the same architecture by `build_model(..., fold_batch_norm=True)`. Batch norms that it kept, since
        no convolution stands directly before them, keep their variables.

    Returns:
      TensorFlow-1 name -> array for every variable of the folded network; scaled kernels and biases are float32,
      computed in float64.

    Raises:
      ValueError: the two are not the same architecture.
    """
    wanted = variables_by_name(folded_model)
    kept = batch_norms(folded_model)
    norms = {scope: affine(layer) for scope, layer in batch_norms(model).items() if scope not in kept}
    folded: dict[str, np.ndarray] = {}
    for name, variable in variables_by_name(model).items():
        scope, _, leaf = name.rpartition("/")
        if scope.endswith(_SUFFIX) and scope.removesuffix(_SUFFIX) in norms:
            continue
        folded[name] = np.asarray(variable)
        if scope in norms:
            scaled = scale_kernel(folded[name], norms[scope].scale, is_depthwise=leaf == "depthwise_weights")
            folded[name] = scaled.astype(np.float32)
            folded[f"{scope}/biases"] = norms[scope].shift.astype(np.float32)
    _require_covered(folded, {name: tuple(variable.shape) for name, variable in wanted.items()})
    return folded


def batch_norms(model: keras.Model) -> dict[str, BatchNorm]:
    """The batch norms of a model by the scope of the convolution before them."""
    found = (layer for layer in _layers(model.layers) if isinstance(layer, BatchNorm))
    return {layer.name.replace(".", "/").removesuffix(_SUFFIX): layer for layer in found}


def _layers(layers: Sequence[keras.Layer]) -> Iterator[keras.Layer]:
    """All layers, those of models inside the model as well."""
    for layer in layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer.layers)
        else:
            yield layer


def affine(layer: BatchNorm) -> Affine:
    """Scale and shift of a batch norm by its moving averages, in float64."""
    parts = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    gamma, beta, mean, variance = (np.asarray(part).astype(np.float64) for part in parts)
    scale = gamma / np.sqrt(variance + layer.norm.epsilon)
    return Affine(scale, beta - mean * scale)


def scale_kernel(kernel: np.ndarray, scale: np.ndarray, is_depthwise: bool) -> np.ndarray:
    """A kernel whose output channels are multiplied by `scale`: float64 of the same shape.

    Args:
      kernel: [kh, kw, in, out]; depthwise: [kh, kw, C, 1], whose output channels are the third axis.
      scale: float64 [out] or [C].
    """
    return kernel.astype(np.float64) * (scale[:, np.newaxis] if is_depthwise else scale)


def _require_covered(values: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Checks that every variable of the folded network has a value of its shape, and every value a variable."""
    faults = [f"{name} has no value" for name in shapes if name not in values]
    faults += [f"{name} has no place in the folded network" for name in values if name not in shapes]
    both = [name for name in shapes if name in values]
    faults += [
        f"{name} is {values[name].shape}, not {shapes[name]}" for name in both if values[name].shape != shapes[name]
    ]
    if faults:
        raise ValueError(f"batch norm cannot be folded, {len(faults)} faults: {'; '.join(faults[:4])}")
