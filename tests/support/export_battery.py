"""What every export format must do. A test class sets `name`, the format's name in the registry:

class TestTFLite(ExportBattery):
    name = "tflite"
"""

from __future__ import annotations

import pathlib
import shutil
from typing import Any, ClassVar

import numpy as np
import pytest

from deeplab.config.export_config import ExportConfig
from deeplab.data import transforms
from deeplab.export import exporter
from deeplab.export.formats import FORMATS
from deeplab.export.metadata import NamedClasses
from deeplab.inference.load import load
from deeplab.inference.prediction import predict_image
from deeplab.inference.predictor import Prediction, shrunk_size
from support.golden_recipe import image
from support.small_exports import make_settings

CLASSES = NamedClasses(("ground", "left eye", "right eye", "nose"), ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)))


def export(live_model, path, classes=CLASSES, *, settings=None, **config) -> exporter.Exported:
    """An export of the narrow model; by default a frozen graph that is checked on two images."""
    usual = {"parity_images": 2, "measure_time": False, "formats": ("frozen_graph",)}
    config = ExportConfig(checkpoint_path="made/model.ckpt-3", export_path=str(path), **usual | config)
    return exporter.export(live_model, settings or make_settings(), config, classes)


def names(folder) -> list[str]:
    """The files and folders in a folder."""
    return sorted(path.name for path in folder.iterdir())


class ExportBattery:
    """Writes the narrow model in one format, loads it as users do, and compares with the model.

    Attributes:
      name: of the format.
      tolerance: largest difference of a probability.
      types: of its tensors.
      config: settings of the export.
      fixed_size: whether larger images than the crop are shrunk to fit, and their predictions enlarged again.
    """

    name = ""
    tolerance = 1e-5
    types: tuple[str, ...] = ("uint8", "int32", "float32")
    config: ClassVar[dict[str, Any]] = {}
    fixed_size = False

    @pytest.fixture(scope="class")
    def exported(self, live_model, tmp_path_factory):
        """The outcome of an export into a folder, and the path of the file or folder of this format."""
        folder = tmp_path_factory.mktemp(self.name)
        result = export(live_model, folder, formats=(self.name,), **self.config)
        return result, folder / FORMATS.get(self.name).usual_name

    @pytest.fixture(scope="class")
    def predictor(self, exported):
        return load(exported[1])

    @pytest.mark.parametrize("size", [(65, 97), (40, 60), (70, 130)], ids=["crop", "smaller", "larger"])
    def test_it_predicts_the_same_as_the_model(self, live_model, predictor, size):
        pixels = image(*size)[0]
        expected = self.expected(live_model, pixels)
        labels, probabilities = predictor.predict(pixels, True)
        assert labels.dtype == np.int32 and probabilities.dtype == np.float32
        np.testing.assert_array_equal(labels, expected.labels)
        np.testing.assert_allclose(probabilities, expected.probabilities, atol=self.tolerance)
        alone, none = predictor.predict(pixels, False)
        np.testing.assert_array_equal(alone, labels)
        assert none is None

    def expected(self, live_model, pixels) -> Prediction:
        """The model's own prediction."""
        settings = make_settings()
        if not self.fixed_size or all(np.less_equal(pixels.shape[:2], settings.crop_size)):
            labels, probabilities = predict_image(live_model.logits_of, pixels, settings)[:2]
            return Prediction(labels.numpy(), probabilities.numpy())
        size = pixels.shape[:2]
        small = transforms.resize_bilinear(pixels, shrunk_size(size, settings.crop_size))
        labels, probabilities = predict_image(live_model.logits_of, small, settings)[:2]
        return Prediction(
            transforms.resize_nearest(labels, size).numpy(), transforms.resize_bilinear(probabilities, size).numpy()
        )

    def test_it_knows_its_classes(self, predictor):
        assert predictor.class_names == CLASSES.names
        assert predictor.colors[: len(CLASSES.colors)].tolist() == [list(color) for color in CLASSES.colors]

    def test_it_names_its_tensors(self, exported):
        result, path = exported
        assert result.paths[0] == str(path)
        assert {kind for _, kind, _ in result.tensors[path.name]} >= set(self.types)

    def test_it_recognizes_its_own_files_alone(self, exported, tmp_path):
        is_export = FORMATS.get(self.name).is_export
        assert is_export(str(exported[1]))
        other = tmp_path / exported[1].name
        if exported[1].is_dir():
            other.mkdir()
            (other / "thesis.txt").write_text("mine")
        else:
            other.write_text("mine")
        assert not is_export(str(other))

    def test_a_second_export_replaces_the_first(self, live_model, exported, tmp_path):
        old = tmp_path / FORMATS.get(self.name).file_name("small")
        (shutil.copytree if exported[1].is_dir() else shutil.copy)(exported[1], old)
        before = old.stat()
        export(live_model, tmp_path / "small.pb", formats=("frozen_graph", self.name), parity_images=1, **self.config)
        names = {path.name for path in pathlib.Path(tmp_path).iterdir()}
        assert names == {old.name, "labels.txt", "small.pb", "small_metadata.json", "small_export_report.md"}
        assert old.stat().st_ino != before.st_ino
