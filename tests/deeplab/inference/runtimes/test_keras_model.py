"""`.keras` files as Predictors."""

import json
import zipfile

import keras
import numpy as np
import pytest
from support import golden_recipe
from support.errors import raises
from support.runtime_battery import IMAGE, RuntimeBattery

from deeplab.config.model_config import ModelConfig
from deeplab.inference.load import load
from deeplab.model.segmentation_model import SegmentationModel
from slim.layers import variables_by_name


@pytest.fixture(scope="module")
def model():
    config = ModelConfig(depth_multiplier=0.25, aspp_convs_filters=32, add_image_level_feature=False)
    prediction = {"scales": [0.5, 1.0], "crop_size": [65, 65], "resize": {}}
    model = SegmentationModel(config, 3, ("ground", "disc", "square"), prediction=prediction)
    for name, variable in variables_by_name(model).items():
        variable.assign(golden_recipe.weight(name, tuple(variable.shape)))
    return model


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("keras") / "model.keras"
    model.save(path)
    return path


class TestBattery(RuntimeBattery):
    name = "keras"

    @pytest.fixture(scope="class")
    def path(self, file):
        return str(file)


def test_it_predicts_as_the_live_model_does(model, file):
    loaded = load(file)
    np.testing.assert_array_equal(loaded.predict(IMAGE).labels, load(model).predict(IMAGE).labels)
    assert loaded.class_names == ("ground", "disc", "square")
    assert loaded.settings.scales == (0.5, 1.0) and loaded.settings.crop_size == (65, 65)


def test_settings_of_prediction_may_be_set(file):
    other = load(file, {"eval_scales": (1.0,)}, crop_size=(97, 97))
    assert other.settings.scales == (1.0,) and other.settings.crop_size == (97, 97)


def test_other_keras_models(tmp_path):
    other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    other.save(tmp_path / "other.keras")
    with raises("not-a-deeplab-model", where="other.keras") as caught:
        load(tmp_path / "other.keras")
    assert caught.value.value == "Sequential"


@pytest.mark.parametrize("change", [{"num_classes": "x"}, {"model": {"output_stride": 7}}, {"class_names": 5}])
def test_descriptions_that_do_not_fit(file, tmp_path, change):
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(tmp_path / "m.keras", "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                description = json.loads(content)
                description["config"] |= change
                content = json.dumps(description).encode()
            target.writestr(name, content)
    with pytest.raises(Exception) as caught:
        load(tmp_path / "m.keras")
    assert caught.value.code in ("damaged-model", "out-of-range")
