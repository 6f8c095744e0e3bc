"""Cross-entropy: golden values with gradients, and numbers by hand."""

import json
import math

import numpy as np
import pytest
import tensorflow as tf
from support.loss_battery import LossBattery

from deeplab import losses
from deeplab.losses import cross_entropy
from deeplab.losses.segmentation_loss import labels_and_weights

LOG2, LOG3 = math.log(2), math.log(3)


class TestCrossEntropy(LossBattery):
    loss = "cross_entropy"
    golden = True


class TestWeightedAndMined(LossBattery):
    loss = "0.5*cross_entropy"
    settings = {"top_k_percent_pixels": 0.5}  # noqa: RUF012


def value_and_gradient(logits, labels, *, global_step=0, loss_weight=1.0, **settings):
    """The loss and its gradient with respect to the logits, inside a `tf.function`; the step is a tensor there."""
    loss = losses.get("cross_entropy" if loss_weight == 1.0 else f"{loss_weight}*cross_entropy", **settings)

    @tf.function
    def run(logits, labels, step):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss.value(logits, labels, step)
        return value, tape.gradient(value, logits)

    value, gradient = run(tf.constant(logits), tf.constant(labels), tf.constant(global_step, tf.int64))
    return float(value), gradient.numpy()


def golden_cases(folder):
    arrays = np.load(folder / "losses.npz")
    return json.loads((folder / "losses.json").read_text()), {name: arrays[name] for name in arrays.files}


@pytest.mark.parametrize("part", range(4))
def test_golden_values_and_gradients(golden, part):
    cases, arrays = golden_cases(golden)
    assert len(cases) > 40
    for case in cases[part::4]:
        labels = arrays[case["labels"]].astype(np.int32)
        loss, gradient = value_and_gradient(arrays["logits"], labels, **case["settings"])
        assert loss == pytest.approx(case["loss"], rel=1e-6), case
        np.testing.assert_allclose(gradient, arrays[case["gradient"]], atol=1e-7, err_msg=str(case))


def test_golden_label_weight_mask(golden):
    _, arrays = golden_cases(golden)
    given = arrays["labels"].astype(np.int32)
    labels, weights = labels_and_weights(tf.constant(given), 4, 255, [0.1, 0.5, 2.0, 1.5])
    np.testing.assert_array_equal(tf.reshape(weights, [-1]), arrays["label_weight_mask"])
    np.testing.assert_array_equal(labels, np.where(given == 255, losses.IGNORED, given))


def by_hand():
    """Four pixels of two classes, their losses log 2, log 3, log 3 - log 2 and one ignored."""
    logits = np.array([[[[0.0, 0.0], [0.0, LOG2]], [[0.0, LOG2], [7.0, -7.0]]]], np.float32)
    return logits, np.array([[[0, 0], [1, 255]]], np.int32)


def test_mean_over_labeled_pixels():
    loss, gradient = value_and_gradient(*by_hand(), ignore_label=255)
    assert loss == pytest.approx((LOG2 + LOG3 + LOG3 - LOG2) / 3, rel=1e-6)
    expected = np.array([[[[-1 / 2, 1 / 2], [-2 / 3, 2 / 3]], [[1 / 3, -1 / 3], [0, 0]]]]) / 3
    np.testing.assert_allclose(gradient, expected, atol=1e-7)


def test_label_weights_leave_the_normalizer_alone():
    loss, _ = value_and_gradient(*by_hand(), ignore_label=255, label_weights=(1.0, 10.0))
    assert loss == pytest.approx((LOG2 + LOG3 + 10 * (LOG3 - LOG2)) / 3, rel=1e-6)
    loss, _ = value_and_gradient(*by_hand(), ignore_label=255, label_weights=(0.0, 1.0))
    assert loss == pytest.approx((LOG3 - LOG2) / 3, rel=1e-6)


def test_ignore_label_may_be_a_class_or_negative():
    logits, _ = by_hand()
    for ignore in (0, -1, -7):
        labels = np.array([[[ignore, ignore], [1, ignore]]], np.int32)
        loss, _ = value_and_gradient(logits, labels, ignore_label=ignore)
        assert loss == pytest.approx(LOG3 - LOG2, rel=1e-6)


@pytest.mark.parametrize("classes", [2, cross_entropy.PLANAR_CLASSES, cross_entropy.PLANAR_CLASSES + 1, 40])
def test_pixel_values_on_both_sides_of_the_layout_switch(classes):
    logits = np.zeros((1, 3, 1, classes), np.float32)
    logits[0, 1, 0, 1], logits[0, 2] = LOG3, 200.0 * np.arange(classes)  # the last needs a stable logarithm
    expected = [math.log(classes), math.log((classes + 2) / 3), 200.0 * (classes - 1)]
    values = cross_entropy.cross_entropy(tf.constant(logits), tf.constant([[[0], [1], [0]]]))
    np.testing.assert_allclose(values[0, :, 0], expected, rtol=1e-6)


def test_many_classes_have_the_same_values_and_gradients(monkeypatch):
    draw = np.random.default_rng(4)
    logits = draw.normal(0, 4, (2, 3, 3, 300)).astype(np.float32)
    labels = draw.integers(0, 300, (2, 5, 7)).astype(np.int32)
    labels[0, :2], labels[1, 0, 0] = 65535, 299
    settings = {"ignore_label": 65535, "label_weights": draw.random(300).tolist(), "top_k_percent_pixels": 0.7}
    found, gradient = value_and_gradient(logits, labels, **settings)
    monkeypatch.setattr(cross_entropy, "MAX_WRITTEN_OUT", 300)
    expected, expected_gradient = value_and_gradient(logits, labels, **settings)
    assert found == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-8)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
