"""ONNX files as Predictors. Most tests need the extra onnx."""

import importlib.util
import sys

import numpy as np
import pytest
from support.errors import raises
from support.export_battery import export
from support.runtime_battery import IMAGE, RuntimeBattery
from support.small_exports import make_balanced_network

from deeplab.inference.load import load
from deeplab.inference.runtimes import onnx as runtime

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

    def test_opencv_runs_it_where_onnx_runtime_is_missing(self, path, predictor, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        other = load(path)
        labels, probabilities = other.predict(IMAGE)
        expected = predictor.predict(IMAGE)
        np.testing.assert_array_equal(labels, expected.labels)
        np.testing.assert_allclose(probabilities, expected.probabilities, atol=1e-5)
        assert other.num_classes == predictor.num_classes and other.class_names == predictor.class_names


def message(*fields: tuple[int, bytes]) -> bytes:
    """A protocol buffer of length-delimited fields, each shorter than 128 bytes."""
    return b"".join(bytes([number << 3 | 2, len(content)]) + content for number, content in fields)


def test_properties_are_read_without_the_library():
    graph = message((12, message((1, b"first"))), (12, message((1, b"second"))), (5, b"weights"))
    content = b"\x08\x0a" + message((7, graph), (14, message((1, b"deeplab"), (2, b"{}"))))
    assert runtime.read_properties(content) == ({"deeplab": "{}"}, ["first", "second"])
    assert runtime.read_properties(b"") == ({}, [])


@pytest.mark.parametrize("content", [b"\x3a\x7f", b"\x0b", b"\xff" * 12, b"\x3a"], ids=["cut", "kind", "digits", "end"])
def test_damaged_bytes_are_value_errors(content):
    with pytest.raises(ValueError):
        runtime.read_properties(content)


def test_files_of_other_programs(tmp_path):
    (tmp_path / "m.onnx").write_bytes(message((7, message((12, message((1, b"logits")))))))
    with raises("not-a-deeplab-model", where="m.onnx") as caught:
        load(tmp_path / "m.onnx")
    assert "logits" in caught.value.rule


def test_files_that_may_run_without_end_or_read_other_files_are_refused():
    weights = message((8, b"w"), (13, message((1, b"location"), (2, b"/etc/passwd"))))
    inside = message((4, b"Constant"), (5, message((1, b"value"), (5, weights))))
    harmful = {
        "Loop": message((7, message((1, message((4, b"Loop"), (5, message((1, b"body"), (6, b"")))))))),
        "If": message((7, message((1, message((4, b"If"), (5, message((11, b"")))))))),
        "function": message((7, b"")) + b"\xca\x01\x00",
        "external_data": message((7, message((5, weights)))),
    }
    for value, content in {**harmful, "external_data ": message((7, message((1, inside))))}.items():
        with raises("unsafe-operation", where="m.onnx") as caught:
            runtime.require_safe(content, "m.onnx")
        assert caught.value.value == value.strip()
    plain = message((7, message((1, message((4, b"Conv"), (5, message((1, b"group"))))), (5, message((8, b"w"))))))
    runtime.require_safe(plain, "m.onnx")
