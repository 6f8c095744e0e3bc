"""A SavedModel: what TensorFlow Serving, Triton and `tf.saved_model.load` read.

Two signatures, both with the outputs `SemanticPredictions` int32 [B, H, W] and `SemanticProbabilities` float32
[B, H, W, classes], 0..1:

    serving_default   images: uint8 [B, H, W, C], RGB, 0..255
    serving_bytes     image_bytes: string [1], the content of a JPEG or PNG file; B = 1 (three-channel models only)

Images of a batch have one size, which may differ from call to call. `assets/` holds the class names and the
description of the input.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable

import tensorflow as tf

from deeplab.data import decoding
from deeplab.export.formats import FORMATS, ExportFormat, TensorInfo
from deeplab.export.formats.frozen_graph import LABELS, PROBABILITIES, shape_text
from deeplab.export.freeze import FrozenModel
from deeplab.inference.prediction import predict_images
from deeplab.utils.errors import UserError
from deeplab.utils.files import write_atomically

DEFAULT, BYTES = "serving_default", "serving_bytes"
IMAGES, IMAGE_BYTES = "images", "image_bytes"


def write(model: FrozenModel, path: str) -> list[TensorInfo]:
    """Writes a SavedModel, which must not exist, and returns the tensors of its default signature.

    Raises:
      UserError: it cannot be written.
    """
    module = tf.Module()
    of_images = serve_images(model)
    signatures = {DEFAULT: of_images}
    if model.settings.model.input_channels == 3:
        signatures[BYTES] = serve_bytes(of_images)
    module.functions = list(signatures.values())
    with tempfile.TemporaryDirectory() as folder:
        for name, content in model.assets.items():
            write_atomically(os.path.join(folder, name), content)
        module.assets = [tf.saved_model.Asset(os.path.join(folder, name)) for name in model.assets]
        try:
            tf.saved_model.save(module, path, signatures)
        except (OSError, tf.errors.OpError) as error:
            rule = f"cannot be written: {' '.join(str(error).split())[:200]}"
            raise UserError("unwritable-file", rule, "check that the disk has space", where=path) from None
    function = of_images.get_concrete_function()
    outputs = function.structured_outputs.items()
    specs = [(IMAGES, function.inputs[0]), *((name, tensor) for name, tensor in outputs)]
    return [(name, spec.dtype.name, shape_text(spec.shape)) for name, spec in specs]


def _is_saved_model(path: str) -> bool:
    return os.path.isfile(os.path.join(path, "saved_model.pb"))


FORMATS.register("saved_model")(ExportFormat("saved_model", "_saved_model", write, _is_saved_model))


def serve_images(model: FrozenModel) -> tf.types.experimental.GenericFunction:
    """uint8 [B, H, W, C] -> the outputs, as a `tf.function` whose weights are constants."""
    settings = model.settings

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, settings.model.input_channels], tf.uint8, IMAGES)])
    def images_to_masks(images):
        found = predict_images(model.in_this_graph(), images, settings)
        return {LABELS: found.labels, PROBABILITIES: found.probabilities}

    return images_to_masks


def serve_bytes(of_images: Callable) -> tf.types.experimental.GenericFunction:
    """string [1], an encoded image -> the outputs of `of_images`."""

    @tf.function(input_signature=[tf.TensorSpec([1], tf.string, IMAGE_BYTES)])
    def bytes_to_masks(image_bytes):
        return of_images(decoding.decode_image(image_bytes[0])[tf.newaxis])

    return bytes_to_masks
