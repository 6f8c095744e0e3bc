"""What a checkpoint's names and shapes tell: tested on every kind of network the reference builds."""

import json
import pathlib

import numpy as np
import pytest

from deeplab.checkpoint import files
from deeplab.checkpoint.infer_config import describe, describe_shapes

# Names and shapes as the reference made them (batch norm and most of the backbone left out), with its flags.
NETWORKS = json.loads((pathlib.Path(__file__).parents[2] / "golden" / "checkpoint_networks.json").read_text())
DEFAULTS = {
    "depth_multiplier": 1.0,
    "atrous_rates": [],
    "add_image_level_feature": True,
    "aspp_with_batch_norm": True,
    "aspp_with_separable_conv": True,
    "aspp_with_concat_projection": True,
    "aspp_with_squeeze_and_excitation": False,
    "aspp_convs_filters": 256,
    "decoder_output_stride": [],
    "decoder_use_separable_conv": True,
    "decoder_use_sum_merge": False,
    "decoder_filters": 256,
    "decoder_output_is_logits": False,
    "logits_kernel_size": 1,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_of_the_reference_is_recognized(name):
    network = NETWORKS[name]
    found = describe_shapes(network["shapes"])
    assert found.model_variant == network["model_variant"]
    assert found.num_classes == network["num_classes"]
    wanted = {**DEFAULTS, **network["settings"]}
    have = {**DEFAULTS, **found.settings}
    # Rates themselves leave no trace in the variables, only how many there are.
    assert len(have.pop("atrous_rates")) == len(wanted.pop("atrous_rates"))
    have["decoder_output_stride"] = list(have["decoder_output_stride"])
    assert {key: have[key] for key in wanted} == wanted
    assert have["input_channels"] == 3
    assert bool(have.get("dense_prediction_cell_json")) == ("dpc" in name)


def test_flags_are_those_that_differ_from_the_defaults():
    found = describe_shapes(NETWORKS["mobilenet_v2_nonsep_aspp_decoder"]["shapes"])
    assert found.flags() == [
        "--model_variant=mobilenet_v2",
        "--atrous_rates=6,12,18",
        "--aspp_with_separable_conv=false",
        "--decoder_output_stride=4",
        "--decoder_use_separable_conv=false",
    ]


def test_flags_unlike_another_network_lead_from_it_here():
    here = describe_shapes(NETWORKS["mobilenet_v2_dm05_os16"]["shapes"])
    other = describe_shapes(NETWORKS["mobilenet_v2_summerge"]["shapes"])
    assert here.flags(unlike=other) == [
        "--depth_multiplier=0.5",
        "--atrous_rates=",
        "--aspp_convs_filters=256",
        "--decoder_output_stride=",
    ]
    assert here.flags(unlike=here) == []


def test_sentences():
    networks = {name: describe_shapes(network["shapes"]).sentence() for name, network in NETWORKS.items()}
    assert networks["mobilenet_v2_dm025_os16"] == (
        "mobilenet_v2, depth multiplier 0.25, no atrous ASPP branches, image pooling, no decoder, 21 classes"
    )
    assert networks["xception_65_dpc_os16"] == "xception_65, dense prediction cell, decoder, 21 classes"
    assert networks["mobilenet_v2_nobnaspp_k3"] == "mobilenet_v2, no ASPP, no decoder, 21 classes"


@pytest.mark.parametrize(
    ("multiplier", "stem", "first", "second", "last", "divisible_by"),
    [
        (0.25, 8, 4, 6, 80, None),
        (0.25, 8, 8, 8, 80, 8),
        (0.35, 16, 8, 8, 112, 8),
        (0.5, 16, 8, 12, 160, None),
        (0.5, 16, 8, 16, 160, 8),
        (0.75, 24, 16, 24, 240, 8),
        (1.0, 32, 16, 24, 320, None),
        (1.4, 48, 24, 32, 448, 8),
    ],
)
def test_depth_multiplier_and_rounding_of_mobilenet_v2(multiplier, stem, first, second, last, divisible_by):
    found = describe_shapes(
        {
            "MobilenetV2/Conv/weights": (3, 3, 3, stem),
            "MobilenetV2/expanded_conv/project/weights": (1, 1, stem, first),
            "MobilenetV2/expanded_conv_1/project/weights": (1, 1, 6 * first, second),
            "MobilenetV2/expanded_conv_16/project/weights": (1, 1, 960, last),
        }
    )
    assert found.settings["depth_multiplier"] == multiplier
    assert found.settings["divisible_by"] == divisible_by


def test_image_classifier():
    shapes = {"MobilenetV2/Conv/weights": (3, 3, 3, 32), "MobilenetV2/Logits/Conv2d_1c_1x1/weights": (1, 1, 1280, 1001)}
    assert describe_shapes(shapes).sentence() == "mobilenet_v2, an image classifier of 1001 classes"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("InceptionV3/Conv2d_1a_3x3/weights", "an unknown network (scopes InceptionV3)"),
        ("layer_with_weights-0/kernel/.ATTRIBUTES/VARIABLE_VALUE", "a TensorFlow 2 object checkpoint"),
    ],
)
def test_foreign_checkpoints(name, words):
    found = describe_shapes({name: (3, 3, 3, 32)})
    assert found.model_variant is None and words in found.sentence()


def test_from_a_file_with_slots_and_step(tmp_path):
    tensors = {
        "resnet_v1_50/conv1_1/weights": np.zeros((3, 3, 4, 64), np.float32),
        "resnet_v1_50/conv1_3/weights": np.zeros((3, 3, 64, 128), np.float32),
        "resnet_v1_50/conv1_1/weights/Momentum": np.zeros((3, 3, 4, 64), np.float32),
    }
    found = describe(files.save_step(tmp_path, 40, tensors))
    assert (found.model_variant, found.step) == ("resnet_v1_50_beta", 40)
    assert found.sentence() == "resnet_v1_50_beta, 4 input channels, without a segmentation head"
