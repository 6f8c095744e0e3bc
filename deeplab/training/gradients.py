"""What is done to gradients before the update: weight decay is added, each is multiplied by its own factor, and all
are scaled down together where their norm exceeds a limit.

The weight decay term is `weight_decay * sum(w ** 2) / 2` over convolution kernels, once per step however many devices
share the batch. Its gradient, `weight_decay * w`, is added directly: automatic differentiation gives the same numbers
with more operations. Biases learn at twice the rate, the head at its own; these factors apply to the whole gradient,
weight decay included. Everything depends on the names of the variables alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from deeplab.checkpoint.names import HEAD_SCOPES, head_scopes, in_scopes
from deeplab.config.training_config import OptimizerConfig

BIAS_MULTIPLIER = 2.0
MASKS = ("kernels", "all_kernels", "all")
NAS_SCOPES = ("pnasnet", "hnasnet")

Gradients = Mapping[str, Any]  # variable name -> float32 gradient of the variable's shape; None where there is none


# ---- weight decay --------------------------------------------------------------------------------------


def carries_l2(name: str, mask: str = "kernels") -> bool:
    """Whether weight decay applies to a variable.

    With the mask `kernels` it applies to full and pointwise convolution kernels, not to biases, batch norm and
    depthwise kernels. The two NAS backbones decay both kernels of their separable convolutions. Backbones of
    keras.applications keep the names of Keras: their `kernel` counts, unless the layer's name tells that it is
    depthwise.

    Args:
      name: TensorFlow-1 name, e.g. `MobilenetV2/Conv/weights`, without `:0`.
      mask: `kernels`; `all_kernels`, with depthwise ones; `all`, with biases and batch norm; or a regular expression
        that is searched in the name.
    """
    if mask not in MASKS:
        return re.search(mask, name) is not None
    if mask == "all":
        return True
    if mask == "all_kernels":
        return name.rsplit("/", 1)[-1].endswith(("weights", "kernel"))
    scope, leaf = name.split("/", 1)[0], name.rsplit("/", 1)[-1]
    if leaf in ("kernel", "pointwise_kernel"):
        return "depthwise" not in name and "dwconv" not in name
    return leaf == "weights" or (scope in NAS_SCOPES and leaf in ("depthwise_weights", "pointwise_weights"))


def l2(variables_by_name: Mapping[str, Any], weight_decay: float, mask: str = "kernels") -> tf.Tensor:
    """The value of the weight decay term, a float32 scalar.

    Args:
      variables_by_name: TensorFlow-1 name -> float32 variable; those without weight decay are skipped.
      weight_decay: coefficient, per step.
      mask: see `carries_l2`.
    """
    kernels = [variable for name, variable in variables_by_name.items() if carries_l2(name, mask)]
    if not kernels or not weight_decay:
        return tf.zeros([])
    return weight_decay * tf.add_n([tf.nn.l2_loss(tf.convert_to_tensor(kernel)) for kernel in kernels])


def add_l2(
    gradients: Gradients, variables_by_name: Mapping[str, Any], weight_decay: float, mask: str = "kernels"
) -> dict[str, Any]:
    """Gradients of the loss plus those of the weight decay term.

    With several devices, call it once on the gradients summed over all of them, not on each device's part.

    Args:
      gradients: of the loss; a variable on which it does not depend then has the gradient of weight decay alone.
      variables_by_name: TensorFlow-1 name -> float32 variable, at least for every name of `gradients`.
      weight_decay: coefficient, per step.
      mask: see `carries_l2`.
    """
    if not weight_decay:
        return dict(gradients)
    return {
        name: _sum(gradient, weight_decay * tf.convert_to_tensor(variables_by_name[name]))
        if carries_l2(name, mask)
        else gradient
        for name, gradient in gradients.items()
    }


def _sum(gradient: tf.Tensor | None, more: tf.Tensor) -> tf.Tensor:
    return more if gradient is None else gradient + more


def decay(variables: Mapping[str, Any], weight_decay: float, mask: str, rate: tf.Tensor, rates: Mapping[str, float]):
    """Decoupled weight decay (arXiv:1711.05101): subtracts `rate * weight_decay * w` from each weight that decays.

    Inside a replica function it acts on the replica's own copy.

    Args:
      variables: TensorFlow-1 name -> float32 variable of Keras that is trained in this step.
      weight_decay: coefficient, per step and unit of learning rate.
      mask: see `carries_l2`.
      rate: learning rate of the step, float32 scalar.
      rates: factor of the learning rate by name; 1 where it is missing.
    """
    for name, variable in variables.items():
        if carries_l2(name, mask):
            amount = rate * (weight_decay * rates.get(name, 1.0))
            native = variable.value
            tf.raw_ops.AssignSubVariableOp(resource=native.handle, value=amount * tf.convert_to_tensor(native))


# ---- factors -------------------------------------------------------------------------------------------


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


def rate_multipliers(names: Iterable[str], config: OptimizerConfig) -> dict[str, float]:
    """Factor of the learning rate of each variable whose factor is not 1: those of the backbone.

    Adam and others divide by the gradient's size, so that a factor on the gradient would do nothing.
    """
    factor = config.backbone_learning_rate_multiplier
    return {} if factor == 1.0 else {name: factor for name in names if not in_scopes(name, HEAD_SCOPES)}


def scale(gradients: Gradients, factors: Mapping[str, float]) -> dict[str, Any]:
    """Gradients times their factors; names without a factor keep their gradient."""
    return {
        name: gradient if gradient is None or name not in factors else factors[name] * gradient
        for name, gradient in gradients.items()
    }


# ---- limit ---------------------------------------------------------------------------------------------


def clip(gradients: Gradients, max_norm: float) -> dict[str, Any]:
    """Gradients scaled down together so that the norm of all of them is at most `max_norm`; 0 = no limit.

    With several devices, call it once on the gradients summed over all of them. Gradients that are not finite stay
    so, and the loss shows it at the next step.

    Args:
      gradients: what the optimizer will apply: with weight decay and multipliers.
      max_norm: limit of the Euclidean norm over all gradients.
    """
    if not max_norm:
        return dict(gradients)
    norm = tf.linalg.global_norm([gradient for gradient in gradients.values() if gradient is not None])
    factor = max_norm / tf.maximum(norm, max_norm)
    return {name: None if gradient is None else factor * gradient for name, gradient in gradients.items()}
