"""The frozen graph of every family of backbones answers as the network does."""

import numpy as np
import pytest
from support.golden_recipe import image
from support.small_exports import make_graph, make_network, make_settings, run_graph

from deeplab.config.model_config import ModelConfig
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
    network = make_network(config, 3)
    settings, picture = make_settings(config, (33, 49)), image(30, 49)
    answers = run_graph(make_graph(network, settings), picture)
    expected = predict_image(network.logits_of, picture[0], settings)
    np.testing.assert_allclose(answers["SemanticProbabilities"][0], expected.probabilities.numpy(), atol=1e-5)
    certain = np.ptp(np.sort(expected.probabilities.numpy())[..., -2:], axis=-1) > 1e-4
    np.testing.assert_array_equal(answers["SemanticPredictions"][0][certain], expected.labels.numpy()[certain])
    assert certain.mean() > 0.1
