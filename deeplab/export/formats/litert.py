"""LiteRT (TensorFlow Lite) files, for phones, browsers and small computers.

    image                    float32 [1, h, w, C], RGB, 0..255, resized and padded to the crop size
    SemanticPredictions      int32 [1, h, w]; signature "labels"
    SemanticProbabilities    float32 [1, h, w, classes], 0..1; signature "probabilities"

The file has one size. Both signatures share the weights. Normalization, upsampling, softmax and argmax are inside;
resizing and padding are the caller's part. Behind the model is a zip archive, as usual for such files (`unzip
model.tflite`): `labels.txt`, and `deeplab.json`, which tells the size and the padding color.
"""

from __future__ import annotations

import io
import os
import tempfile
import warnings
import zipfile

import tensorflow as tf

import slim
from deeplab.export.formats import FORMATS, ExportFormat, TensorInfo
from deeplab.export.formats.frozen_graph import LABELS, PROBABILITIES, shape_text
from deeplab.export.freeze import FrozenModel
from deeplab.export.metadata import LABELS_FILE
from deeplab.inference.fixed_size import FixedInput
from deeplab.inference.prediction import predict_batch
from deeplab.inference.runtimes.litert import DESCRIPTION_FILE, read_description
from deeplab.utils.files import write_atomically

IMAGE = "image"


def write(model: FrozenModel, path: str) -> list[TensorInfo]:
    """Writes a file with float32 weights."""
    functions = fixed_size_functions(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of interpreters that a later TensorFlow will not have
        content = io.BytesIO(_converted(functions))
    content.seek(0, os.SEEK_END)
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr(zipfile.ZipInfo(DESCRIPTION_FILE), describe(model).to_json())
        archive.writestr(zipfile.ZipInfo(LABELS_FILE), model.assets.get(LABELS_FILE, b""))
    write_atomically(path, content.getvalue())
    specs = [(IMAGE, next(iter(functions.values())).get_concrete_function().inputs[0])]
    for function in functions.values():
        specs += function.get_concrete_function().structured_outputs.items()
    return [(name, spec.dtype.name, shape_text(spec.shape)) for name, spec in specs]


def describe(model: FrozenModel) -> FixedInput:
    """The description of a model for files of one size."""
    settings = model.settings
    assert settings.crop_size is not None
    padding = slim.find(settings.model.model_variant).padding_color
    color = tuple(float(value) for value in padding) if isinstance(padding, (tuple, list)) else (float(padding),)
    return FixedInput(settings.crop_size, color, settings.resize, model.class_names, model.colors)


def fixed_size_functions(model: FrozenModel) -> dict[str, tf.types.experimental.GenericFunction]:
    """Signature -> a function of one prepared image, float32 [1, h, w, C], with the weights as constants."""
    settings = model.settings
    assert settings.crop_size is not None
    signature = [tf.TensorSpec([1, *settings.crop_size, settings.model.input_channels], tf.float32, IMAGE)]

    @tf.function(input_signature=signature)
    def labels(image):
        return {LABELS: predict_batch(model.in_this_graph(), image, settings).labels}

    @tf.function(input_signature=signature)
    def probabilities(image):
        return {PROBABILITIES: predict_batch(model.in_this_graph(), image, settings).probabilities}

    return {"labels": labels, "probabilities": probabilities}


def _converted(functions: dict[str, tf.types.experimental.GenericFunction]) -> bytes:
    module = tf.Module()
    module.functions = list(functions.values())
    with tempfile.TemporaryDirectory() as folder:  # a SavedModel keeps the signatures' names
        tf.saved_model.save(module, folder, functions)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(functions))
        return converter.convert()


def _is_ours(path: str) -> bool:
    try:
        return bool(read_description(path))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return False


FORMATS.register("litert")(ExportFormat("model.tflite", ".tflite", write, _is_ours))
