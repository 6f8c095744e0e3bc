"""Backbones inferred from their variables: variants, widths, rounding."""

import pytest

from deeplab.checkpoint.infer_config import describe_shapes


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
    ("block", "channels", "variant", "multiplier"),
    [(14, 120, "mobilenet_v3_large_same", 0.75), (10, 48, "mobilenet_v3_small_same", 0.5)],
)
def test_depth_multiplier_of_variants_of_keras(block, channels, variant, multiplier):
    shapes = {
        "MobilenetV3/Conv/weights": (3, 3, 3, 16),
        "MobilenetV3/expanded_conv_11/project/weights": (1, 1, 9, 9),
        f"MobilenetV3/expanded_conv_{block}/project/weights": (1, 1, 9, channels),
    }
    if block == 10:
        del shapes["MobilenetV3/expanded_conv_11/project/weights"]
    found = describe_shapes(shapes)
    assert (found.model_variant, found.settings["depth_multiplier"]) == (variant, multiplier)


def test_variants_of_keras_by_what_they_lack_and_what_their_decoder_takes():
    small = {"MobilenetV3/Conv/weights": (3, 3, 3, 16), "MobilenetV3/expanded_conv_10/project/weights": (1, 1, 576, 96)}
    assert describe_shapes(small).model_variant == "mobilenet_v3_small_same"
    block = {"MobilenetV2/Conv/weights": (3, 3, 3, 32), "MobilenetV2/expanded_conv_2/project/weights": (1, 1, 144, 24)}
    for channels, variant in ((24, "mobilenet_v2_same"), (144, "mobilenet_v2")):
        decoder = {"decoder/feature_projection0/weights": (1, 1, channels, 48)}
        assert describe_shapes(block | decoder).model_variant == variant


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
