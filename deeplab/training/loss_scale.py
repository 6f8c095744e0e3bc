"""The factor on the loss that keeps float16 gradients from becoming 0, adapted during the training.

Gradients below 6e-8 are 0 in float16 (Micikevicius et al., arXiv:1710.03740). The loss is multiplied by a scale, the
gradients are divided by it in float32. A step whose gradients are not finite changes no weight and halves the scale.
Used by the training step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

FIRST = 2.0**15
STEPS_TO_DOUBLE = 2000
LARGEST = 2.0**24


class LossScale:
    """The scale and the number of steps since it was changed; both are saved with the weights."""

    def __init__(self) -> None:
        self._scale = tf.Variable(FIRST, trainable=False, name="loss_scale/value", dtype=tf.float32)
        self._good_steps = tf.Variable(0, trainable=False, name="loss_scale/good_steps", dtype=tf.int32)

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss whose gradients are computed, float32 scalar."""
        return loss * tf.convert_to_tensor(self._scale)

    def unscaled(self, gradients: Sequence[tf.Tensor | None]) -> list[tf.Tensor | None]:
        """The gradients of the loss itself."""
        factor = 1.0 / tf.convert_to_tensor(self._scale)
        return [None if gradient is None else gradient * factor for gradient in gradients]

    def guard(self, gradients: Sequence[tf.Tensor | None], update: Callable[[], None]) -> None:
        """Runs the update if all gradients are finite, and adapts the scale.

        Args:
          gradients: summed over replicas, so that all of these decide alike.
          update: changes the weights.
        """
        norms = [tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients if gradient is not None]
        finite = tf.reduce_all(tf.stack(norms))
        scale, steps = tf.convert_to_tensor(self._scale), tf.convert_to_tensor(self._good_steps) + 1

        def updated():
            update()
            return tf.constant(True)

        tf.cond(finite, updated, lambda: tf.constant(False))
        doubles = tf.logical_and(finite, steps >= STEPS_TO_DOUBLE)
        larger = tf.where(doubles, tf.minimum(2.0 * scale, LARGEST), scale)
        after = tf.where(finite, larger, tf.maximum(0.5 * scale, 1.0))
        keeps_counting = tf.logical_and(finite, tf.logical_not(doubles))
        # `assign` on a mirrored variable would ask for an aggregation; each replica sets its own copy.
        tf.raw_ops.AssignVariableOp(resource=self._scale.handle, value=after)
        tf.raw_ops.AssignVariableOp(resource=self._good_steps.handle, value=tf.where(keeps_counting, steps, 0))

    def variables_by_name(self) -> dict[str, tf.Variable]:
        """What a checkpoint holds of it: name -> variable."""
        return {"loss_scale/value": self._scale, "loss_scale/good_steps": self._good_steps}
