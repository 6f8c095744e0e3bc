"""Cross-entropy with smoothed labels."""

import numpy as np
from support.loss_battery import LossBattery, batch

from deeplab import losses


class TestLabelSmoothing(LossBattery):
    loss = "label_smoothing"
    golden = True
    best = 0.1 * 40 * 2 / 3  # the certain prediction of the battery has logits of 40


def test_it_is_cross_entropy_to_smoothed_labels():
    logits, labels = batch()
    log = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    counted = labels != 255
    smooth = 0.8 * np.eye(3)[np.where(counted, labels, 0)] + 0.2 / 3
    expected = -(smooth * log).sum(-1)[counted].mean()
    np.testing.assert_allclose(losses.get("label_smoothing(smoothing=0.2)").value(logits, labels), expected, rtol=1e-5)
