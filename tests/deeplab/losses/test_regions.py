"""Losses of overlapping regions."""

import numpy as np
import pytest
import tensorflow as tf
from support.loss_battery import LossBattery

from deeplab import losses


class TestDice(LossBattery):
    loss = "dice"
    golden = True


class TestJaccard(LossBattery):
    loss = "jaccard"
    golden = True


class TestTversky(LossBattery):
    loss = "tversky(alpha=0.3, beta=0.7)"
    golden = True


class TestFocalTversky(LossBattery):
    loss = "focal_tversky"
    golden = True
    best = 1e-6**0.75


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # Probabilities of class 0: .75, .25; the first pixel is class 0, the second class 1.
        ("dice", 1 - 2 * 0.75 / (1 + 1)),
        ("jaccard", 1 - 0.75 / 1.25),
        ("tversky(alpha=1, beta=0)", 1 - 0.75 / (0.75 + 0.25)),
        ("focal_tversky(alpha=1, beta=1, gamma=2)", (1 - 0.75 / 1.25) ** 2),
    ],
)
def test_by_hand(loss, expected):
    half = float(np.log(3))
    logits, labels = tf.constant([[[[half, 0.0], [0.0, half]]]]), tf.constant([[[0, 1]]])
    assert float(losses.get(loss).value(logits, labels)) == pytest.approx(expected, rel=1e-5)


def test_absent_classes_do_not_count():
    logits = tf.constant([[[[5.0, 0.0, 0.0], [5.0, 0.0, 0.0]]]])
    present = losses.get("dice").value(logits, tf.constant([[[0, 0]]]))
    p = np.exp(5) / (np.exp(5) + 2)
    assert float(present) == pytest.approx(1 - 2 * p / (1 + p), rel=1e-4)
