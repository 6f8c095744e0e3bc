"""Turns an image into labels and probabilities by TensorFlow operations; every command predicts through this module.

Evaluation, visualization, prediction and the exported graphs all run `predict_image`, or its three stages:

    frame = prepare(image, settings)                    # resize, pad
    raw = predict_batch(logits_of, frame.pixels[tf.newaxis], settings)   # the model; scales and mirrored images
    labels = restore_labels(raw.labels[0], frame.size, original_size)    # crop, back to the image's own size

Every operation exists in TensorFlow 1.15, so that a frozen graph made of them runs there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import tensorflow as tf

from deeplab.config.data_config import ResizeConfig
from deeplab.config.fields import Floats, Size
from deeplab.config.model_config import ModelConfig
from deeplab.data import transforms
from deeplab.data.bands import bands_of
from deeplab.model import logits_stride, padding_color
from deeplab.model.head_layers import image_scale
from deeplab.model.resize import fitting_length, scaled_length, size_stride
from deeplab.utils.errors import UserError
from slim import kernels

LogitsOf = Callable[[tf.Tensor], tf.Tensor]


class LargerThanCrop(UserError):
    """An image that does not fit into the crop size."""


@dataclass(frozen=True)
class PredictionSettings:
    """How an image becomes a mask.

    Attributes:
      model: the architecture: padding color, strides, pooling window, and whether logits are upsampled before
        softmax and argmax (`prediction_with_upsampled_logits`) or after.
      resize: images are resized like this first.
      crop_size: height, width in pixels to which every image is padded; None = each image's own size, raised to
        k * output_stride + 1 pixels, where feature maps and image corners coincide (with `align_corners`).
      scales: the model runs at each of these; their probabilities are averaged.
      flip: it runs on the mirrored image as well. The research DeepLab ignores this for the single scale 1.0.
      may_outgrow_crop: an image larger than `crop_size` is padded to its own k * output_stride + 1 instead of
        stopping the graph; the size of the raw outputs is then unknown before it runs.
      crop_field: the setting that `crop_size` comes from, for messages.
    """

    model: ModelConfig
    resize: ResizeConfig = field(default_factory=ResizeConfig)
    crop_size: Size | None = None
    scales: Floats = (1.0,)
    flip: bool = False
    may_outgrow_crop: bool = False
    crop_field: str = "crop_size"

    def __post_init__(self) -> None:
        least = _min_size(self)
        if self.crop_size and (self.crop_size[0] < least[0] or self.crop_size[1] < least[1]):
            window = ",".join(map(str, self.model.pooling_window or ()))
            crop = f"{self.crop_size[0]},{self.crop_size[1]}"
            rule = f"the pooling window {window} must fit into the crop {crop}"
            height, width = (max(sides) for sides in zip(self.crop_size, least, strict=True))
            hint = f"`{self.crop_field}={height},{width}`, or a smaller window"
            raise UserError("crop-too-small", rule, hint, field="image_pooling_crop_size", value=crop)

    @property
    def one_pass(self) -> bool:
        """Whether the model runs once per image: at scale 1, not mirrored."""
        return self.scales == (1.0,) and not self.flip

    def passes(self) -> Iterator[tuple[float, bool]]:
        """(scale, mirrored) of every run of the model, in the order of the research DeepLab."""
        for scale in self.scales:
            yield from ((scale, mirrored) for mirrored in ((False, True) if self.flip else (False,)))


class Frame(NamedTuple):
    """An image as the model takes it.

    Attributes:
      pixels: float32 [h, w, C], 0..255: resized, then padded at the bottom and right with the mean pixel.
      size: int32 [2], height and width of the part that is not padding.
    """

    pixels: tf.Tensor
    size: tf.Tensor


class RawPrediction(NamedTuple):
    """The model's output, still with padding.

    Attributes:
      labels: int32 [B, h, w], the most probable class.
      probabilities: float32 [B, h, w, classes], 0..1, sum 1 over the classes.
    """

    labels: tf.Tensor
    probabilities: tf.Tensor


class TensorPrediction(NamedTuple):
    """The result for one image, as tensors.

    Attributes:
      labels: int32 [H, W], the most probable class of every pixel, at the image's own size.
      probabilities: float32 [H, W, classes], 0..1, sum 1 over the classes.
      raw_labels: int32 [h, w], before cropping and resizing: the padded size.
      raw_probabilities: float32 [h, w, classes], likewise.
    """

    labels: tf.Tensor
    probabilities: tf.Tensor
    raw_labels: tf.Tensor
    raw_probabilities: tf.Tensor


def predict_image(logits_of: LogitsOf, image: tf.Tensor, settings: PredictionSettings) -> TensorPrediction:
    """Return an image's labels and probabilities.

    Args:
      logits_of: the model: float32 [B, h, w, C], 0..255 -> logits float32 [B, h', w', classes].
      image: uint8 or float [H, W, C], RGB, 0..255, or raw values of the bands of the model; H and W may be
        unknown when the graph is made.
      settings: sizes, scales, mirrored images.

    Raises:
      tf.errors.InvalidArgumentError: at run time, when the image is larger than the crop size.
    """
    frame = prepare(image, settings)
    raw = predict_batch(logits_of, frame.pixels[tf.newaxis], settings)
    labels, probabilities = raw.labels[0], raw.probabilities[0]
    original = tf.shape(image)[:2] if settings.resize.min_resize_value else None
    return TensorPrediction(
        restore_labels(labels, frame.size, original),
        restore_probabilities(probabilities, frame.size, original),
        labels,
        probabilities,
    )


def predict_images(logits_of: LogitsOf, images: tf.Tensor, settings: PredictionSettings) -> RawPrediction:
    """As `predict_image`, for images of one size, [B, H, W, C]: labels and probabilities at that size."""
    if settings.resize.min_resize_value is None:
        size, pixels = tf.shape(images)[1:3], _padded(images, settings)
    else:
        size = prepare(images[0], settings).size
        pixels = _each(lambda image: prepare(image, settings).pixels, images, tf.float32)
    raw = predict_batch(logits_of, pixels, settings)
    original = tf.shape(images)[1:3] if settings.resize.min_resize_value else None
    return RawPrediction(
        _restored(restore_labels, raw.labels, size, original),
        _restored(restore_probabilities, raw.probabilities, size, original),
    )


def _padded(images: tf.Tensor, settings: PredictionSettings) -> tf.Tensor:
    """`prepare` for a batch that is not resized: without a loop, which LiteRT's converter refuses.

    Args:
      images: uint8 [B, H, W, C], 0..255, or raw values of the bands of the model.
      settings: crop size and backbone.

    Returns:
      float32 [B, h, w, C], the same pixels as from `prepare`, padded at the bottom and right.
    """
    images = transforms.scale_values(images, bands_of(settings.model))
    number, height, width, channels = tf.unstack(tf.shape(images))
    full_height, full_width = padded_size((height, width), settings)
    color = padding_color(settings.model)
    pixel = tf.broadcast_to(tf.constant(color, tf.float32), [images.shape[-1]])
    right = tf.broadcast_to(pixel, [number, height, full_width - width, channels])
    below = tf.broadcast_to(pixel, [number, full_height - height, full_width, channels])
    return tf.concat([tf.concat([images, right], axis=2), below], axis=1)


def _restored(restore: Callable, maps: tf.Tensor, size: tf.Tensor, original: tf.Tensor | None) -> tf.Tensor:
    """`restore` for a batch; without a resize it is a slice, which needs no loop and no copy."""
    if original is None:
        return maps[:, : size[0], : size[1]]
    return _each(lambda one: restore(one, size, original), maps, maps.dtype)


def _each(function: Callable, batch: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Applies `function` to every member of a batch [B, H, W, ...]; the results must have one shape."""
    unknown = [None, None, *batch.shape[3:]]
    return tf.map_fn(function, batch, fn_output_signature=tf.TensorSpec(unknown, dtype))


