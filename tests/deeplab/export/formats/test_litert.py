"""The LiteRT file: what every format does, what is in it, and that it needs nothing but LiteRT."""

import json
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from support.export_battery import CLASSES, ExportBattery, export
from support.golden_recipe import image
from support.small_exports import make_settings
from tensorflow.lite.python import schema_py_generated as schema

from deeplab.config.data_config import ResizeConfig
from deeplab.inference.load import load
from deeplab.inference.prediction import predict_image


class TestLiteRT(ExportBattery):
    name = "litert"
    types = ("float32", "int32")
    fixed_size = True


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("litert")
    export(network, folder / "small.tflite", formats=("litert",), parity_images=1)
    return folder / "small.tflite"


def test_the_interpreter_alone_runs_it_by_its_description(network, file):
    with zipfile.ZipFile(file) as archive:
        description = json.loads(archive.read("deeplab.json"))
        assert archive.read("labels.txt").decode().split("\n")[:2] == ["ground", "left eye"]
    height, width = description["input"]["size"]
    assert (height, width) == (65, 97) and description["classes"] == list(CLASSES.names)
    pixels = np.zeros((1, height, width, 3), np.float32) + np.asarray(description["padding_color"], np.float32)
    pixels[:, :40, :60] = image(40, 60)
    runner = tf.lite.Interpreter(str(file)).get_signature_runner("labels")
    labels = runner(image=pixels)["SemanticPredictions"]
    expected = predict_image(network.logits_of, image(40, 60)[0], make_settings()).labels
    np.testing.assert_array_equal(labels[0, :40, :60], expected)


def test_it_is_made_of_builtin_operations_and_one_copy_of_the_weights(network, file):
    model = schema.ModelT.InitFromPackedBuf(bytearray(file.read_bytes()), 0)
    operations = {max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes}
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    assert {names[number] for number in operations} & {"CUSTOM", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"} == set()
    weights = sum(int(np.prod(variable.shape)) for variable in network.model.variables)
    assert file.stat().st_size < 1.5 * 4 * weights


def test_resizing_happens_outside_and_is_undone(network, tmp_path):
    settings = make_settings(crop=(65, 65), resize=ResizeConfig(min_resize_value=65, max_resize_value=65))
    export(network, tmp_path, formats=("litert",), settings=settings, parity_images=1)
    labels, probabilities = load(tmp_path).predict(image(90, 140)[0])
    expected = predict_image(network.logits_of, image(90, 140)[0], settings)
    np.testing.assert_array_equal(labels, expected.labels)
    np.testing.assert_allclose(probabilities, expected.probabilities, atol=1e-5)
