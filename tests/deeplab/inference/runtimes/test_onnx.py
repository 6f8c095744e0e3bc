"""ONNX files as Predictors. Most tests need the extra onnx."""

import importlib.util
import sys

import numpy as np
import pytest
from support.errors import raises
from support.export_battery import export
from support.runtime_battery import IMAGE, RuntimeBattery
from support.small_exports import make_balanced_network

from deeplab.config.data_config import ResizeConfig
from deeplab.inference.fixed_size import FixedInput
from deeplab.inference.load import load
from deeplab.inference.runtimes import onnx as runtime
from deeplab.utils.errors import UserError

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


@pytest.mark.skipif(bool(MISSING), reason="the extra onnx is not installed")
class TestHostileFiles:
    """Files that are whole, and that ONNX Runtime would run: made by the library onnx."""

    @pytest.fixture(scope="class")
    def write(self, tmp_path_factory):
        """Writes a file that gives the first channel as labels, with operations before it and other weights."""
        from onnx import TensorProto, helper

        folder = tmp_path_factory.mktemp("hostile")

        def write(name, nodes=(), weights=(), sparse=(), source=runtime.IMAGE):
            size = (33, 33)
            facts = FixedInput(size, (0.0, 0.0, 0.0), ResizeConfig(), ("a", "b"), ((0, 0, 0), (1, 1, 1)), "float32")
            last = [
                helper.make_node("ReduceMax", [source], ["most"], axes=[3], keepdims=0),
                helper.make_node("Cast", ["most"], ["whole"], to=TensorProto.INT32),
                helper.make_node("Sub", ["whole", "whole"], [runtime.LABELS]),
            ]
            graph = helper.make_graph(
                [*nodes, *last],
                "g",
                [helper.make_tensor_value_info(runtime.IMAGE, TensorProto.FLOAT, [1, *size, 3])],
                [helper.make_tensor_value_info(runtime.LABELS, TensorProto.INT32, [1, *size])],
                list(weights),
                sparse_initializer=list(sparse),
            )
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
            helper.set_model_props(model, {runtime.PROPERTY: facts.to_json()})
            path = folder / f"{name}.onnx"
            path.write_bytes(model.SerializeToString())
            return str(path)

        return write

    def test_a_healthy_file_of_the_kind_runs(self, write):
        assert load(write("healthy")).predict(np.zeros((9, 9, 3), np.uint8)).labels.max() == 0

    def test_a_loop_of_a_huge_trip_count(self, write):
        from onnx import TensorProto, helper

        image = helper.make_tensor_value_info("before", TensorProto.FLOAT, [1, 33, 33, 3])
        body = helper.make_graph(
            [helper.make_node("Identity", ["go"], ["again"]), helper.make_node("Identity", ["before"], ["after"])],
            "body",
            [
                helper.make_tensor_value_info("turn", TensorProto.INT64, []),
                helper.make_tensor_value_info("go", TensorProto.BOOL, []),
                image,
            ],
            [
                helper.make_tensor_value_info("again", TensorProto.BOOL, []),
                helper.make_tensor_value_info("after", TensorProto.FLOAT, [1, 33, 33, 3]),
            ],
        )
        weights = [
            helper.make_tensor("turns", TensorProto.INT64, [], [2**62]),
            helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
        ]
        loop = helper.make_node("Loop", ["turns", "yes", runtime.IMAGE], ["looped"], body=body)
        path = write("loop", [loop], weights, source="looped")
        with raises("unsafe-operation", where=path) as caught:
            load(path)
        assert caught.value.value == "Loop"

    @pytest.mark.parametrize("place", ["../../etc/passwd", "/etc/passwd", "weights.bin"])
    @pytest.mark.parametrize("kind", ["weight", "constant", "list", "sparse weight", "sparse constant"])
    def test_weights_in_other_files(self, write, kind, place):
        from onnx import TensorProto, helper

        def outside(name, number, elements):
            tensor = TensorProto(name=name, data_type=number, dims=[elements], data_location=TensorProto.EXTERNAL)
            tensor.external_data.add(key="location", value=place)
            return tensor

        values = outside("stolen", TensorProto.FLOAT, 3)
        indices = helper.make_tensor("where", TensorProto.INT64, [3], [0, 1, 2])
        sparse = helper.make_sparse_tensor(values, indices, [3])
        add = helper.make_node("Add", [runtime.IMAGE, "stolen"], ["sum"])
        constant = helper.make_node("Constant", [], ["stolen"])
        if kind == "weight":
            path = write("outside", [add], [values], source="sum")
        elif kind == "sparse weight":
            path = write("outside", [add], sparse=[sparse], source="sum")
        else:
            values = {"constant": values, "list": [values], "sparse constant": sparse}[kind]
            name = "sparse_value" if kind == "sparse constant" else "value"
            constant.attribute.append(helper.make_attribute(name, values))
            path = write("outside", [constant, add], source="sum")
        with raises("unsafe-operation", where=path) as caught:
            load(path)
        assert caught.value.value == "external_data"

    def test_more_memory_than_there_is(self, write):
        """No rule of ours forbids it: the runtime's error must be an error with the file's name."""
        from onnx import TensorProto, helper

        weights = [helper.make_tensor("times", TensorProto.INT64, [4], [1, 2**20, 2**20, 3])]
        path = write("huge", [helper.make_node("Tile", [runtime.IMAGE, "times"], ["tiled"])], weights, source="tiled")
        with pytest.raises(UserError) as caught:
            load(path).predict(np.zeros((9, 9, 3), np.uint8))
        assert caught.value.code in ("damaged-model", "model-failed") and caught.value.where == path
