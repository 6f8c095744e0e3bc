"""LiteRT files: what every format does, what is in them, what int8 loses, and that they need nothing but LiteRT."""

import io
import json
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.errors import raises
from support.export_battery import CLASSES, ExportBattery, export
from support.golden_recipe import image
from support.small_exports import (
    make_balanced_network,
    make_network_beyond_a_byte,
    make_quantized_network,
    make_settings,
)
from tensorflow.lite.python import schema_py_generated as schema

from deeplab.config.data_config import ResizeConfig
from deeplab.data import records
from deeplab.data.mask_files import encode_label
from deeplab.export.formats import FORMATS
from deeplab.export.metadata import NamedClasses
from deeplab.inference.load import load
from deeplab.inference.prediction import predict_image
from slim.quantization import ActivationRange, ranges


class TestLiteRT(ExportBattery):
    name = "litert"
    types = ("float32", "int32")
    fixed_size = True


@pytest.fixture(scope="module")
def file(live_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("litert")
    export(live_model, folder / "small.tflite", formats=("litert",), parity_images=1)
    return folder / "small.tflite"


def test_the_interpreter_alone_runs_it_by_its_description(live_model, file):
    with zipfile.ZipFile(file) as archive:
        description = json.loads(archive.read("deeplab.json"))
        assert archive.read("labels.txt").decode().split("\n")[:2] == ["ground", "left eye"]
    height, width = description["input"]["size"]
    assert (height, width) == (65, 97) and description["classes"] == list(CLASSES.names)
    pixels = np.zeros((1, height, width, 3), np.float32) + np.asarray(description["padding_color"], np.float32)
    pixels[:, :40, :60] = image(40, 60)
    runner = tf.lite.Interpreter(str(file)).get_signature_runner("labels")
    labels = runner(image=pixels)["SemanticPredictions"]
    expected = predict_image(live_model.logits_of, image(40, 60)[0], make_settings()).labels
    np.testing.assert_array_equal(labels[0, :40, :60], expected)


def test_it_is_made_of_builtin_operations_and_one_copy_of_the_weights(live_model, file):
    model = schema.ModelT.InitFromPackedBuf(bytearray(file.read_bytes()), 0)
    operations = {max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes}
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    assert {names[number] for number in operations} & {"CUSTOM", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"} == set()
    weights = sum(int(np.prod(variable.shape)) for variable in live_model.model.variables)
    assert file.stat().st_size < 1.5 * 4 * weights


def test_resizing_happens_outside_and_is_undone(live_model, tmp_path):
    settings = make_settings(crop=(65, 65), resize=ResizeConfig(min_resize_value=65, max_resize_value=65))
    export(live_model, tmp_path, formats=("litert",), settings=settings, parity_images=1)
    labels, probabilities = load(tmp_path).predict(image(90, 140)[0])
    expected = predict_image(live_model.logits_of, image(90, 140)[0], settings)
    np.testing.assert_array_equal(labels, expected.labels)
    np.testing.assert_allclose(probabilities, expected.probabilities, atol=1e-5)


# ---- reduced precision ----------------------------------------------------------------------------------------

PIXELS = image(65, 97)[0]
REDUCED = ("litert_float16", "litert_dynamic", "litert_int8")


@pytest.fixture(scope="module")
def balanced():
    """A model that predicts several classes, so that labels differ where numbers are rounded too much."""
    return make_balanced_network(PIXELS)


@pytest.fixture(scope="module")
def calibration_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibration")
    for index in range(4):
        Image.fromarray(np.roll(PIXELS, 9 * index, axis=1)).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def reduced(balanced, calibration_folder, tmp_path_factory):
    """An export of all formats with reduced precision; its folder."""
    folder = tmp_path_factory.mktemp("reduced")
    export(balanced, folder, formats=("litert", *REDUCED), **few(calibration_folder), measure_time=True)
    return folder


def few(folder) -> dict:
    """Settings for an export with few images, which is not judged."""
    return {"calibration_images": str(folder), "min_label_agreement": 0.0, "parity_images": 1}


def tensor_types(path) -> set[str]:
    names = {number: name for name, number in vars(schema.TensorType).items() if not name.startswith("_")}
    model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    return {names[tensor.type] for graph in model.subgraphs for tensor in graph.tensors}


def operations(path) -> set[str]:
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    return {names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes}


@pytest.mark.parametrize(("name", "agreement"), zip(REDUCED, (0.99, 0.9, 0.9), strict=True))
def test_reduced_precision_predicts_almost_the_same(balanced, reduced, name, agreement):
    predictor = load(reduced / FORMATS.get(name).usual_name)
    expected = predict_image(balanced.logits_of, PIXELS, make_settings()).labels.numpy()
    labels, probabilities = predictor.predict(PIXELS)
    assert len(np.unique(expected)) > 1 and np.mean(labels == expected) >= agreement
    assert predictor.class_names == CLASSES.names
    assert (probabilities is None) == (name == "litert_int8")


def test_int8_has_no_float_and_no_foreign_operation(reduced):
    assert tensor_types(reduced / "model_int8.tflite") == {"UINT8", "INT8", "INT32"}
    assert operations(reduced / "model_int8.tflite") & {"CUSTOM", "DEQUANTIZE", "SPACE_TO_BATCH_ND"} == set()
    assert "FLOAT16" in tensor_types(reduced / "model_float16.tflite")
    assert "INT8" in tensor_types(reduced / "model_dynamic.tflite")
    for name in REDUCED:
        assert "CUSTOM" not in operations(reduced / FORMATS.get(name).usual_name)


def test_int8_weights_have_a_scale_per_channel(reduced):
    model = schema.ModelT.InitFromPackedBuf(bytearray((reduced / "model_int8.tflite").read_bytes()), 0)
    scales = [len(t.quantization.scale) for t in model.subgraphs[0].tensors if len(t.shape) == 4 and t.shape[0] > 1]
    assert scales and max(scales) > 1


def test_files_are_smaller(reduced):
    sizes = {name: (reduced / FORMATS.get(name).usual_name).stat().st_size for name in ("litert", *REDUCED)}
    assert sizes["litert_float16"] < 0.7 * sizes["litert"]
    assert max(sizes["litert_dynamic"], sizes["litert_int8"]) < 0.6 * sizes["litert"]


def test_metadata_and_report_have_every_file(reduced):
    files = json.loads((reduced / "metadata.json").read_text())["files"]
    assert list(files) == [FORMATS.get(name).usual_name for name in ("litert", *REDUCED)]
    int8 = files["model_int8.tflite"]
    assert int8["format"] == "litert_int8" and int8["cpu_milliseconds"] > 0 and not int8["prepared_inside"]
    assert int8["tensors"][0] == {"name": "image", "dtype": "uint8", "shape": "1 x 65 x 97 x 3"}
    assert files["model.tflite"]["label_agreement"] == 1
    report = (reduced / "export_report.md").read_text()
    assert all(f"| {name} | {FORMATS.get(name).usual_name} |" in report for name in ("litert", *REDUCED))


def test_logits_in_int8_are_upsampled_by_the_runtime(balanced, calibration_folder, tmp_path):
    config = {"int8_input": "int8", "int8_output": "logits", **few(calibration_folder)}
    export(balanced, tmp_path / "small.tflite", formats=("litert_int8",), **config)
    assert (tmp_path / "small.tflite").is_file(), "the only file with this suffix has the given name"
    assert tensor_types(tmp_path / "small.tflite") == {"INT8", "INT32"}
    labels, probabilities = load(tmp_path / "small.tflite").predict(PIXELS)
    expected = predict_image(balanced.logits_of, PIXELS, make_settings())
    assert np.mean(labels == expected.labels.numpy()) > 0.9
    chosen = np.take_along_axis(probabilities, labels[..., np.newaxis], -1)[..., 0]
    np.testing.assert_allclose(chosen, probabilities.max(-1), atol=1e-6)
    assert np.abs(probabilities - expected.probabilities.numpy()).mean() < 0.05


def test_layers_stay_in_float(balanced, calibration_folder, tmp_path):
    export(balanced, tmp_path, formats=("litert_int8",), float_layers=("logits",), **few(calibration_folder))
    assert "FLOAT32" in tensor_types(tmp_path / "model_int8.tflite")
    model = schema.ModelT.InitFromPackedBuf(bytearray((tmp_path / "model_int8.tflite").read_bytes()), 0)
    floats = {t.name.decode() for t in model.subgraphs[0].tensors if t.type == schema.TensorType.FLOAT32}
    assert any("logits" in name for name in floats)
    assert not any("expanded_conv" in name for name in floats), "a name fits whole scopes only"
    with raises("unknown-name", field="float_layers"):
        export(balanced, tmp_path, formats=("litert_int8",), float_layers=("lgits",), **few(calibration_folder))


def test_a_file_that_is_too_far_from_the_model_is_not_kept(balanced, calibration_folder, tmp_path):
    config = {**few(calibration_folder), "min_label_agreement": 1.0}
    with raises("export-loses-quality", field="min_label_agreement", where="model_int8.tflite") as caught:
        export(balanced, tmp_path, formats=("litert_int8",), **config)
    assert 0.5 < caught.value.value < 1 and list(tmp_path.iterdir()) == []


def test_the_loss_of_mean_iou_decides_where_there_are_labels(balanced, calibration_folder, tmp_path):
    """The labels are the model's own predictions, so that its mean IoU is 1."""
    records_folder, out = tmp_path / "records", tmp_path / "out"
    records_folder.mkdir()
    (records_folder / "dataset.yml").write_text(f"classes: [{', '.join(CLASSES.names)}]\n")
    label = predict_image(balanced.logits_of, PIXELS, make_settings()).labels.numpy().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "png")
    with records.ShardWriter(records_folder, records.shard_name("val", 0, 1)) as writer:
        writer.write(records.encode_example(file.getvalue(), "png", "only", *label.shape, encode_label(label)))
        writer.publish()
    config = {**few(calibration_folder), "formats": ("litert_int8",), "dataset_dir": str(records_folder)}
    with raises("export-loses-quality", field="max_miou_drop", where="model_int8.tflite") as caught:
        export(balanced, out, **config, max_miou_drop=0.0)
    assert 0 < caught.value.value < 0.5 and f"{caught.value.value:.4f}" in caught.value.rule
    assert not out.exists()
    model, int8 = export(balanced, out, **config, max_miou_drop=1.0).rows
    assert model.mean_iou == 1 and int8.loss == pytest.approx(caught.value.value, abs=1e-3)
    found = json.loads((out / "metadata.json").read_text())["files"]["model_int8.tflite"]["mean_iou"]
    assert (
        found == pytest.approx(1 - int8.loss)
        and f"| {found:.4f} | {-int8.loss:+.4f} |" in (out / "export_report.md").read_text()
    )


def test_int8_needs_images(balanced, tmp_path):
    with raises("missing-setting", field="calibration_images"):
        export(balanced, tmp_path, formats=("litert_int8",), parity_images=1)


# ---- models trained with fake quantization ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quantized():
    return make_quantized_network(PIXELS)


def test_int8_honors_the_trained_ranges_without_images(quantized, tmp_path):
    settings = make_settings(quantized.config)
    formats = ("frozen_graph", "litert_int8")
    export(quantized, tmp_path, formats=formats, settings=settings, parity_images=1, min_label_agreement=0.0)
    path = tmp_path / "model_int8.tflite"
    assert tensor_types(path) == {"UINT8", "INT8", "INT32"}
    model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    parameters = [tensor.quantization for tensor in model.subgraphs[0].tensors if tensor.quantization is not None]
    steps = [float(one.scale[0]) for one in parameters if one.scale is not None and len(one.scale) == 1]
    activations = [one for one in ranges(quantized.model) if isinstance(one, ActivationRange)]
    trained = [one for one in activations if "activation_Mul" not in one.scope]
    assert len(trained) == 72
    found = {one.scope: (one.low.numpy(), one.high.numpy()) for one in trained}
    for joined in (
        ["image_pooling/act_quant", "aspp0/act_quant", "aspp1_pointwise/act_quant"],
        ["concat_projection/act_quant", "decoder/feature_projection0/act_quant"],
    ):  # integers of a concatenation have one range
        lows, highs = zip(*(found[scope] for scope in joined), strict=True)
        found |= dict.fromkeys(joined, (min(lows), max(highs)))
    for scope, (low, high) in found.items():
        step = (high - low) / 255
        assert min(abs(step - other) for other in steps) < 1e-5 * step, scope
    expected = predict_image(quantized.logits_of, PIXELS, settings).labels.numpy()
    assert len(np.unique(expected)) > 1
    assert np.mean(load(path).predict(PIXELS).labels == expected) > 0.9


@pytest.mark.parametrize(
    ("more", "field"), [({"formats": ("litert",)}, "formats"), ({"float_layers": ("logits",)}, "float_layers")]
)
def test_what_cannot_hold_trained_ranges_is_refused(quantized, tmp_path, more, field):
    with raises("not-supported", field=field):
        export(quantized, tmp_path, **{"formats": ("litert_int8",), "parity_images": 1, **more})
    assert list(tmp_path.iterdir()) == []


def test_classes_that_a_byte_does_not_hold(tmp_path):
    pixels = image(65, 97)[0]
    network = make_network_beyond_a_byte(pixels)
    classes = NamedClasses(tuple(f"thing {number}" for number in range(300)), ())
    export(network, tmp_path, classes, formats=("litert",), parity_images=1)
    predictor = load(tmp_path / "model.tflite")
    labels, probabilities = predictor.predict(pixels, True)
    expected = predict_image(network.logits_of, pixels, make_settings()).labels.numpy()
    np.testing.assert_array_equal(labels, expected)
    assert len(np.unique(labels)) > 5 and labels.min() > 255
    assert probabilities.shape[-1] == predictor.num_classes == 300 and predictor.class_names == classes.names
