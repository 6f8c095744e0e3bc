"""Configs inferred from the names and shapes of checkpoints: every kind of model that the reference builds."""

import json
import pathlib

import numpy as np
import pytest
from support.errors import raises

from deeplab.checkpoint import manager
from deeplab.checkpoint.infer_config import describe, describe_shapes, model_settings, rates_at
from deeplab.config.model_config import ModelConfig
from deeplab.model import build_model
from slim.layers import variables_by_name

# Names and shapes as the reference made them (batch norm and most of the backbone left out), with its flags.
MODELS = json.loads((pathlib.Path(__file__).parents[2] / "golden" / "checkpoint_networks.json").read_text())
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


@pytest.mark.parametrize("name", MODELS)
def test_every_network_of_the_reference_is_recognized(name):
    expected = MODELS[name]
    found = describe_shapes(expected["shapes"])
    assert found.model_variant == expected["model_variant"]
    assert found.num_classes == expected["num_classes"]
    wanted = {**DEFAULTS, **expected["settings"]}
    have = {**DEFAULTS, **found.settings}
    # Rates themselves leave no trace in the variables, only how many there are.
    assert len(have.pop("atrous_rates")) == len(wanted.pop("atrous_rates"))
    have["decoder_output_stride"] = list(have["decoder_output_stride"])
    assert {key: have[key] for key in wanted} == wanted
    assert have["input_channels"] == 3
    assert bool(have.get("dense_prediction_cell_json")) == ("dpc" in name)


def test_settings_are_those_that_differ_from_the_defaults():
    found = describe_shapes(MODELS["mobilenet_v2_nonsep_aspp_decoder"]["shapes"])
    assert found.setting_texts() == [
        "`model_variant=mobilenet_v2`",
        "`atrous_rates=6,12,18`",
        "`aspp_with_separable_conv=false`",
        "`decoder_output_stride=4`",
        "`decoder_use_separable_conv=false`",
    ]


def test_settings_unlike_another_model_lead_from_it_here():
    here = describe_shapes(MODELS["mobilenet_v2_dm05_os16"]["shapes"])
    other = describe_shapes(MODELS["mobilenet_v2_summerge"]["shapes"])
    assert here.setting_texts(unlike=other) == [
        "`depth_multiplier=0.5`",
        "`atrous_rates=`",
        "`aspp_convs_filters=256`",
        "`decoder_output_stride=`",
    ]
    assert here.setting_texts(unlike=here) == []


def test_sentences():
    sentences = {name: describe_shapes(expected["shapes"]).sentence() for name, expected in MODELS.items()}
    assert sentences["mobilenet_v2_dm025_os16"] == (
        "mobilenet_v2, depth multiplier 0.25, no atrous ASPP branches, image pooling, no decoder, 21 classes"
    )
    assert sentences["xception_65_dpc_os16"] == "xception_65, dense prediction cell, decoder, 21 classes"
    assert sentences["mobilenet_v2_nobnaspp_k3"] == "mobilenet_v2, no ASPP, no decoder, 21 classes"


def test_image_classifier():
    shapes = {"MobilenetV2/Conv/weights": (3, 3, 3, 32), "MobilenetV2/Logits/Conv2d_1c_1x1/weights": (1, 1, 1280, 1001)}
    assert describe_shapes(shapes).sentence() == "mobilenet_v2, an image classifier of 1001 classes"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("InceptionV3/Conv2d_1a_3x3/weights", "an unknown model (scopes InceptionV3)"),
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
    found = describe(manager.save_step(tmp_path, 40, tensors))
    assert (found.model_variant, found.step) == ("resnet_v1_50_beta", 40)
    assert found.sentence() == "resnet_v1_50_beta, 4 input channels, without a segmentation head"


# ---- a checkpoint without config.yml -----------------------------------------------------------------

PLAIN = {
    "MobilenetV2/Conv/weights": (3, 3, 3, 16),
    "MobilenetV2/expanded_conv_16/project/weights": (1, 1, 480, 160),
    "image_pooling/weights": (1, 1, 160, 256),
    "aspp0/weights": (1, 1, 160, 256),
    "concat_projection/weights": (1, 1, 512, 256),
    "logits/semantic/weights": (1, 1, 256, 21),
}
BRANCHES = {f"aspp{n}_pointwise/weights": (1, 1, 160, 256) for n in (1, 2, 3)}


