"""ONNX files of one size, for ONNX Runtime and other programs. Needs the extra `onnx`.

    image                    float32 [1, h, w, C], RGB, 0..255, resized and padded to the crop size
    SemanticPredictions      int32 [1, h, w]
    SemanticProbabilities    float32 [1, h, w, classes], 0..1

Atrous convolutions have native dilation. The property `deeplab` of the file tells the size and the padding color.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from deeplab.export.formats import FORMATS, ExportFormat, TensorInfo
from deeplab.export.formats.frozen_graph import LABELS, PROBABILITIES, shape_text
from deeplab.export.formats.litert import IMAGE, describe
from deeplab.export.freeze import FrozenModel
from deeplab.inference.prediction import predict_batch
from deeplab.inference.runtimes.onnx import PROPERTY
from deeplab.utils.extras import require
from deeplab.utils.files import write_atomically

OPSET = 17


def write(model: FrozenModel, path: str) -> list[TensorInfo]:
    """Writes a file with float32 weights.

    Raises:
      UserError: the extra `onnx` is not installed.
    """
    tf2onnx, onnx = require("tf2onnx", "onnx"), require("onnx", "onnx")
    settings = model.settings
    assert settings.crop_size is not None
    signature = [tf.TensorSpec([1, *settings.crop_size, settings.model.input_channels], tf.float32, IMAGE)]

    @tf.function(input_signature=signature)
    def predict(image):
        raw = predict_batch(model.in_this_graph(), image, settings)
        return {LABELS: raw.labels, PROBABILITIES: raw.probabilities}

    proto, _ = tf2onnx.convert.from_function(predict, input_signature=signature, opset=OPSET)
    _keep_sizes(proto, onnx.numpy_helper)
    onnx.helper.set_model_props(proto, {PROPERTY: describe(model).to_json()})
    write_atomically(path, proto.SerializeToString(deterministic=True))
    specs = [(IMAGE, signature[0]), *predict.get_concrete_function().structured_outputs.items()]
    return [(name, spec.dtype.name, shape_text(spec.shape)) for name, spec in specs]


def _keep_sizes(proto: Any, numpy_helper: Any) -> None:
    """Raises the scales of resizes by a millionth: 7 * float32(25 / 7) would be rounded down to 24.

    The sampling points depend on the two sizes alone, because corners are aligned.
    """
    scales = {node.input[2] for node in proto.graph.node if node.op_type == "Resize" and len(node.input) == 3}
    for constant in proto.graph.initializer:
        if constant.name in scales:
            values = numpy_helper.to_array(constant)
            raised = np.where(values == 1, values, values * (1 + 1e-6)).astype(values.dtype)
            constant.CopyFrom(numpy_helper.from_array(raised, constant.name))


NEEDS = dict.fromkeys(("tf2onnx", "onnx", "onnxruntime"), "onnx")
FORMATS.register("onnx")(ExportFormat("model.onnx", ".onnx", write, prepares_inside=False, needs=NEEDS))
