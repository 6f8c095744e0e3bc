"""Batch norm's arithmetic by hand, and folded models beside their originals."""

import keras
import numpy as np
import pytest
from support.golden_recipe import image, weight

from deeplab.config.model_config import ModelConfig
from deeplab.export import freeze
from deeplab.model import MERGED_LOGITS, build_model
from slim.layers import BatchNorm, Norm, conv_unit, variables_by_name


def with_golden_weights(model):
    for name, variable in variables_by_name(model).items():
        variable.assign(weight(name, tuple(variable.shape)))
    return model


def test_a_batch_norm_is_a_scale_and_a_shift():
    layer = BatchNorm(Norm(decay=0.9, epsilon=1.0), name="conv.BatchNorm")
    layer.build((None, 4, 4, 2))
    layer.gamma.assign([2.0, 3.0])
    layer.beta.assign([1.0, 0.0])
    layer.moving_mean.assign([5.0, -1.0])
    layer.moving_variance.assign([3.0, 8.0])
    scale, shift = freeze.affine(layer)
    np.testing.assert_allclose(scale, [1.0, 1.0])  # 2 / sqrt(3 + 1), 3 / sqrt(8 + 1)
    np.testing.assert_allclose(shift, [-4.0, 1.0])  # 1 - 5 * 1, 0 + 1 * 1


def test_kernels_are_scaled_along_their_output_channels():
    kernel = np.ones((1, 1, 2, 3), np.float32)
    scaled = freeze.scale_kernel(kernel, np.array([1.0, 2.0, 3.0]), is_depthwise=False)
    assert scaled[0, 0].tolist() == [[1, 2, 3], [1, 2, 3]]
    scaled = freeze.scale_kernel(np.ones((1, 1, 2, 1), np.float32), np.array([4.0, 5.0]), is_depthwise=True)
    assert scaled[0, 0].tolist() == [[4], [5]]


@pytest.mark.parametrize(
    "settings",
    [
        {"atrous_rates": (2,), "decoder_output_stride": (4,)},
        {"output_stride": 8, "aspp_with_separable_conv": False, "atrous_rates": (2,)},
        {"aspp_with_squeeze_and_excitation": True, "image_pyramid": (0.5, 1.0)},
        {"aspp_with_batch_norm": False},
    ],
    ids=["decoder", "full-aspp", "gate-pyramid", "no-aspp"],
)
def test_the_folded_network_computes_the_same(settings):
    config = ModelConfig(depth_multiplier=0.25, aspp_convs_filters=16, decoder_filters=16, **settings)
    model = with_golden_weights(build_model(config, 3))
    twin = build_model(config, 3, fold_batch_norm=True)
    values = freeze.folded_weights(model, twin)
    assert not any("BatchNorm" in name for name in values)
    for name, variable in variables_by_name(twin).items():
        variable.assign(values[name])
    pixels = image(65, 81).astype(np.float32)
    expected, folded = (np.asarray(one(pixels, training=False)[MERGED_LOGITS]) for one in (model, twin))
    np.testing.assert_allclose(folded, expected, atol=2e-5 * expected.std() + 1e-6)


def test_a_batch_norm_that_the_folded_network_keeps_is_carried_over():
    def build(folded):
        inputs = keras.Input((None, None, 3))
        before = BatchNorm(Norm(0.9, 1e-3), name="preact.BatchNorm")(inputs)
        norm = Norm(0.9, 1e-3, folded=folded)
        return keras.Model(inputs, conv_unit(before, "conv", 2, norm=norm, initializer="ones"))

    model, twin = with_golden_weights(build(False)), build(True)
    values = freeze.folded_weights(model, twin)
    assert sorted(values) == [
        "conv/biases",
        "conv/weights",
        "preact/BatchNorm/beta",
        "preact/BatchNorm/gamma",
        "preact/BatchNorm/moving_mean",
        "preact/BatchNorm/moving_variance",
    ]
    np.testing.assert_array_equal(values["preact/BatchNorm/gamma"], weight("preact/BatchNorm/gamma", (3,)))


def test_a_twin_of_another_architecture_is_refused():
    model = build_model(ModelConfig(depth_multiplier=0.25, aspp_convs_filters=16), 3)
    other = ModelConfig(depth_multiplier=0.25, aspp_convs_filters=24, add_image_level_feature=False)
    with pytest.raises(ValueError, match=r"image_pooling/weights has no place.*") as fault:
        freeze.folded_weights(model, build_model(other, 3, fold_batch_norm=True))
    assert "cannot be folded" in str(fault.value)
