"""Freezes a model for exports: weights become constants of the graph, and batch norm is folded into them.

At inference batch norm multiplies each channel by gamma / sqrt(variance + epsilon) and adds a constant. Both fit into
the convolution before it: the kernel takes the factor, a bias the constant (Jacob et al. 2018, arXiv:1712.05877,
section 3.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from deeplab.config.export_config import ExportConfig
from deeplab.data.bands import bands_of
from deeplab.inference.fixed_size import FixedInput
from deeplab.inference.prediction import LogitsOf, PredictionSettings
from deeplab.inference.predictor import ModelPredictor
from deeplab.model import MERGED_LOGITS, build_model, padding_color
from slim.layers import BatchNorm, folded_units, variable_name, variables_by_name

_SUFFIX = "/BatchNorm"
_WEIGHT_RANGE = "/weights_quant"


@dataclass(frozen=True)
class FrozenModel:
    """A model, the values of its variables, and what else goes into an exported file.

    Attributes:
      model: its layers; the variables that it holds itself are not used.
      values: TensorFlow-1 name -> array, one for every variable.
      folded: whether batch norm is folded into the convolutions.
      settings: how images become masks; `crop_size` is set.
      predictor: the model as it was trained, with batch norm.
      config: what the user asked for; formats read their own options from it.
      class_names, colors: of the classes.
      assets: file name -> content of the files that describe the export: class names, metadata.
      calibration: images uint8 [H, W, C], from which formats of integers get their ranges; empty if no format asks.
    """

    model: keras.Model
    values: Mapping[str, np.ndarray]
    folded: bool
    settings: PredictionSettings
    predictor: ModelPredictor
    config: ExportConfig = field(default_factory=ExportConfig)
    class_names: tuple[str, ...] = ()
    colors: tuple[tuple[int, int, int], ...] = ()
    assets: Mapping[str, bytes] = field(default_factory=dict)
    calibration: Sequence[np.ndarray] = ()

    def in_this_graph(self) -> LogitsOf:
        """Makes the constants in the current graph, named as the variables were, and returns the model over them.

        Returns:
          float32 [B, h, w, C], 0..255 -> merged logits float32 [B, h', w', classes]. It may be called several times;
          all calls share the constants.
        """
        variables = variables_by_name(self.model)
        mapping = [(variable, tf.constant(self.values[name], name=name)) for name, variable in variables.items()]

        def logits_of(pixels: tf.Tensor) -> tf.Tensor:
            with keras.StatelessScope(state_mapping=mapping):
                return self.model(pixels, training=False)[MERGED_LOGITS]

        return logits_of


def describe(model: FrozenModel, scales: bool = True, upsample_logits: bool = True) -> FixedInput:
    """The description of a model for files of one size.

    Args:
      model: the model.
      scales: whether the file takes raw values of other bands than 8-bit RGB, and scales them to 0..255 itself.
      upsample_logits: whether logits that a file computes are upsampled before the argmax.
    """
    settings = model.settings
    assert settings.crop_size is not None
    color, bands = padding_color(settings.model), bands_of(settings.model)
    if bands.low and scales:
        ends = zip(color, bands.low, bands.high, strict=True)
        color = tuple(low + value / 255 * (high - low) for value, low, high in ends)
    return FixedInput(
        settings.crop_size,
        tuple(map(float, color)),
        settings.resize,
        model.class_names,
        model.colors,
        upsample_logits=upsample_logits,
        bands=bands,
    )


def freeze(predictor: ModelPredictor, settings: PredictionSettings, fold_batch_norm: bool = True) -> FrozenModel:
    """Takes a model's weights as constants, with batch norm folded or as it is."""
    if not fold_batch_norm:
        values = {name: np.asarray(variable) for name, variable in variables_by_name(predictor.model).items()}
        return FrozenModel(predictor.model, values, False, settings, predictor)
    model = build_model(predictor.config, predictor.num_classes, fold_batch_norm=True)
    return FrozenModel(model, folded_weights(predictor.model, model), True, settings, predictor)


