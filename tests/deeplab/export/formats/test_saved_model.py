"""The SavedModel: both signatures, batches, and what lies in it."""

import dataclasses
import json
import shutil
from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow as tf
from support.errors import raises
from support.export_battery import ExportBattery
from support.golden_recipe import image
from support.small_exports import DYNAMIC, make_settings
from tensorflow.python.saved_model import loader_impl

from deeplab.config.data_config import ResizeConfig
from deeplab.export.formats import saved_model
from deeplab.export.freeze import freeze
from deeplab.inference.load import load
from deeplab.inference.prediction import predict_image


class TestSavedModel(ExportBattery):
    name = "saved_model"


class TestSavedModelOfOneSize(ExportBattery):
    name = "saved_model"
    types = ("float32", "int32")
    fixed_size = True
    config: ClassVar[dict[str, Any]] = {"fixed_size": True}

    def test_it_has_one_signature_of_static_shapes(self, exported):
        signatures = tf.saved_model.load(str(exported[1])).signatures
        assert list(signatures) == ["serving_default"]
        (images,) = signatures["serving_default"].structured_input_signature[1].values()
        assert (images.dtype, images.shape.as_list()) == (tf.float32, [1, 65, 97, 3])
        shapes = {name: one.shape.as_list() for name, one in signatures["serving_default"].structured_outputs.items()}
        assert shapes == {"SemanticPredictions": [1, 65, 97], "SemanticProbabilities": [1, 65, 97, 4]}
        saved = loader_impl.parse_saved_model(str(exported[1])).meta_graphs[0].graph_def
        serving = [one for one in saved.library.function if "image_to_mask" in one.signature.name]
        assert serving and not DYNAMIC & {node.op for one in serving for node in one.node_def}

    def test_its_own_metadata_tells_it(self, exported):
        assert "fixed_size" in json.loads((exported[1] / "assets" / "metadata.json").read_text())["input"]

    def test_its_warm_up_request_is_such_an_image(self, exported):
        (request,) = tf.data.TFRecordDataset(str(exported[1] / saved_model.WARM_UP)).as_numpy_iterator()
        image = tf.make_tensor_proto(0.0, tf.float32, [1, 65, 97, 3]).SerializeToString()
        assert image in request and b"serving_default" in request

    def test_a_description_of_another_size_is_refused(self, exported, tmp_path):
        shutil.copytree(exported[1], tmp_path / "copy")
        description = tmp_path / "copy" / "assets" / "deeplab.json"
        content = json.loads(description.read_text())
        content["input"]["size"] = [10**9, 97]
        for text in (json.dumps(content), "[]", "{}", "{"):
            description.write_text(text)
            with raises("damaged-model", where="deeplab.json"):
                load(tmp_path / "copy")


def write(folder, live_model, **settings):
    """The SavedModel of a model, loaded."""
    frozen = freeze(live_model, make_settings(**settings))
    saved_model.write(dataclasses.replace(frozen, assets={"labels.txt": b"ground\n"}), str(folder / "saved"))
    return tf.saved_model.load(str(folder / "saved"))


@pytest.fixture(scope="module")
def loaded(live_model, tmp_path_factory):
    """A SavedModel with crop 65x97."""
    return write(tmp_path_factory.mktemp("saved_model"), live_model)


def test_it_converts_to_litert_with_builtin_operations_alone(loaded, tmp_path):
    """The documented way of TensorFlow 2, without the delegate for TensorFlow's own operations."""
    tf.saved_model.save(loaded, str(tmp_path / "copy"), dict(loaded.signatures))
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "copy"), signature_keys=["serving_default"])
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    pixels = image(40, 60)
    found = interpreter.get_signature_runner("serving_default")(images=pixels)
    expected = loaded.signatures["serving_default"](images=tf.constant(pixels))
    assert (found["SemanticPredictions"] == expected["SemanticPredictions"].numpy()).mean() > 0.99


def test_a_batch_is_answered_like_its_images_one_by_one(loaded, live_model):
    batch = image(60, 80, batch=2)
    assert not np.array_equal(batch[0], batch[1])
    answer = loaded.signatures["serving_default"](images=tf.constant(batch))
    assert sorted(answer) == ["SemanticPredictions", "SemanticProbabilities"]
    assert answer["SemanticPredictions"].dtype == tf.int32
    for index in (0, 1):
        expected = predict_image(live_model.logits_of, tf.constant(batch[index]), make_settings())
        np.testing.assert_array_equal(answer["SemanticPredictions"][index], expected.labels)
        np.testing.assert_allclose(answer["SemanticProbabilities"][index], expected.probabilities, atol=1e-6)


def test_encoded_images_are_answered_like_their_pixels(loaded):
    pixels = image(50, 90)
    by_pixels = loaded.signatures["serving_default"](images=tf.constant(pixels))
    encoded = tf.io.encode_png(pixels[0])
    by_bytes = loaded.signatures["serving_bytes"](image_bytes=encoded[tf.newaxis])
    np.testing.assert_array_equal(by_bytes["SemanticPredictions"], by_pixels["SemanticPredictions"])
    np.testing.assert_allclose(by_bytes["SemanticProbabilities"], by_pixels["SemanticProbabilities"], atol=1e-6)


def test_an_image_larger_than_the_crop_is_answered(loaded):
    answer = loaded.signatures["serving_default"](images=tf.constant(image(80, 120)))
    assert answer["SemanticPredictions"].shape == (1, 80, 120)


def test_resizing_is_undone_for_every_image_of_a_batch(live_model, tmp_path):
    settings = {"crop": (65, 65), "resize": ResizeConfig(min_resize_value=65, max_resize_value=65)}
    batch = image(40, 50, batch=2)
    answer = write(tmp_path, live_model, **settings).signatures["serving_default"](images=tf.constant(batch))
    expected = predict_image(live_model.logits_of, tf.constant(batch[1]), make_settings(**settings))
    assert answer["SemanticProbabilities"].shape == (2, 40, 50, 4)
    np.testing.assert_array_equal(answer["SemanticPredictions"][1], expected.labels)
    assert (tmp_path / "saved" / "assets" / "labels.txt").read_text() == "ground\n"
