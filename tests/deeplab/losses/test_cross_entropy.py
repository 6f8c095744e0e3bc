"""The loss: golden values with gradients, and each of its parts by hand."""

import json
import math

import numpy as np
import pytest
import tensorflow as tf

from deeplab.config.training_config import LossConfig
from deeplab.data.decoding import reported
from deeplab.losses import cross_entropy
from deeplab.utils.errors import UserError

LOG2, LOG3 = math.log(2), math.log(3)


def value_and_gradient(logits, labels, **settings):
    """The loss and its gradient with respect to the logits, inside a `tf.function`; the step is a tensor there."""
    step = tf.constant(settings.pop("global_step", 0), tf.int64)

    @tf.function
    def run(logits, labels, step):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = cross_entropy.softmax_cross_entropy(logits, labels, global_step=step, **settings)
        return loss, tape.gradient(loss, logits)

    loss, gradient = run(tf.constant(logits), tf.constant(labels), step)
    return float(loss), gradient.numpy()


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
    labels = arrays["labels"].astype(np.int32).ravel()
    counted = labels != 255
    weights = cross_entropy.pixel_weights(np.where(counted, labels, 0), counted, [0.1, 0.5, 2.0, 1.5], 4)
    np.testing.assert_array_equal(weights, arrays["label_weight_mask"])


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


def test_hardest_pixels_are_counted_over_all_pixels():
    logits, labels = by_hand()
    half, _ = value_and_gradient(logits, labels, ignore_label=255, top_k_percent_pixels=0.5)
    assert half == pytest.approx((LOG3 + LOG2) / 2, rel=1e-6)  # 2 of 4, though one of the 4 is ignored
    nearly_all, _ = value_and_gradient(logits, labels, ignore_label=255, top_k_percent_pixels=0.99)
    assert nearly_all == pytest.approx((LOG2 + LOG3 + LOG3 - LOG2) / 3, rel=1e-6)


def test_mining_shrinks_in_a_straight_line():
    shares = [float(cross_entropy.mined_share(0.25, 100, step)) for step in (0, 50, 100, 500)]
    assert shares == pytest.approx([1.0, 0.625, 0.25, 0.25])
    assert float(cross_entropy.mined_share(0.25, 0, 0)) == 0.25


def test_mean_of_hardest_leaves_out_zeros():
    values = tf.constant([3.0, 0.0, 1.0, 0.0])
    means = [float(cross_entropy.mean_of_hardest(values, tf.constant(share))) for share in (0.25, 0.5, 1.0, 0.1)]
    assert means == [3.0, 2.0, 2.0, 0.0]


@pytest.mark.parametrize("settings", [{}, {"top_k_percent_pixels": 0.5}, {"label_weights": (1.0, 2.0)}])
def test_nothing_labeled_gives_zero_and_no_gradient(settings):
    logits, labels = by_hand()
    loss, gradient = value_and_gradient(logits, np.full_like(labels, 255), ignore_label=255, **settings)
    assert loss == 0.0
    np.testing.assert_array_equal(gradient, np.zeros_like(logits))


def test_ignore_label_may_be_a_class_or_negative():
    logits, _ = by_hand()
    for ignore in (0, -1):
        labels = np.array([[[ignore, ignore], [1, ignore]]], np.int32)
        loss, _ = value_and_gradient(logits, labels, ignore_label=ignore)
        assert loss == pytest.approx(LOG3 - LOG2, rel=1e-6)


@pytest.mark.parametrize("classes", [2, cross_entropy.PLANAR_CLASSES, cross_entropy.PLANAR_CLASSES + 1, 40])
def test_pixel_losses_on_both_sides_of_the_layout_switch(classes):
    logits = np.zeros((3, classes), np.float32)
    logits[1, 1], logits[2] = LOG3, 200.0 * np.arange(classes)  # the last needs a stable logarithm
    expected = [math.log(classes), math.log((classes + 2) / 3), 200.0 * (classes - 1)]
    np.testing.assert_allclose(cross_entropy.softmax_pixel_losses(logits, np.array([0, 1, 0])), expected, rtol=1e-6)


