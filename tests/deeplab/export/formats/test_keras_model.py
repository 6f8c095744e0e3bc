"""The `.keras` file: what every format does, and that Keras reads it back to train it further."""

import zipfile

import keras
import numpy as np
import pytest
from support.export_battery import CLASSES, ExportBattery, export
from support.golden_recipe import image
from support.small_exports import make_settings

from deeplab.export.formats import FORMATS
from deeplab.inference.load import load
from deeplab.model import MERGED_LOGITS
from deeplab.model.segmentation_model import SegmentationModel
from slim import kernels


class TestKeras(ExportBattery):
    name = "keras"
    types = ("float32",)


def test_keras_loads_a_model_with_the_same_logits_and_batch_norm(live_model, tmp_path):
    export(
        live_model, tmp_path / "m.keras", formats=("keras",), settings=make_settings(scales=(0.5, 1.0)), parity_images=1
    )
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert isinstance(loaded, SegmentationModel) and loaded.class_names == CLASSES.names
    pixels = image(65, 97).astype(np.float32)
    np.testing.assert_array_equal(
        loaded(pixels), kernels.resize_bilinear(live_model.model(pixels)[MERGED_LOGITS], 65, 97)
    )
    assert load(tmp_path / "m.keras").settings.scales == (0.5, 1.0)


@pytest.mark.parametrize("config", ["[]", "null", '{"class_name": "Functional"}', "{", None])
def test_files_of_other_programs_are_none_of_ours(tmp_path, config):
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json" if config else "other", config or "")
    assert not FORMATS.get("keras").is_export(str(path))
