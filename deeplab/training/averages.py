"""Running averages of the weights, under the names that TensorFlow 1 gave them (`NAME/ExponentialMovingAverage`).

Averaged are all weights of the model, batch norm's statistics among them, so that the averages are a whole model. Used
by the training step; what reads checkpoints takes the averages in place of the weights (`checkpoint.restore`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab.checkpoint.bundle import Checkpoint
from deeplab.checkpoint.names import AVERAGE


class Averages:
    """Averages of variables: `average = d * average + (1 - d) * value`, d = min(decay, (1 + step) / (10 + step)).

    The smaller d of the first steps is that of TensorFlow 1's `ExponentialMovingAverage` with `num_updates`.

    Args:
      variables: TensorFlow-1 name -> float32 variable of Keras.
      decay: fraction of the average that is kept each step, 0 to 1.
    """

    def __init__(self, variables: Mapping[str, Any], decay: float):
        self._variables, self._decay = dict(variables), decay
        self._averages = {
            name: tf.Variable(variable.numpy(), trainable=False, name=f"{name}/{AVERAGE}")
            for name, variable in self._variables.items()
        }

    def update(self, step: tf.Tensor) -> None:
        """Takes in the present values; inside a replica function it acts on the replica's own copies.

        Args:
          step: updates done before this one, integer scalar.
        """
        done = tf.cast(step, tf.float32)
        left = 1.0 - tf.minimum(self._decay, (1.0 + done) / (10.0 + done))
        for name, average in self._averages.items():
            distance = tf.convert_to_tensor(average) - tf.convert_to_tensor(self._variables[name].value)
            tf.raw_ops.AssignSubVariableOp(resource=average.handle, value=left * distance)

    def mask(self, name: str, mask: tf.Tensor) -> None:
        """Multiplies the average of one variable by a mask of its shape; in a replica, its own copy."""
        average = self._averages[name]
        tf.raw_ops.AssignVariableOp(resource=average.handle, value=tf.convert_to_tensor(average) * mask)

    def reset(self) -> None:
        """Sets every average to its variable's present value."""
        for name, average in self._averages.items():
            average.assign(self._variables[name].numpy())

    def are_in(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint holds all of them."""
        return all(name in checkpoint for name in self.variables_by_name())

    def set(self, values: Mapping[str, np.ndarray]) -> None:
        """Sets some averages, by the names of their variables."""
        for name, value in values.items():
            self._averages[name].assign(value)

    def values(self) -> dict[str, np.ndarray]:
        """The averages by the names of their variables."""
        return {name: np.asarray(average.numpy()) for name, average in self._averages.items()}

    def variables_by_name(self) -> dict[str, tf.Variable]:
        """What a checkpoint holds of them: TensorFlow-1 name -> variable."""
        return {f"{name}/{AVERAGE}": average for name, average in self._averages.items()}
