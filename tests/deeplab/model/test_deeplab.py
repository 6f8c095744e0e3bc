"""Assembly of whole networks: sizes, shared weights, and settings that do not go together."""

import pathlib

import keras
import numpy as np
import pytest
from support import golden_recipe
from support.errors import raises

import slim
from deeplab.config.model_config import ModelConfig
from deeplab.model import MERGED_LOGITS, build_model, logits_stride, padding_color
from deeplab.model.dense_prediction_cell import PUBLISHED
from deeplab.model.head_layers import Rescale, ResizeToStride, Standardize
from deeplab.utils.errors import UserError
from slim.layers import variables_by_name

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"


@pytest.mark.parametrize(
    ("settings", "stride"),
    [({}, 16), ({"output_stride": 8}, 8), ({"decoder_output_stride": (4,)}, 4), ({"decoder_output_stride": (8, 4)}, 4)],
)
def test_logits_have_their_stride_at_any_image_size(settings, stride):
    config = ModelConfig(**settings)
    assert logits_stride(config) == stride
    model = build_model(config, 5)
    for height, width in ((65, 33), (48, 70)):
        logits = model(np.zeros((2, height, width, 3), np.float32))[MERGED_LOGITS]
        assert logits.shape == (2, (height - 1) // stride + 1, (width - 1) // stride + 1, 5)


def test_a_second_decoder_stage_appends_to_the_whole_name():
    model = build_model(ModelConfig(decoder_output_stride=(8, 4)), 5)
    names = {name for name in variables_by_name(model) if name.startswith("decoder") and name.endswith("weights")}
    assert {name.removeprefix("decoder/").rsplit("/", 1)[0] for name in names} == {
        *("feature_projection0", "decoder_conv0_depthwise", "decoder_conv0_pointwise"),
        *("decoder_conv1_depthwise", "decoder_conv1_pointwise"),
        *("feature_projection0_1", "decoder_conv0_1_depthwise", "decoder_conv0_1_pointwise"),
        *("decoder_conv1_1_depthwise", "decoder_conv1_1_pointwise"),
    }


@pytest.mark.parametrize(("method", "merge"), [("avg", np.mean), ("max", np.max)])
def test_the_pyramid_shares_one_set_of_weights_and_merges_the_logits(method, merge):
    single = build_model(ModelConfig(depth_multiplier=0.35), 3)
    pyramid = build_model(ModelConfig(depth_multiplier=0.35, image_pyramid=(0.5, 1.0), merge_method=method), 3)
    assert set(variables_by_name(pyramid)) == set(variables_by_name(single))
    outputs = pyramid(np.random.default_rng(0).uniform(0, 255, (1, 65, 65, 3)).astype(np.float32))
    scales = np.stack([outputs["logits_0.50"], outputs["logits_1.00"]])
    assert (scales[0] > scales[1]).any() and (scales[0] < scales[1]).any()
    np.testing.assert_allclose(outputs[MERGED_LOGITS], merge(scales, axis=0), atol=1e-6)


def test_a_pyramid_of_one_scale_gives_one_map_so_that_its_loss_counts_once():
    model = build_model(ModelConfig(depth_multiplier=0.25, aspp_convs_filters=8, image_pyramid=(0.75,)), 3)
    assert set(model(np.zeros((1, 65, 65, 3), np.float32))) == {MERGED_LOGITS}


@pytest.mark.parametrize("more", [{}, {"dense_prediction_cell_json": "pooling"}], ids=["aspp", "cell"])
def test_pooling_windows_of_a_pyramid_scale_with_the_image(more, tmp_path):
    narrow = {"depth_multiplier": 0.25, "aspp_convs_filters": 8}
    if more:
        path = tmp_path / "cell.json"
        path.write_text('[{"op": "pyramid_pooling", "grid_size": [1, 1], "input": -1}]')
        narrow["dense_prediction_cell_json"] = str(path)
    pyramid = build_model(ModelConfig(**narrow, image_pooling_crop_size=(65, 81), image_pyramid=(0.5, 1.0)), 3)
    half = build_model(ModelConfig(**narrow, image_pooling_crop_size=(33, 41)), 3)
    for model in (pyramid, half):
        for name, variable in variables_by_name(model).items():
            variable.assign(golden_recipe.weight(name, tuple(variable.shape)))
    pixels = golden_recipe.image(81, 97).astype(np.float32)
    halved = Rescale(0.5)(pixels)
    outputs = pyramid(pixels)
    wanted = ResizeToStride(16)(half(halved)[MERGED_LOGITS], pixels)
    np.testing.assert_allclose(outputs["logits_0.50"], wanted, rtol=1e-4, atol=1e-5)
    pyramid.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(pixels)[MERGED_LOGITS], outputs[MERGED_LOGITS])


