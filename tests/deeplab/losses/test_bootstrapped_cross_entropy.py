"""Bootstrapped cross-entropy."""

import numpy as np
import pytest
import tensorflow as tf
from support.loss_battery import LossBattery

from deeplab import losses


class TestBootstrapped(LossBattery):
    loss = "bootstrapped_cross_entropy"
    golden = True


@pytest.mark.parametrize(("min_fraction", "kept"), [(0.0, 1), (0.5, 2), (1.0, 4)])
def test_by_hand(min_fraction, kept):
    probabilities = np.array([0.4, 0.8, 0.9, 0.95])  # of the right class
    logits = np.log(np.stack([probabilities, 1 - probabilities], -1)).astype(np.float32).reshape(1, 2, 2, 2)
    loss = losses.get(f"bootstrapped_cross_entropy(threshold=0.7, min_fraction={min_fraction})")
    value = loss.value(tf.constant(logits), tf.zeros([1, 2, 2], tf.int32))
    assert float(value) == pytest.approx(-np.log(probabilities[:kept]).mean(), rel=1e-5)
