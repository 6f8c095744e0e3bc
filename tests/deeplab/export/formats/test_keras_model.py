"""The `.keras` file: read back by Keras, trained further, and recognized."""

import keras
import numpy as np
import pytest
from support.export_battery import CLASSES
from support.golden_recipe import image

from deeplab.export.formats import FORMATS
from deeplab.model import MERGED_LOGITS
from deeplab.model.segmentation_model import SegmentationModel
from slim import kernels


@pytest.fixture(scope="module")
def written(network, tmp_path_factory):
    import dataclasses

    from support.small_exports import make_settings

    from deeplab.export.freeze import freeze  # until its runtime is there, without the comparison

    path = tmp_path_factory.mktemp("keras") / "model.keras"
    frozen = dataclasses.replace(freeze(network, make_settings(scales=(0.5, 1.0))), class_names=CLASSES.names)
    return FORMATS.get("keras").write(frozen, str(path)), path


def test_keras_loads_a_model_with_the_same_logits(network, written):
    tensors, path = written
    assert tensors == [("image", "float32", "? x ? x ? x 3"), ("logits", "float32", "? x ? x ? x 4")]
    loaded = keras.models.load_model(path)
    assert isinstance(loaded, SegmentationModel) and loaded.class_names == CLASSES.names
    pixels = image(65, 97).astype(np.float32)
    np.testing.assert_array_equal(loaded(pixels), kernels.resize_bilinear(network.model(pixels)[MERGED_LOGITS], 65, 97))
    assert loaded.prediction["crop_size"] == [65, 97] and loaded.prediction["scales"] == [0.5, 1.0]