def test_without_batch_norm_in_aspp_there_is_no_head_whichever_was_asked_for():
    plain = {"depth_multiplier": 0.25, "aspp_with_batch_norm": False}
    cell = "dense_prediction_cell_branch5_top1_cityscapes.json"
    models = [build_model(ModelConfig(**plain, dense_prediction_cell_json=json), 3) for json in ("", cell)]
    assert set(variables_by_name(models[0])) == set(variables_by_name(models[1]))


def test_logits_of_a_decoder_need_one():
    with raises("conflicting-settings", "decoder_output_is_logits"):
        build_model(ModelConfig(decoder_output_is_logits=True, decoder_filters=3), 3)


@pytest.mark.parametrize("channels", [1, 4])
def test_any_number_of_input_channels(channels):
    model = build_model(ModelConfig(input_channels=channels), 3)
    assert variables_by_name(model)["MobilenetV2/Conv/weights"].shape == (3, 3, channels, 32)
    assert model(np.zeros((1, 33, 33, channels), np.float32))[MERGED_LOGITS].shape == (1, 3, 3, 3)


def test_folding_replaces_every_batch_norm_by_a_bias():
    plain = variables_by_name(build_model(ModelConfig(), 3))
    folded = variables_by_name(build_model(ModelConfig(), 3, fold_batch_norm=True))
    assert not any("BatchNorm" in name for name in folded)
    scopes = {name.split("/BatchNorm")[0] for name in plain if "BatchNorm" in name}
    assert {f"{scope}/biases" for scope in scopes} <= set(folded)


@pytest.mark.parametrize(
    ("settings", "code", "field", "word"),
    [
        ({"model_variant": "mobilenet_v4"}, "unknown-name", "model_variant", "did you mean 'mobilenet_v2'"),
        ({"model_variant": "keras:Nothing"}, "unknown-name", "model_variant", "has no model 'Nothing'"),
        (
            {"model_variant": "xception_41", "multi_grid": (1, 2)},
            "unsupported-by-backbone",
            "multi_grid",
            "3 units, not 2",
        ),
        (
            {"model_variant": "nas_hnasnet"},
            "unsupported-by-backbone",
            "output_stride",
            "nas_hnasnet gives features of stride 8, not 16",
        ),
        (
            {"model_variant": "mobilenet_edgetpu", "decoder_output_stride": (4,)},
            "unsupported-by-backbone",
            "decoder_output_stride",
            "mobilenet_edgetpu has no low-level features of stride 4; it has: none",
        ),
        (
            {"decoder_output_is_logits": True, "decoder_output_stride": (4,)},
            "conflicting-settings",
            "decoder_filters",
            "needs 3 filters",
        ),
        ({"quantize_delay_step": 0, "model_variant": "xception_41"}, "not-supported", "model_variant", ""),
        ({"quantize_delay_step": 0, "normalization": "group"}, "not-supported", "normalization", "fake quantization"),
        ({"quantize_delay_step": 0, "image_pyramid": (0.5, 1.0)}, "not-supported", "image_pyramid", "2 scales"),
        ({"quantize_delay_step": 0, "logits_upsampling": "subpixel"}, "not-supported", "logits_upsampling", ""),
        (
            {"model_variant": "nas_pnasnet", "nas_remove_os32_stride": True, "output_stride": 32},
            "unsupported-by-backbone",
            "nas_remove_os32_stride",
            "",
        ),
    ],
)
def test_a_config_that_contradicts_itself_names_the_field(settings, code, field, word):
    with raises(code, field) as caught:
        build_model(ModelConfig(**settings), 3)
    assert word in caught.value.rule


