"""The frozen graph: its tensors, its answers beside the reference's, and what it is made of."""

import dataclasses
import json
from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow as tf
from support.export_battery import ExportBattery
from support.golden_recipe import image, require_same_labels, weight
from support.small_exports import DYNAMIC, NARROW, make_graph, make_network, make_settings, run_graph

from deeplab.config.data_config import ResizeConfig
from deeplab.config.model_config import ModelConfig
from deeplab.export.formats import frozen_graph
from deeplab.inference.prediction import predict_image
from deeplab.inference.tensor_names import GRAPH_IMAGE

SEEN = "MobilenetV2/MobilenetV2/input"


class TestFrozenGraph(ExportBattery):
    name = "frozen_graph"


class TestFrozenGraphOfOneSize(ExportBattery):
    name = "frozen_graph"
    types = ("float32", "int32", "int64")
    fixed_size = True
    config: ClassVar[dict[str, Any]] = {"fixed_size": True}

    def test_metadata_tells_it(self, exported):
        metadata = json.loads((exported[1].parent / "metadata.json").read_text())
        assert "saved_model take one image of float32" in metadata["input"]["fixed_size"]
        described = metadata["files"][exported[1].name]
        assert described["prepared_inside"] is False
        assert described["tensors"][0] == {"name": "ImageTensor:0", "dtype": "float32", "shape": "1 x 65 x 97 x 3"}

    def test_the_caller_may_prepare_the_image(self, live_model, exported):
        """The documented way: float32, the part that is no image filled with the padding color."""
        padded = np.full([1, 65, 97, 3], 127.5, np.float32)
        padded[:, :40, :60] = image(40, 60)
        definition = tf.compat.v1.GraphDef.FromString(exported[1].read_bytes())
        answers = run_graph(definition, padded)
        labels, probabilities = of_model(live_model, make_settings(), image(40, 60))
        np.testing.assert_array_equal(answers["SemanticPredictions"][0, :40, :60], labels)
        np.testing.assert_allclose(answers["SemanticProbabilities"][0, :40, :60], probabilities, atol=1e-6)
        whole = run_graph(definition, image(65, 97))  # sessions cast uint8
        np.testing.assert_array_equal(whole["ArgMax"][0], of_model(live_model, make_settings(), image(65, 97))[0])


def test_names_types_and_shapes_are_the_references(golden, live_model):
    wanted = json.loads((golden / "export_tensors.json").read_text())["tensors"]
    definition = make_graph(live_model, make_settings(crop=(513, 513)))
    for name, dtype, shape in frozen_graph.tensors(definition, wanted):
        expected = wanted[name.removesuffix(":0")]
        text = " x ".join("?" if length is None else str(length) for length in expected["shape"])
        assert (dtype, shape) == (expected["dtype"], text), name
    assert frozen_graph.tensors(definition, [SEEN])[0][:2] == (f"{SEEN}:0", "float32")


