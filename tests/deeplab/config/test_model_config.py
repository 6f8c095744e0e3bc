"""Settings of the model that do not fit together."""

import pytest
from support.errors import raises

from deeplab.config.model_config import ModelConfig


@pytest.mark.parametrize(
    ("settings", "code", "field"),
    [
        ({"subpixel_factor": 8, "decoder_output_stride": (4,)}, "out-of-range", "subpixel_factor"),
        ({"subpixel_factor": 16, "output_stride": 8}, "out-of-range", "subpixel_factor"),
        ({"decoder_output_is_logits": True}, "conflicting-settings", "logits_upsampling"),
        ({"aspp_with_batch_norm": False, "atrous_rates": (6, 12)}, "conflicting-settings", "logits_upsampling"),
    ],
)
def test_sub_pixel_logits_need_a_place_and_a_stride(settings, code, field):
    with raises(code, field=field):
        ModelConfig(logits_upsampling="subpixel", **settings)
    ModelConfig(**settings)


GATED = {"aspp_with_squeeze_and_excitation": True, "aspp_with_concat_projection": False}


def test_a_gate_needs_features_of_as_many_channels():
    with raises("conflicting-settings", "aspp_with_concat_projection"):
        ModelConfig(**GATED, atrous_rates=(6, 12))
    for without in ({}, {"atrous_rates": (6,), "add_image_level_feature": False}):
        ModelConfig(**GATED, **without)
