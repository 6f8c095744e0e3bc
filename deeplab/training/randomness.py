"""Dropout and drop-path that follow from the seed and the step, so that a resumed training equals an uninterrupted one.

Keras' seed generators count their draws in a variable that no TensorFlow-1 checkpoint has, and start again when a
training resumes. Here they give, for the step in hand, seeds that depend on nothing but the training's seed, the layer,
the replica and the step.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from slim import kernels
from slim.nas import DropPath


class StepClock(threading.local):
    """The step that the model is being run for, as layers see it while they are traced.

    Each thread has its own step, because every replica is traced in a thread.

    Args:
      total_steps: length of the training.
    """

    def __init__(self, total_steps: int):
        self._total_steps = total_steps
        self._step: Any = 0
        self._part: Any = 0
        self._draws: Counter = Counter()

    @contextlib.contextmanager
    def at(self, step: Any, part: Any = 0) -> Iterator[None]:
        """Sets the step, an int or an integer scalar tensor, for model calls within the block.

        Args:
          step: updates done before this one.
          part: number of the part of the batch, int or int32 scalar tensor; each draws by itself.
        """
        self._step, self._part = step, part
        self._draws.clear()
        try:
            yield
        finally:
            self._step = 0

    def fraction(self) -> tf.Tensor:
        """The fraction of the training done before this step, float32 scalar, 0..1."""
        return tf.cast(self._step, tf.float32) / float(self._total_steps)

    def control(self, model: keras.Model, seed: int) -> None:
        """Makes the random layers of a model draw by this clock.

        Args:
          model: already built; its layers must have the same names in every run.
          seed: of the training.
        """
        for layer in model._flatten_layers():
            whole = isinstance(layer, (keras.layers.Dropout, DropPath))
            if isinstance(layer, keras.layers.Dropout):
                layer.call = functools.partial(_dropped_out, layer)
            generator = getattr(layer, "seed_generator", None)
            if isinstance(generator, keras.random.SeedGenerator):
                generator.next = functools.partial(self._draw, f"{seed}/{layer.name}", whole)  # type: ignore[method-assign]

    def _draw(self, stream: str, whole: bool = False, ordered: bool = True) -> tf.Tensor:
        """A seed, int32 [2]; another one for each call of a layer within a step.

        Args:
          stream: what draws.
          whole: it draws for the batch of all replicas and takes its part, so they need one seed; others need each one.
        """
        del ordered
        context = None if whole else tf.distribute.get_replica_context()
        replica = tf.get_static_value(context.replica_id_in_sync_group) if context else 0
        stream = f"{stream}/{replica}"
        self._draws[stream] += 1
        key = zlib.crc32(f"{stream}/{self._draws[stream]}".encode()) & 0x7FFFFFFF
        # 32 bits wrap around; part 0 draws as an undivided batch does.
        return tf.stack([key + 1_000_003 * tf.cast(self._part, tf.int32), tf.cast(self._step, tf.int32)])


def _dropped_out(layer: keras.layers.Dropout, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
    """What a dropout layer gives; of several replicas, each takes its part of the draws for the whole batch."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1 or not training or not layer.rate:
        return type(layer).call(layer, inputs, training=training)

    def kept(images: tf.Tensor) -> tf.Tensor:
        ones = tf.ones(tf.concat([[images], tf.shape(inputs)[1:]], 0), inputs.dtype)
        return type(layer).call(layer, ones, training=True)

    return inputs * kernels.part_of_batch(kept, tf.shape(inputs)[0])
