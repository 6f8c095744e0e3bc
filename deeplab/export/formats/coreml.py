"""Core ML packages, for iOS 16, macOS 13 and later. Needs the extra `coreml`.

| format | weights | computed in |
|---|---|---|
| coreml | float16 | float16 |
| coreml_int8 | int8, a scale per channel | float16 |

    image                    RGB image of the crop size, 0..255, resized and padded; with other channels an array
    SemanticPredictions      int32 [1, h, w]

Core ML runs on Apple's systems only, so these packages are converted but not checked: no runtime of this project loads
them. The metadata `deeplab` of the package tells the size and the padding color.
"""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from deeplab.export.formats import FORMATS, ExportFormat, TensorInfo, mentions_predictions
from deeplab.export.formats.litert import fixed_size_functions
from deeplab.export.freeze import FrozenModel, describe
from deeplab.inference.tensor_names import IMAGE, LABELS
from deeplab.utils import console
from deeplab.utils.extras import require
from deeplab.utils.files import writing

PROPERTY = "deeplab"
NEEDS = {"coremltools": "coreml"}


def write(model: FrozenModel, path: str) -> list[TensorInfo]:
    """Writes float16 weights."""
    return _write(model, path, is_int8=False)


def write_int8(model: FrozenModel, path: str) -> list[TensorInfo]:
    """Writes int8 weights."""
    return _write(model, path, is_int8=True)


def _write(model: FrozenModel, path: str, is_int8: bool) -> list[TensorInfo]:
    assert model.settings.crop_size is not None
    (height, width), channels = model.settings.crop_size, model.settings.model.input_channels
    with _silence():
        tools = require("coremltools", "coreml")
        function = fixed_size_functions(model)["labels"].get_concrete_function()
        shape = (1, height, width, channels)
        image = (
            tools.ImageType(name=IMAGE, shape=shape, color_layout=tools.colorlayout.RGB, channel_first=False)
            if channels == 3
            else tools.TensorType(name=IMAGE, shape=shape)
        )
        made = tools.convert(
            [function],
            source="tensorflow",
            inputs=[image],
            convert_to="mlprogram",
            compute_precision=tools.precision.FLOAT16,
            minimum_deployment_target=tools.target.iOS16,
        )
        if is_int8:
            made = _int8_weights(made)
        specification = made.get_spec()
        tools.utils.rename_feature(specification, specification.description.output[0].name, LABELS)
        made = tools.models.MLModel(specification, weights_dir=made.weights_dir, skip_model_load=True)
        made.user_defined_metadata[PROPERTY] = describe(model).to_json()
        made.short_description = "Semantic segmentation: the class of every pixel."
        with writing(path):
            made.save(path)
    kind = "RGB image" if channels == 3 else "float32"
    return [(IMAGE, kind, " x ".join(map(str, shape))), (LABELS, "int32", f"1 x {height} x {width}")]


def _int8_weights(made: Any) -> Any:
    optimize = require("coremltools.optimize.coreml", "coreml")
    rule = optimize.OpLinearQuantizerConfig(mode="linear_symmetric")
    return optimize.linear_quantize_weights(made, optimize.OptimizationConfig(global_config=rule))


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keeps warnings about other libraries' versions and progress bars off the terminal."""
    with console.library_messages_off(), contextlib.redirect_stderr(io.StringIO()):
        yield


def _is_export(path: str) -> bool:
    """Whether a path is a package of this project: others have no output of this name."""
    models = pathlib.Path(path, "Data").glob("*/*.mlmodel")
    return os.path.isfile(os.path.join(path, "Manifest.json")) and any(map(mentions_predictions, models))


FORMATS.register("coreml")(
    ExportFormat(
        "model.mlpackage",
        ".mlpackage",
        write,
        _is_export,
        is_exact=False,
        prepares_inside=False,
        needs=NEEDS,
        has_runtime=False,
    )
)
FORMATS.register("coreml_int8")(
    ExportFormat(
        "model_int8.mlpackage",
        "_int8.mlpackage",
        write_int8,
        _is_export,
        is_exact=False,
        prepares_inside=False,
        needs=NEEDS,
        has_runtime=False,
    )
)
