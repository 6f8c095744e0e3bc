"""The frame around all losses: sizes, label checks, weights, sums, and how losses are found."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.errors import raises
from support.loss_battery import batch

from deeplab import losses
from deeplab.config.training_config import LossConfig
from deeplab.data.decoding import reported
from deeplab.losses import segmentation_loss
from deeplab.losses.pixelwise import pixel_loss


@pytest.fixture
def more_losses(monkeypatch):
    """Two losses beside the project's own."""
    losses.get("cross_entropy")  # a module registers its loss once, so it must not be loaded in between
    monkeypatch.setattr(losses.registry, "_items", dict(losses.registry._items))

    @pixel_loss("constant")
    def constant(logits, labels, *, value=1.0):
        return value * tf.ones_like(logits[..., 0])

    @losses.register("labeled")
    def labeled(logits, labels, weights):
        return tf.reduce_sum(tf.cast(labels > losses.IGNORED, tf.float32))


def value(loss, logits, labels, **settings):
    return float(losses.get(loss, **settings).value(tf.constant(logits), tf.constant(labels)))


def test_a_new_loss_is_a_function_and_a_registration(more_losses):
    logits, labels = np.zeros((1, 1, 4, 3), np.float32), np.array([[[0, 1, 2, 255]]])
    assert value("constant", logits, labels, label_weights=(1.0, 4.0, 1.0)) == 2.0
    assert value("labeled", logits, labels) == 3.0
    assert "constant" in losses.names()


def test_a_sum_of_losses(more_losses):
    logits, labels = np.zeros((1, 1, 2, 2), np.float32), np.array([[[0, 1]]])
    loss = losses.get("constant(value=3) + 0.5*labeled + cross_entropy*2")
    terms = loss.terms(tf.constant(logits), tf.constant(labels))
    assert {text: float(term) for text, term in terms.items()} == pytest.approx(
        {"constant(value=3)": 3.0, "0.5 * labeled": 1.0, "cross_entropy * 2": 2 * np.log(2)}
    )
    assert float(loss.value(tf.constant(logits), tf.constant(labels))) == pytest.approx(4.0 + 2 * np.log(2))


def test_unknown_names_and_options(more_losses):
    with raises("unknown-name", "loss") as caught:
        losses.get("cross_entropi")
    assert "'cross_entropy'" in caught.value.hint
    with raises("unknown-name", "loss") as caught:
        losses.get("constant(valeu=2)")
    assert caught.value.value == "valeu" and "'value'" in caught.value.hint
    with raises("unknown-name", "loss"):
        losses.get("cross_entropy(reduce=1)")


def test_upsampling_aligns_corners():
    logits = tf.constant([[[[0.0], [4.0]], [[8.0], [12.0]]]])
    enlarged, labels = segmentation_loss.to_same_size(logits, tf.zeros([1, 3, 3], tf.int32), upsample_logits=True)
    np.testing.assert_array_equal(enlarged[0, :, :, 0], [[0, 2, 4], [4, 6, 8], [8, 10, 12]])
    assert labels.shape == (1, 3, 3)


def test_subsampling_labels_takes_the_corners():
    labels = tf.reshape(tf.range(9), [1, 3, 3])
    logits, small = segmentation_loss.to_same_size(tf.zeros([1, 2, 2, 5]), labels, upsample_logits=False)
    assert logits.shape == (1, 2, 2, 5)
    np.testing.assert_array_equal(small[0], [[0, 2], [6, 8]])


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32])
def test_labels_with_channel_axis_and_of_other_types(kind):
    logits, labels = batch()
    expected = value("cross_entropy", logits, labels)
    assert value("cross_entropy", logits, labels[..., None].astype(kind)) == expected


@pytest.mark.parametrize("wrong", [2, 254, -1])
def test_a_label_that_is_no_class_stops_the_step(wrong):
    labels = np.array([[[wrong, 0], [1, 255]]], np.int32)
    traced = tf.function(losses.get("cross_entropy", ignore_label=255).value)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        traced(tf.zeros([1, 2, 2, 2]), tf.constant(labels))
    report = reported(caught.value)
    assert report.code == "label-out-of-range"
    assert report.rule == "label values must be 0..1 or 255 (ignored)"


def test_wrong_number_of_label_weights():
    logits, labels = np.zeros((1, 2, 2, 3), np.float32), np.zeros((1, 2, 2), np.int32)
    with raises("class-count-mismatch", "label_weights") as caught:
        value("cross_entropy", logits, labels, label_weights=(1.0, 10.0))
    assert caught.value.value == (1.0, 10.0) and "`label_weights=1,10,1`" in caught.value.hint


