"""ONNX files as Predictors. Most tests need the extra onnx."""

import importlib.util
import sys

import pytest
from support.errors import raises
from support.export_battery import export
from support.runtime_battery import IMAGE, RuntimeBattery
from support.small_exports import make_balanced_network

from deeplab.inference.load import load

MISSING = [name for name in ("onnx", "tf2onnx", "onnxruntime") if not importlib.util.find_spec(name)]


@pytest.mark.skipif(bool(MISSING), reason="the extra onnx is not installed")
class TestBattery(RuntimeBattery):
    name = "onnx"

    @pytest.fixture(scope="class")
    def path(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("onnx")
        export(make_balanced_network(IMAGE), folder, formats=("onnx",), parity_images=1)
        return str(folder / "model.onnx")

    def test_other_files(self, tmp_path):
        (tmp_path / "m.onnx").write_text("mine")
        with raises("damaged-model", where="m.onnx"):
            load(tmp_path / "m.onnx")


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "m.onnx").write_bytes(b"")
    with raises("missing-library", where="onnxruntime") as caught:
        load(tmp_path / "m.onnx")
    assert "[onnx]" in caught.value.hint