# ---- before the model ----------------------------------------------------------------------------------


def prepare(image: tf.Tensor, settings: PredictionSettings) -> Frame:
    """Scale, resize and pad one image [H, W, C]: RGB, 0..255, or raw values of the bands of the model."""
    pixels = transforms.resize_to_range(transforms.scale_values(image, bands_of(settings.model)), settings.resize)
    size = tf.shape(pixels)[:2]
    if settings.crop_size and not settings.may_outgrow_crop:
        with tf.control_dependencies([_assert_fits(size, settings.crop_size)]):
            pixels = tf.identity(pixels)
    height, width = padded_size(size, settings)
    padded = transforms.pad_to(pixels, height, width, padding_color(settings.model))
    padded.set_shape([_if_known(height), _if_known(width), image.shape[-1]])
    return Frame(padded, size)


def padded_size(size, settings: PredictionSettings):
    """Height and width to which an image is padded.

    Args:
      size: its height and width: two ints, or int32 [2].

    Returns:
      Height and width: ints where they are known, else int32 scalars.
    """
    stride = size_stride(settings.model)
    if settings.crop_size and not settings.may_outgrow_crop:
        return settings.crop_size
    if settings.crop_size:
        crop = settings.crop_size
        return tuple(_where(size[i] <= crop[i], crop[i], fitting_length(size[i], stride)) for i in (0, 1))
    least = _min_size(settings)  # at least 2 pixels, so that k is at least 1
    return tuple(fitting_length(_maximum(size[i], max(2, least[i])), stride) for i in (0, 1))


