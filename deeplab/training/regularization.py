"""Weight decay: which variables carry an L2 term, its value and its gradient.

The term is `weight_decay * sum(w ** 2) / 2` over convolution kernels, once per step however many devices share
the batch. Its gradient is `weight_decay * w`, added straight to the other gradients: going through automatic
differentiation would give the same numbers with more operations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

NAS_SCOPES = ("pnasnet", "hnasnet")


def carries_l2(name: str) -> bool:
    """Whether the variable is regularized.

    Full and pointwise convolution kernels are; biases, batch norm and depthwise kernels are not. The two NAS
    backbones regularize both kernels of their separable convolutions. Networks of keras.applications keep Keras'
    names: their `kernel` counts, unless the layer says that it is depthwise.

    Args:
      name: TensorFlow-1 name, e.g. `MobilenetV2/Conv/weights`, without `:0`.
    """
    scope, leaf = name.split("/", 1)[0], name.rsplit("/", 1)[-1]
    if leaf in ("kernel", "pointwise_kernel"):
        return "depthwise" not in name and "dwconv" not in name
    return leaf == "weights" or (scope in NAS_SCOPES and leaf in ("depthwise_weights", "pointwise_weights"))


def l2(variables_by_name: Mapping[str, Any], weight_decay: float) -> tf.Tensor:
    """Value of the L2 term.

    Args:
      variables_by_name: TensorFlow-1 name -> float32 variable; those that carry no L2 term are passed over.
      weight_decay: coefficient, per step.

    Returns:
      float32 scalar.
    """
    kernels = [variable for name, variable in variables_by_name.items() if carries_l2(name)]
    if not kernels or not weight_decay:
        return tf.zeros([])
    return weight_decay * tf.add_n([tf.nn.l2_loss(tf.convert_to_tensor(kernel)) for kernel in kernels])


def add_gradients(
    gradients: Mapping[str, tf.Tensor], variables_by_name: Mapping[str, Any], weight_decay: float
) -> dict[str, tf.Tensor]:
    """Gradients of the loss with those of the L2 term added.

    With several devices, call it once on the gradients summed over all of them, not on each device's share.

    Args:
      gradients: variable name -> float32 gradient of the variable's shape; None where the loss does not depend
        on the variable, which then has the L2 gradient alone.
      variables_by_name: TensorFlow-1 name -> float32 variable, at least for every name of `gradients`.
      weight_decay: coefficient, per step.

    Returns:
      A new dict with the names of `gradients`.
    """
    if not weight_decay:
        return dict(gradients)
    return {
        name: _add(gradient, variables_by_name[name], weight_decay) if carries_l2(name) else gradient
        for name, gradient in gradients.items()
    }


def _add(gradient: tf.Tensor | None, variable: Any, weight_decay: float) -> tf.Tensor:
    own = weight_decay * tf.convert_to_tensor(variable)
    return own if gradient is None else gradient + own