# ---- folding ---------------------------------------------------------------------------------------------


class Affine(NamedTuple):
    """What a batch norm does to its channels: x * scale + shift, both float64 [C]."""

    scale: np.ndarray
    shift: np.ndarray


def folded_weights(model: keras.Model, folded_model: keras.Model) -> dict[str, np.ndarray]:
    """Returns the weights with which the folded model computes what the model computes.

    Args:
      model: a model with batch norm; its moving averages are used.
      folded_model: the same architecture by `build_model(..., fold_batch_norm=True)`. Batch norms that it kept, because
        no convolution comes directly before them, keep their variables.

    Returns:
      TensorFlow-1 name -> array for every variable of the folded model; scaled kernels and biases are float32,
      computed in float64. Kernels of a model with fake quantization are rounded as the model rounds them.

    Raises:
      ValueError: the two are not the same architecture.
    """
    kept = batch_norms(folded_model)
    norms = {scope: affine(layer) for scope, layer in batch_norms(model).items() if scope not in kept}
    rounded = {layer.name.replace(".", "/"): layer for layer in folded_units(model)}
    folded: dict[str, np.ndarray] = {}
    for name, variable in variables_by_name(model).items():
        scope, _, leaf = name.rpartition("/")
        if scope.endswith(_WEIGHT_RANGE):
            continue
        if scope.endswith(_SUFFIX) and scope.removesuffix(_SUFFIX) in norms:
            continue
        folded[name] = np.asarray(variable)
        if scope in norms:
            scaled = scale_kernel(folded[name], norms[scope].scale, is_depthwise=leaf == "depthwise_weights")
            folded[name] = scaled.astype(np.float32)
            folded[f"{scope}/biases"] = norms[scope].shift.astype(np.float32)
        if scope in rounded and leaf in ("weights", "depthwise_weights"):
            folded[name] = np.asarray(rounded[scope].rounded_kernel())
    _require_covered(folded, {name: tuple(v.shape) for name, v in variables_by_name(folded_model).items()})
    return folded


def batch_norms(model: keras.Model) -> dict[str, BatchNorm]:
    """Returns the batch norms of a model by the scope of the convolution before them."""
    found = (layer for layer in model._flatten_layers() if isinstance(layer, BatchNorm))
    return {variable_name(layer.gamma).removesuffix(f"{_SUFFIX}/gamma"): layer for layer in found}


def affine(layer: BatchNorm) -> Affine:
    """Computes scale and shift of a batch norm from its moving averages, in float64."""
    parts = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    gamma, beta, mean, variance = (np.asarray(part).astype(np.float64) for part in parts)
    scale = gamma / np.sqrt(variance + layer.norm.epsilon)
    return Affine(scale, beta - mean * scale)


def scale_kernel(kernel: np.ndarray, scale: np.ndarray, is_depthwise: bool) -> np.ndarray:
    """Multiplies a kernel's output channels by `scale`; the result is float64 of the same shape.

    Args:
      kernel: [kh, kw, in, out]; depthwise: [kh, kw, C, 1], whose output channels are the third axis.
      scale: float64 [out] or [C].
    """
    return kernel.astype(np.float64) * (scale[:, np.newaxis] if is_depthwise else scale)


def _require_covered(values: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Checks that every variable of the folded model has a value of its shape, and every value a variable."""
    errors = [f"{name} has no value" for name in shapes if name not in values]
    errors += [f"{name} has no place in the folded model" for name in values if name not in shapes]
    both = [name for name in shapes if name in values]
    errors += [
        f"{name} is {values[name].shape}, not {shapes[name]}" for name in both if values[name].shape != shapes[name]
    ]
    if errors:
        raise ValueError(f"batch norm cannot be folded, {len(errors)} errors: {'; '.join(errors[:4])}")
