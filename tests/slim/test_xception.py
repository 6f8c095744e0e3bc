"""Xception."""

import keras
import numpy as np
import pytest
from support.backbone_battery import Battery, Golden, Reference, build, normalized
from support.golden_models import zeros_for_random_values
from support.golden_recipe import image, weight

import slim
from slim.layers import variables_by_name


class TestXception41(Battery):
    variant = "xception_41"
    family = "xception"
    golden = (Golden("xception_41_os16", (65, 97)),)


@pytest.mark.slow
class TestXception41Bounded(Battery):
    variant = "xception_41"
    options = {"bounded_activation": True}  # noqa: RUF012


class TestXception65(Reference):
    variant = "xception_65"
    family = "xception"
    golden = (
        Golden("xception_65_os16", (65, 97)),
        Golden("xception_65_even_os16", (64, 96)),
        Golden("xception_65_os8", (65, 97), {"output_stride": 8}),
        Golden("xception_65_multigrid_os16", (65, 97), {"multi_grid": (1, 2, 4)}),
    )


class TestXception71(Reference):
    variant = "xception_71"
    family = "xception"
    golden = (Golden("xception_71_os16", (65, 97)),)


@pytest.mark.slow
class TestXception65InFull(Battery):
    variant = "xception_65"


@pytest.mark.slow
class TestXception71InFull(Battery):
    variant = "xception_71"


def test_multi_grid_needs_three_rates():
    with pytest.raises(slim.OptionError, match="3 units, not 2") as caught:
        slim.build("xception_41", keras.Input((None, None, 3)), slim.Options(multi_grid=(1, 2)))
    assert caught.value.option == "multi_grid"
    assert "multi_grid=1,2,4" in caught.value.hint


def test_bounded_activation_bounds_every_map():
    given = keras.Input((None, None, 3))
    with zeros_for_random_values():
        features = slim.build("xception_41", given, slim.Options(bounded_activation=True))
    model = keras.Model(given, features.end_points)
    for name, variable in variables_by_name(model).items():
        variable.assign(4.0 * weight(name, tuple(variable.shape)))  # far beyond the bounds
    maps = {name: np.asarray(value) for name, value in model(normalized("xception_41", image(33, 33))).items()}
    assert max(value.max() for value in maps.values()) == 6.0
    assert min(value.min() for value in maps.values()) >= -6.0
    assert min(maps["middle_flow/block1/unit_1/xception_module"].ravel()) >= 0.0  # ReLU6 behind the sum


def test_bounded_variant_has_the_same_variables():
    plain = build("xception_41", {})
    bounded = build("xception_41", {"bounded_activation": True})
    assert set(variables_by_name(bounded)) == set(variables_by_name(plain))