def _min_size(settings: PredictionSettings) -> Size:
    """The smallest image into whose feature map the pooling window fits; both are scaled alike."""
    return settings.model.pooling_window or (1, 1)


def size_after_resizing(size: Size, resize: ResizeConfig) -> Size:
    """Height and width of an image of a size after `resize`."""
    if resize.min_resize_value is None:
        return size
    height, width = transforms.resized_size(tf.constant(size), resize).numpy().tolist()
    return height, width


def require_fit(size: Size, settings: PredictionSettings, image_name: str) -> None:
    """Stop if an image is larger than the crop size.

    Args:
      size: height and width of the image after resizing.
      settings: with the crop size, and the setting that it comes from.
      image_name: for the message.

    Raises:
      LargerThanCrop: it is larger; the hint has a crop size that holds it.
    """
    crop = settings.crop_size
    if crop is None or settings.may_outgrow_crop or (size[0] <= crop[0] and size[1] <= crop[1]):
        return
    rule = f"is {size[0]}x{size[1]} pixels (height x width), more than `{settings.crop_field}={crop[0]},{crop[1]}`"
    raise LargerThanCrop("larger-than-crop", rule, fitting_crop(size, settings), where=image_name, value=size)


def fitting_crop(size: Size, settings: PredictionSettings) -> str:
    """The hint for images of up to this height and width: a crop size that holds them, or none."""
    field, crop = settings.crop_field, settings.crop_size or (1, 1)
    better = ",".join(str(max(crop[i], fitting_length(size[i], size_stride(settings.model)))) for i in (0, 1))
    return f"`{field}={better}`, or leave `{field}` out: every image then keeps its own size"


def _assert_fits(size: tf.Tensor, crop: Size) -> tf.Operation:
    message = f"the image is larger than the crop size {crop[0]}x{crop[1]} (height x width); its size:"
    return tf.debugging.Assert(tf.reduce_all(size <= list(crop)), [message, size])


def _if_known(length) -> int | None:
    return length if isinstance(length, int) else None


def _where(condition, yes, no):
    return tf.where(condition, yes, no) if tf.is_tensor(condition) else yes if condition else no


def _maximum(one, other):
    return tf.maximum(one, other) if tf.is_tensor(one) else max(one, other)


