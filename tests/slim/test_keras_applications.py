"""Networks of `keras.applications` as backbones, and their dilation."""

import inspect

import keras
import numpy as np
import pytest
from support.backbone_battery import Battery, build, normalized, values
from support.golden_recipe import generator, image

import slim
from slim import keras_applications
from slim.dilate import AtrousPooling, CannotDilate, LayerPosition, dilated
from slim.layers import variables_by_name


def random_weights(model):
    """Weights that keep the activations' size, by name."""
    for name, variable in variables_by_name(model).items():
        draw, leaf = generator(name), name.rsplit("/", 1)[-1]
        if leaf in ("gamma", "moving_variance"):
            variable.assign(draw.uniform(0.8, 1.2, variable.shape))
        elif len(variable.shape) == 1:
            variable.assign(0.05 * draw.standard_normal(variable.shape))
        else:
            fan_in = np.prod(variable.shape[:2] if leaf == "depthwise_kernel" else variable.shape[:-1])
            variable.assign(draw.standard_normal(variable.shape) * np.sqrt(1.4 / fan_in))


def features(application, stride, size):
    model = build(f"keras:{application}", {"output_stride": stride})
    random_weights(model)
    return {key: np.asarray(value) for key, value in model(normalized(f"keras:{application}", image(*size))).items()}


# Sizes that are odd at every strided "same" layer, where dense and strided padding agree.
@pytest.mark.parametrize(
    ("application", "size"),
    [
        pytest.param("ResNet50", (97, 65), marks=pytest.mark.slow),  # strided 1x1 convolutions
        pytest.param("ResNet50V2", (97, 65), marks=pytest.mark.slow),  # subsampling by 1x1 pooling
        pytest.param("DenseNet121", (97, 65), marks=pytest.mark.slow),  # average pooling
        ("VGG16", (96, 64)),  # maximum pooling
        ("Xception", (135, 135)),  # pooling and separable convolutions, "valid" at first
        ("ConvNeXtTiny", (96, 64)),  # 2x2 convolutions inside a Sequential
        pytest.param("EfficientNetV2B0", (97, 65), marks=pytest.mark.slow),  # gates
    ],
)
def test_dense_features_subsampled_are_the_strided_ones(application, size):
    strided = features(application, 32, size)["features"]
    dense = features(application, 8, size)["features"][:, ::4, ::4]
    assert dense.shape == strided.shape
    assert np.abs(dense - strided).max() < 1e-3 * strided.std()


@pytest.mark.parametrize("application", ["MobileNetV2", "ConvNeXtTiny"])
def test_features_are_those_of_keras_itself(application, monkeypatch):
    function = getattr(keras.applications, application)
    original = function(include_top=False, weights=None, input_shape=(None, None, 3))
    random_weights(original)
    monkeypatch.setattr(keras_applications, "_original", lambda *_: original)  # in place of the download
    weights = keras_applications.imagenet_weights(application)
    monkeypatch.undo()
    model = build(f"keras:{application}", {"output_stride": 32})
    variables = variables_by_name(model)
    assert set(weights) == set(variables)
    for name, variable in variables.items():
        variable.assign(weights[name])
    pixels = image(96, 64).astype(np.float32)
    expected = original(inspect.getmodule(function).preprocess_input(pixels.copy()))
    np.testing.assert_allclose(model(pixels)["features"], expected, rtol=1e-3, atol=1e-5 * np.std(expected))


def test_low_level_features_are_the_last_maps_of_their_strides():
    found = features("MobileNetV2", 16, (64, 96))
    assert {key: value.shape[1:] for key, value in found.items()} == {
        "low_level_os2": (32, 48, 96),  # expansions of the next block, as in MobileNetV2's own decoder
        "low_level_os4": (16, 24, 144),
        "low_level_os8": (8, 12, 192),
        "low_level_os16": (4, 6, 576),
        "features": (4, 6, 1280),
    }


def test_names_do_not_depend_on_what_was_built_before():
    first = set(values(build("keras:Xception", {"output_stride": 32})))
    assert first == set(values(build("keras:Xception", {"output_stride": 32})))
    assert {"Xception/conv2d/kernel", "Xception/conv2d_3/kernel", "Xception/batch_normalization_3/gamma"} < first


class TestMobileNetV2(Battery):
    variant = "keras:MobileNetV2"  # strided depthwise convolutions behind explicit zeros

    def test_any_image_size(self):
        model = build(self.variant, {})
        # One row of zeros stands before each stride, so that an odd length rounds down but for the first: 47 -> 24
        # -> 12 -> 6 -> 3.
        assert model(np.zeros((1, 64, 47, 3), np.float32))["features"].shape[1:3] == (4, 3)


def test_unknown_networks_are_refused_with_the_nearest():
    with pytest.raises(KeyError, match=r"did you mean keras:EfficientNetV2B0\?"):
        slim.find("keras:EfficentNetV2B0")


def test_networks_of_one_size_are_refused():
    with pytest.raises(slim.OptionError, match="images of one size") as caught:
        build("keras:NASNetMobile", {})
    assert caught.value.option == "model_variant"


def test_other_channel_counts_are_refused():
    with pytest.raises(slim.OptionError, match="3 channels, not 4"):
        slim.build("keras:MobileNetV2", keras.Input((None, None, 4)), slim.Options())


def test_weights_that_cannot_be_fetched_say_what_to_do(monkeypatch):
    def offline(**_):
        raise Exception("URL fetch failure on https://example.org/weights_notop.h5: None -- [Errno -3] no name")

    monkeypatch.setattr(keras.applications, "MobileNetV2", offline)
    with pytest.raises(OSError, match=r"download \S+/weights_notop.h5 elsewhere and put it into ~/.keras/models"):
        keras_applications.imagenet_weights("MobileNetV2")


@pytest.mark.parametrize("average", [True, False])
def test_atrous_pooling_by_hand(average):
    row = np.array([1, 5, 3, 2, 4], np.float32).reshape(1, 1, 5, 1)
    values = np.repeat(row, 5, axis=1)
    pooled = np.asarray(AtrousPooling(2, 2, zeros=(0, 2), average=average)(values))[0, 0, :, 0]
    # Cells i and i + 2; beyond the border there is nothing to win and nothing to count.
    np.testing.assert_allclose(pooled, [2, 3.5, 3.5, 2, 4] if average else [3, 5, 4, 2, 4])


def test_layers_without_a_twin_are_named():
    with pytest.raises(CannotDilate, match=r"cut \(Cropping2D\)"):
        dilated(keras.layers.Cropping2D(1, name="cut"), LayerPosition(32, 32), 16)


def test_layers_before_the_output_stride_stay_as_they_are():
    layer = keras.layers.Conv2D(4, 3, strides=2, padding="valid", name="early")
    assert dilated(layer, LayerPosition(8, 16), 16).get_config() == layer.get_config()