CASES = {
    "dm025_os16": ({"depth_multiplier": 0.25}, {}),
    "os8_aspp_decoder": (
        {"output_stride": 8, "atrous_rates": (12, 24, 36), "decoder_output_stride": (4,)},
        {},
    ),
    "probs_then_upsample": ({"prediction_with_upsampled_logits": False}, {}),
    "multiscale_flip": ({}, {"scales": (0.5, 1.0, 1.75), "flip": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_answers_are_the_references(golden, case):
    model, others = CASES[case]
    config = ModelConfig(**model)
    live_model, settings = make_network(config, 21), make_settings(config, (97, 129), **others)
    with np.load(golden / "export_answers.npz") as wanted:
        labels, probabilities = wanted[f"{case}/labels"], wanted[f"{case}/probabilities"]
    for folded in (True, False):
        answers = run_graph(make_graph(live_model, settings, folded), image(97, 129))
        np.testing.assert_allclose(answers["SemanticProbabilities"][:, ::8, ::8], probabilities, atol=2e-6)
        if case == "probs_then_upsample":  # labels were decided before the upsampling
            np.testing.assert_array_equal(answers["SemanticPredictions"], labels)
        else:
            require_same_labels(answers["SemanticPredictions"], labels, answers["SemanticProbabilities"], 2e-6)
        np.testing.assert_array_equal(answers["ArgMax"], answers["SemanticPredictions"])
        np.testing.assert_array_equal(answers["RawSemanticPredictions"], answers["ArgMax"].astype(np.float32))
        np.testing.assert_array_equal(answers["RawSemanticProbabilities"], answers["SemanticProbabilities"])


def of_model(live_model, settings, pixels):
    """Labels and probabilities of the model itself."""
    answer = predict_image(live_model.logits_of, tf.constant(pixels[0]), settings)
    return answer.labels.numpy(), answer.probabilities.numpy()


def test_a_smaller_image_is_padded_inside(live_model, frozen):
    answers = run_graph(frozen, image(40, 60), [*frozen_graph.OUTPUTS, SEEN])
    labels, probabilities = of_model(live_model, make_settings(), image(40, 60))
    np.testing.assert_array_equal(answers["SemanticPredictions"][0], labels)
    np.testing.assert_allclose(answers["SemanticProbabilities"][0], probabilities, atol=1e-6)
    assert answers["RawSemanticProbabilities"].shape == (1, 65, 97, 4)
    np.testing.assert_array_equal(answers["ArgMax"][:, :40, :60], answers["SemanticPredictions"])
    np.testing.assert_allclose(answers[SEEN][0, :40, :60], image(40, 60)[0] * (2 / 255) - 1, atol=1e-6)
    assert np.abs(answers[SEEN][0, 40:]).max() < 1e-6  # 127.5, the padding, is 0 there


def test_an_image_larger_than_the_crop_is_answered_whole(live_model, frozen):
    answers = run_graph(frozen, image(70, 130))
    labels, probabilities = of_model(live_model, make_settings(), image(70, 130))
    assert answers["SemanticPredictions"].shape == (1, 70, 130)
    np.testing.assert_array_equal(answers["SemanticPredictions"][0], labels)
    np.testing.assert_allclose(answers["SemanticProbabilities"][0], probabilities, atol=1e-6)
    np.testing.assert_array_equal(answers["ArgMax"], answers["SemanticPredictions"][:, :65, :97])
    np.testing.assert_array_equal(answers["RawSemanticProbabilities"], answers["SemanticProbabilities"][:, :65, :97])


def test_resizing_happens_inside_and_is_undone(live_model):
    resize = ResizeConfig(min_resize_value=65, max_resize_value=65, resize_factor=16)
    settings = make_settings(crop=(65, 65), resize=resize)
    answers = run_graph(make_graph(live_model, settings), image(90, 140))
    labels, probabilities = of_model(live_model, settings, image(90, 140))
    assert answers["SemanticPredictions"].shape == (1, 90, 140)
    np.testing.assert_array_equal(answers["SemanticPredictions"][0], labels)
    np.testing.assert_allclose(answers["SemanticProbabilities"][0], probabilities, atol=1e-6)
    assert answers["ArgMax"].shape == (1, 65, 65)


def test_an_image_pyramid_is_exported():
    config = ModelConfig(depth_multiplier=0.25, aspp_convs_filters=16, image_pyramid=(0.5, 1.0))
    live_model, settings = make_network(config), make_settings(config)
    labels, _ = of_model(live_model, settings, image(65, 97))
    np.testing.assert_array_equal(run_graph(make_graph(live_model, settings), image(65, 97))["ArgMax"][0], labels)


def test_inputs_of_four_channels():
    config = ModelConfig(depth_multiplier=0.25, aspp_convs_filters=16, input_channels=4)
    live_model, settings = make_network(config), make_settings(config)
    pixels = np.concatenate([image(65, 97), image(65, 97)[..., :1]], axis=-1)
    definition = make_graph(live_model, settings)
    assert frozen_graph.tensors(definition, ["ImageTensor"]) == [("ImageTensor:0", "uint8", "1 x ? x ? x 4")]
    np.testing.assert_array_equal(run_graph(definition, pixels)["ArgMax"][0], of_model(live_model, settings, pixels)[0])


ONE_SIZE = {
    "one pass": ({}, {}),
    "probabilities then upsampled": ({"prediction_with_upsampled_logits": False}, {}),
    "scales and resizing": (
        {},
        {"scales": (0.5, 1.0), "flip": True, "resize": ResizeConfig(min_resize_value=65, max_resize_value=97)},
    ),
    "raw values": ({"input_channels": 4, "input_dtype": "uint16", "input_range": (0, 500) * 4}, {}),
}


@pytest.mark.parametrize("case", ONE_SIZE)
@pytest.mark.parametrize("folded", [True, False], ids=["folded", "unfolded"])
def test_a_graph_of_one_size_has_static_shapes_and_the_same_answers(case, folded):
    model, others = ONE_SIZE[case]
    config = dataclasses.replace(NARROW, **model)
    live_model, settings = make_network(config), make_settings(config, **others)
    definition = make_graph(live_model, settings, folded, fixed_size=True)
    names = (GRAPH_IMAGE, *frozen_graph.OUTPUTS)
    shapes = {name: shape for name, _, shape in frozen_graph.tensors(definition, names)}
    assert shapes.pop("ImageTensor:0") == f"1 x 65 x 97 x {config.input_channels}"
    assert all("?" not in shape and shape.startswith("1 x 65 x 97") for shape in shapes.values())
    assert not DYNAMIC & {node.op for node in definition.node}
    largest = 500 if case == "raw values" else 255
    pixels = np.random.default_rng(3).integers(0, largest, [1, 65, 97, config.input_channels], endpoint=True)
    pixels = pixels.astype(config.input_dtype)
    answers = run_graph(definition, pixels)
    labels, probabilities = of_model(live_model, dataclasses.replace(settings, resize=ResizeConfig()), pixels)
    np.testing.assert_allclose(answers["SemanticProbabilities"][0], probabilities, atol=2e-6)
    np.testing.assert_array_equal(answers["SemanticPredictions"][0], labels)
    np.testing.assert_array_equal(answers["ArgMax"], answers["SemanticPredictions"])
    np.testing.assert_array_equal(answers["RawSemanticPredictions"], answers["ArgMax"].astype(np.float32))
    np.testing.assert_array_equal(answers["RawSemanticProbabilities"], answers["SemanticProbabilities"])


# ---- what it is made of -------------------------------------------------------------------------------


def test_it_holds_nothing_that_tensorflow_1_does_not_know(frozen):
    # Every attribute younger than 1.15 has its default, and defaults are left out.
    attributes = {name for node in frozen.node for name in node.attr}
    assert not attributes & {
        "explicit_paddings",
        "_output_shapes",
        "half_pixel_centers",
        "grad_x",
        "bad_indices_policy",
    }
    assert not frozen.library.function
    assert frozen.versions.producer == 134
    calls = {
        "PartitionedCall",
        "StatefulPartitionedCall",
        "StatelessIf",
        "If",
        "StatelessWhile",
        "While",
        "ReadVariableOp",
    }
    assert not calls & {node.op for node in frozen.node}


def test_weights_have_their_variables_names(frozen):
    constants = {node.name: tf.make_ndarray(node.attr["value"].tensor) for node in frozen.node if node.op == "Const"}
    np.testing.assert_array_equal(
        constants["logits/semantic/weights"], weight("logits/semantic/weights", (1, 1, 32, 4))
    )
    assert constants["MobilenetV2/expanded_conv_3/depthwise/biases"].ndim == 1
    names = {node.name for node in frozen.node}
    assert {"MobilenetV2/Conv/BiasAdd", "decoder/decoder_conv0_pointwise/BiasAdd", "logits/semantic/BiasAdd"} <= names


def test_it_can_be_cut_at_the_networks_input(frozen):
    nodes = {node.name: node for node in frozen.node}
    needed, waiting = set(), ["ArgMax"]
    while waiting:
        name = waiting.pop()
        needed.add(name)
        waiting += [] if name == SEEN else [other for other in nodes[name].input if other not in needed]
    assert SEEN in needed and "ImageTensor" not in needed
    assert next(node.op for node in frozen.node if node.name == "ArgMax") == "ArgMax"


def test_atrous_convolutions_are_activated_where_kernels_fuse(frozen):
    ops = {node.name: node.op for node in frozen.node}
    restored = [node for node in frozen.node if node.op == "BatchToSpaceND"]
    assert len(restored) == 4  # three blocks behind the lost stride, one ASPP branch
    assert {ops[node.input[0]] for node in restored} == {"Relu", "Relu6"}


def test_every_node_stands_behind_those_it_reads(frozen):
    seen: set[str] = set()
    for node in frozen.node:
        assert seen.issuperset(node.input), node.name
        seen.add(node.name)


def test_reading_the_tensors_leaves_the_graph_as_it_is(frozen):
    before = frozen.SerializeToString(deterministic=True)
    frozen_graph.tensors(frozen)
    assert frozen.SerializeToString(deterministic=True) == before


def test_the_same_model_gives_the_same_file(live_model, frozen):
    again = make_graph(live_model, make_settings())
    assert again.SerializeToString(deterministic=True) == frozen.SerializeToString(deterministic=True)
