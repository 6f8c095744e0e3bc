"""MNN files: what every format does, what reduced weights keep, and a converter that cannot do harm."""

import subprocess

import numpy as np
import pytest
from support.errors import raises
from support.export_battery import ExportBattery, export
from support.golden_recipe import image
from support.small_exports import make_balanced_network, make_settings

from deeplab.export.formats import FORMATS, mnn
from deeplab.inference.load import load
from deeplab.inference.prediction import predict_image

PIXELS = image(65, 97)[0]
MISSING = ", ".join(FORMATS.get("mnn").missing())
needs_mnn = pytest.mark.skipif(bool(MISSING), reason=f"the extra mnn is not installed: {MISSING}")


@needs_mnn
class TestMNN(ExportBattery):
    name = "mnn"
    types = ("float32", "int32")
    fixed_size = True


@needs_mnn
def test_reduced_weights_predict_almost_the_same(tmp_path):
    balanced = make_balanced_network(PIXELS)
    names = ("mnn", "mnn_float16", "mnn_int8")
    export(balanced, tmp_path, formats=names, parity_images=1, min_label_agreement=0.0)
    expected = predict_image(balanced.logits_of, PIXELS, make_settings()).labels.numpy()
    paths = {name: tmp_path / FORMATS.get(name).usual_name for name in names}
    for name, agreement in zip(names, (0.999, 0.97, 0.85), strict=True):
        assert np.mean(load(paths[name]).predict(PIXELS).labels == expected) > agreement
    sizes = {name: path.stat().st_size for name, path in paths.items()}
    assert sizes["mnn_float16"] < 0.65 * sizes["mnn"] and sizes["mnn_int8"] < 0.5 * sizes["mnn"]


def test_the_converter_runs_alone_without_commands_and_home(tmp_path, monkeypatch):
    seen = {}

    def run(command, **options):
        seen.update(options, command=command)
        return subprocess.CompletedProcess(command, 1, "", "first\n\nno such operation")

    for name in mnn._LIBRARY_PATHS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/lib")  # without it some Pythons do not start
    monkeypatch.setattr(mnn.subprocess, "run", run)
    monkeypatch.setattr(mnn, "require", lambda module, extra: None)
    with pytest.raises(RuntimeError, match="no such operation"):
        mnn._convert("a.onnx", "a.mnn", ("--fp16",), str(tmp_path))
    assert seen["env"] == {"PATH": "", "HOME": str(tmp_path), "LD_LIBRARY_PATH": "/lib"} and seen["command"][1] == "-I"
    assert "MNN.tools" not in " ".join(seen["command"]) and seen["command"][-1] == "--fp16"


def test_a_missing_library_is_named(live_model, tmp_path, monkeypatch):
    monkeypatch.setitem(mnn.sys.modules, "tf2onnx", None)
    with raises("missing-library", where="tf2onnx"):
        export(live_model, tmp_path, formats=("mnn",), parity_images=1)
    assert list(tmp_path.iterdir()) == []
