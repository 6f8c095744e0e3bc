"""Focal loss."""

import numpy as np
import pytest
import tensorflow as tf
from support.loss_battery import LossBattery, batch

from deeplab import losses


class TestFocal(LossBattery):
    loss = "focal"
    golden = True


class TestFocalWithASmallPower(LossBattery):
    loss = "focal(gamma=0.5)"
    golden = True


def test_by_hand():
    logits = tf.constant([[[[0.0, 0.0], [0.0, float(np.log(3))]]]])
    value = losses.get("focal(gamma=2)").value(logits, tf.constant([[[0, 1]]]))
    assert float(value) == pytest.approx((0.25 * np.log(2) + 0.0625 * np.log(4 / 3)) / 2, rel=1e-5)


def test_gamma_0_is_cross_entropy():
    logits, labels = batch()
    plain = losses.get("cross_entropy").value(logits, labels)
    np.testing.assert_allclose(losses.get("focal(gamma=0)").value(logits, labels), plain, rtol=1e-6)
