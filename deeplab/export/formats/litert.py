"""LiteRT (TensorFlow Lite) files, for phones, browsers and small computers.

| format | weights, activations | input | signatures |
|---|---|---|---|
| litert | float32 | float32, 0..255 | labels, probabilities |
| litert_float16 | float16, float32 | float32, 0..255 | labels, probabilities |
| litert_dynamic | int8 per channel, int8 at run time | float32, 0..255 | labels, probabilities |
| litert_int8 | int8 per channel, int8 | uint8, or int8 = 0..255 minus 128 | labels, or logits |

    image                    [1, h, w, C], RGB, resized and padded to the crop size

Models of other bands than 8-bit RGB take raw values as float32, which the file scales; `litert_int8` takes values that
the caller has scaled to 0..255.

    SemanticPredictions      int32 [1, h, w]; signature "labels"
    SemanticProbabilities    float32 [1, h, w, classes], 0..1; signature "probabilities"
    SemanticLogits           type of the input [1, h', w', classes], before upsampling; signature "logits"

The file has one size. All signatures share the weights. Normalization, upsampling, softmax and argmax are inside;
resizing and padding are the caller's part. Behind the model is a zip archive, as usual for such files (`unzip
model.tflite`): `labels.txt`, and `deeplab.json`, which tells the size, the input's type and the padding color.
"""

from __future__ import annotations

import dataclasses
import io
import os
import re
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab.config.export_config import ExportConfig
from deeplab.data.bands import RGB, bands_of
from deeplab.data.transforms import scale_values
from deeplab.export.formats import FORMATS, ExportFormat, TensorInfo
from deeplab.export.formats.frozen_graph import shape_text
from deeplab.export.freeze import FrozenModel, describe
from deeplab.export.graph_optimizer import speed_up_for_others
from deeplab.inference.file_predictor import LABELS_FILE
from deeplab.inference.fixed_size import FixedInput, has_appended_description
from deeplab.inference.prediction import PredictionSettings, predict_batch
from deeplab.inference.runtimes import DESCRIPTION_FILE
from deeplab.inference.tensor_names import IMAGE, LABELS, LOGITS, PROBABILITIES
from deeplab.model.head_layers import ConcatenationOfRanges, input_normalization
from deeplab.utils.errors import UserError
from deeplab.utils.files import write_atomically
from slim.quantization import is_quantized

Functions = dict[str, tf.types.experimental.GenericFunction]
Write = Callable[[FrozenModel, str], list[TensorInfo]]
Converter = Any  # tf.lite.TFLiteConverter


def write(model: FrozenModel, path: str) -> list[TensorInfo]:
    """Writes a file with float32 weights."""
    return write_file(model, path, describe(model), converted(_faster_functions(model)))


def write_float16(model: FrozenModel, path: str) -> list[TensorInfo]:
    """Writes a file with float16 weights; it computes in float32, or in float16 where the device does."""

    def configure(converter: Converter) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]

    return write_file(model, path, describe(model), converted(_faster_functions(model), configure))


def write_dynamic(model: FrozenModel, path: str) -> list[TensorInfo]:
    """Writes a file with int8 weights whose activations become int8 in each convolution, by ranges found there."""

    def configure(converter: Converter) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]

    return write_file(model, path, describe(model), converted(_faster_functions(model), configure))


def write_int8(model: FrozenModel, path: str) -> list[TensorInfo]:
    """Writes a file that computes in int8 alone, with ranges from the calibration images.

    Raises:
      UserError: `float_layers` names no layer, or the pixels would not enter as they are.
    """
    config = model.config
    if is_quantized(model.model):
        model = _with_joined_ranges(model)
    description = describe(model, scales=False)
    description = dataclasses.replace(
        description,
        padding_color=tuple(float(round(value)) for value in description.padding_color),
        dtype=config.int8_input,
        upsample_logits=model.settings.model.prediction_with_upsampled_logits,
        align_corners=model.settings.model.align_corners,
    )
    functions = fixed_size_functions(model, scales=False)
    chosen = {config.int8_output: functions["labels"] if config.int8_output == "labels" else _logits_function(model)}

    if is_quantized(model.model):
        content = _converted_by_ranges(model, chosen, config)
        _require_whole_pixels(content, config.int8_input, path)
        return write_file(model, path, description, content)

    def representative() -> Iterator[dict[str, np.ndarray]]:
        for number, image in enumerate(model.calibration):
            pixels = description.prepare(image)[0][np.newaxis].round()
            if number == 0:  # so that the range of the input is exactly 0..255: its integers are the pixels
                pixels[0, 0, 0, 0], pixels[0, -1, -1, 0] = 0, 255
            yield {IMAGE: pixels}

    def configure(converter: Converter) -> None:
        kind = tf.as_dtype(config.int8_input)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = representative
        if not config.float_layers:  # then nothing may stay in float
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = kind
        if config.int8_output == "logits":
            converter.inference_output_type = kind

    content = converted(chosen, configure, config.float_layers)
    _require_whole_pixels(content, config.int8_input, path)
    return write_file(model, path, description, content)


