"""The SavedModel: both signatures, batches, and what lies in it."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from support.export_battery import ExportBattery
from support.golden_recipe import image
from support.small_exports import make_settings

from deeplab.config.data_config import ResizeConfig
from deeplab.export.formats import saved_model
from deeplab.export.freeze import freeze
from deeplab.inference.prediction import predict_image


class TestSavedModel(ExportBattery):
    name = "saved_model"


def write(folder, network, **settings):
    """The SavedModel of a model, loaded."""
    frozen = freeze(network, make_settings(**settings))
    saved_model.write(dataclasses.replace(frozen, assets={"labels.txt": b"ground\n"}), str(folder / "saved"))
    return tf.saved_model.load(str(folder / "saved"))


@pytest.fixture(scope="module")
def loaded(network, tmp_path_factory):
    """A SavedModel with crop 65x97."""
    return write(tmp_path_factory.mktemp("saved_model"), network)


def test_it_converts_to_litert_with_builtin_operations_alone(loaded, tmp_path):
    """The documented way of TensorFlow 2, without the delegate for TensorFlow's own operations."""
    tf.saved_model.save(loaded, str(tmp_path / "copy"), dict(loaded.signatures))
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "copy"), signature_keys=["serving_default"])
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    picture = image(40, 60)
    found = interpreter.get_signature_runner("serving_default")(images=picture)
    expected = loaded.signatures["serving_default"](images=tf.constant(picture))
    assert (found["SemanticPredictions"] == expected["SemanticPredictions"].numpy()).mean() > 0.99


def test_a_batch_is_answered_like_its_pictures_one_by_one(loaded, network):
    pictures = image(60, 80, batch=2)
    assert not np.array_equal(pictures[0], pictures[1])
    answer = loaded.signatures["serving_default"](images=tf.constant(pictures))
    assert sorted(answer) == ["SemanticPredictions", "SemanticProbabilities"]
    assert answer["SemanticPredictions"].dtype == tf.int32
    for index in (0, 1):
        expected = predict_image(network.logits_of, tf.constant(pictures[index]), make_settings())
        np.testing.assert_array_equal(answer["SemanticPredictions"][index], expected.labels)
        np.testing.assert_allclose(answer["SemanticProbabilities"][index], expected.probabilities, atol=1e-6)


def test_encoded_pictures_are_answered_like_their_pixels(loaded):
    picture = image(50, 90)
    by_pixels = loaded.signatures["serving_default"](images=tf.constant(picture))
    encoded = tf.io.encode_png(picture[0])
    by_bytes = loaded.signatures["serving_bytes"](image_bytes=encoded[tf.newaxis])
    np.testing.assert_array_equal(by_bytes["SemanticPredictions"], by_pixels["SemanticPredictions"])
    np.testing.assert_allclose(by_bytes["SemanticProbabilities"], by_pixels["SemanticProbabilities"], atol=1e-6)


def test_a_picture_larger_than_the_crop_is_answered(loaded):
    answer = loaded.signatures["serving_default"](images=tf.constant(image(80, 120)))
    assert answer["SemanticPredictions"].shape == (1, 80, 120)


def test_resizing_is_undone_for_every_picture_of_a_batch(network, tmp_path):
    settings = {"crop": (65, 65), "resize": ResizeConfig(min_resize_value=65, max_resize_value=65)}
    pictures = image(40, 50, batch=2)
    answer = write(tmp_path, network, **settings).signatures["serving_default"](images=tf.constant(pictures))
    expected = predict_image(network.logits_of, tf.constant(pictures[1]), make_settings(**settings))
    assert answer["SemanticProbabilities"].shape == (2, 40, 50, 4)
    np.testing.assert_array_equal(answer["SemanticPredictions"][1], expected.labels)
    assert (tmp_path / "saved" / "assets" / "labels.txt").read_text() == "ground\n"
