"""Optimizers of `keras.optimizers` in the training step of this project: one rate per step, stable slot names.

Used by `optimizers` for names that it does not know itself. It never decides which gradients or which rate are applied.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from deeplab.checkpoint.names import KERAS_SLOT

# Bases and wrappers; Muon wants to know which layers the variables belong to, and the weights of a schedule-free
# optimizer must be converted before each evaluation.
_UNFIT = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer", "Muon", "ScheduleFreeAdamW"}


def _classes() -> dict[str, type[keras.optimizers.Optimizer]]:
    found = inspect.getmembers(keras.optimizers, inspect.isclass)
    fit = {name: kind for name, kind in found if issubclass(kind, keras.optimizers.Optimizer) and name not in _UNFIT}
    return {name.lower(): kind for name, kind in fit.items()}


def names() -> list[str]:
    """The names of Keras' optimizers, in lower case."""
    return sorted(_classes())


def find(name: str) -> type[keras.optimizers.Optimizer] | None:
    """The class of that name, in any case; None = there is none."""
    return _classes().get(name.lower())


class Mover:
    """One optimizer of Keras over variables with TensorFlow-1 names.

    Args:
      variables: name -> trainable float32 variable of Keras or TensorFlow.
      kind: the class; it is made with Keras' defaults.
    """

    def __init__(self, variables: Mapping[str, Any], kind: type[keras.optimizers.Optimizer]):
        self._variables = {name: _as_keras(name, variable) for name, variable in variables.items()}
        self._optimizer = kind(learning_rate=1.0)
        self._optimizer._all_reduce_sum_gradients = lambda pairs: pairs  # they are summed already
        prefix, names = f"{KERAS_SLOT}{kind.__name__.lower()}_", {id(v): n for n, v in self._variables.items()}
        self._slots: dict[str, Any] = {}
        add = self._optimizer.add_variable_from_reference

        def recorded(reference_variable, name="", *args, **kwargs):
            slot = add(reference_variable, name, *args, **kwargs)
            label = name or kwargs.get("name", "slot")
            self._slots[f"{names[id(reference_variable)]}/{prefix}{label}"] = slot
            return slot

        self._optimizer.add_variable_from_reference = recorded
        self._optimizer.build(list(self._variables.values()))
        slots = {id(slot) for slot in self._slots.values()}
        rest = [variable for variable in self._optimizer.variables if id(variable) not in slots]
        attributes = {id(value): name.lstrip("_") for name, value in vars(self._optimizer).items()}
        for index, variable in enumerate(rest):  # some of Keras' own names count all variables of the process
            if variable is not self._optimizer._learning_rate:
                self._slots[f"{prefix}{attributes.get(id(variable), f'variable_{index}')}"] = variable

    def variables_by_name(self) -> dict[str, Any]:
        """Slots, and counters of the optimizer as a whole."""
        return self._slots

    def move(self, gradients: Mapping[str, tf.Tensor], rate: tf.Tensor, multipliers: Mapping[str, float]) -> None:
        """One update of the variables that have gradients, which must be the sums over all replicas."""
        if not gradients:
            return
        variables = [self._variables[name] for name in gradients]
        before = {name: tf.identity(self._variables[name].value) for name in gradients if name in multipliers}
        self._optimizer._backend_update_step(list(gradients.values()), variables, rate)
        # `assign` on a mirrored variable would ask for an aggregation; each replica sets its own copy.
        for name, old in before.items():
            native = self._variables[name].value
            moved = old + multipliers[name] * (tf.convert_to_tensor(native) - old)
            tf.raw_ops.AssignVariableOp(resource=native.handle, value=moved)
        counter = self._optimizer.iterations.value
        one = tf.ones([], counter.dtype)
        tf.raw_ops.AssignVariableOp(resource=counter.handle, value=tf.convert_to_tensor(counter) + one)


def _as_keras(name: str, variable: Any) -> keras.Variable:
    """A variable as one of Keras; those of TensorFlow get a wrapper around the same memory."""
    if isinstance(variable, keras.Variable):
        return variable
    wrapper = keras.Variable(variable.numpy(), name=name.replace("/", "_"), trainable=True)
    wrapper._value = variable
    return wrapper
