"""A SavedModel: what TensorFlow Serving, Triton and `tf.saved_model.load` read.

Three signatures; the first two have the outputs `SemanticPredictions` int32 [B, H, W] and `SemanticProbabilities`
float32 [B, H, W, classes], 0..1. Models of other than three channels have the first only.

    serving_default   images: uint8 [B, H, W, 3], RGB, 0..255, or raw values [B, H, W, C] of the model's bands and type
    serving_bytes     image_bytes: string [B], the contents of JPEG or PNG files (8-bit RGB models only)
    serving_png       image_bytes, likewise -> mask_png_bytes: string [B], gray PNG files of class numbers

Images of a batch have one size, which may differ from call to call. `assets/` holds the class names and the
description of the input, `assets.extra/` the requests by which TensorFlow Serving warms up. With a model version the
files are in a subfolder of that number, as TensorFlow Serving wants them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence

import tensorflow as tf

from deeplab.data import decoding
from deeplab.data.bands import ImageBands, bands_of
from deeplab.data.label_bits import bits_of
from deeplab.data.transforms import scale_values
from deeplab.export.formats import FORMATS, ExportFormat, TensorInfo
from deeplab.export.formats.frozen_graph import shape_text
from deeplab.export.freeze import FrozenModel, describe
from deeplab.inference.prediction import predict_batch, predict_images
from deeplab.inference.runtimes import DESCRIPTION_FILE
from deeplab.inference.runtimes.saved_model import versions_in
from deeplab.inference.tensor_names import (
    BYTES_SIGNATURE,
    DEFAULT_SIGNATURE,
    IMAGE_BYTES,
    IMAGES,
    LABELS,
    MASK_BYTES,
    PNG_SIGNATURE,
    PROBABILITIES,
)
from deeplab.utils.errors import UserError
from deeplab.utils.files import write_atomically

WARM_UP = os.path.join("assets.extra", "tf_serving_warmup_requests")


def write(model: FrozenModel, path: str) -> list[TensorInfo]:
    """Writes a SavedModel, which must not exist, and returns the tensors of its default signature.

    Raises:
      UserError: it cannot be written.
    """
    module = tf.Module()
    fixed, bands = model.config.fixed_size, bands_of(model.settings.model)
    of_images = serve_prepared_image(model) if fixed else serve_images(model)
    signatures = {DEFAULT_SIGNATURE: of_images}
    if bands.is_rgb and not fixed:
        signatures |= {BYTES_SIGNATURE: serve_bytes(of_images), PNG_SIGNATURE: serve_png(of_images)}
    version = model.config.model_version if model.config else None
    path = path if version is None else os.path.join(path, str(version))
    assets = {**model.assets, DESCRIPTION_FILE: describe(model).to_json().encode()} if fixed else model.assets
    module.functions = list(signatures.values())
    with tempfile.TemporaryDirectory() as folder:
        for name, content in assets.items():
            write_atomically(os.path.join(folder, name), content)
        module.assets = [tf.saved_model.Asset(os.path.join(folder, name)) for name in assets]
        try:
            tf.saved_model.save(module, path, signatures)
        except (OSError, tf.errors.OpError) as error:
            rule = f"cannot be written: {' '.join(str(error).split())[:200]}"
            raise UserError("unwritable-file", rule, "check that the disk has space", where=path) from None
    size = model.settings.crop_size or (65, 65)
    function = of_images.get_concrete_function()
    _write_warm_up(os.path.join(path, WARM_UP), size, bands, function.inputs[0].dtype, tuple(signatures))
    outputs = function.structured_outputs.items()
    specs = [(IMAGES, function.inputs[0]), *((name, tensor) for name, tensor in outputs)]
    return [(name, spec.dtype.name, shape_text(spec.shape)) for name, spec in specs]


def _is_saved_model(path: str) -> bool:
    return os.path.isfile(os.path.join(path, "saved_model.pb")) or bool(versions_in(path))


FORMATS.register("saved_model")(
    ExportFormat("saved_model", "_saved_model", write, _is_saved_model, takes_ranges=True, takes_fixed_size=True)
)


def serve_images(model: FrozenModel) -> tf.types.experimental.GenericFunction:
    """Images [B, H, W, C] of the model's type -> the outputs, as a `tf.function` whose weights are constants."""
    settings = model.settings

    dtype = tf.as_dtype(settings.model.input_dtype)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, settings.model.input_channels], dtype, IMAGES)])
    def images_to_masks(images):
        found = predict_images(model.in_this_graph(), images, settings)
        return {LABELS: found.labels, PROBABILITIES: found.probabilities}

    return images_to_masks


