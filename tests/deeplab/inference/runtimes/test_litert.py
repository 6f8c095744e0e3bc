"""LiteRT files as Predictors."""

import warnings

import pytest
import tensorflow as tf
from support.errors import raises
from support.export_battery import export
from support.runtime_battery import IMAGE, RuntimeBattery
from support.small_exports import make_balanced_network

from deeplab.inference.load import load


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("litert")
    export(make_balanced_network(IMAGE), folder, formats=("litert",), parity_images=1)
    return folder / "model.tflite"


class TestBattery(RuntimeBattery):
    name = "litert"

    @pytest.fixture(scope="class")
    def path(self, file):
        return str(file)


def converted(function, *specs, flex=False) -> bytes:
    """A LiteRT file of another program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        concrete = tf.function(function).get_concrete_function(*specs)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
        if flex:
            converter.target_spec.supported_ops = [tf.lite.OpsSet.SELECT_TF_OPS]
        return converter.convert()


def test_files_of_other_programs(tmp_path):
    (tmp_path / "m.tflite").write_bytes(converted(lambda x: x + 1.0, tf.TensorSpec([2], tf.float32)))
    with raises("not-a-deeplab-model", where="m.tflite"):
        load(tmp_path / "m.tflite")
    (tmp_path / "m.tflite").write_text("mine")
    with raises("damaged-model", where="m.tflite"):
        load(tmp_path / "m.tflite")


def test_operations_of_tensorflow_are_refused(file, tmp_path):
    flex = converted(tf.io.read_file, tf.TensorSpec([], tf.string), flex=True)
    archive = file.read_bytes()
    (tmp_path / "m.tflite").write_bytes(flex + archive[archive.index(b"PK\x03\x04") :])
    with raises("unsafe-operation", where="m.tflite") as caught:
        load(tmp_path / "m.tflite")
    assert caught.value.value == "FlexReadFile"


def test_loops_are_refused(file, tmp_path):
    """LiteRT cannot be stopped, and a loop may have no end."""

    def endless(x):
        return tf.while_loop(lambda y: tf.reduce_sum(y) > -1, lambda y: [y + 1], [x])[0]

    loop = converted(endless, tf.TensorSpec([1], tf.float32))
    archive = file.read_bytes()
    (tmp_path / "m.tflite").write_bytes(loop + archive[archive.index(b"PK\x03\x04") :])
    with raises("unsafe-operation", where="m.tflite") as caught:
        load(tmp_path / "m.tflite")
    assert caught.value.value == "WHILE"


def test_larger_images_are_shrunk_with_a_note(file, capsys):
    predictor = load(file)
    for _ in range(2):
        assert predictor.predict(IMAGE.repeat(4, 0).repeat(3, 1)).labels.shape == (132, 120)
    assert capsys.readouterr().err.count("takes 65x97 pixels: larger images are shrunk") == 1
