"""The Predictor of a model: sizes, resizing, batches, memory."""

import numpy as np
import pytest
import tensorflow as tf
from support import golden_recipe
from support.errors import raises

from deeplab.inference.load import load
from deeplab.inference.predictor import Prediction, Predictor, memory_errors, require_same_classes, shrunk_size

IMAGE = golden_recipe.image(40, 52)[0]


def test_an_image_larger_than_the_crop(small_run):
    with raises("larger-than-crop", where="the image") as caught:
        load(small_run, crop_size=(33, 33)).predict(IMAGE)
    assert caught.value.value == (40, 52)
    assert "`crop_size=33,33`" in caught.value.rule and "`crop_size=49,65`" in caught.value.hint
    labels, probabilities = load(small_run, crop_size=(33, 33), shrink_large_images=True).predict(IMAGE)
    assert labels.shape == (40, 52) and probabilities.shape == (40, 52, 3)


def test_an_image_larger_than_the_crop_after_resizing(small_run):
    predictor = load(small_run, {"min_resize_value": 80, "max_resize_value": 120}, crop_size=(65, 65))
    with raises("larger-than-crop", where="the image") as caught:
        predictor.predict(IMAGE)
    assert min(caught.value.value) >= 80


def test_labels_at_the_size_of_comparison(small_run):
    assert load(small_run).predict_resized(IMAGE).shape == (40, 52)
    resizing = load(small_run, {"min_resize_value": 20, "max_resize_value": 30})
    assert resizing.predict_resized(IMAGE).shape == (20, 26)
    assert resizing.predict(IMAGE).labels.shape == (40, 52)


def test_padded_batches_equal_single_images(small_run):
    predictor = load(small_run, crop_size=(49, 65))
    images = golden_recipe.image(49, 65, batch=2)
    together = predictor.predict_padded(tf.constant(images, tf.float32))
    for image, labels in zip(images, together, strict=True):
        np.testing.assert_array_equal(predictor.predict(image).labels, labels)


def test_shrunk_size_keeps_the_aspect_ratio():
    assert shrunk_size((1000, 2000), (513, 513)) == (256, 513)
    assert shrunk_size((4000, 3), (513, 513)) == (513, 1)


@pytest.mark.parametrize("error", [tf.errors.ResourceExhaustedError(None, None, "OOM"), MemoryError()])
def test_too_little_memory(error):
    with raises("out-of-memory") as caught, memory_errors():
        raise error
    assert "`max_resize_value`" in caught.value.hint


def test_class_counts():
    require_same_classes(3, 3, "run", "discs")
    require_same_classes(3, None, "graph.pb", "discs")
    with raises("class-count-mismatch", "dataset"):
        require_same_classes(3, 21, "run", "discs")


def test_names_and_colors_of_classes():
    class Constant(Predictor):
        def _predict(self, image, probabilities):
            return Prediction(np.zeros(image.shape[:2], np.int32), None)

    predictor = Constant("somewhere", 2, ("a", "b", "c"), ((1, 2, 3),) * 3)
    assert predictor.class_names == ("class_0", "class_1") and not predictor.names_are_known
    predictor.set_classes(("a", "b"), ((1, 2, 3), (4, 5, 6)))
    assert predictor.class_names == ("a", "b") and predictor.colors[1].tolist() == [4, 5, 6]
    assert Constant("somewhere", None, ("a", "b")).class_names == ("a", "b")


@pytest.mark.parametrize("settings", [{}, {"min_resize_value": 20, "max_resize_value": 30}])
def test_images_predicted_together_equal_single_ones(small_run, settings):
    predictor = load(small_run, settings)
    images = golden_recipe.image(40, 52, batch=3)
    together = predictor.predict_images(images)
    for image, (labels, scores) in zip(images, together, strict=True):
        alone = predictor.predict(image)
        assert np.abs(scores - alone.probabilities).max() < 1e-5
        sure = np.sort(alone.probabilities, -1)
        assert (labels == alone.labels)[sure[..., -1] - sure[..., -2] > 1e-4].all()
    assert predictor.predict_images(images, probabilities=False)[0].probabilities is None
    assert len(load(small_run, crop_size=(49, 65)).predict_images(images)) == 3