def serve_prepared_image(model: FrozenModel) -> tf.types.experimental.GenericFunction:
    """A prepared image, float32 [1, h, w, C], 0..255 or raw values -> the outputs at that size, the crop size."""
    settings = model.settings
    assert settings.crop_size is not None
    shape = [1, *settings.crop_size, settings.model.input_channels]

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, IMAGES)])
    def image_to_mask(images):
        found = predict_batch(model.in_this_graph(), scale_values(images, bands_of(settings.model)), settings)
        return {LABELS: found.labels, PROBABILITIES: found.probabilities}

    return image_to_mask


def serve_bytes(of_images: Callable) -> tf.types.experimental.GenericFunction:
    """string [B], encoded images of one size -> the outputs of `of_images`."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, IMAGE_BYTES)])
    def bytes_to_masks(image_bytes):
        return of_images(_decoded(image_bytes))

    return bytes_to_masks


def serve_png(of_images: Callable) -> tf.types.experimental.GenericFunction:
    """string [B], encoded images of one size -> gray PNG files of their labels, of 16 bits beyond 256 classes."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, IMAGE_BYTES)])
    def bytes_to_png(image_bytes):
        found = of_images(_decoded(image_bytes))
        dtype = tf.uint8 if bits_of(found[PROBABILITIES].shape[-1]) == 8 else tf.uint16
        labels = tf.cast(found[LABELS], dtype)[..., tf.newaxis]
        return {MASK_BYTES: tf.map_fn(tf.io.encode_png, labels, fn_output_signature=tf.TensorSpec([], tf.string))}

    return bytes_to_png


def _decoded(image_bytes: tf.Tensor) -> tf.Tensor:
    return tf.map_fn(decoding.decode_image, image_bytes, fn_output_signature=tf.TensorSpec([None, None, 3], tf.uint8))


# --- Warm-up requests ---------------------------------------------------------------------------------------


def _write_warm_up(
    path: str, size: tuple[int, int], bands: ImageBands, dtype: tf.DType, signatures: Sequence[str]
) -> None:
    """Write one request per signature, of black images [1, H, W, C], which TensorFlow Serving runs after loading."""
    requests = {DEFAULT_SIGNATURE: (IMAGES, tf.make_tensor_proto(0, dtype, [1, *size, bands.channels]))}
    if BYTES_SIGNATURE in signatures:
        file = tf.io.encode_png(tf.zeros([*size, bands.channels], tf.uint8)).numpy()
        requests |= dict.fromkeys(
            (BYTES_SIGNATURE, PNG_SIGNATURE), (IMAGE_BYTES, tf.make_tensor_proto([file], tf.string))
        )
    os.makedirs(os.path.dirname(path))
    with tf.io.TFRecordWriter(path) as writer:
        for signature, (name, tensor) in requests.items():
            writer.write(_prediction_log(signature, name, tensor.SerializeToString()))


def _prediction_log(signature: str, name: str, tensor: bytes) -> bytes:
    """Return a `tensorflow.serving.PredictionLog` with one request, in protocol buffers' wire format.

    The numbers of the fields are those of TensorFlow Serving's prediction_log.proto, predict.proto and model.proto.
    """
    model_spec = _field(3, signature.encode())
    entry = _field(1, name.encode()) + _field(2, tensor)
    request = _field(1, model_spec) + _field(2, entry)
    return _field(6, _field(1, request))


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes: its number and wire type 2, the length as a varint, the content."""
    length, digits = len(content), bytearray()
    while length > 127:
        digits.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2, *digits, length]) + content
