"""Models that are given their weights need no random ones first."""

import contextlib
from unittest import mock

import keras
import tensorflow as tf


@contextlib.contextmanager
def zeros_for_random_values():
    """Models built inside start with zeros: drawing the weights of a deep model takes longer than all else."""

    def zeros(_, shape, dtype=None, **__):
        return tf.zeros(shape, dtype or "float32")

    drawing = (keras.initializers.TruncatedNormal, keras.initializers.VarianceScaling)
    with contextlib.ExitStack() as stack:
        for kind in drawing:
            stack.enter_context(mock.patch.object(kind, "__call__", zeros))
        yield