# ---- the model -----------------------------------------------------------------------------------------


def predict_batch(logits_of: LogitsOf, pixels: tf.Tensor, settings: PredictionSettings) -> RawPrediction:
    """Labels and probabilities of prepared images.

    With several passes, the probabilities of all are averaged, the labels are those of the average, and the returned
    probabilities are a softmax of the average: flatter than the average itself, but equal to the research DeepLab's
    `semantic_prob` and its exported graphs, so that numbers can be compared.

    Args:
      logits_of: the model: float32 [B, h, w, C] -> logits float32 [B, h', w', classes].
      pixels: float32 [B, h, w, C], 0..255, resized and padded.
      settings: scales, mirrored images, order of upsampling.
    """
    height, width = _height_width(pixels)
    if not settings.one_pass:
        logits = [_logits_of_pass(logits_of, pixels, *each, settings) for each in settings.passes()]
        align = settings.model.align_corners
        each_softmax = [tf.nn.softmax(kernels.resize_bilinear(one, height, width, align)) for one in logits]
        mean = tf.add_n(each_softmax) / len(each_softmax)
        return RawPrediction(_argmax(mean), tf.nn.softmax(mean))
    logits, align = logits_of(pixels), settings.model.align_corners
    if settings.model.prediction_with_upsampled_logits:
        logits = kernels.resize_bilinear(logits, height, width, align)
        return RawPrediction(_argmax(logits), tf.nn.softmax(logits))
    labels = kernels.resize_nearest(_argmax(logits)[..., tf.newaxis], height, width)[..., 0]
    return RawPrediction(labels, kernels.resize_bilinear(tf.nn.softmax(logits), height, width, align))


def _logits_of_pass(logits_of: LogitsOf, pixels, scale: float, mirrored: bool, settings: PredictionSettings):
    """Logits of one run of the model, on the grid to which the research DeepLab resizes them at this scale."""
    if mirrored:
        pixels = tf.reverse(pixels, [2])
    height, width = _height_width(pixels)
    scaled = pixels
    if scale != 1.0:
        scaled = kernels.resize_bilinear(pixels, scaled_length(height, scale), scaled_length(width, scale))
    grid = max(1.0, scale) / logits_stride(settings.model)
    rows, columns = scaled_length(height, grid), scaled_length(width, grid)
    with image_scale(scale):
        logits = logits_of(scaled)
    logits = kernels.resize_bilinear(logits, rows, columns, settings.model.align_corners)
    return tf.reverse(logits, [2]) if mirrored else logits


def _height_width(pixels: tf.Tensor):
    """Height and width of [B, h, w, C]: ints where they are known, else int32 scalars."""
    dynamic = tf.shape(pixels)
    return tuple(dynamic[axis] if pixels.shape[axis] is None else pixels.shape[axis] for axis in (1, 2))


def _argmax(scores: tf.Tensor) -> tf.Tensor:
    return tf.argmax(scores, axis=-1, output_type=tf.int32)


# ---- after the model -----------------------------------------------------------------------------------


def restore_labels(labels: tf.Tensor, size: tf.Tensor, original: tf.Tensor | None = None) -> tf.Tensor:
    """Crop the padding off and resize the labels to the image's own size (nearest).

    Args:
      labels: int32 [h, w].
      size: int32 [2], the part that is not padding.
      original: int32 [2], the image's height and width before resizing; None = it was not resized.

    Returns:
      int32 [H, W].
    """
    labels = labels[: size[0], : size[1]]
    if original is None:
        return labels
    return transforms.resize_nearest(labels, original)


def restore_probabilities(probabilities: tf.Tensor, size: tf.Tensor, original: tf.Tensor | None = None) -> tf.Tensor:
    """As `restore_labels` for float32 [h, w, classes] -> [H, W, classes] (bilinear)."""
    probabilities = probabilities[: size[0], : size[1]]
    if original is None:
        return probabilities
    return transforms.resize_bilinear(probabilities, original)
