"""The second classifier of a training."""

import numpy as np
import pytest
from support.errors import raises

from deeplab.config.model_config import ModelConfig
from deeplab.model import AUXILIARY_LOGITS, MERGED_LOGITS, build_model
from slim.layers import variables_by_name

NARROW = {"depth_multiplier": 0.25, "aspp_convs_filters": 16}


@pytest.mark.parametrize("decoder", [(), (4,)])
def test_it_adds_an_output_and_variables_of_its_own(decoder):
    config = ModelConfig(**NARROW, decoder_output_stride=decoder)
    plain, with_head = build_model(config, 5), build_model(config, 5, with_auxiliary_head=True)
    outputs = with_head(np.zeros((2, 65, 97, 3), np.float32))
    assert outputs[AUXILIARY_LOGITS].shape == (2, 5, 7, 5) and outputs[AUXILIARY_LOGITS].dtype == "float32"
    assert outputs[MERGED_LOGITS].shape == plain(np.zeros((2, 65, 97, 3), np.float32))[MERGED_LOGITS].shape
    more = [name for name in variables_by_name(with_head) if name not in variables_by_name(plain)]
    assert more == [
        "auxiliary/conv/weights",
        *(f"auxiliary/conv/BatchNorm/{part}" for part in ("gamma", "beta", "moving_mean", "moving_variance")),
        "auxiliary/logits/weights",
        "auxiliary/logits/biases",
    ]
    assert [name for name in variables_by_name(with_head) if name not in more] == list(variables_by_name(plain))


def test_an_image_pyramid_has_no_place_for_it():
    with raises("conflicting-settings", field="auxiliary_loss_weight"):
        build_model(ModelConfig(**NARROW, image_pyramid=(0.5, 1.0)), 3, with_auxiliary_head=True)
