"""Sub-pixel logits beside a loop over pixels, and their first values."""

import keras
import numpy as np
import pytest

from deeplab.config.model_config import ModelConfig
from deeplab.model import MERGED_LOGITS, build_model, logits_stride
from deeplab.model.head_layers import Repeated, SubpixelLogits
from slim.layers import TRUNCATED_NORMAL, variables_by_name


@pytest.mark.parametrize(("factor", "stride"), [(2, 4), (4, 4), (4, 16)])
@pytest.mark.parametrize("size", [(33, 49), (40, 35)])
def test_every_sub_pixel_is_the_product_of_its_cell_with_its_own_kernel(factor, stride, size):
    draw = np.random.default_rng(0)
    cells = [(side - 1) // stride + 1 for side in size]
    features = draw.normal(size=(2, *cells, 5)).astype(np.float32)
    image = np.zeros((2, *size, 3), np.float32)
    layer = SubpixelLogits(3, 1, factor, stride, initializer="zeros", name="logits.subpixel")
    layer(features, image)
    kernel, bias = draw.normal(size=(1, 1, 5, factor**2 * 3)).astype(np.float32), np.array([0.5, -1, 2], np.float32)
    layer.kernel.assign(kernel)
    layer.bias.assign(bias)
    found = np.asarray(layer(features, image))
    fine = stride // factor
    assert found.shape == (2, *((side - 1) // fine + 1 for side in size), 3)
    parts = kernel.reshape(5, factor, factor, 3)
    for row in range(found.shape[1]):
        for column in range(found.shape[2]):
            cell = features[:, row // factor, column // factor]
            expected = cell @ parts[:, row % factor, column % factor] + bias
            np.testing.assert_allclose(found[:, row, column], expected, rtol=1e-4, atol=1e-5)


def test_sub_pixels_begin_alike():
    kernel = np.asarray(Repeated(TRUNCATED_NORMAL(stddev=0.01, seed=1), 4)((1, 1, 6, 12)))
    parts = kernel.reshape(6, 4, 3)
    assert np.ptp(parts, axis=1).max() == 0 and np.std(parts[:, 0]) > 0.003


NARROW = {"depth_multiplier": 0.25, "aspp_convs_filters": 8, "decoder_filters": 8, "logits_upsampling": "subpixel"}


@pytest.mark.parametrize(
    ("settings", "stride"), [({"decoder_output_stride": (4,)}, 1), ({}, 4), ({"subpixel_factor": 16}, 1)]
)
def test_models_have_finer_logits_and_are_saved(settings, stride, tmp_path):
    config = ModelConfig(**NARROW, **settings)
    assert logits_stride(config) == stride
    model = build_model(config, 3)
    image = np.random.default_rng(0).uniform(0, 255, (1, 40, 35, 3)).astype(np.float32)
    logits = np.asarray(model(image)[MERGED_LOGITS])
    assert logits.shape == (1, 39 // stride + 1, 34 // stride + 1, 3)
    shapes = {name: tuple(v.shape) for name, v in variables_by_name(model).items() if name.startswith("logits/")}
    assert shapes == {
        "logits/subpixel/weights": (1, 1, 8, 3 * config.subpixel_factor**2),
        "logits/subpixel/biases": (3,),
    }
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(np.asarray(again(image)[MERGED_LOGITS]), logits)


def test_an_image_pyramid_merges_finer_logits():
    model = build_model(ModelConfig(**NARROW, image_pyramid=(0.5, 1.0)), 3)
    outputs = model(np.zeros((1, 33, 33, 3), np.float32))
    assert {tuple(value.shape) for value in outputs.values()} == {(1, 9, 9, 3)}