def test_one_class_is_no_segmentation():
    with raises("out-of-range", "num_classes") as caught:
        build_model(ModelConfig(), 1)
    assert caught.value.value == 1


def test_drop_path_reaches_the_backbone():
    config = ModelConfig(model_variant="nas_pnasnet", nas_stem_output_num_conv_filters=8)
    model = build_model(config, 3, drop_path_keep_probability=0.5, training_progress=lambda: 0.5)
    dropping = [layer for layer in model.layers if type(layer).__name__ == "DropPath"]
    assert len(dropping) == 12 * 9  # every operation but the identity
    assert dropping[0].progress() == 0.5


@pytest.mark.parametrize("variant", ["mobilenet_v3_small", "keras:MobileNetV2"])
def test_other_backbones_under_the_ordinary_head(variant):
    config = ModelConfig(model_variant=variant, atrous_rates=(6, 12, 18), decoder_output_stride=(4,))
    logits = build_model(config, 3)(np.zeros((1, 65, 97, 3), np.float32))[MERGED_LOGITS]
    assert logits.shape == (1, 17, 25, 3)


class TestOtherImages:
    def test_padding_has_a_number_per_channel(self):
        assert padding_color(ModelConfig()) == slim.find("mobilenet_v2").padding_color
        assert padding_color(ModelConfig(input_channels=5)) == (127.5,) * 5
        assert padding_color(ModelConfig(model_variant="xception_65", input_channels=1)) == (127.5,)
        five = padding_color(ModelConfig(model_variant="resnet_v1_50", input_channels=5))
        assert five == (*slim.IMAGENET_MEAN, 0, 0)
        assert padding_color(ModelConfig(input_channels=2, input_mean=(3, 4), input_std=(1, 1))) == (3, 4)

    @pytest.mark.parametrize("center", [(127.5, 127.5), (123.15, 115.9)])
    def test_standardizing_gives_the_spread_of_rgb_images(self, center):
        layer = Standardize((10.0, 200.0), (5.0, 60.0), center)
        values = np.array([[[[10, 200], [15, 260]]]], np.float32)
        found = np.asarray(layer(values))
        np.testing.assert_allclose(found[0, 0, 0], center, rtol=1e-6)
        np.testing.assert_allclose(found[0, 0, 1] - found[0, 0, 0], [57.4, 57.4], rtol=1e-5)

    @pytest.mark.parametrize(
        ("settings", "field"),
        [
            ({"input_range": (1, 2, 3)}, "input_range"),
            ({"input_range": (2, 2)}, "input_range"),
            ({"input_dtype": "uint16"}, "input_dtype"),
            ({"input_bands": (1, 2)}, "input_bands"),
            ({"input_mean": (1, 2, 3)}, "input_mean"),
            ({"input_mean": (1, 2, 3), "input_std": (1, 2, 0)}, "input_std"),
        ],
    )
    def test_settings_that_do_not_fit_the_channels_are_refused(self, settings, field):
        with pytest.raises(UserError) as error:
            ModelConfig(**settings)
        assert error.value.field == field


def give_golden_values(variables):
    """Weights by `support.golden_recipe`; ranges, which are named `min` and `max`, by a rule of their own."""
    for name, variable in variables.items():
        scope, _, end = name.rpartition("/")
        if end not in ("min", "max"):
            variable.assign(golden_recipe.weight(name, tuple(variable.shape)))
            continue
        draw = golden_recipe.generator(scope)
        ends = draw.uniform(0.8, 1.5, 2) if "weights_quant" in name else (draw.uniform(0, 3), draw.uniform(3, 6))
        variable.assign(-ends[0] if end == "min" else ends[1])


