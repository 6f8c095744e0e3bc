"""The registry of backbones and its options."""

import keras
import pytest
from support.backbone_battery import build

import slim
from slim import backbones


def test_find_suggests_the_nearest_name():
    with pytest.raises(KeyError, match="did you mean 'xception_65'"):
        slim.find("xception65")
    with pytest.raises(KeyError, match=r"choose from .*mobilenet_v2.*resnet_v1_50.*keras:NAME"):
        slim.find("qqq")


def test_a_name_can_be_taken_once():
    with pytest.raises(ValueError, match="'mobilenet_v2' is registered twice"):
        slim.register(slim.find("mobilenet_v2"))


def test_a_new_backbone_is_a_function_and_a_registration(monkeypatch):
    monkeypatch.setattr(backbones, "_REGISTRY", {})

    def build(image, options):
        return slim.Features(keras.layers.AveragePooling2D(options.output_stride)(image))

    slim.register(slim.Backbone("mean", build, "mean"))
    result = slim.build("mean", keras.Input((64, 64, 3)), slim.Options(output_stride=32))
    assert slim.names() == ["mean"]
    assert result.final.shape == (None, 2, 2, 3)


def test_every_backbone_of_the_reference_is_there():
    reference = {
        *("mobilenet_v2", "mobilenet_v3_large_seg", "mobilenet_v3_small_seg", "mobilenet_edgetpu"),
        *("resnet_v1_18", "resnet_v1_18_beta", "resnet_v1_50", "resnet_v1_50_beta", "resnet_v1_101"),
        *("resnet_v1_101_beta", "xception_41", "xception_65", "xception_71", "nas_pnasnet", "nas_hnasnet"),
    }
    added = {"mobilenet_v3_large", "mobilenet_v3_small", "resnet_v2_50", "resnet_v2_101", "drn_d_54"}
    added |= {
        "xception_65_preactivated",
        "xception_65_same",
        "mobilenet_v2_same",
        "mobilenet_v3_large_same",
        "mobilenet_v3_small_same",
        "resnet_v1_caffe_50",
        "mobilenet_v2_prepadded",
        "mobilenet_v2_prepadded_valid",
        "resnet_v1_5_50",
        "resnet_v1_5_101",
    }
    assert set(slim.names()) == reference | added


def test_batch_norm_decay_is_the_familys_own_unless_asked_for():
    assert slim.Options().norm(0.95, 1e-3).decay == 0.95
    norm = slim.Options(batch_norm_decay=0.9, train_batch_norm=False, fold_batch_norm=True).norm(0.95, 1e-3)
    assert (norm.decay, norm.epsilon, norm.train_statistics, norm.folded) == (0.9, 1e-3, False, True)


@pytest.mark.parametrize(
    ("name", "decay"),
    [("mobilenet_v3_large_seg", 0.997), ("xception_65", 0.9997), ("resnet_v1_50", 0.95), ("nas_pnasnet", 0.9997)],
)
def test_batch_norm_decays_are_the_references(name, decay):
    decays = {layer.norm.decay for layer in build(name, {}).layers if hasattr(layer, "norm")}
    assert decays == {decay} == {slim.find(name).batch_norm_decay}


def test_multi_grid_is_all_ones_unless_asked_for():
    assert backbones.multi_grid(slim.Options(), 2) == (1, 1)
    assert backbones.multi_grid(slim.Options(multi_grid=(1, 2)), 2) == (1, 2)
    with pytest.raises(slim.OptionError, match="2 units, not 3"):
        backbones.multi_grid(slim.Options(multi_grid=(1, 2, 4)), 2)


@pytest.mark.parametrize(
    ("given", "color"),
    [
        ({}, slim.MID_GRAY),
        ({"subtract_imagenet_mean": True}, slim.IMAGENET_MEAN),
        ({"own_normalization": True}, slim.MID_GRAY),
        ({"subtract_imagenet_mean": True, "own_padding_color": (0.0, 0.0, 0.0)}, (0.0, 0.0, 0.0)),
    ],
)
def test_a_new_backbone_is_padded_with_the_color_of_its_input_range(monkeypatch, given, color):
    monkeypatch.setattr(backbones, "_REGISTRY", {})
    slim.register(slim.Backbone("new", lambda image, options: slim.Features(image), "new", **given))
    assert slim.find("new").padding_color == color
