"""From an image to a mask: equal to the reference's numbers, and right at the borders."""

import numpy as np
import pytest
import tensorflow as tf
from support import golden_recipe
from support.errors import raises

from deeplab.config.data_config import ResizeConfig
from deeplab.config.model_config import ModelConfig
from deeplab.inference import prediction
from deeplab.inference.prediction import LargerThanCrop, PredictionSettings, predict_batch, predict_image, prepare
from deeplab.model import MERGED_LOGITS, build_model
from deeplab.model.head_layers import Rescale
from slim import kernels
from slim.layers import variables_by_name

NARROW = {"depth_multiplier": 0.25, "aspp_convs_filters": 8}


@pytest.fixture(scope="module")
def numbers(golden):
    return np.load(golden / "inference.npz")


@pytest.fixture(scope="module")
def logits_of():
    """MobileNetV2 at stride 16 with image pooling and 21 classes, weights by the golden rule."""
    model = build_model(ModelConfig(), 21)
    for name, variable in variables_by_name(model).items():
        variable.assign(golden_recipe.weight(name, tuple(variable.shape)))
    return lambda pixels: model(pixels, training=False)[MERGED_LOGITS]


def answer_to(logits_of, image, settings):
    """The prediction in a graph that does not know the image's size, as all commands run it."""
    function = tf.function(
        lambda image: predict_image(logits_of, image, settings),
        input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)],
    )
    return function(image)


class TestGolden:
    """Labels and probabilities of the research DeepLab on TensorFlow 1.15."""

    @pytest.mark.parametrize(
        ("case", "settings"),
        [
            ("one_pass", {}),
            ("passes", {"scales": (0.5, 1.0, 1.75), "flip": True}),
            ("upsampled_late", {"model": ModelConfig(prediction_with_upsampled_logits=False)}),
        ],
    )
    def test_equal(self, numbers, logits_of, case, settings):
        settings = PredictionSettings(**{"model": ModelConfig(), "crop_size": (97, 129), **settings})
        answer = answer_to(logits_of, golden_recipe.image(97, 129)[0], settings)
        expected = numbers[f"{case}_probabilities"]
        np.testing.assert_allclose(answer.probabilities[::12, ::12], expected, atol=1e-5)
        labels = numbers[f"{case}_labels"]
        if case == "upsampled_late":  # labels were decided before the upsampling
            np.testing.assert_array_equal(answer.labels, labels)
        else:
            golden_recipe.require_same_labels(answer.labels, labels, answer.probabilities, 2e-6)

    def test_even_sizes(self, numbers, logits_of):
        settings = PredictionSettings(ModelConfig(), crop_size=(96, 128))
        answer = answer_to(logits_of, golden_recipe.image(96, 128)[0], settings)
        golden_recipe.require_same_labels(answer.labels, numbers["even_labels"], answer.probabilities, 2e-6)

    def test_what_the_model_sees_of_a_resized_image(self, numbers):
        settings = PredictionSettings(ModelConfig(), ResizeConfig(257, 257, 16), (257, 257))
        frame = prepare(tf.constant(numbers["resize_image"]), settings)
        assert frame.pixels.shape == (257, 257, 3)
        normalized = frame.pixels[::4, ::4] * (2.0 / 255.0) - 1.0
        np.testing.assert_allclose(normalized, numbers["resize_input"], atol=2e-6)

    def test_labels_have_the_size_of_the_image(self, numbers):
        settings = PredictionSettings(ModelConfig(), ResizeConfig(257, 257, 16), (257, 257))
        frame = prepare(tf.constant(numbers["resize_image"]), settings)
        raw = tf.constant(numbers["resize_raw_labels"], tf.int32)
        labels = prediction.restore_labels(raw, frame.size, tf.constant([120, 160]))
        np.testing.assert_array_equal(labels, numbers["resize_labels"])


def bright_or_dark(pixels):
    """A model of two classes at stride 1: class 1 where the red channel is above 100."""
    return tf.concat([100.0 - pixels[..., :1], pixels[..., :1] - 100.0], -1) / 20.0


