"""ONNX files: what every format does, what they are made of, and what int8 keeps. Needs the extra onnx."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from support.export_battery import ExportBattery, export
from support.golden_recipe import image
from support.small_exports import (
    NARROW,
    make_balanced_network,
    make_network,
    make_network_beyond_a_byte,
    make_settings,
)

from deeplab.export.formats import onnx as formats_onnx
from deeplab.export.metadata import NamedClasses
from deeplab.inference.load import load
from deeplab.inference.prediction import predict_image
from slim import kernels

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("tf2onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

PIXELS = image(65, 97)[0]
FOREIGN = {"SpaceToDepth", "DepthToSpace", "BatchNormalization", "If", "Loop"}


def nodes(path) -> list:
    return list(onnx.load(str(path)).graph.node)


class TestONNX(ExportBattery):
    name = "onnx"
    types = ("float32", "int32")
    fixed_size = True

    def test_it_is_made_of_plain_operations(self, exported):
        operations = {node.op_type for node in nodes(exported[1])}
        assert not operations & FOREIGN and "ArgMax" in operations

    def test_it_is_enlarged_by_products_with_the_classes_last(self, exported):
        """ONNX Runtime takes half the time for that; see `onnx._enlarge_by_products`."""
        made_by = {name: node for node in nodes(exported[1]) for name in node.output}
        (argmax,) = [node for node in nodes(exported[1]) if node.op_type == "ArgMax"]
        assert [attribute.i for attribute in argmax.attribute if attribute.name == "axis"] == [3]
        reshaped = made_by[argmax.input[0]]
        product = made_by[reshaped.input[0]]
        assert (reshaped.op_type, product.op_type) == ("Reshape", "MatMul")
        assert made_by[product.input[1]].op_type == "Gather"


class TestDynamicSize(ExportBattery):
    name = "onnx_dynamic"
    types = ("float32", "int32")

    def test_its_sizes_are_free(self, exported):
        shapes = [shape for _, _, shape in exported[0].tensors["model_dynamic.onnx"]]
        assert shapes == ["1 x ? x ? x 3", "1 x ? x ?", "1 x ? x ? x 4"]


@pytest.mark.parametrize("name", ["onnx", "onnx_dynamic"])
def test_dilation_is_native(tmp_path, name):
    """At output stride 8, where the last depthwise convolutions are atrous."""
    config = dataclasses.replace(NARROW, output_stride=8)
    live_model = make_network(config)
    export(live_model, tmp_path, formats=(name,), settings=make_settings(config, crop=(33, 41)), parity_images=1)
    (path,) = tmp_path.glob("*.onnx")
    rates = [
        list(attribute.ints)
        for node in nodes(path)
        for attribute in node.attribute
        if node.op_type == "Conv" and attribute.name == "dilations"
    ]
    assert [2, 2] in rates and [4, 4] in rates
    assert not {node.op_type for node in nodes(path)} & FOREIGN
    pixels = image(70, 45)[0]
    if name == "onnx_dynamic":
        expected = predict_image(live_model.logits_of, pixels, make_settings(config, crop=(33, 41)))
        np.testing.assert_allclose(load(path).predict(pixels).probabilities, expected.probabilities, atol=1e-5)


@pytest.fixture(scope="module")
def balanced():
    return make_balanced_network(PIXELS)


@pytest.mark.parametrize("kind", ["u8u8", "u8s8_reduced"])
def test_int8_predicts_almost_the_same(balanced, tmp_path, kind):
    (tmp_path / "images").mkdir()
    for index in range(4):
        Image.fromarray(np.roll(PIXELS, 9 * index, axis=1)).save(tmp_path / "images" / f"{index}.png")
    config = {"calibration_images": str(tmp_path / "images"), "min_label_agreement": 0.0, "parity_images": 1}
    export(balanced, tmp_path / "small.onnx", formats=("onnx_int8",), onnx_int8=kind, **config)
    labels, probabilities = load(tmp_path / "small.onnx").predict(PIXELS)
    expected = predict_image(balanced.logits_of, PIXELS, make_settings())
    assert np.mean(labels == expected.labels.numpy()) > 0.75
    assert np.abs(probabilities - expected.probabilities.numpy()).mean() < 0.05
    made = nodes(tmp_path / "small.onnx")
    quantized = {name for node in made if node.op_type == "DequantizeLinear" for name in node.output}
    convolutions = [node for node in made if node.op_type == "Conv"]
    assert convolutions and all(node.input[1] in quantized for node in convolutions)
    constants = {
        one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(tmp_path / "small.onnx").graph.initializer
    }
    weights = [value for value in constants.values() if value.ndim == 4]
    assert {str(value.dtype) for value in weights} == {"uint8" if kind == "u8u8" else "int8"}
    if kind == "u8s8_reduced":
        assert max(abs(int(value.min())) for value in weights) <= 64
    assert any(len(node.attribute) and node.op_type == "DequantizeLinear" for node in made), "scales per channel"


def test_opencv_4_gets_bounds_as_attributes(balanced, tmp_path):
    config = {"onnx_for": "opencv4", "export_probabilities": False, "parity_images": 1, "min_label_agreement": 0.0}
    result = export(balanced, tmp_path, formats=("onnx_dynamic",), **config)
    clips = [node for node in nodes(tmp_path / "model_dynamic.onnx") if node.op_type == "Clip"]
    assert clips and all(len(node.input) == 1 for node in clips)
    assert {(one.name, one.f) for node in clips for one in node.attribute} == {("min", 0.0), ("max", 6.0)}
    assert [name for name, _, _ in result.tensors["model_dynamic.onnx"]] == ["image", "SemanticPredictions"]
    labels, none = load(tmp_path / "model_dynamic.onnx").predict(PIXELS)
    assert none is None
    assert np.mean(labels == predict_image(balanced.logits_of, PIXELS, make_settings()).labels.numpy()) > 0.999


@pytest.mark.parametrize(("old", "new"), [(2, 3), (5, 65), (33, 513), (9, 1), (7, 4)])
def test_a_product_is_a_resize_with_aligned_corners(old, new):
    values = np.random.default_rng(0).normal(size=(1, old, 3, 2)).astype(np.float32)
    expected = kernels.resize_bilinear(values, new, 3)
    found = np.einsum("no,bowc->bnwc", formats_onnx._interpolation(old, new), values)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "most"), [(33, 513, 6), (129, 513, 9), (33, 257, 33), (2, 3, 2), (5, 65, 5), (7, 4, 7), (9, 1, 9)]
)
def test_products_of_few_rows_are_the_whole_product(old, new, most):
    columns, blocks = formats_onnx._band(old, new)
    whole = np.zeros((len(blocks), blocks.shape[1], old), np.float32)
    np.put_along_axis(whole, columns[:, np.newaxis], blocks, axis=2)
    np.testing.assert_array_equal(whole.reshape(new, old), formats_onnx._interpolation(old, new))
    assert columns.shape[1] <= most and columns.max() < old


def test_classes_that_a_byte_does_not_hold(tmp_path):
    pixels = image(65, 97)[0]
    network = make_network_beyond_a_byte(pixels)
    classes = NamedClasses(tuple(f"thing {number}" for number in range(300)), ())
    export(network, tmp_path, classes, formats=("onnx",), parity_images=1)
    predictor = load(tmp_path / "model.onnx")
    labels, probabilities = predictor.predict(pixels, True)
    expected = predict_image(network.logits_of, pixels, make_settings()).labels.numpy()
    np.testing.assert_array_equal(labels, expected)
    assert len(np.unique(labels)) > 5 and labels.min() > 255
    assert probabilities.shape[-1] == predictor.num_classes == 300 and predictor.class_names == classes.names
