"""Folders of web pages as Predictors: the battery of all runtimes. Needs the extra onnx."""

import importlib.util
import shutil

import pytest
from support.export_battery import export
from support.runtime_battery import IMAGE, RuntimeBattery
from support.small_exports import make_balanced_network

MISSING = [name for name in ("onnx", "tf2onnx", "onnxruntime") if not importlib.util.find_spec(name)]


@pytest.mark.skipif(bool(MISSING), reason=f"the extra onnx is not installed: {MISSING}")
class TestBattery(RuntimeBattery):
    name = "web_page"

    @pytest.fixture(scope="class")
    def path(self, tmp_path_factory):
        folder, page = tmp_path_factory.mktemp("onnx"), tmp_path_factory.mktemp("page")
        export(make_balanced_network(IMAGE), folder, formats=("onnx",), parity_images=1)
        shutil.copy(folder / "model.onnx", page / "model.onnx")
        for name in ("model.json", "index.html"):
            (page / name).write_text("{}")
        return str(page)

    def files_of(self, path):
        return [path / "model.onnx"]
