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

import slim
from deeplab.data import decoding
from deeplab.export.formats import FORMATS, ExportFormat, TensorInfo
from deeplab.export.formats.frozen_graph import LABELS, PROBABILITIES, shape_text
from deeplab.export.freeze import FrozenModel
from deeplab.inference.prediction import (
    PredictionSettings,
    padded_size,
    predict_batch,
    prepare,
    restore_labels,
    restore_probabilities,
)
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
        if settings.resize.min_resize_value is None:
            size, pixels = tf.shape(images)[1:3], _padded(images, settings)
        else:
            size = prepare(images[0], settings).size
            pixels = _each(lambda image: prepare(image, settings).pixels, images, tf.float32)
        raw = predict_batch(model.in_this_graph(), pixels, settings)
        original = tf.shape(images)[1:3] if settings.resize.min_resize_value else None
        return {
            LABELS: _restored(restore_labels, raw.labels, size, original),
            PROBABILITIES: _restored(restore_probabilities, raw.probabilities, size, original),
        }

    return images_to_masks


def _padded(images: tf.Tensor, settings: PredictionSettings) -> tf.Tensor:
    """`prepare` for a batch that is not resized: without a loop, which LiteRT's converter refuses.

    Args:
      images: uint8 [B, H, W, C], 0..255.
      settings: crop size and backbone.

    Returns:
      float32 [B, h, w, C], the same pixels as from `prepare`, padded at the bottom and right.
    """
    images = tf.cast(images, tf.float32)
    number, height, width, channels = tf.unstack(tf.shape(images))
    full_height, full_width = padded_size((height, width), settings)
    color = slim.find(settings.model.model_variant).padding_color
    pixel = tf.broadcast_to(tf.constant(color, tf.float32), [images.shape[-1]])
    right = tf.broadcast_to(pixel, [number, height, full_width - width, channels])
    below = tf.broadcast_to(pixel, [number, full_height - height, full_width, channels])
    return tf.concat([tf.concat([images, right], axis=2), below], axis=1)


def serve_bytes(of_images: Callable) -> tf.types.experimental.GenericFunction:
    """string [1], an encoded image -> the outputs of `of_images`."""

    @tf.function(input_signature=[tf.TensorSpec([1], tf.string, IMAGE_BYTES)])
    def bytes_to_masks(image_bytes):
        return of_images(decoding.decode_image(image_bytes[0])[tf.newaxis])

    return bytes_to_masks


def _restored(restore: Callable, maps: tf.Tensor, size: tf.Tensor, original: tf.Tensor | None) -> tf.Tensor:
    """`restore` for a batch; without a resize it is a slice, which needs no loop and no copy."""
    if original is None:
        return maps[:, : size[0], : size[1]]
    return _each(lambda one: restore(one, size, original), maps, maps.dtype)


def _each(function: Callable, batch: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Applies `function` to every member of a batch [B, H, W, ...]; the results must have one shape."""
    unknown = [None, None, *batch.shape[3:]]
    return tf.map_fn(function, batch, fn_output_signature=tf.TensorSpec(unknown, dtype))
