"""A SavedModel: what TensorFlow Serving, Triton and `tf.saved_model.load` read.

Two signatures, both with the outputs `SemanticPredictions` int32 [B, H, W] and `SemanticProbabilities` float32
[B, H, W, classes], 0..1:

    serving_default   images: uint8 [B, H, W, C], RGB, 0..255
    serving_bytes     image_bytes: string [1], a JPEG or PNG as it lies in a file; B = 1 (three-channel networks only)

Pictures of a batch have one size, which may differ from call to call. `assets/` holds the class names and the
description of the input.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import tensorflow as tf

from deeplab.data import decoding
from deeplab.export.formats.frozen_graph import LABELS, PROBABILITIES
from deeplab.export.freeze import ConstantNetwork
from deeplab.inference.prediction import (
    PredictionSettings,
    predict_batch,
    prepare,
    restore_labels,
    restore_probabilities,
)
from deeplab.utils.errors import UserError

DEFAULT, BYTES = "serving_default", "serving_bytes"
IMAGES, IMAGE_BYTES = "images", "image_bytes"


def write(
    folder: str | os.PathLike, network: ConstantNetwork, settings: PredictionSettings, assets: Sequence[str]
) -> None:
    """Writes a SavedModel.

    Args:
      folder: where to; it must not exist.
      network: the weights.
      settings: as for the frozen graph.
      assets: paths of files that are copied into it.

    Raises:
      UserError: it cannot be written.
    """
    module = tf.Module()
    module.assets = [tf.saved_model.Asset(path) for path in assets]
    channels = settings.model.input_channels
    of_images = serve_images(network, settings)
    signatures = {DEFAULT: of_images}
    if channels == 3:
        signatures[BYTES] = serve_bytes(of_images)
    module.functions = list(signatures.values())
    try:
        tf.saved_model.save(module, os.fspath(folder), signatures)
    except (OSError, tf.errors.OpError) as fault:
        raise UserError(
            "unclassified",
            f"cannot be written: {' '.join(str(fault).split())[:200]}",
            "is the disk full?",
            where=folder,
        ) from None


def serve_images(network: ConstantNetwork, settings: PredictionSettings) -> tf.types.experimental.GenericFunction:
    """uint8 [B, H, W, C] -> the outputs, as a `tf.function` whose weights are constants."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, settings.model.input_channels], tf.uint8, IMAGES)])
    def images_to_masks(images):
        size = prepare(images[0], settings).size
        pixels = _each(lambda image: prepare(image, settings).pixels, images, tf.float32)
        raw = predict_batch(network.in_this_graph(), pixels, settings)
        original = tf.shape(images)[1:3] if settings.resize.min_resize_value else None
        return {
            LABELS: _restored(restore_labels, raw.labels, size, original),
            PROBABILITIES: _restored(restore_probabilities, raw.probabilities, size, original),
        }

    return images_to_masks


def serve_bytes(of_images: Callable) -> tf.types.experimental.GenericFunction:
    """string [1], an encoded picture -> the outputs of `of_images`."""

    @tf.function(input_signature=[tf.TensorSpec([1], tf.string, IMAGE_BYTES)])
    def bytes_to_masks(image_bytes):
        return of_images(decoding.decode_image(image_bytes[0])[tf.newaxis])

    return bytes_to_masks


def _restored(restore: Callable, maps: tf.Tensor, size: tf.Tensor, original: tf.Tensor | None) -> tf.Tensor:
    """`restore` for a batch; without a resize it is a cut, which needs no loop and no copy."""
    if original is None:
        return maps[:, : size[0], : size[1]]
    return _each(lambda one: restore(one, size, original), maps, maps.dtype)


def _each(function: Callable, batch: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """`function` of every member of a batch [B, H, W, ...]; the results must have one shape."""
    unknown = [None, None, *batch.shape[3:]]
    return tf.map_fn(function, batch, fn_output_signature=tf.TensorSpec(unknown, dtype))