class TestSizes:
    def test_native_size_is_raised_to_the_stride(self):
        settings = PredictionSettings(ModelConfig(output_stride=16))
        sizes = {1: 17, 17: 17, 18: 33, 33: 33, 375: 385, 500: 513}
        assert {size: prediction.padded_size((size, 17), settings)[0] for size in sizes} == sizes
        assert prediction.padded_size((375, 18), settings) == (385, 33)

    @pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0)])
    def test_images_are_as_large_as_the_pooling_window_which_scales_with_them(self, scales):
        model = ModelConfig(image_pooling_crop_size=(33, 65))
        assert prediction.padded_size((10, 10), PredictionSettings(model, scales=scales)) == (33, 65)
        PredictionSettings(model, crop_size=(33, 65), scales=scales)

    def test_padding_is_the_mean_pixel(self):
        frame = prepare(tf.zeros([2, 3, 3], tf.uint8), PredictionSettings(ModelConfig(), crop_size=(4, 5)))
        expected = np.full([4, 5, 3], 127.5)
        expected[:2, :3] = 0
        np.testing.assert_array_equal(frame.pixels, expected)
        np.testing.assert_array_equal(frame.size, [2, 3])

    def test_the_prediction_has_the_size_of_the_image(self):
        image = np.zeros([5, 7, 3], np.uint8)
        image[2, 3] = 200
        answer = answer_to(bright_or_dark, image, PredictionSettings(ModelConfig()))
        expected = np.zeros([5, 7])
        expected[2, 3] = 1
        np.testing.assert_array_equal(answer.labels, expected)
        assert answer.raw_labels.shape == (17, 17) and answer.probabilities.shape == (5, 7, 2)
        np.testing.assert_allclose(answer.probabilities[2, 3, 1], 1 / (1 + np.exp(-10.0)), rtol=1e-5)

    def test_larger_than_the_crop_stops_the_graph(self):
        settings = PredictionSettings(ModelConfig(), crop_size=(17, 17))
        with pytest.raises(tf.errors.InvalidArgumentError, match="larger than the crop size 17x17"):
            answer_to(bright_or_dark, np.zeros([18, 17, 3], np.uint8), settings)

    def test_larger_than_the_crop_may_grow(self):
        settings = PredictionSettings(ModelConfig(), crop_size=(20, 20), may_outgrow_crop=True)
        assert answer_to(bright_or_dark, np.zeros([18, 20, 3], np.uint8), settings).raw_labels.shape == (20, 20)
        answer = answer_to(bright_or_dark, np.zeros([21, 5, 3], np.uint8), settings)
        assert answer.raw_labels.shape == (33, 20) and answer.labels.shape == (21, 5)

    def test_crop_that_would_do_is_worked_out(self):
        settings = PredictionSettings(ModelConfig(), crop_size=(513, 513), crop_field="eval_crop_size")
        prediction.require_fit((513, 400), settings, "a")
        with raises("larger-than-crop", where="big") as caught:
            prediction.require_fit((2448, 300), settings, "big")
        assert caught.value.value == (2448, 300) and isinstance(caught.value, LargerThanCrop)
        assert caught.value.hint.startswith("`eval_crop_size=2449,513`, or leave `eval_crop_size` out")

    def test_raw_shapes_are_static_with_a_crop(self):
        settings = PredictionSettings(ModelConfig(), crop_size=(33, 49))
        spec = tf.TensorSpec([None, None, 3], tf.uint8)
        graph = tf.function(lambda image: predict_image(bright_or_dark, image, settings)).get_concrete_function(spec)
        assert graph.outputs[2].shape == (33, 49) and graph.outputs[3].shape == (33, 49, 2)