def settings(shapes, **given):
    """Settings of a checkpoint of these variables."""
    return model_settings(describe_shapes(shapes), "logs/model.ckpt-5", given)


def test_everything_is_taken_from_the_variables(capsys):
    found = settings(PLAIN)
    assert (found["model_variant"], found["depth_multiplier"], found["atrous_rates"]) == ("mobilenet_v2", 0.5, ())
    shown = capsys.readouterr().err
    assert "its variables show mobilenet_v2, depth multiplier 0.5" in shown
    assert "assuming `output_stride=16`, which" in shown


def test_what_is_given_is_left_out():
    assert not {"depth_multiplier", "output_stride"} & set(settings(PLAIN, depth_multiplier=0.5, output_stride=8))


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({}, "add `atrous_rates=6,12,18` `output_stride=16`, the usual ones"),
        ({"output_stride": 8}, "add `atrous_rates=12,24,36`, the usual rates at `output_stride=8`"),
        ({"output_stride": 32}, "add `atrous_rates=3,6,9`, the usual rates at `output_stride=32`"),
    ],
)
def test_rates_are_asked_for(given, hint):
    with raises("missing-setting", "atrous_rates", "logs/model.ckpt-5") as caught:
        settings(PLAIN | BRANCHES, **given)
    assert caught.value.value == 3 and caught.value.hint.startswith(hint)


def test_given_rates_are_enough():
    assert "atrous_rates" not in settings(PLAIN | BRANCHES, atrous_rates=(2, 4, 6))


def test_cell_is_asked_for():
    cell = PLAIN | {"meta_architecture/branch0_pointwise/weights": (1, 1, 160, 256)}
    with raises("missing-setting", "dense_prediction_cell_json", "logs/model.ckpt-5"):
        settings(cell)
    assert "dense_prediction_cell_json" not in settings(cell, dense_prediction_cell_json="mine.json")


def test_lite_head_names_what_cannot_be_seen(capsys):
    settings(PLAIN | {"image_pooling/biases": (256,)}, output_stride=32)
    assert "`image_se_uses_qsigmoid=false`" in capsys.readouterr().err


def test_rates_follow_the_output_stride():
    assert rates_at((6, 12, 18), 16, 8) == (12, 24, 36)
    assert rates_at((12, 24, 36), 8, 32) == (3, 6, 9)
    assert rates_at((1,), 8, 32) == (1,)


@pytest.mark.parametrize(
    ("low_level", "stride"), [(16, 4), (88, 8)]
)  # expansion widths of the blocks at these strides (table 2 of the MobileNetV3 paper)
def test_stride_of_the_small_network_s_decoder(low_level, stride):
    shapes = {
        "MobilenetV3/Conv/weights": (3, 3, 3, 16),
        "aspp0/weights": (1, 1, 288, 256),
        "decoder/feature_projection0/weights": (1, 1, low_level, 48),
        "decoder/decoder_conv0_pointwise/weights": (1, 1, 304, 256),
    }
    assert describe_shapes(shapes).settings["decoder_output_stride"] == (stride,)


@pytest.mark.parametrize("factor", [2, 4, 16])
def test_sub_pixel_logits_show_their_factor_and_classes(factor):
    shapes = {
        "MobilenetV2/Conv/weights": (3, 3, 3, 32),
        "aspp0/weights": (1, 1, 320, 256),
        "logits/subpixel/weights": (1, 1, 256, 5 * factor**2),
        "logits/subpixel/biases": (5,),
    }
    found = describe_shapes(shapes)
    assert (found.num_classes, found.settings["subpixel_factor"]) == (5, factor)
    assert "`logits_upsampling=subpixel`" in found.setting_texts() and "sub-pixel logits" in found.sentence()