def _converted_by_ranges(model: FrozenModel, functions: Functions, config: ExportConfig) -> bytes:
    """Converts a model trained with fake quantization to int8 by the ranges that it has learned.

    Activations keep their fake quantization; weights are constants, which the converter rounds per channel.

    Raises:
      UserError: layers are to stay in float, or the converter has left some there.
    """
    if config.float_layers:
        rule = "is for models that are quantized after the training; this one has learned a range for every layer"
        raise UserError("not-supported", rule, "leave it out", field="float_layers", value=config.float_layers)

    def configure(converter: Converter) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = tf.as_dtype(config.int8_input)
        if config.int8_output == "logits":
            converter.inference_output_type = tf.as_dtype(config.int8_input)

    normalize = input_normalization(model.model)
    normalize.rounds = True
    try:
        return converted(functions, configure)
    finally:
        normalize.rounds = False


def _with_joined_ranges(model: FrozenModel) -> FrozenModel:
    """The model with one range for all inputs of a concatenation, from the smallest to the largest of theirs.

    Integers of a concatenation have one range; the converter takes that of one input, in which others would be clipped.
    """
    values = dict(model.values)
    for layer in model.model._flatten_layers():
        if isinstance(layer, ConcatenationOfRanges):
            for end, outermost in (("min", np.min), ("max", np.max)):
                names = [f"{scope}/{end}" for scope in layer.scopes()]
                values |= dict.fromkeys(names, outermost([values[name] for name in names]))
    return dataclasses.replace(model, values=values)


def write_file(model: FrozenModel, path: str, description: FixedInput, content: bytes) -> list[TensorInfo]:
    """Writes a converted model with its description and its classes behind it."""
    file = io.BytesIO(content)
    file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(zipfile.ZipInfo(DESCRIPTION_FILE), description.to_json())
        archive.writestr(zipfile.ZipInfo(LABELS_FILE), model.assets.get(LABELS_FILE, b""))
    write_atomically(path, file.getvalue())
    return _tensors(content)


def fixed_size_functions(model: FrozenModel, scales: bool = True) -> Functions:
    """Signature -> a function of one prepared image, float32 [1, h, w, C], with the weights as constants.

    Args:
      model: the model.
      scales: whether the functions scale raw values of other bands than 8-bit RGB to 0..255.
    """
    settings = model.settings
    bands = bands_of(settings.model) if scales else RGB

    @tf.function(input_signature=_signature(model))
    def labels(image):
        return {LABELS: predict_batch(model.in_this_graph(), scale_values(image, bands), settings).labels}

    @tf.function(input_signature=_signature(model))
    def probabilities(image):
        raw = predict_batch(model.in_this_graph(), scale_values(image, bands), settings)
        return {PROBABILITIES: raw.probabilities}

    return {"labels": labels, "probabilities": probabilities}


def _faster_functions(model: FrozenModel) -> Functions:
    """As `fixed_size_functions`, with the identities of `graph_optimizer` applied where batch norm is folded."""
    if not model.folded:
        return fixed_size_functions(model)
    definition = graph_definition(model, fixed=True)
    speed_up_for_others(definition, dilates=False)

    def function_of(output: str) -> tf.types.experimental.GenericFunction:
        @tf.function(input_signature=_signature(model))
        def run(image):
            return {
                output: tf.graph_util.import_graph_def(definition, {f"{IMAGE}:0": image}, [f"{output}:0"], name="")[0]
            }

        return run

    return {"labels": function_of(LABELS), "probabilities": function_of(PROBABILITIES)}


def graph_definition(model: FrozenModel, fixed: bool) -> tf.compat.v1.GraphDef:
    """The graph from a prepared image to labels and probabilities, for converters to other programs.

    Args:
      model: what to convert.
      fixed: whether the image has the crop size; else height and width are unknown.
    """
    settings = model.settings
    assert settings.crop_size is not None
    size = list(settings.crop_size) if fixed else [None, None]
    graph = tf.Graph()
    with graph.as_default():
        image = tf.compat.v1.placeholder(tf.float32, [1, *size, settings.model.input_channels], name=IMAGE)
        raw = predict_batch(model.in_this_graph(), scale_values(image, bands_of(settings.model)), settings)
        tf.identity(raw.labels, name=LABELS)
        tf.identity(raw.probabilities, name=PROBABILITIES)
    return graph.as_graph_def()


def _logits_function(model: FrozenModel) -> tf.types.experimental.GenericFunction:
    """The logits before upsampling, of a model that sees an image once.

    Raises:
      UserError: it sees it at several scales or mirrored, so that there are no logits of all.
    """
    if not model.settings.one_pass:
        rule = "cannot be logits: the average of several passes is one of probabilities"
        hint = "`int8_output=labels`, or one scale and no mirrored images"
        raise UserError("conflicting-settings", rule, hint, field="int8_output", value="logits")

    @tf.function(input_signature=_signature(model))
    def logits(image):
        return {LOGITS: model.in_this_graph()(image)}

    return logits