class TestPasses:
    def test_mirrored_and_single_scale_is_an_average(self):
        """The reference ignores add_flipped_images at the single scale 1.0; we average."""

        def left_is_one(pixels):  # class 1 at the left, class 0 at the right, whatever the image shows
            return tf.stack([tf.zeros([1, 1, 3]), tf.constant([[[4.0, 2.0, -4.0]]])], -1)

        raw = predict_batch(left_is_one, tf.zeros([1, 1, 33, 3]), PredictionSettings(ModelConfig(), flip=True))
        # At the sides, image and mirror image say the opposite; in the middle both say 0.88.
        mean = np.array([0.5, 1 / (1 + np.exp(-2.0)), 0.5])
        twice = 1 / (1 + np.exp(1 - 2 * mean))
        np.testing.assert_allclose(raw.probabilities[0, 0, ::16, 1], twice, atol=1e-6)

    def test_mirrored_answers_are_turned_back(self):
        pixels = tf.constant([[[[0.0] * 3] * 16 + [[140.0] * 3] * 17]])
        settings = PredictionSettings(ModelConfig(), flip=True)
        raw = predict_batch(lambda pixels: bright_or_dark(pixels[:, :, ::16]), pixels, settings)
        np.testing.assert_array_equal(raw.labels[0, 0, ::16], [0, 1, 1])

    def test_probabilities_of_several_passes_are_softened_twice(self):
        settings = PredictionSettings(ModelConfig(), scales=(1.0, 1.0))
        raw = predict_batch(bright_or_dark, tf.fill([1, 1, 1, 3], 140.0), settings)
        once = np.exp([-2.0, 2.0]) / np.exp([-2.0, 2.0]).sum()
        np.testing.assert_allclose(raw.probabilities[0, 0, 0], np.exp(once) / np.exp(once).sum(), atol=1e-6)

    def test_order_of_passes(self):
        settings = PredictionSettings(ModelConfig(), scales=(0.5, 1.0), flip=True)
        assert list(settings.passes()) == [(0.5, False), (0.5, True), (1.0, False), (1.0, True)]
        assert not settings.one_pass and PredictionSettings(ModelConfig()).one_pass

    def test_batch_equals_single_images(self):
        settings = PredictionSettings(ModelConfig(), crop_size=(17, 17))
        images = golden_recipe.image(17, 17, batch=3)
        pixels = tf.stack([prepare(tf.constant(image), settings).pixels for image in images])
        together = predict_batch(bright_or_dark, pixels, settings)
        for index, image in enumerate(images):
            alone = predict_image(bright_or_dark, tf.constant(image), settings)
            np.testing.assert_array_equal(together.labels[index], alone.labels)
            np.testing.assert_allclose(together.probabilities[index], alone.probabilities, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("window", "crop", "fitting"), [((769, 769), (513, 513), "769,769"), ((49, 65), (64, 64), "64,65")]
)
def test_a_window_beyond_the_crop_is_refused(window, crop, fitting):
    with raises("crop-too-small", "image_pooling_crop_size") as caught:
        PredictionSettings(ModelConfig(image_pooling_crop_size=window), crop_size=crop)
    assert f"`crop_size={fitting}`" in caught.value.hint


def test_pooling_windows_scale_with_the_image():
    """The model at half the size pools by half the window, as the research DeepLab's `multi_scale_logits`."""

    def model_of(window):
        model = build_model(ModelConfig(**NARROW, image_pooling_crop_size=window), 3, train_batch_norm=False)
        for name, variable in variables_by_name(model).items():
            variable.assign(golden_recipe.weight(name, tuple(variable.shape)))
        return lambda pixels: model(pixels, training=False)[MERGED_LOGITS]

    logits_of, halved = model_of((65, 97)), model_of((33, 49))
    pixels = tf.constant(golden_recipe.image(81, 97).astype(np.float32))
    settings = PredictionSettings(ModelConfig(**NARROW, image_pooling_crop_size=(65, 97)), scales=(0.5,))
    found = tf.function(lambda pixels: predict_batch(logits_of, pixels, settings))(pixels)
    logits = halved(Rescale(0.5)(pixels))
    coarse = kernels.resize_bilinear(logits, 6, 7)  # the grid at scale 1, as in the reference
    expected = tf.nn.softmax(tf.nn.softmax(kernels.resize_bilinear(coarse, 81, 97)))
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError):  # the whole window is larger than the scaled image
        logits_of(Rescale(0.5)(pixels))


@pytest.mark.parametrize("unused", [{"add_image_level_feature": False}, {"aspp_with_batch_norm": False}])
def test_a_window_of_a_head_without_image_pooling_has_no_effect(unused):
    settings = PredictionSettings(ModelConfig(image_pooling_crop_size=(769, 769), **unused))
    assert prediction.padded_size((65, 65), settings) == (65, 65)


def test_without_aligned_corners_images_keep_their_size():
    model = ModelConfig(output_stride=16, align_corners=False)
    assert prediction.padded_size((375, 18), PredictionSettings(model)) == (375, 18)
    settings = PredictionSettings(model, crop_size=(64, 80), may_outgrow_crop=True)
    assert prediction.padded_size((70, 18), settings) == (70, 80)
    logits = np.random.default_rng(2).normal(size=(1, 3, 4, 5)).astype(np.float32)
    raw = predict_batch(lambda _: tf.constant(logits), tf.zeros((1, 37, 52, 3)), PredictionSettings(model))
    resized = tf.image.resize(logits, (37, 52))  # by the edges of pixels
    np.testing.assert_array_equal(raw.labels, tf.argmax(resized, -1))
    np.testing.assert_allclose(raw.probabilities, tf.nn.softmax(resized), atol=1e-5)
