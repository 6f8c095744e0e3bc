"""Optimizers by name: momentum and Adam as TensorFlow 1 had them, the same update and the same slot names.

Keras' optimizers differ in both (Adam's bias correction, names and shapes of slots), and old checkpoints contain
the slots. These classes are thin: they own the slots and call TensorFlow's own update kernel once per variable.
One flat buffer for all slots was tried and is slower (9 against 7 ms for 197 variables on two cores).

`apply` belongs inside the replica function of `strategy.run` (or anywhere without a strategy). Each replica
updates its own copy of weights and slots, so the gradients must already be the sum over all replicas; the
copies then stay equal. Make the optimizer under the scope of the strategy that made the variables.

A new optimizer is a class and one registration: `@registry.register("name")` on a function of (config, variables).
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from deeplab.config.training_config import OptimizerConfig
from deeplab.utils.registry import Registry

Variables = Mapping[str, Any]  # TensorFlow-1 name (without `:0`) -> trainable float32 variable of Keras or TensorFlow


class Optimizer(abc.ABC):
    """What the loop and the checkpoint writer know of an optimizer."""

    def __init__(self, variables: Variables):
        self._variables = dict(variables)

    @abc.abstractmethod
    def apply(self, gradients: Mapping[str, tf.Tensor], learning_rate: Any) -> None:
        """One update of the weights and slots.

        Args:
          gradients: variable name -> float32 gradient of the variable's shape, summed over replicas. A variable
            that is missing here, or whose gradient is None, stays as it is, slots included.
          learning_rate: float or float32 scalar tensor.

        Raises:
          KeyError: a gradient belongs to no variable of this optimizer.
        """

    @abc.abstractmethod
    def variables_by_name(self) -> dict[str, tf.Variable]:
        """What a checkpoint holds of the optimizer: TensorFlow-1 name -> variable."""

    def _with_gradients(self, gradients: Mapping[str, tf.Tensor]) -> list[tuple[str, Any, tf.Tensor]]:
        """(name, resource handle of the weights, gradient) of every variable to be moved."""
        return [
            (name, _handle(self._variables[name]), gradient)
            for name, gradient in gradients.items()
            if gradient is not None
        ]


registry: Registry[Callable[[OptimizerConfig, Variables], Optimizer]] = Registry("optimizer", field="optimizer")


def make(config: OptimizerConfig, variables: Variables) -> Optimizer:
    """The optimizer that `config.optimizer` names, with slots at their first values.

    Raises:
      UserError: there is no optimizer of that name.
    """
    return registry.get(config.optimizer)(config, variables)


class Momentum(Optimizer):
    """Gradient descent with momentum: `accum = momentum * accum + g; w -= learning_rate * accum`.

    Args:
      variables: what it moves.
      momentum: fraction of the accumulated gradient that is kept each step, 0 to 1.
    """

    def __init__(self, variables: Variables, momentum: float):
        super().__init__(variables)
        self._momentum = momentum
        self._accumulators = _slots(self._variables, "Momentum")

    def apply(self, gradients: Mapping[str, tf.Tensor], learning_rate: Any) -> None:
        rate = tf.cast(learning_rate, tf.float32)
        for name, weights, gradient in self._with_gradients(gradients):
            tf.raw_ops.ResourceApplyMomentum(
                var=weights,
                accum=self._accumulators[name].handle,
                lr=rate,
                grad=gradient,
                momentum=self._momentum,
            )

    def variables_by_name(self) -> dict[str, tf.Variable]:
        return {f"{name}/Momentum": slot for name, slot in self._accumulators.items()}


@registry.register("momentum")
def _momentum(config: OptimizerConfig, variables: Variables) -> Momentum:
    return Momentum(variables, config.momentum)


class Adam(Optimizer):
    """Adam (Kingma and Ba, arXiv:1412.6980), in the form just before their section 2.1.

    The bias correction goes into the rate, so epsilon is added to the uncorrected root, as TensorFlow 1 does:

        rate_t = rate * sqrt(1 - beta2 ** t) / (1 - beta1 ** t)
        m += (1 - beta1) * (g - m);  v += (1 - beta2) * (g ** 2 - v);  w -= rate_t * m / (sqrt(v) + epsilon)

    Args:
      variables: what it moves.
      epsilon: keeps the division finite; in units of the gradient.
      beta1: fraction of the first moment that is kept each step.
      beta2: fraction of the second moment that is kept each step.
    """

    def __init__(self, variables: Variables, epsilon: float, beta1: float = 0.9, beta2: float = 0.999):
        super().__init__(variables)
        self._epsilon, self._betas = epsilon, (beta1, beta2)
        self._first = _slots(self._variables, "Adam")
        self._second = _slots(self._variables, "Adam_1")
        self._powers = tuple(
            tf.Variable(beta, trainable=False, name=f"beta{i}_power", dtype=tf.float32)
            for i, beta in enumerate(self._betas, start=1)
        )

    def apply(self, gradients: Mapping[str, tf.Tensor], learning_rate: Any) -> None:
        rate = tf.cast(learning_rate, tf.float32)
        powers = [tf.convert_to_tensor(power) for power in self._powers]
        for name, weights, gradient in self._with_gradients(gradients):
            tf.raw_ops.ResourceApplyAdam(
                var=weights,
                m=self._first[name].handle,
                v=self._second[name].handle,
                beta1_power=powers[0],
                beta2_power=powers[1],
                lr=rate,
                beta1=self._betas[0],
                beta2=self._betas[1],
                epsilon=self._epsilon,
                grad=gradient,
            )
        for variable, power, beta in zip(self._powers, powers, self._betas, strict=True):
            # `assign` on a mirrored variable would ask for an aggregation; each replica sets its own copy.
            tf.raw_ops.AssignVariableOp(resource=variable.handle, value=power * beta)

    def variables_by_name(self) -> dict[str, tf.Variable]:
        first = {f"{name}/Adam": slot for name, slot in self._first.items()}
        second = {f"{name}/Adam_1": slot for name, slot in self._second.items()}
        return {**first, **second, "beta1_power": self._powers[0], "beta2_power": self._powers[1]}


@registry.register("adam")
def _adam(config: OptimizerConfig, variables: Variables) -> Adam:
    return Adam(variables, config.adam_epsilon)


def _slots(variables: Variables, suffix: str) -> dict[str, tf.Variable]:
    """A variable of zeros for each variable, of its shape, named `<variable>/<suffix>`."""
    return {
        name: tf.Variable(tf.zeros(variable.shape), trainable=False, name=f"{name}/{suffix}")
        for name, variable in variables.items()
    }


def _handle(variable: Any) -> tf.Tensor:
    """The variable's resource; inside a replica function that of the replica's own copy."""
    native = variable.value if isinstance(variable, keras.Variable) else variable
    return native.handle