def _signature(model: FrozenModel) -> list[tf.TensorSpec]:
    settings = model.settings
    assert settings.crop_size is not None
    return [tf.TensorSpec([1, *settings.crop_size, settings.model.input_channels], tf.float32, IMAGE)]


def converted(
    functions: Functions, configure: Callable[[Converter], None] | None = None, float_layers: tuple[str, ...] = ()
) -> bytes:
    """A LiteRT model with a signature for each function.

    Args:
      functions: by name.
      configure: sets up the converter.
      float_layers: layers that are not quantized.
    """
    module = tf.Module()
    module.functions = list(functions.values())
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():  # a SavedModel keeps the signatures' names
        warnings.simplefilter("ignore")  # of interpreters that a later TensorFlow will not have
        tf.saved_model.save(module, folder, functions)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(functions))
        if configure:
            configure(converter)
        return _partly_float(converter, float_layers) if float_layers else converter.convert()


def _partly_float(converter: Converter, layers: tuple[str, ...]) -> bytes:
    """Quantizes all but the operations of some layers.

    Raises:
      UserError: a name fits no operation.
    """
    from tensorflow.lite.python.convert import mlir_quantize

    converter._experimental_calibrate_only = True
    calibrated = converter.convert()
    names = [tensor.name.decode() for tensor in _main_graph(calibrated).tensors]
    chosen: list[str] = []
    for layer in layers:
        found = [name for name in names if f"/{layer.strip('/')}/" in _scopes(name)]
        if not found:
            rule = f"no operation belongs to {layer!r}"
            hint = "give the scope of its variables, such as logits or MobilenetV2/expanded_conv_3"
            raise UserError("unknown-name", rule, hint, field="float_layers", value=layer)
        chosen += found
    types = {
        "input_data_type": converter.inference_input_type or tf.float32,
        "output_data_type": converter.inference_output_type or tf.float32,
    }
    return mlir_quantize(calibrated, denylisted_nodes=chosen, **types)


def _scopes(name: str) -> str:
    """`deeplab_1/MobilenetV2.Conv_1/BiasAdd` -> `/deeplab/MobilenetV2/Conv/BiasAdd/`, as variables are named."""
    parts = [[re.sub(r"_\d+$", "", word).replace(".", "/") for word in part.split("/")] for part in name.split(";")]
    return ";".join(f"/{'/'.join(words)}/" for words in parts)


# ---- what is in a file -------------------------------------------------------------------------------------


def flatbuffers_schema() -> Any:
    """The classes that read and write LiteRT files."""
    from tensorflow.lite.python import schema_py_generated

    return schema_py_generated


def _main_graph(content: bytes) -> Any:
    return flatbuffers_schema().ModelT.InitFromPackedBuf(bytearray(content), 0).subgraphs[0]


def _tensors(content: bytes) -> list[TensorInfo]:
    """Inputs and outputs of all signatures, each name once."""
    flatbuffers = flatbuffers_schema()
    kinds = {number: name.lower() for name, number in vars(flatbuffers.TensorType).items() if name[0] != "_"}
    model = flatbuffers.ModelT.InitFromPackedBuf(bytearray(content), 0)
    found: dict[str, TensorInfo] = {}
    for signature in model.signatureDefs:
        for part in (*signature.inputs, *signature.outputs):
            tensor = model.subgraphs[signature.subgraphIndex].tensors[part.tensorIndex]
            name = part.name.decode()
            found[name] = (name, kinds[tensor.type], shape_text(tf.TensorShape(tensor.shape)))
    return list(found.values())


def _require_whole_pixels(content: bytes, dtype: str, path: str) -> None:
    """Checks that the integers of the input are the pixels: scale 1, zero at 0 (int8: at -128)."""
    graph = _main_graph(content)
    found = graph.tensors[graph.inputs[0]].quantization
    wanted = (1.0, 0 if dtype == "uint8" else -128)
    if found is None or (float(found.scale[0]), int(found.zeroPoint[0])) != wanted:
        rule = "the converter scaled the input, so that its integers are not the pixels"
        raise UserError(
            "unexpected-output", rule, "report this with the versions that `deeplab doctor` prints", where=path
        )


def unfit(settings: PredictionSettings, num_classes: int) -> str:
    """Why integers cannot hold a model trained with fake quantization; empty if they can, and for all others."""
    model = settings.model
    if model.quantize_delay_step >= 0 and not model.aspp_with_batch_norm and len(model.atrous_rates) > 1:
        return f"the sum of the {len(model.atrous_rates)} layers of logits has no range"
    return ""


def _register(name: str, variant: str, write: Write, **more: Any) -> None:
    suffix = f"{variant}.tflite"
    made = ExportFormat(f"model{suffix}", suffix, write, has_appended_description, prepares_inside=False, **more)
    FORMATS.register(name)(made)


_register("litert", "", write)
_register("litert_float16", "_float16", write_float16, is_exact=False)
_register("litert_dynamic", "_dynamic", write_dynamic, is_exact=False)
_register("litert_int8", "_int8", write_int8, is_exact=False, is_calibrated=True, takes_ranges=True, unfit=unfit)
