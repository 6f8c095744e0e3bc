"""MobileNetV3 and MobileNet-EdgeTPU."""

import keras
import pytest
from support.backbone_battery import Battery, Golden, shapes

import slim

GATES = ("squeeze_excite",)  # they see the mean of the whole map, which differs between strides


class TestLargeSeg(Battery):
    variant = "mobilenet_v3_large_seg"
    family = "mobilenet_v3"
    tolerance = 1e-5
    constant = GATES
    golden = (
        Golden("mobilenet_v3_large_seg_os16_plain", (97, 129)),
        Golden("mobilenet_v3_large_seg", (257, 385), {"output_stride": 32}),
    )


class TestSmallSeg(Battery):
    variant = "mobilenet_v3_small_seg"
    family = "mobilenet_v3"
    tolerance = 1e-5
    constant = GATES
    golden = (Golden("mobilenet_v3_small_seg_os16_plain", (97, 129)),)
    # Below stride 32 layer 10 gains a residual, as in the reference: 48 channels in and out, and its stride gone.
    nominal_stride, dense_strides = 16, (8,)


class TestLarge(Battery):
    variant = "mobilenet_v3_large"
    constant = GATES


class TestSmall(Battery):
    variant = "mobilenet_v3_small"
    constant = GATES


class TestEdgeTpu(Battery):
    variant = "mobilenet_edgetpu"
    family = "mobilenet_edgetpu"
    tolerance = 3e-5  # full 3x3 convolutions sum more terms than depthwise ones
    golden = (Golden("mobilenet_edgetpu_os16", (97, 129)),)


def built_shapes(variant, **options):
    given = keras.Input((None, None, 3))
    return shapes(keras.Model(given, slim.build(variant, given, slim.Options(**options)).final))


def test_ordinary_networks_have_the_papers_widths():
    large, small = built_shapes("mobilenet_v3_large"), built_shapes("mobilenet_v3_small")
    assert large["MobilenetV3/expanded_conv_14/expand/weights"] == (1, 1, 160, 960)
    assert large["MobilenetV3/Conv_1/weights"] == (1, 1, 160, 960)
    assert small["MobilenetV3/expanded_conv_10/project/weights"] == (1, 1, 576, 96)
    assert small["MobilenetV3/Conv_1/weights"] == (1, 1, 96, 576)


def test_depth_multiplier_gives_multiples_of_8_whatever_divisible_by_says():
    found = built_shapes("mobilenet_v3_large_seg", depth_multiplier=0.75, divisible_by=1)
    # 16 * .75 = 12 -> 16; 24 * .75 = 18 -> 24, since 16 would be below 90 %; expansion 16 * 4; 480 * .75 = 360.
    assert found["MobilenetV3/Conv/weights"] == (3, 3, 3, 16)
    assert found["MobilenetV3/expanded_conv_1/expand/weights"] == (1, 1, 16, 64)
    assert found["MobilenetV3/expanded_conv_1/project/weights"] == (1, 1, 64, 24)
    assert found["MobilenetV3/Conv_1/weights"] == (1, 1, 64, 360)


def test_variants_of_keras_scale_all_but_the_stem():
    """Widths by hand from tf-keras-deeplabv3p-model-set's MobileNetV3Small(alpha=0.5), whose stem has 16 channels."""
    found = built_shapes("mobilenet_v3_small_same", depth_multiplier=0.5)
    assert found["MobilenetV3/Conv/weights"] == (3, 3, 3, 16)
    assert found["MobilenetV3/expanded_conv/project/weights"] == (1, 1, 16, 8)
    assert found["MobilenetV3/expanded_conv/squeeze_excite/Conv/weights"] == (1, 1, 16, 8)
    assert found["MobilenetV3/expanded_conv_1/expand/weights"] == (1, 1, 8, 40)  # 8 * 72 / 16 = 36
    assert found["MobilenetV3/expanded_conv_1/project/weights"] == (1, 1, 40, 16)
    assert found["MobilenetV3/expanded_conv_2/expand/weights"] == (1, 1, 16, 56)  # 16 * 88 / 24 = 58.7
    assert found["MobilenetV3/expanded_conv_10/project/weights"] == (1, 1, 288, 48)


@pytest.mark.parametrize(("variant", "expected"), [("mobilenet_v3_large", {4, 8, 16}), ("mobilenet_edgetpu", set())])
def test_low_level_features(variant, expected):
    given = keras.Input((None, None, 3))
    assert set(slim.build(variant, given, slim.Options()).low_level) == expected
