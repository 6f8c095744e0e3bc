"""Which differences between a model and a file count, with predictions made by hand."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab.config.data_config import ResizeConfig
from deeplab.config.model_config import ModelConfig
from deeplab.export import parity
from deeplab.inference.prediction import PredictionSettings

PIXELS = np.zeros((1, 3, 3), np.uint8)
SURE, UNDECIDED = [0.7, 0.3], [0.50002, 0.49998]


def expected(*rows):
    """The model's prediction for an image of one row."""
    probabilities = np.array([rows], np.float32)
    margin = np.abs(probabilities[..., 0] - probabilities[..., 1])
    return parity.Expected(probabilities.argmax(-1).astype(np.int32), probabilities, margin)


def compare(wanted, labels, probabilities):
    answer = np.array([labels], np.int32), None if probabilities is None else np.array([probabilities], np.float32)
    return parity.compare([("one", PIXELS, wanted)], lambda image: answer)[0]


def test_equal_predictions_hold():
    found = compare(expected(SURE, SURE, UNDECIDED), [0, 0, 0], [SURE, SURE, UNDECIDED])
    assert found == parity.Parity("one", (1, 3), unequal=0, close_calls=0, max_difference=0.0)
    assert found.holds


def test_another_label_counts_unless_the_model_was_undecided():
    found = compare(expected(SURE, SURE, UNDECIDED), [0, 1, 1], [SURE, SURE, UNDECIDED])
    assert (found.unequal, found.close_calls, found.holds) == (1, 1, False)
    assert compare(expected(SURE, SURE, UNDECIDED), [0, 0, 1], [SURE, SURE, UNDECIDED]).holds


def test_probabilities_may_differ_by_a_thousandth():
    near, far = [0.7009, 0.2991], [0.702, 0.298]
    assert compare(expected(SURE), [0], [near]).holds
    found = compare(expected(SURE), [0], [far])
    assert not found.holds and found.max_difference == pytest.approx(0.002, abs=1e-6)


@pytest.mark.parametrize("probabilities", [None, [[0.7, 0.2, 0.1]], [[np.nan, np.nan]]])
def test_missing_misshapen_and_undefined_probabilities_do_not_hold(probabilities):
    assert not compare(expected(SURE), [0], probabilities).holds


def test_a_file_that_has_no_probabilities_is_compared_by_its_labels():
    cases = [("one", np.zeros((1, 1, 3), np.uint8), expected(SURE))]
    for label, holds in ((0, True), (1, False)):
        found = parity.compare(cases, lambda _, label=label: (np.full((1, 1), label), None), has_probabilities=False)
        assert [one.holds for one in found] == [holds] and found[0].max_difference is None
        assert found[0].shown_difference == "-"


def test_labels_of_another_size_do_not_hold():
    found = compare(expected(SURE), [0, 0], [SURE, SURE])
    assert not found.holds and found.unequal == 1


def test_the_table_names_file_image_and_size():
    text = parity.table({"graph.pb": [parity.Parity("face", (513, 342), 7, 2, 0.00125)]})
    assert text.splitlines()[-1].split() == ["graph.pb", "face", "513x342", "7", "2", "0.001250"]


# ---- the margin of the model's decision ----------------------------------------------------------------


def model_of(logits):
    """A model that predicts the same logits [h, w, classes] for every image."""
    return lambda pixels: tf.constant(logits[np.newaxis], tf.float32)


def softmax_lead(difference):
    return np.tanh(difference / 2)  # of two classes whose logits differ by so much


def test_the_margin_is_read_where_labels_are_decided():
    logits = np.zeros((2, 2, 2), np.float32)
    logits[:, 0, 0], logits[:, 1, 0] = 4.0, -4.0  # class 0 leads at the left, class 1 at the right
    image = np.zeros((3, 3, 3), np.uint8)
    for upsampled, middle in ((True, 0.0), (False, softmax_lead(4.0))):
        settings = PredictionSettings(ModelConfig(prediction_with_upsampled_logits=upsampled), crop_size=(3, 3))
        found = parity.model_predictions(model_of(logits), settings)(image)
        np.testing.assert_allclose(found.margin[0, [0, 2]], softmax_lead(4.0), atol=1e-6)
        np.testing.assert_allclose(found.margin[0, 1], middle, atol=1e-6)


def test_the_margin_has_the_images_size():
    logits = np.random.default_rng(0).normal(size=(3, 3, 4)).astype(np.float32)
    settings = PredictionSettings(ModelConfig(), ResizeConfig(min_resize_value=33), (33, 49), may_outgrow_crop=True)
    found = parity.model_predictions(model_of(logits), settings)(np.zeros((20, 25, 3), np.uint8))
    assert found.margin.shape == found.labels.shape == (20, 25)
    assert found.probabilities.shape == (20, 25, 4)
