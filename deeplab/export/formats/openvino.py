"""OpenVINO models, for processors of Intel and others. Needs the extra `openvino`.

| format | numbers |
|---|---|
| openvino | float32 |
| openvino_float16 | weights float16; computed as the device prefers, in bfloat16 on processors that have it |
| openvino_int8 | weights and activations int8, by NNCF; some activations of mixed signs |

A folder with `model.xml` and `model.bin`, made of the ONNX model:

    image                    float32 [1, h, w, C], RGB, 0..255, resized and padded to k * stride + 1 pixels; of
                             openvino_int8 to the crop size
    SemanticPredictions      int32 [1, h, w]
    SemanticProbabilities    float32 [1, h, w, classes], 0..1; unless `export_probabilities` is off

The property `deeplab` in `model.xml` tells the sizes and the padding color. NNCF's scales leave room for sums that
would saturate on processors without VNNI. Its reports to its makers are switched off.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np

from deeplab.export.formats import FORMATS, ExportFormat, TensorInfo
from deeplab.export.formats.onnx import converted, tensors
from deeplab.export.freeze import FrozenModel, describe
from deeplab.inference.runtimes.openvino import FILE, PRECISION, PROPERTY
from deeplab.model.resize import size_stride
from deeplab.utils.extras import require
from deeplab.utils.files import writing

NEEDS = {"openvino": "openvino", "tf2onnx": "openvino", "onnx": "openvino"}


def write(model: FrozenModel, path: str) -> list[TensorInfo]:
    """Writes float32 weights, to be computed in float32."""
    return _write(model, path, precision="f32")


def write_float16(model: FrozenModel, path: str) -> list[TensorInfo]:
    """Writes float16 weights."""
    return _write(model, path, is_float16=True)


def write_int8(model: FrozenModel, path: str) -> list[TensorInfo]:
    """Writes int8 weights, with ranges of activations from the calibration images."""
    return _write(model, path, is_int8=True)


def _write(
    model: FrozenModel, path: str, precision: str = "", is_float16: bool = False, is_int8: bool = False
) -> list[TensorInfo]:
    openvino = require("openvino", "openvino")
    proto = converted(model, fixed=is_int8, for_integers=is_int8)  # NNCF's ranges are wrong where sizes are unknown
    description = describe(model)
    if not is_int8:
        description = dataclasses.replace(description, stride=size_stride(model.settings.model))
    read = openvino.Core().read_model(proto.SerializeToString())
    if is_int8:
        read = _quantized(read, (description.prepare(image)[0][np.newaxis] for image in model.calibration))
    read.set_rt_info(description.to_json(), PROPERTY)
    read.set_rt_info(precision, PRECISION)
    with writing(path):
        os.mkdir(path)
        openvino.save_model(read, os.path.join(path, FILE), compress_to_fp16=is_float16)
    return tensors(proto)


def _quantized(read: Any, images: Iterator[np.ndarray]) -> Any:
    with _without_reports():
        nncf = require("nncf", "openvino")
    samples = list(images)
    overflow = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
    preset = nncf.QuantizationPreset.MIXED
    dataset = nncf.Dataset(samples)
    return nncf.quantize(read, dataset, preset=preset, subset_size=len(samples), advanced_parameters=overflow)


@contextlib.contextmanager
def _without_reports() -> Iterator[None]:
    """NNCF decides at its import whether it reports its use to its makers; this variable says no."""
    with mock.patch.dict(os.environ, {"NNCF_CI": "1"}):
        yield


def _is_export(path: str) -> bool:
    try:
        with open(os.path.join(path, FILE), encoding="utf-8") as file:
            return f"<{PROPERTY} " in file.read()
    except (OSError, ValueError):
        return False


def _register(name: str, variant: str, write: Any, needs: dict[str, str], **rules: bool) -> None:
    suffix = f"_openvino{variant}"
    FORMATS.register(name)(
        ExportFormat(f"model{suffix}", suffix, write, _is_export, prepares_inside=False, needs=needs, **rules)  # type: ignore[arg-type]
    )


_register("openvino", "", write, NEEDS)
_register("openvino_float16", "_float16", write_float16, NEEDS, is_exact=False)
_register("openvino_int8", "_int8", write_int8, {**NEEDS, "nncf": "openvino"}, is_exact=False, is_calibrated=True)
