"""OpenVINO folders as Predictors. Most tests need the extra openvino."""

import sys

import pytest
from support.errors import raises
from support.export_battery import export
from support.runtime_battery import IMAGE, RuntimeBattery
from support.small_exports import make_balanced_network

from deeplab.export.formats import FORMATS
from deeplab.inference.load import load

MISSING = ", ".join(FORMATS.get("openvino").missing())


@pytest.mark.skipif(bool(MISSING), reason=f"the extra openvino is not installed: {MISSING}")
class TestBattery(RuntimeBattery):
    name = "openvino"

    @pytest.fixture(scope="class")
    def path(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("openvino")
        export(make_balanced_network(IMAGE), folder, formats=("openvino",), parity_images=1)
        return str(folder / "model_openvino")

    def files_of(self, path):
        return [path / "model.xml", path / "model.bin"]

    def test_the_file_in_the_folder_is_taken_too(self, path):
        assert load(f"{path}/model.xml").predict(IMAGE).labels.shape == IMAGE.shape[:2]

    def test_other_files(self, tmp_path):
        (tmp_path / "model.xml").write_text("<net/>")
        with raises("damaged-model", where=tmp_path):
            load(tmp_path)


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    (tmp_path / "model.xml").write_text("<net/>")
    with raises("missing-library", where="openvino") as caught:
        load(tmp_path)
    assert "[openvino]" in caught.value.hint
