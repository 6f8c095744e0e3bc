"""Optimizers by name: momentum, RMSprop and Adam as TensorFlow 1 had them, the same update and the same slot names;
AdamW and Lion; and, through `keras_optimizers`, those of Keras.

Keras' optimizers differ in both (Adam's bias correction, names and shapes of slots), and old checkpoints contain
the slots. These classes are thin: they own the slots and call TensorFlow's own update kernel once per variable.
One flat buffer for all slots was tried and is slower (9 against 7 ms for 197 variables on two cores).

`apply` belongs inside the replica function of `strategy.run` (or anywhere without a strategy). Each replica
updates its own copy of weights and slots, so the gradients must already be the sum over all replicas; the
copies then stay equal. Make the optimizer under the scope of the strategy that made the variables.

A new optimizer is a class and one registration: `@registry.register("name")` on a function of (config, variables).

    optimizer  slots of VARIABLE                        others
    momentum   VARIABLE/Momentum
    rmsprop    VARIABLE/RMSProp, VARIABLE/RMSProp_1
    adam       VARIABLE/Adam, VARIABLE/Adam_1           beta1_power, beta2_power
    adamw      the same
    lion       VARIABLE/Lion
    of Keras   VARIABLE/keras_NAME_SLOT                 keras_NAME_VARIABLE
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from deeplab.config.training_config import OptimizerConfig
from deeplab.training import keras_optimizers
from deeplab.utils.errors import UserError, nearest
from deeplab.utils.registry import Registry

Variables = Mapping[str, Any]  # TensorFlow-1 name (without `:0`) -> trainable float32 variable of Keras or TensorFlow


class Optimizer(abc.ABC):
    """What the loop and the checkpoint writer know of an optimizer.

    Attributes:
      decoupled_decay: weight decay acts on the weights themselves, not through the gradients.
    """

    decoupled_decay = False

    def __init__(self, variables: Variables):
        self._variables = dict(variables)

    @abc.abstractmethod
    def apply(
        self, gradients: Mapping[str, tf.Tensor], learning_rate: Any, multipliers: Mapping[str, float] | None = None
    ) -> None:
        """One update of the weights and slots.

        Args:
          gradients: variable name -> float32 gradient of the variable's shape, summed over replicas. A variable
            that is missing here, or whose gradient is None, stays as it is, slots included.
          learning_rate: float or float32 scalar tensor.
          multipliers: variable name -> factor of its learning rate; 1 where it is missing.

        Raises:
          KeyError: a gradient belongs to no variable of this optimizer.
        """

    @abc.abstractmethod
    def variables_by_name(self) -> dict[str, tf.Variable]:
        """What a checkpoint holds of the optimizer: TensorFlow-1 name -> variable."""

    def _with_gradients(self, gradients: Mapping[str, tf.Tensor]) -> list[tuple[str, Any, tf.Tensor]]:
        """(name, resource handle of the weights, gradient) of every variable with a gradient."""
        return [
            (name, _handle(self._variables[name]), gradient)
            for name, gradient in gradients.items()
            if gradient is not None
        ]


def rate_of(name: str, rate: tf.Tensor, multipliers: Mapping[str, float] | None) -> tf.Tensor:
    """The learning rate of one variable."""
    return rate * multipliers[name] if multipliers and name in multipliers else rate


registry: Registry[Callable[[OptimizerConfig, Variables], Optimizer]] = Registry("optimizer", field="optimizer")


def find(name: str) -> Callable[[OptimizerConfig, Variables], Optimizer]:
    """What makes the optimizer of that name: a registered one, or one of Keras.

    Raises:
      UserError: there is no optimizer of that name.
    """
    if name in registry:
        return registry.get(name)
    if kind := keras_optimizers.find(name):
        return lambda config, variables: KerasOptimizer(variables, kind)
    known = [*registry.names(), *keras_optimizers.names()]
    rule = f"there is no optimizer called {name!r}"
    raise UserError("unknown-name", rule, nearest(name, known), field="optimizer", value=name)


def is_own(name: str) -> bool:
    """Whether an optimizer is one of this module, not of Keras."""
    return name in registry


def make(config: OptimizerConfig, variables: Variables) -> Optimizer:
    """The optimizer that `config.optimizer` names, with slots at their first values.

    Raises:
      UserError: there is no optimizer of that name.
    """
    return find(config.optimizer)(config, variables)


class Momentum(Optimizer):
    """Gradient descent with momentum: `accum = momentum * accum + g; w -= learning_rate * accum`.

    Nesterov's subtracts `learning_rate * (g + momentum * accum)` instead, as TensorFlow 1's `use_nesterov`.

    Args:
      variables: the variables that it updates.
      momentum: fraction of the accumulated gradient that is kept each step, 0 to 1.
      nesterov: look one step ahead.
    """

    def __init__(self, variables: Variables, momentum: float, nesterov: bool = False):
        super().__init__(variables)
        self._momentum, self._nesterov = momentum, nesterov
        self._accumulators = _slots(self._variables, "Momentum")

    def apply(self, gradients, learning_rate, multipliers=None):
        rate = tf.cast(learning_rate, tf.float32)
        for name, weights, gradient in self._with_gradients(gradients):
            tf.raw_ops.ResourceApplyMomentum(
                var=weights,
                accum=self._accumulators[name].handle,
                lr=rate_of(name, rate, multipliers),
                grad=gradient,
                momentum=self._momentum,
                use_nesterov=self._nesterov,
            )

    def variables_by_name(self) -> dict[str, tf.Variable]:
        return {f"{name}/Momentum": slot for name, slot in self._accumulators.items()}


@registry.register("momentum")
def _momentum(config: OptimizerConfig, variables: Variables) -> Momentum:
    return Momentum(variables, config.momentum, config.nesterov)


class RMSProp(Optimizer):
    """RMSprop (Tieleman and Hinton 2012) with momentum, as TensorFlow 1 has it: epsilon is inside the root.

        ms = decay * ms + (1 - decay) * g ** 2
        mom = momentum * mom + learning_rate * g / sqrt(ms + epsilon);  w -= mom

    Args:
      variables: the variables that it updates.
      decay: fraction of the average of squared gradients that is kept each step, 0 to 1.
      momentum: fraction of the last update that is added to the next, 0 to 1.
      epsilon: keeps the division finite; in units of the squared gradient.
    """

    def __init__(self, variables: Variables, decay: float, momentum: float, epsilon: float):
        super().__init__(variables)
        self._constants = {"rho": decay, "momentum": momentum, "epsilon": epsilon}
        self._squares = _slots(self._variables, "RMSProp", first=1.0)
        self._updates = _slots(self._variables, "RMSProp_1")

    def apply(self, gradients, learning_rate, multipliers=None):
        rate = tf.cast(learning_rate, tf.float32)
        for name, weights, gradient in self._with_gradients(gradients):
            tf.raw_ops.ResourceApplyRMSProp(
                var=weights,
                ms=self._squares[name].handle,
                mom=self._updates[name].handle,
                lr=rate_of(name, rate, multipliers),
                grad=gradient,
                **self._constants,
            )

    def variables_by_name(self) -> dict[str, tf.Variable]:
        squares = {f"{name}/RMSProp": slot for name, slot in self._squares.items()}
        return {**squares, **{f"{name}/RMSProp_1": slot for name, slot in self._updates.items()}}


@registry.register("rmsprop")
def _rmsprop(config: OptimizerConfig, variables: Variables) -> RMSProp:
    return RMSProp(variables, config.rmsprop_decay, config.momentum, config.rmsprop_epsilon)


class Adam(Optimizer):
    """Adam (Kingma and Ba, arXiv:1412.6980), in the form just before their section 2.1.

    The bias correction goes into the rate, so epsilon is added to the uncorrected root, as TensorFlow 1 does:

        rate_t = rate * sqrt(1 - beta2 ** t) / (1 - beta1 ** t)
        m += (1 - beta1) * (g - m);  v += (1 - beta2) * (g ** 2 - v);  w -= rate_t * m / (sqrt(v) + epsilon)

    Args:
      variables: the variables that it updates.
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

    def apply(self, gradients, learning_rate, multipliers=None):
        rate = tf.cast(learning_rate, tf.float32)
        powers = [tf.convert_to_tensor(power) for power in self._powers]
        for name, weights, gradient in self._with_gradients(gradients):
            tf.raw_ops.ResourceApplyAdam(
                var=weights,
                m=self._first[name].handle,
                v=self._second[name].handle,
                beta1_power=powers[0],
                beta2_power=powers[1],
                lr=rate_of(name, rate, multipliers),
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


class AdamW(Adam):
    """Adam whose weight decay acts on the weights themselves (Loshchilov and Hutter, arXiv:1711.05101).

    The step subtracts `learning_rate * weight_decay * w` before the update; see `gradients.decay`.
    """

    decoupled_decay = True


@registry.register("adamw")
def _adamw(config: OptimizerConfig, variables: Variables) -> AdamW:
    return AdamW(variables, config.adam_epsilon)


class Lion(Optimizer):
    """Lion (Chen et al., arXiv:2302.06675): every weight changes by the learning rate times a sign.

        w -= learning_rate * sign(beta1 * m + (1 - beta1) * g);  m = beta2 * m + (1 - beta2) * g

    A good learning rate is 3 to 10 times below Adam's, and the weight decay, decoupled as AdamW's, as much above.

    Args:
      variables: the variables that it updates.
      beta1: fraction of the momentum in the update.
      beta2: fraction of the momentum that is kept each step.
    """

    decoupled_decay = True

    def __init__(self, variables: Variables, beta1: float = 0.9, beta2: float = 0.99):
        super().__init__(variables)
        self._beta1, self._beta2 = beta1, beta2
        self._momenta = _slots(self._variables, "Lion")

    def apply(self, gradients, learning_rate, multipliers=None):
        rate = tf.cast(learning_rate, tf.float32)
        for name, weights, gradient in self._with_gradients(gradients):
            slot = self._momenta[name].handle
            momentum = tf.raw_ops.ReadVariableOp(resource=slot, dtype=tf.float32)
            direction = tf.sign(self._beta1 * momentum + (1.0 - self._beta1) * gradient)
            moved = rate_of(name, rate, multipliers) * direction
            tf.raw_ops.AssignSubVariableOp(resource=weights, value=moved)
            kept = self._beta2 * momentum + (1.0 - self._beta2) * gradient
            tf.raw_ops.AssignVariableOp(resource=slot, value=kept)

    def variables_by_name(self) -> dict[str, tf.Variable]:
        return {f"{name}/Lion": slot for name, slot in self._momenta.items()}


@registry.register("lion")
def _lion(config: OptimizerConfig, variables: Variables) -> Lion:
    return Lion(variables)


class KerasOptimizer(Optimizer):
    """An optimizer of `keras.optimizers` with Keras' defaults, its slots named `VARIABLE/keras_NAME_SLOT`.

    Args:
      variables: the variables that it updates.
      kind: the class of Keras.
    """

    def __init__(self, variables: Variables, kind: type[keras.optimizers.Optimizer]):
        super().__init__(variables)
        self._mover = keras_optimizers.Mover(self._variables, kind)

    def apply(self, gradients, learning_rate, multipliers=None):
        moving = [name for name, _, _ in self._with_gradients(gradients)]
        self._mover.move(
            {name: gradients[name] for name in moving}, tf.cast(learning_rate, tf.float32), multipliers or {}
        )

    def variables_by_name(self) -> dict[str, tf.Variable]:
        return self._mover.variables_by_name()


def _slots(variables: Variables, suffix: str, first: float = 0.0) -> dict[str, tf.Variable]:
    """A variable of first values for each variable, of its shape, named `<variable>/<suffix>`."""
    return {
        name: tf.Variable(tf.fill(variable.shape, first), trainable=False, name=f"{name}/{suffix}")
        for name, variable in variables.items()
    }


def _handle(variable: Any) -> tf.Tensor:
    """The variable's resource; inside a replica function that of the replica's own copy."""
    native = variable.value if isinstance(variable, keras.Variable) else variable
    return native.handle
