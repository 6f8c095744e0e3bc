"""ResNet v1, its beta variants, ResNet v2 and DRN."""

import keras
import numpy as np
import pytest
from support.backbone_battery import Battery, Golden, Reference, build, shapes

import slim
from slim.layers import variables_by_name


class TestResnet18(Battery):
    variant = "resnet_v1_18"
    family = "resnet_v1"
    golden = (Golden("resnet_v1_18_os16", (65, 97)),)


class TestResnet18Beta(Reference):
    variant = "resnet_v1_18_beta"
    family = "resnet_v1"
    golden = (Golden("resnet_v1_18_beta_os16", (65, 97)),)


class TestResnet50(Reference):
    variant = "resnet_v1_50"
    family = "resnet_v1"
    golden = (Golden("resnet_v1_50_os16", (65, 97)),)


class TestResnet50Beta(Reference):
    variant = "resnet_v1_50_beta"
    family = "resnet_v1"
    golden = (
        Golden("resnet_v1_50_beta_os16", (65, 97), {"multi_grid": (1, 2, 4)}),
        Golden("resnet_v1_50_beta_os8", (65, 97), {"multi_grid": (1, 2, 4), "output_stride": 8}),
    )


class TestResnet101(Reference):
    variant = "resnet_v1_101"
    family = "resnet_v1"
    golden = (Golden("resnet_v1_101_os16", (65, 97)),)


@pytest.mark.slow
class TestResnet18BetaInFull(Battery):
    variant = "resnet_v1_18_beta"


@pytest.mark.slow
class TestResnet50BetaInFull(Battery):
    variant = "resnet_v1_50_beta"


@pytest.mark.slow
class TestResnet101InFull(Battery):
    variant = "resnet_v1_101"


@pytest.mark.slow
class TestResnet101BetaInFull(Battery):
    variant = "resnet_v1_101_beta"


@pytest.mark.slow
class TestResnetV2101InFull(Battery):
    variant = "resnet_v2_101"


class TestResnetV2(Battery):
    variant = "resnet_v2_50"
    family = "resnet_v2"
    golden = (
        Golden("resnet_v2_50_os16", (65, 97)),
        Golden("resnet_v2_50_os8", (65, 97), {"output_stride": 8}),
    )


class TestDrn(Battery):
    variant = "drn_d_54"
    options = {"output_stride": 8}  # noqa: RUF012
    consistent_at = "level6"  # the levels behind it have rates that cannot be halved


def test_101_beta_differs_from_101_by_its_stem_alone():
    beta, plain = (shapes(build(variant, {})) for variant in ("resnet_v1_101_beta", "resnet_v1_101"))
    only_beta = {name.split("/")[1] for name in set(beta) - set(plain)}
    assert only_beta == {"conv1_1", "conv1_2", "conv1_3"}
    assert beta["resnet_v1_101/conv1_3/weights"] == (3, 3, 64, 128)
    # The stem's 128 rather than 64 channels show in the first unit as well.
    assert {name for name in plain if name in beta and plain[name] != beta[name]} == {
        "resnet_v1_101/block1/unit_1/bottleneck_v1/conv1/weights",
        "resnet_v1_101/block1/unit_1/bottleneck_v1/shortcut/weights",
    }


@pytest.mark.parametrize(("variant", "units"), [("resnet_v1_18", 2), ("resnet_v1_50", 3), ("resnet_v2_50", 3)])
def test_multi_grid_needs_a_rate_for_each_unit_of_the_last_block(variant, units):
    with pytest.raises(slim.OptionError, match=f"{units} units, not 4"):
        slim.build(variant, keras.Input((None, None, 3)), slim.Options(multi_grid=(1, 2, 4, 8)))


def test_only_the_original_stems_subtract_the_imagenet_mean():
    subtracting = {name for name in slim.names() if slim.find(name).subtract_imagenet_mean}
    assert subtracting == {"resnet_v1_18", "resnet_v1_50", "resnet_v1_101", "resnet_v1_5_50", "resnet_v1_5_101"}


def test_initial_weights_have_tensorflow_1s_deviation():
    given = keras.Input((None, None, 3))
    model = keras.Model(given, slim.build("resnet_v1_50_beta", given, slim.Options()).final)
    kernel = np.asarray(variables_by_name(model)["resnet_v1_50/block4/unit_2/bottleneck_v1/conv2/weights"])
    # Measured on the reference: a truncated normal of deviation sqrt(1.3 * 2 / fan-in), cut off at twice that.
    deviation = np.sqrt(1.3 * 2 / (3 * 3 * 512))
    assert np.abs(kernel).max() == pytest.approx(2 * deviation, rel=1e-3)
    assert kernel.std() == pytest.approx(0.87962566 * deviation, rel=5e-3)
