"""How far each variable's gradient is stretched: biases learn at twice the rate, the head at its own.

The factors depend on names alone. They apply to the whole gradient, the L2 term included, so add that first
(`regularization.add_gradients`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import tensorflow as tf

from deeplab.checkpoint.names import head_scopes
from deeplab.config.training_config import OptimizerConfig

BIAS_MULTIPLIER = 2.0


def multipliers(names: Iterable[str], config: OptimizerConfig) -> dict[str, float]:
    """Gradient factor of each variable whose factor is not 1.

    Biases have 2, the head's variables `last_layer_gradient_multiplier`, the head's biases both. A variable
    belongs to the head if a head scope occurs anywhere in its name, as in the reference.

    Args:
      names: TensorFlow-1 names of trainable variables, without `:0`.
      config: its `last_layer_gradient_multiplier` and `last_layers_contain_logits_only` are read.
    """
    scopes = head_scopes(config.last_layers_contain_logits_only)
    factors = {name: _multiplier(name, scopes, config.last_layer_gradient_multiplier) for name in names}
    return {name: factor for name, factor in factors.items() if factor != 1.0}


def _multiplier(name: str, scopes: tuple[str, ...], head_multiplier: float) -> float:
    bias = BIAS_MULTIPLIER if "biases" in name else 1.0
    return bias * head_multiplier if any(scope in name for scope in scopes) else bias


def scale(gradients: Mapping[str, tf.Tensor], factors: Mapping[str, float]) -> dict[str, tf.Tensor]:
    """Gradients times their factors.

    Args:
      gradients: variable name -> float32 gradient of the variable's shape, or None where there is none.
      factors: variable name -> factor; names that are not in it keep their gradient.

    Returns:
      A new dict with the names of `gradients`.
    """
    return {
        name: gradient if gradient is None or name not in factors else factors[name] * gradient
        for name, gradient in gradients.items()
    }
