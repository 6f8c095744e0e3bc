"""A bare checkpoint: what its variables show is taken, what they do not show is asked for."""

import pytest

from deeplab.checkpoint.build_settings import rates_at, settings_to_build
from deeplab.checkpoint.infer_config import describe_shapes
from deeplab.utils.errors import UserError

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
    return settings_to_build(describe_shapes(shapes), "logs/model.ckpt-5", given)


def test_everything_is_taken_from_the_variables(capsys):
    found = settings(PLAIN)
    assert (found["model_variant"], found["depth_multiplier"], found["atrous_rates"]) == ("mobilenet_v2", 0.5, ())
    shown = capsys.readouterr().err
    assert "its variables show mobilenet_v2, depth multiplier 0.5" in shown
    assert "taking --output_stride=16, which" in shown


def test_what_is_given_is_left_out():
    assert not {"depth_multiplier", "output_stride"} & set(settings(PLAIN, depth_multiplier=0.5, output_stride=8))


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({}, "add --atrous_rates=6,12,18 --output_stride=16, the usual ones"),
        ({"output_stride": 8}, "add --atrous_rates=12,24,36, the usual rates at --output_stride=8"),
        ({"output_stride": 32}, "add --atrous_rates=3,6,9, the usual rates at --output_stride=32"),
    ],
)
def test_rates_are_asked_for(given, answer):
    with pytest.raises(UserError, match="has 3 atrous branches, whose rates leave no trace") as caught:
        settings(PLAIN | BRANCHES, **given)
    assert caught.value.hint.startswith(answer)


def test_given_rates_are_enough():
    assert "atrous_rates" not in settings(PLAIN | BRANCHES, atrous_rates=(2, 4, 6))


def test_cell_is_asked_for():
    cell = PLAIN | {"meta_architecture/branch0_pointwise/weights": (1, 1, 160, 256)}
    with pytest.raises(UserError, match="--dense_prediction_cell_json="):
        settings(cell)
    assert "dense_prediction_cell_json" not in settings(cell, dense_prediction_cell_json="mine.json")


def test_lite_head_names_what_cannot_be_seen(capsys):
    settings(PLAIN | {"image_pooling/biases": (256,)}, output_stride=32)
    assert "--image_se_uses_qsigmoid=false" in capsys.readouterr().err


def test_rates_follow_the_output_stride():
    assert rates_at((6, 12, 18), 16, 8) == (12, 24, 36)
    assert rates_at((12, 24, 36), 8, 32) == (3, 6, 9)
    assert rates_at((1,), 8, 32) == (1,)


@pytest.mark.parametrize(
    ("last", "before", "channels", "variant", "multiplier"),
    [
        (160, ("expanded_conv_11", 112), 960, "mobilenet_v3_large", 1.0),
        (120, ("expanded_conv_11", 88), 720, "mobilenet_v3_large", 0.75),
        (80, ("expanded_conv_11", 112), 480, "mobilenet_v3_large_seg", 1.0),
        (96, ("expanded_conv_7", 48), 576, "mobilenet_v3_small", 1.0),
        (48, ("expanded_conv_7", 48), 288, "mobilenet_v3_small_seg", 1.0),
    ],
)
def test_mobilenet_v3_whole_and_halved(last, before, channels, variant, multiplier):
    shapes = {
        "MobilenetV3/Conv/weights": (3, 3, 3, 16),
        f"MobilenetV3/{before[0]}/project/weights": (1, 1, 72, before[1]),
        "MobilenetV3/Conv_1/weights": (1, 1, last, channels),
    }
    found = describe_shapes(shapes)
    assert (found.model_variant, found.settings["depth_multiplier"]) == (variant, multiplier)


@pytest.mark.parametrize(
    ("name", "variant"),
    [("drn_d_54/conv0/weights", "drn_d_54"), ("EfficientNetV2B0/stem_conv/weights", "keras:EfficientNetV2B0")],
)
def test_backbones_of_other_systems(name, variant):
    assert describe_shapes({name: (3, 3, 3, 16)}).model_variant == variant


@pytest.mark.parametrize(("scope", "filters", "stem"), [("pnasnet", 40, 20), ("hnasnet", 24, 24)])
def test_width_of_nas_networks(scope, filters, stem):
    found = describe_shapes(
        {f"{scope}/conv0/weights": (3, 3, 3, 64), f"{scope}/cell_0/1x1/weights": (1, 1, 64, filters)}
    )
    assert found.settings["nas_stem_output_num_conv_filters"] == stem


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
