"""What every runtime must do. A test class sets `name` and the fixture `path`:

class TestTFLite(RuntimeBattery):
    name = "tflite"

    @pytest.fixture(scope="class")
    def path(self, tmp_path_factory): ...  # of a model file of this kind, with two classes or more
"""

from __future__ import annotations

import os
import pathlib
import shutil
import threading

import numpy as np
import pytest

from deeplab.inference.load import find_model, load
from deeplab.inference.runtimes import RUNTIMES
from deeplab.utils.errors import UserError
from support import golden_recipe
from support.errors import raises

IMAGE = golden_recipe.image(33, 40)[0]


class RuntimeBattery:
    """Loads a model file as users do, predicts, and damages it.

    Attributes:
      name: of the runtime.
      has_probabilities: whether the file of `path` has them.
      sizes: heights and widths that it must take.
    """

    name = ""
    has_probabilities = True
    sizes = ((33, 40), (40, 33), (1, 7), (64, 64))

    @pytest.fixture(scope="class")
    def predictor(self, path):
        return load(path)

    def test_it_alone_recognizes_its_files(self, path, tmp_path):
        assert find_model(str(path)) == (str(path), self.name)
        assert [name for name in RUNTIMES if RUNTIMES.get(name).recognizes(str(path))] == [self.name]
        assert not RUNTIMES.get(self.name).recognizes(str(tmp_path / "none"))
        assert not RUNTIMES.get(self.name).recognizes(str(tmp_path))

    def test_labels_and_probabilities_of_every_size(self, predictor):
        for height, width in self.sizes:
            image = golden_recipe.image(height, width)[0]
            labels, probabilities = predictor.predict(image)
            assert labels.shape == (height, width) and labels.dtype == np.int32
            assert (probabilities is not None) == self.has_probabilities
            if probabilities is not None:
                assert probabilities.shape == (height, width, predictor.num_classes)
                assert probabilities.dtype == np.float32
                np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)

    def test_labels_alone_are_the_same(self, predictor):
        labels, none = predictor.predict(IMAGE, probabilities=False)
        assert none is None
        np.testing.assert_array_equal(labels, predictor.predict(IMAGE).labels)
        np.testing.assert_array_equal(labels, predictor.predict_resized(IMAGE))
        assert len(np.unique(labels)) > 1, "or the comparison means nothing"

    def test_it_tells_about_itself(self, predictor, path):
        assert str(path) in predictor.source
        assert predictor.colors.shape == (256, 3) and predictor.colors.dtype == np.uint8
        if predictor.num_classes:
            assert len(predictor.class_names) == predictor.num_classes

    def test_several_threads_agree(self, predictor):
        expected = predictor.predict(IMAGE).labels
        results: list[np.ndarray] = []
        threads = [threading.Thread(target=lambda: results.append(predictor.predict(IMAGE).labels)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 4 and all((labels == expected).all() for labels in results)

    def test_a_forked_process_is_told_to_load_it_itself(self, predictor):
        predictor.predict(IMAGE)
        process = os.fork()
        if not process:
            try:
                predictor.predict(IMAGE)
            except UserError as error:
                os._exit(7 if error.code == "used-after-fork" else 8)
            os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 7

    def test_settings_that_are_built_in_are_refused(self, path):
        if self.name == "checkpoint":
            return
        built_in = ["output_stride"] if RUNTIMES.get(self.name).takes_settings else ["output_stride", "crop_size"]
        with raises("settings-built-in", where=path) as caught:
            load(path, {"output_stride": 8}, crop_size=(65, 65))
        assert caught.value.value == built_in

    def test_a_dataset_of_other_classes_is_refused(self, path, predictor):
        if predictor.num_classes:
            with raises("class-count-mismatch", "dataset"):
                load(path, dataset="pascal_voc_seg")

    @pytest.mark.parametrize("keep", [0.0, 0.3, 0.95])
    def test_truncated_files_are_refused(self, path, tmp_path, keep):
        for file in self.files_of(pathlib.Path(path)):
            damaged = self.copy(pathlib.Path(path), tmp_path / file.name)
            target = damaged / file.relative_to(path) if damaged.is_dir() else damaged.with_name(file.name)
            content = file.read_bytes()
            target.write_bytes(content[: int(len(content) * keep)])
            with pytest.raises(UserError):
                load(damaged).predict(IMAGE)

    def files_of(self, path: pathlib.Path) -> list[pathlib.Path]:
        """The files without which the model does not work."""
        return [path]

    def copy(self, path: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
        """Copies the model into a folder; the copy's path."""
        if path.is_dir():
            return pathlib.Path(shutil.copytree(path, folder / path.name))
        folder.mkdir()
        return pathlib.Path(shutil.copy(path, folder))
