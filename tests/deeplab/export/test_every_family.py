"""The frozen graph of every family of backbones answers as the model does; every format of unusual models."""

import dataclasses

import numpy as np
import pytest
from support.export_battery import export
from support.golden_recipe import image
from support.small_exports import NARROW, make_graph, make_network, make_settings, run_graph

from deeplab.config.model_config import ModelConfig
from deeplab.export.formats import FORMATS
from deeplab.inference.load import load
from deeplab.inference.prediction import predict_image

FAMILIES = {
    "mobilenet_v3_small_seg": {},
    "mobilenet_edgetpu": {"depth_multiplier": 0.25},
    "xception_41": {"atrous_rates": (2,), "decoder_output_stride": (4,)},
    "resnet_v1_18_beta": {"atrous_rates": (2,), "decoder_output_stride": (4,)},
    "resnet_v2_50": {"multi_grid": (1, 2, 4)},
    "nas_pnasnet": {"nas_stem_output_num_conv_filters": 4},
    "drn_d_54": {"output_stride": 8},
    "keras:MobileNetV2": {"decoder_output_stride": (4,)},
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", FAMILIES)
def test_the_graph_answers_as_the_network(variant):
    config = ModelConfig(model_variant=variant, aspp_convs_filters=16, decoder_filters=16, **FAMILIES[variant])
    live_model = make_network(config, 3)
    settings, pixels = make_settings(config, (33, 49)), image(30, 49)
    answers = run_graph(make_graph(live_model, settings), pixels)
    expected = predict_image(live_model.logits_of, pixels[0], settings)
    np.testing.assert_allclose(answers["SemanticProbabilities"][0], expected.probabilities.numpy(), atol=1e-5)
    certain = np.ptp(np.sort(expected.probabilities.numpy())[..., -2:], axis=-1) > 1e-4
    np.testing.assert_array_equal(answers["SemanticPredictions"][0][certain], expected.labels.numpy()[certain])
    assert certain.mean() > 0.1


@pytest.mark.parametrize("name", [name for name in FORMATS if FORMATS.get(name).is_exact and name != "web_page"])
def test_sub_pixel_logits_in_every_format(name, tmp_path):
    if FORMATS.get(name).missing():
        pytest.skip(f"not installed: {', '.join(FORMATS.get(name).missing())}")
    config = dataclasses.replace(NARROW, logits_upsampling="subpixel")
    live_model, settings = make_network(config), make_settings(config, crop=(33, 49))
    export(live_model, tmp_path, formats=(name,), settings=settings, parity_images=1)
    pixels = image(33, 49)[0]
    expected = predict_image(live_model.logits_of, pixels, settings)
    found = load(tmp_path / FORMATS.get(name).usual_name).predict(pixels)
    np.testing.assert_allclose(found.probabilities, expected.probabilities.numpy(), atol=1e-5)
