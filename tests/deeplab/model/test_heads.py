"""Logits of whole models against those of the reference: every head and decoder, on the fastest backbones."""

import gzip
import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.golden_models import zeros_for_random_values
from support.golden_recipe import image, weight

from deeplab.config.fields import make
from deeplab.config.model_config import ModelConfig
from deeplab.model import MERGED_LOGITS, build_model
from slim.layers import variables_by_name

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"
CASES = json.loads((GOLDEN / "heads.json").read_text())
HEADS = ("image_pooling", "aspp", "concat_projection", "decoder", "logits", "meta_architecture")
MANY_CLASSES = 100  # above which every eighth class is stored
PUBLISHED_CELL = "dense_prediction_cell_branch5_top1_cityscapes.json"


def golden_model(case):
    """The model of one case with the golden weights."""
    settings = {**case["flags"], "output_stride": case["output_stride"]}
    settings |= {key: case[key] for key in ("atrous_rates", "image_pyramid") if case.get(key)}
    if "dense_prediction_cell_json" in settings:
        settings["dense_prediction_cell_json"] = PUBLISHED_CELL
    with zeros_for_random_values():
        model = build_model(make(ModelConfig, settings), case["num_classes"])
    for name, variable in variables_by_name(model).items():
        variable.assign(weight(name, tuple(variable.shape)))
    return model


@pytest.fixture(scope="module")
def expected():
    with np.load(GOLDEN / "heads.npz") as stored:
        return {key: stored[key] for key in stored.files}


@pytest.mark.parametrize("name", sorted(CASES))
def test_logits_and_variables_equal_the_reference(name, expected):
    case = CASES[name]
    model = golden_model(case)
    assert head_shapes(model) == reference_shapes(name)
    step, classes = case["every"], 8 if case["num_classes"] > MANY_CLASSES else 1
    outputs = tf.function(model)(image(*case["crop_size"]).astype(np.float32), training=False)
    logits = np.asarray(outputs[MERGED_LOGITS])[:, ::step, ::step, ::classes]
    assert logits.shape == expected[name].shape
    tolerance = 1e-5 if "mobilenet" in name else 1e-4
    assert np.abs(logits - expected[name]).max() < tolerance * expected[name].std()
    for scale in case.get("image_pyramid") or ():
        wanted = expected[f"{name}/logits_{scale:.2f}"]
        assert np.abs(np.asarray(outputs[f"logits_{scale:.2f}"]) - wanted).max() < tolerance * wanted.std()


HEADS_TO_SAVE = {
    "aspp": {"atrous_rates": (6, 12, 18)},
    "aspp without projection": {"atrous_rates": (6, 12), "aspp_with_concat_projection": False},
    "full convolutions": {"atrous_rates": (6,), "aspp_with_separable_conv": False, "use_bounded_activation": True},
    "pooling windows": {"image_pooling_crop_size": (33, 33), "image_pooling_stride": (1, 2)},
    "gate": {"aspp_with_squeeze_and_excitation": True, "image_se_uses_qsigmoid": True},
    "decoder": {"decoder_output_stride": (8, 4)},
    "sum decoder": {"decoder_output_stride": (4,), "decoder_use_sum_merge": True},
    "decoder without separable convolutions": {"decoder_output_stride": (4,), "decoder_use_separable_conv": False},
    "decoder gives logits": {
        "decoder_output_stride": (4,),
        "decoder_output_is_logits": True,
        "decoder_use_sum_merge": True,
        "decoder_filters": 3,
    },
    "no aspp": {"aspp_with_batch_norm": False, "atrous_rates": (6, 12), "logits_kernel_size": 3},
    "dense prediction cell": {"dense_prediction_cell_json": PUBLISHED_CELL},
    "pyramid": {"image_pyramid": (0.5, 1.0, 1.5), "merge_method": "avg"},
    "more channels": {"input_channels": 4},
}


@pytest.mark.parametrize("name", HEADS_TO_SAVE)
def test_keras_saves_and_loads_it(name, tmp_path):
    settings = {"depth_multiplier": 0.25, "aspp_convs_filters": 16, **HEADS_TO_SAVE[name]}
    config = make(ModelConfig, settings)
    model = build_model(config, 3)
    for variable_name, variable in variables_by_name(model).items():
        variable.assign(weight(variable_name, tuple(variable.shape)))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert list(variables_by_name(again)) == list(variables_by_name(model))
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 65, 49, config.input_channels)).astype(np.float32)
    for key, expected in model(pixels).items():
        np.testing.assert_array_equal(again(pixels)[key], expected, err_msg=key)
    assert list(variables_by_name(keras.models.clone_model(model))) == list(variables_by_name(model))


def head_shapes(model):
    found = variables_by_name(model).items()
    return {name: tuple(variable.shape) for name, variable in found if name.startswith(HEADS)}


def reference_shapes(name):
    with gzip.open(GOLDEN / "head_variables.json.gz") as file:
        return {key: tuple(shape) for key, shape in json.load(file)[name].items()}
