"""Hard-pixel mining, by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf
from support.errors import raises

from deeplab import losses
from deeplab.losses import hard_mining

LOG2, LOG3 = math.log(2), math.log(3)


@pytest.mark.parametrize(("fraction", "expected"), [(0.5, (LOG3 + LOG2) / 2), (0.99, (LOG2 + LOG3 + LOG3 - LOG2) / 3)])
def test_hardest_pixels_are_counted_over_all_pixels(fraction, expected):
    logits = tf.constant([[[[0.0, 0.0], [0.0, LOG2]], [[0.0, LOG2], [7.0, -7.0]]]])
    loss = losses.get("cross_entropy", ignore_label=255, top_k_percent_pixels=fraction)
    # Losses log 2, log 3, log 3 - log 2, and one ignored: half of them are 2 of 4.
    assert float(loss.value(logits, tf.constant([[[0, 0], [1, 255]]]))) == pytest.approx(expected, rel=1e-6)


def test_the_fraction_falls_in_a_straight_line():
    fractions = [float(hard_mining.kept_fraction(0.25, 100, step)) for step in (0, 50, 100, 500, None)]
    assert fractions == pytest.approx([1.0, 0.625, 0.25, 0.25, 0.25])
    assert float(hard_mining.kept_fraction(0.25, 0, 0)) == 0.25


def test_mean_of_hardest_leaves_out_zeros():
    values = tf.constant([[3.0, 0.0], [1.0, 0.0]])
    means = [float(hard_mining.mean_of_hardest(values, tf.constant(part))) for part in (0.25, 0.5, 1.0, 0.1)]
    assert means == [3.0, 2.0, 2.0, 0.0]


def test_only_losses_of_single_pixels_are_mined(monkeypatch):
    losses.get("cross_entropy")  # a module registers its loss once, so it must not be loaded in between
    monkeypatch.setattr(losses.registry, "_items", dict(losses.registry._items))
    losses.register("two")(lambda logits, labels, weights: tf.constant(2.0))
    with raises("conflicting-settings", "top_k_percent_pixels"):
        losses.get("two", top_k_percent_pixels=0.5)
    both = losses.get("cross_entropy + two", top_k_percent_pixels=0.5)
    plain = losses.get("cross_entropy", top_k_percent_pixels=0.5)
    logits, labels = tf.constant([[[[0.0, 1.0], [2.0, 0.0]]]]), tf.constant([[[0, 1]]])
    np.testing.assert_allclose(both.value(logits, labels), plain.value(logits, labels) + 2.0, rtol=1e-6)
