"""The `keras.Model` of the Python API: what it computes, and that Keras trains, saves and loads it."""

import keras
import numpy as np
import pytest
from support.golden_recipe import image, weight
from support.small_exports import NARROW

from deeplab.model import MERGED_LOGITS, build_model
from deeplab.model.segmentation_model import SegmentationModel
from slim import kernels
from slim.layers import variables_by_name


def with_golden_weights(model):
    for name, variable in variables_by_name(model).items():
        variable.assign(weight(name, tuple(variable.shape)))
    return model


@pytest.fixture(scope="module")
def model():
    return with_golden_weights(SegmentationModel(NARROW, 3, ("ground", "disc", "square"), [(0, 0, 0)] * 3))


def test_its_logits_are_those_of_build_model_at_the_images_size(model):
    pixels = image(65, 97).astype(np.float32)
    coarse = with_golden_weights(build_model(NARROW, 3))(pixels)[MERGED_LOGITS]
    expected = kernels.resize_bilinear(coarse, 65, 97)
    np.testing.assert_array_equal(model(pixels), expected)
    np.testing.assert_array_equal(model.core(pixels)[MERGED_LOGITS], coarse)
    assert list(variables_by_name(model)) == list(variables_by_name(build_model(NARROW, 3)))


def test_it_is_trained_saved_and_loaded(tmp_path):
    model = with_golden_weights(SegmentationModel(NARROW, 3, ("ground", "disc", "square"), [(0, 0, 0)] * 3))
    pixels = image(33, 49, batch=2).astype(np.float32)
    before = model.predict(pixels, verbose=0)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(pixels, np.zeros((2, 33, 49), np.int32), verbose=0)
    after = model.predict(pixels, verbose=0)
    assert np.abs(after - before).max() > 0
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert isinstance(loaded, SegmentationModel)
    assert (loaded.config, loaded.num_classes, loaded.class_names) == (NARROW, 3, ("ground", "disc", "square"))
    assert loaded.colors == ((0, 0, 0),) * 3 and loaded.train_batch_norm and loaded.name == "deeplab"
    np.testing.assert_array_equal(loaded.predict(pixels, verbose=0), after)


def test_frozen_batch_norm_keeps_its_statistics():
    model = with_golden_weights(SegmentationModel(NARROW, 3, train_batch_norm=False))
    before = {name: np.asarray(variable) for name, variable in variables_by_name(model).items()}
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(image(33, 49).astype(np.float32), np.zeros((1, 33, 49), np.int32), verbose=0)
    for name, variable in variables_by_name(model).items():
        unchanged = np.array_equal(variable, before[name])
        assert unchanged == name.endswith(("moving_mean", "moving_variance")), name
    assert model.class_names == ("class_0", "class_1", "class_2")