def test_every_output_of_a_model_with_the_config():
    config = LossConfig(loss="2*cross_entropy", label_weights=(1.0, 10.0), top_k_percent_pixels=0.5)
    loss = segmentation_loss.from_config(config, ignore_label=255)
    labels = tf.constant([[[0, 0], [1, 255]]])
    outputs = {"merged_logits": tf.zeros([1, 2, 2, 2]), "logits_0.50": tf.zeros([1, 1, 1, 2])}
    total, parts = loss.of_outputs(outputs, labels, global_step=0)
    # The hardest two of four pixels: one of class 1 with weight 10, one of class 0.
    expected = 2 * (10 + 1) / 2 * np.log(2)
    for logits in outputs.values():
        assert float(loss.value(logits, labels, 0)) == pytest.approx(expected, rel=1e-6)
    assert float(total) == pytest.approx(2 * expected, rel=1e-6) and parts == {}


def test_keras_config_round_trip():
    loss = losses.get("cross_entropy", ignore_label=7, label_weights=(1.0, 2.0), top_k_percent_pixels=0.5)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config() and again.label_weights == (1.0, 2.0)


def test_importing_the_losses_imports_no_tensorflow():
    program = "import sys, deeplab.losses as l; print(l.names()[0]); assert 'tensorflow' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("cross_entropy", 0), done.stderr


def test_classes_of_a_batch_are_balanced_as_scikit_learn_balances_them():
    """labeled pixels / (classes present * pixels of the class)."""
    labels = np.array([[[0, 0, 0, 0, 0, 2, 255, 255]]])
    logits = np.zeros((1, 1, 8, 3), np.float32)
    logits[..., 0] = 1
    weights = segmentation_loss.balanced(tf.constant([[[0] * 5 + [2, -1, -1]]]), 3)
    np.testing.assert_allclose(weights[0, 0], [0.6] * 5 + [3.0, 0.0, 0.0])
    entropy = -np.log(np.array([np.e, 1, 1]) / (np.e + 2))
    assert value("cross_entropy", logits, labels, adaptive=True) == pytest.approx((entropy[0] + entropy[2]) / 2)
    given = {"adaptive": True, "label_weights": (1.0, 1.0, 2.0)}
    assert value("cross_entropy", logits, labels, **given) == pytest.approx((5 * entropy[0] + 2 * entropy[2]) / 6)


def test_balance_of_a_batch_without_labels():
    assert value("cross_entropy", np.ones((1, 1, 2, 3), np.float32), np.full((1, 1, 2), 255), adaptive=True) == 0.0


def test_the_auxiliary_output_has_its_own_weight():
    logits, labels = batch()
    loss = losses.get("cross_entropy", auxiliary_weight=0.4)
    outputs = {"merged_logits": tf.constant(logits), "auxiliary_logits": tf.constant(logits[:, ::2, ::2])}
    total, parts = loss.of_outputs(outputs, tf.constant(labels), 0)
    main, auxiliary = (float(loss.value(one, tf.constant(labels))) for one in outputs.values())
    assert {name: float(value) for name, value in parts.items()} == pytest.approx(
        {"cross_entropy": main, "auxiliary": 0.4 * auxiliary}
    )
    assert float(total) == pytest.approx(main + 0.4 * auxiliary)


def test_the_parts_of_a_sum_over_all_outputs_add_up():
    logits, labels = batch()
    loss = losses.get("cross_entropy + 0.5*dice + 0.25*focal(gamma=1.5)")
    outputs = {"merged_logits": tf.constant(logits), "logits_0.50": tf.constant(logits[:, ::2, ::2])}
    total, parts = loss.of_outputs(outputs, tf.constant(labels), 0)
    assert tuple(parts) == loss.part_names(outputs) == ("cross_entropy", "0.5 * dice", "0.25 * focal(gamma=1.5)")
    assert sum(float(value) for value in parts.values()) == pytest.approx(float(total), rel=1e-6)
    half = sum(0.5 * value("dice", one.numpy(), labels) for one in outputs.values())
    assert float(parts["0.5 * dice"]) == pytest.approx(half, rel=1e-6)


def test_a_term_that_comes_twice_counts_twice():
    logits, labels = batch()
    once, twice = (value(loss, logits, labels) for loss in ("dice", "dice + dice"))
    assert twice == pytest.approx(2 * once, rel=1e-6)


def test_logits_are_enlarged_as_the_model_aligns_them():
    logits = np.random.default_rng(4).normal(size=(2, 3, 4, 5)).astype(np.float32)
    labels = np.zeros((2, 11, 13), np.int32)
    enlarged, _ = segmentation_loss.to_same_size(tf.constant(logits), labels, True, align_corners=False)
    np.testing.assert_allclose(enlarged, tf.image.resize(logits, (11, 13)), atol=1e-5)
    loss = segmentation_loss.from_config(LossConfig(), 255, align_corners=False)
    assert loss.get_config()["align_corners"] is False
    assert segmentation_loss.from_config(LossConfig(), 255).align_corners


def test_many_classes_in_an_error_are_not_listed():
    with raises("class-count-mismatch", field="label_weights") as caught:
        value("cross_entropy", np.zeros((1, 1, 1, 300), np.float32), [[[0]]], label_weights=(1.0, 10.0))
    assert caught.value.hint == "give one weight per class"