@pytest.mark.parametrize(
    "settings",
    [
        {"decoder_output_stride": (4,)},
        {"decoder_output_stride": (8, 4), "decoder_convolutions": 1},
        {"decoder_output_stride": (4,), "decoder_use_sum_merge": True},
    ],
)
def test_decoders_whose_output_is_the_logits(settings):
    config = ModelConfig(depth_multiplier=0.25, decoder_output_is_logits=True, decoder_filters=5, **settings)
    shapes = {name: tuple(v.shape) for name, v in variables_by_name(build_model(config, 5)).items()}
    # As in the research DeepLab, which computes 3x3 convolutions over a concatenation, and a 1x1 one before a sum.
    sides = {shape[0] for name, shape in shapes.items() if "decoder_conv" in name and len(shape) == 4}
    assert sides == ({1} if settings.get("decoder_use_sum_merge") else {3})
    found = describe_shapes(shapes)
    assert found.num_classes == 5 and found.settings["decoder_filters"] == 5
    assert found.settings["decoder_output_is_logits"]
    assert {name: found.settings[name] for name in settings} == settings


@pytest.mark.parametrize(
    ("variant", "multiplier", "divisor", "stride"),
    [
        ("mobilenet_v2", 0.25, None, 8),
        ("mobilenet_v2", 1.3, 4, 8),
        ("mobilenet_v2", 1.3, 16, 4),
        ("mobilenet_v2", 1.0, 16, 4),
        ("mobilenet_v3_small_seg", 0.75, None, 8),
        ("mobilenet_v3_small_seg", 0.75, None, 4),
        ("mobilenet_v3_small_seg", 0.75, None, 16),
        ("mobilenet_v2", 1.3, 3, 16),
        ("mobilenet_v2", 0.33, 16, 8),
    ],
)
def test_rounding_and_decoder_stride_of_other_widths(variant, multiplier, divisor, stride):
    config = ModelConfig(
        model_variant=variant, depth_multiplier=multiplier, divisible_by=divisor, decoder_output_stride=(stride,)
    )
    found = describe_shapes({name: tuple(v.shape) for name, v in variables_by_name(build_model(config, 5)).items()})
    assert found.settings["depth_multiplier"] == multiplier and found.settings["decoder_output_stride"] == (stride,)
    assert found.settings.get("divisible_by") == divisor


def test_strides_of_a_decoder_of_two_stages():
    config = ModelConfig(depth_multiplier=0.25, decoder_output_stride=(16, 4))
    found = describe_shapes({name: tuple(v.shape) for name, v in variables_by_name(build_model(config, 5)).items()})
    assert found.settings["decoder_output_stride"] == (16, 4)


@pytest.mark.parametrize(
    ("variant", "kernel", "shape"),
    [
        ("resnet_v1_50", "block{}/unit_1/bottleneck_v1/conv3/weights", (1, 1, 64, 0)),
        ("resnet_v1_18", "block{}/unit_1/lite_bottleneck_v1/conv2/weights", (3, 3, 64, 0)),
    ],
)
@pytest.mark.parametrize("block", [1, 2, 3])
def test_stride_of_a_decoder_on_a_resnet(variant, kernel, shape, block):
    widths = {1: 64, 2: 128, 3: 256} if variant == "resnet_v1_18" else {1: 256, 2: 512, 3: 1024}
    shapes = {f"{variant}/{kernel.format(number)}": (*shape[:3], width) for number, width in widths.items()}
    shapes |= {
        f"{variant}/conv1/weights": (7, 7, 3, 64),
        "aspp0/weights": (1, 1, 512, 256),
        "decoder/feature_projection0/weights": (1, 1, widths[block], 48),
    }
    assert describe_shapes(shapes).settings["decoder_output_stride"] == (2 ** (block + 1),)


@pytest.mark.parametrize("cell", [{}, {"meta_architecture/concat_projection/weights": (1, 1, 1280, 256)}])
@pytest.mark.parametrize(("count", "kernel"), [(1, 3), (2, 1), (3, 5)])
def test_summed_logits_and_their_kernels_need_rates(cell, count, kernel):
    shapes = {"MobilenetV2/Conv/weights": (3, 3, 3, 32)} | cell
    for number in range(count):
        shapes[f"logits/semantic{f'_{number}' * (number > 0)}/weights"] = (kernel, kernel, 320, 5)
    found = describe_shapes(shapes).settings
    assert (found["aspp_with_batch_norm"], found["logits_kernel_size"]) == (False, kernel)
    assert len(found["atrous_rates"]) == count and bool(found.get("dense_prediction_cell_json")) == bool(cell)
    with raises("missing-setting", "atrous_rates", "logs/model.ckpt-5"):
        settings(shapes, dense_prediction_cell_json="mine.json")
