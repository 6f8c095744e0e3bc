"""SavedModels as Predictors."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf
from support.errors import raises
from support.runtime_battery import IMAGE, RuntimeBattery
from support.small_graphs import save_model

from deeplab.inference.load import load
from deeplab.inference.runtimes.saved_model import versions_in


class TestBattery(RuntimeBattery):
    name = "saved_model"

    @pytest.fixture(scope="class")
    def path(self, tmp_path_factory):
        return save_model(tmp_path_factory.mktemp("model") / "saved_model")

    def files_of(self, path):
        return [path / "saved_model.pb"]


def test_it_is_found_by_its_file_and_in_a_folder_around_it(tmp_path):
    save_model(tmp_path / "saved_model")
    for given in (tmp_path / "saved_model" / "saved_model.pb", tmp_path):
        np.testing.assert_array_equal(load(given).predict(IMAGE).labels, IMAGE[..., 0] > 100)


def test_the_version_with_the_highest_number_is_loaded(tmp_path):
    for name in ("9", "0010", "x11", "1" * 200):  # the last one is no number of 64 bits
        save_model(tmp_path / name)
    predictor = load(tmp_path)
    assert predictor.source == str(tmp_path / "0010") and versions_in(str(tmp_path)) == [9, 10]
    np.testing.assert_array_equal(predictor.predict(IMAGE).labels, IMAGE[..., 0] > 100)


def test_an_input_of_any_name(tmp_path):
    predictor = load(save_model(tmp_path, "labels_alone"))  # its input is called ImageTensor
    labels, probabilities = predictor.predict(IMAGE)
    np.testing.assert_array_equal(labels, IMAGE[..., 0] > 100)
    assert probabilities is None and predictor.num_classes is None


def test_another_signature_is_shown(tmp_path):
    with raises("not-a-deeplab-model", where=tmp_path) as caught:
        load(save_model(tmp_path, "other"))
    assert "('x', 'float32')" in caught.value.rule


def test_damaged(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"no model")
    with raises("damaged-model", where=tmp_path):
        load(tmp_path)


def test_one_of_tensorflow_1(tmp_path):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        image = tf.compat.v1.placeholder(tf.uint8, [1, None, None, 3])
        limit = tf.compat.v1.get_variable("limit", initializer=np.float32(100))
        labels = tf.cast(tf.cast(image[..., 0], tf.float32) > limit, tf.int64)
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.saved_model.simple_save(
            session, str(tmp_path / "old"), {"image": image}, {"SemanticPredictions": labels}
        )
    predictor = load(tmp_path / "old")
    np.testing.assert_array_equal(predictor.predict(IMAGE).labels, IMAGE[..., 0] > 100)


def test_weights_that_are_not_finite(tmp_path):
    class Model(tf.Module):
        def __init__(self):
            super().__init__()
            self.bias = tf.Variable([0.0, np.nan], name="bias")

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)])
        def serve(self, images):
            return {"labels": tf.cast(tf.cast(images[..., 0], tf.float32) > self.bias[1], tf.int32)}

    model = Model()
    tf.saved_model.save(model, str(tmp_path), {"serving_default": model.serve})
    with raises("not-finite", where=tmp_path):
        load(tmp_path)
    assert pathlib.Path(tmp_path / "saved_model.pb").exists()
