"""The ONNX file: what every format does, and what it is made of. Needs the extra onnx."""

import pytest
from support.export_battery import ExportBattery

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("tf2onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


class TestONNX(ExportBattery):
    name = "onnx"
    types = ("float32", "int32")
    fixed_size = True

    def test_dilation_is_native(self, exported):
        operations = {node.op_type for node in onnx.load(str(exported[1])).graph.node}
        assert not operations & {"SpaceToDepth", "DepthToSpace", "BatchNormalization"} and "ArgMax" in operations