def test_labels_with_channel_axis_and_of_other_integer_types():
    logits, labels = by_hand()
    expected, _ = value_and_gradient(logits, labels, ignore_label=255)
    for kind in (np.uint8, np.int64):
        assert value_and_gradient(logits, labels[..., None].astype(kind), ignore_label=255)[0] == expected


def test_upsampling_aligns_corners():
    logits = tf.constant([[[[0.0], [4.0]], [[8.0], [12.0]]]])
    enlarged, labels = cross_entropy.to_same_size(logits, tf.zeros([1, 3, 3], tf.int32), upsample_logits=True)
    np.testing.assert_array_equal(enlarged[0, :, :, 0], [[0, 2, 4], [4, 6, 8], [8, 10, 12]])
    assert labels.shape == (1, 3, 3, 1)


def test_subsampling_labels_takes_the_corners():
    labels = tf.reshape(tf.range(9), [1, 3, 3])
    logits, small = cross_entropy.to_same_size(tf.zeros([1, 2, 2, 5]), labels, upsample_logits=False)
    assert logits.shape == (1, 2, 2, 5)
    np.testing.assert_array_equal(small[0, :, :, 0], [[0, 2], [6, 8]])


def test_sizes_unknown_when_traced():
    logits, labels = by_hand()
    spec = [tf.TensorSpec([None, None, None, 2]), tf.TensorSpec([None, None, None], tf.int32)]
    traced = tf.function(lambda x, y: cross_entropy.softmax_cross_entropy(x, y, ignore_label=255), input_signature=spec)
    expected, _ = value_and_gradient(logits, labels, ignore_label=255)
    assert float(traced(logits, labels)) == pytest.approx(expected)


@pytest.mark.parametrize("kind, tolerance", [(tf.float16, 1e-3), (tf.bfloat16, 1e-2)])
def test_mixed_precision_computes_in_float32(kind, tolerance):
    logits, labels = by_hand()
    loss = cross_entropy.softmax_cross_entropy(tf.cast(logits, kind), labels, ignore_label=255)
    assert loss.dtype == tf.float32
    assert float(loss) == pytest.approx(2 * LOG3 / 3, rel=tolerance)


@pytest.mark.parametrize("wrong", [2, 254, -1])
def test_label_that_is_no_class_stops_the_step(wrong):
    logits, labels = by_hand()
    labels[0, 0, 0] = wrong
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        value_and_gradient(logits, labels, ignore_label=255)
    report = reported(caught.value)
    assert report.code == "label-out-of-range"
    assert report.rule == "label values must be 0..1 or 255 (ignored)"


def test_wrong_number_of_label_weights_shows_the_right_flag():
    with pytest.raises(UserError, match=r"1,10 has 2 weights, the network has 3 .*\n.*--label_weights=1,10,1$"):
        cross_entropy.softmax_cross_entropy(
            tf.zeros([1, 2, 2, 3]), tf.zeros([1, 2, 2], tf.int32), ignore_label=255, label_weights=(1.0, 10.0)
        )


def test_loss_of_every_output_with_the_settings():
    logits, labels = by_hand()
    config = LossConfig(label_weights=(1.0, 10.0), top_k_percent_pixels=0.5)
    outputs = {"merged_logits": tf.constant(logits), "logits_0.50": tf.zeros([1, 1, 1, 2])}
    values = cross_entropy.of_outputs(outputs, labels, config, ignore_label=255, global_step=0)
    assert float(values["merged_logits"]) == pytest.approx((10 * (LOG3 - LOG2) + LOG3) / 2, rel=1e-6)
    assert float(values["logits_0.50"]) == pytest.approx((10 * LOG2 + LOG2) / 2, rel=1e-6)


def test_another_pixel_loss_needs_one_entry(monkeypatch):
    monkeypatch.setitem(cross_entropy.PIXEL_LOSSES, "ones", lambda logits, labels: tf.ones_like(logits[:, 0]))
    logits, labels = by_hand()
    value = cross_entropy.pixel_loss("ones", tf.constant(logits), labels, ignore_label=255, label_weights=(1.0, 4.0))
    assert float(value) == 2.0
    with pytest.raises(UserError, match="did you mean 'ones'"):
        cross_entropy.pixel_loss("one", tf.constant(logits), labels, ignore_label=255)