def test_fake_quantization_equals_the_research_deeplab():
    """`contrib.quantize` of TensorFlow 1.15: names of the training graph, and numbers of its frozen graph.

    A value that is between two steps but for float
    rounding may go to either, so a few values may be a step away.
    """
    with np.load(GOLDEN / "quantized.npz") as golden:
        expected = {name: golden[name] for name in golden}
    model = build_model(ModelConfig(depth_multiplier=0.25, quantize_delay_step=0), 4)
    variables = variables_by_name(model)
    shapes = {f"{name} {','.join(map(str, variable.shape))}" for name, variable in variables.items()}
    assert shapes == set(expected["names"].tolist())
    give_golden_values(variables)
    named = ["concat_projection.act_quant", "MobilenetV2.expanded_conv_5.post_activation_bypass_quant"]
    inner = [model.get_layer(name).output for name in named]
    outputs = keras.Model(model.input, [model.output[MERGED_LOGITS], *inner])
    logits, projection, bypass = outputs(golden_recipe.image(129, 129).astype(np.float32))
    found = {"logits": logits, "projection": projection[..., ::4], "bypass": bypass[:, ::2, ::2]}
    for name, scope in {"logits": "logits/semantic/act_quant", "bypass": named[1].replace(".", "/")}.items():
        step = float(variables[f"{scope}/max"].numpy() - variables[f"{scope}/min"].numpy()) / 255
        distance = np.abs(np.asarray(found[name]) - expected[name]) / step
        assert distance.max() < 3.5 and np.mean(distance < 0.5) > 0.8
    np.testing.assert_allclose(np.mean(projection[..., ::4]), expected["projection"].mean(), rtol=1e-2)


QUANTIZED_HEADS = {
    "sum": {"decoder_output_stride": (4,), "decoder_use_sum_merge": True},
    "two sums": {"decoder_output_stride": (8, 4), "decoder_use_sum_merge": True, "add_image_level_feature": False},
    "gate": {"aspp_with_squeeze_and_excitation": True, "atrous_rates": (2,)},
    "cell": {"dense_prediction_cell_json": PUBLISHED},
    "gate by steps, sum of logits": {
        "aspp_with_squeeze_and_excitation": True,
        "image_se_uses_qsigmoid": True,
        "decoder_output_stride": (4,),
        "decoder_use_sum_merge": True,
        "decoder_output_is_logits": True,
        "decoder_filters": 4,
    },
    "logits of two sums": {
        "decoder_output_stride": (8, 4),
        "decoder_use_sum_merge": True,
        "decoder_output_is_logits": True,
        "decoder_filters": 4,
        "add_image_level_feature": False,
    },
    "logits of the decoder": {
        "decoder_output_stride": (4,),
        "decoder_output_is_logits": True,
        "decoder_filters": 4,
    },
    "no aspp": {"aspp_with_batch_norm": False, "atrous_rates": (1, 2), "logits_kernel_size": 3},
    "one scale": {"image_pyramid": (0.75,)},
}


@pytest.mark.parametrize("name", QUANTIZED_HEADS)
def test_fake_quantization_of_other_heads_equals_the_research_deeplab(name):
    """`contrib.quantize` on the graphs of other heads: names of all variables outside the backbone; some logits."""
    with np.load(GOLDEN / "quantized_heads.npz") as golden:
        expected = {key: golden[key] for key in golden if key.startswith(f"{name}/")}
    settings = {"aspp_convs_filters": 32, "decoder_filters": 32, **QUANTIZED_HEADS[name]}
    model = build_model(ModelConfig(depth_multiplier=0.25, quantize_delay_step=0, **settings), 4)
    variables = variables_by_name(model)
    assert {one for one in variables if not one.startswith("MobilenetV2")} == set(expected[f"{name}/names"].tolist())
    if f"{name}/logits" not in expected:
        return
    give_golden_values(variables)
    logits = np.asarray(model(golden_recipe.image(129, 129).astype(np.float32))[MERGED_LOGITS])[:, ::4, ::4]
    last = "logits/semantic/act_quant" if "logits/semantic/act_quant/max" in variables else "decoder/act_quant"
    step = float(variables[f"{last}/max"].numpy() - variables[f"{last}/min"].numpy()) / 255
    distance = np.abs(logits - expected[f"{name}/logits"]) / step
    assert distance.max() < 3.5 and np.mean(distance < 0.5) > 0.8
