"""`Predictor`: the one interface from an image to labels, whatever holds the model.

A live Keras model and a checkpoint are `ModelPredictor`s; every exported file is a `FilePredictor`, made by its runtime
in `runtimes/`. Evaluation, visualization, prediction, export parity and benchmarks know nothing else. `load.py` makes
one from a path or a model.
"""

from __future__ import annotations

import abc
import contextlib
import copy
import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from deeplab.checkpoint import AnyCheckpoint, restore
from deeplab.checkpoint import open as open_checkpoint
from deeplab.checkpoint.names import is_of_training_alone
from deeplab.config.fields import Size
from deeplab.config.model_config import ModelConfig
from deeplab.data import colormaps, transforms
from deeplab.data.bands import RGB, ImageBands, bands_of
from deeplab.data.dataset import Color
from deeplab.data.label_bits import MAX_CLASSES
from deeplab.inference.prediction import (
    LargerThanCrop,
    PredictionSettings,
    predict_batch,
    predict_image,
    predict_images,
    prepare,
    require_fit,
    size_after_resizing,
)
from deeplab.model import MERGED_LOGITS
from deeplab.utils import console
from deeplab.utils.errors import UserError
from slim.layers import refresh_weight_ranges, variables_by_name


class Prediction(NamedTuple):
    """The result for one image.

    Attributes:
      labels: int32 [H, W], the most probable class of every pixel.
      probabilities: float32 [H, W, classes], 0..1, sum 1 over the classes; None if they were not asked for, or if an
        exported file has none.
    """

    labels: np.ndarray
    probabilities: np.ndarray | None


class Predictor(abc.ABC):
    """Turns images into labels; may be called from several threads.

    Args:
      source: the checkpoint, file or folder it came from.
      num_classes: number of classes; None if unknown.
      class_names: one name per class, as far as they are known.
      colors: RGB of each class, as far as they are known.
      max_size: largest height and width that it takes; None = any.

    Attributes:
      source, num_classes, max_size: as given.
      class_names: one name per class (`class_0` ... if they are unknown); empty if the number of classes is unknown.
      names_are_known: whether these are the names of the training.
      colors: RGB of each class, uint8 [256, 3], or [65536, 3] beyond 256 classes.
      step: global step of the weights; 0 if unknown.
      settings: how images are resized and padded; None if that is built into the file.
      bands: channels, type and scaling of the images that it takes.
      shrinks_large_images: whether images above `max_size` are shrunk, and their predictions enlarged again.
    """

    step: int = 0
    settings: PredictionSettings | None = None
    bands: ImageBands = RGB
    shrinks_large_images = False

    def __init__(
        self,
        source: str,
        num_classes: int | None,
        class_names: Sequence[str] = (),
        colors: Sequence[Color] = (),
        max_size: Size | None = None,
    ):
        if num_classes and num_classes > MAX_CLASSES:
            rule = f"has {num_classes} classes, but masks hold at most {MAX_CLASSES}"
            raise UserError("too-many-classes", rule, where=source, value=num_classes)
        self.source, self.num_classes, self.max_size = source, num_classes, max_size
        self._process = os.getpid()
        self.set_classes(class_names, colors)

    def set_classes(self, class_names: Sequence[str], colors: Sequence[Color]) -> None:
        """Replace names and colors of the classes; names of another number of classes are ignored."""
        self.names_are_known = len(class_names) == self.num_classes if self.num_classes else bool(class_names)
        if not self.names_are_known:
            class_names, colors = [f"class_{index}" for index in range(self.num_classes or 0)], ()
        self.class_names = tuple(class_names)
        self.colors = colormaps.colors_for(colors if len(colors) else "pascal", len(self.class_names))

    def predict(self, image: np.ndarray, probabilities: bool = True) -> Prediction:
        """Predict one image: uint8 [H, W, 3], RGB, or raw values [H, W, C] as `bands` describes them.

        Args:
          image: the pixels; images may differ in size.
          probabilities: whether to return them as well; without, it is faster and takes less memory.

        Raises:
          LargerThanCrop: the image is larger than `max_size`.
          UserError: the image has other channels (`wrong-channels`) or another type (`wrong-dtype`), the
            model cannot run on this image, there is not enough memory, or the process was forked.
        """
        self._require_same_process()
        self.bands.require(image, "the image")
        try:
            with memory_errors():
                return self._predict(image, probabilities)
        except LargerThanCrop:
            if not (self.shrinks_large_images and self.max_size):
                raise
        small = transforms.resize_bilinear(image, shrunk_size(image.shape[:2], self.max_size)).numpy()
        small = small if image.dtype == np.float32 else small.round().astype(image.dtype)
        with memory_errors():
            labels, scores = self._predict(small, probabilities)
        labels = transforms.resize_nearest(labels, image.shape[:2]).numpy()
        scores = None if scores is None else transforms.resize_bilinear(scores, image.shape[:2]).numpy()
        return Prediction(labels, scores)

    @abc.abstractmethod
    def _predict(self, image: np.ndarray, probabilities: bool) -> Prediction:
        """Predict one image of at most `max_size`; raise `LargerThanCrop` for a larger one."""

    def predict_resized(self, image: np.ndarray) -> np.ndarray:
        """Labels of one image at the size at which evaluation compares: int32 [h, w].

        That is the size after the resizing of `settings`, as in the research DeepLab, or else the image's own size.
        """
        return self.predict(image, probabilities=False).labels

    def predict_confident(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """As `predict_resized`, with the probability of the predicted class: float32 [h, w], 0..1.

        The second is None if an exported file has no probabilities.
        """
        labels, scores = self.predict(image)
        return labels, None if scores is None else scores.max(-1)

    def predict_images(self, images: np.ndarray, probabilities: bool = True) -> list[Prediction]:
        """Predict images of one size, [B, H, W, C] as `predict` takes them, together where the model can, else singly.

        Raises:
          LargerThanCrop, UserError: as `predict`.
        """
        return [self.predict(image, probabilities) for image in images]

    def _require_same_process(self) -> None:
        if os.getpid() != self._process:
            rule = "was loaded before this process was forked, and TensorFlow's threads do not survive a fork"
            hint = "load the model in the process that uses it, or start processes by 'spawn' rather than 'fork'"
            raise UserError("used-after-fork", rule, hint, where=self.source)


class ModelPredictor(Predictor):
    """Predicts with a Keras model of this project, and follows its weights.

    Args:
      model: float32 [B, H, W, C], 0..255 -> {"merged_logits": float32 [B, h, w, num_classes], ...}.
      settings: how an image becomes a mask; `settings.model` is the model's architecture.
      num_classes: classes, background included.
      checkpoint: prefix of the weights that it has now.
      step: their global step.
      class_names, colors: of the classes, as far as they are known.

    Attributes:
      use_averages: take running averages of the weights, where a checkpoint has them.
      scope: within which the model runs; chooses the device and the copy of the weights.
    """

    settings: PredictionSettings
    use_averages = True
    scope: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext

    def __init__(
        self,
        model: keras.Model,
        settings: PredictionSettings,
        num_classes: int,
        checkpoint: str = "",
        step: int = 0,
        class_names: Sequence[str] = (),
        colors: Sequence[Color] = (),
    ):
        crop = None if settings.may_outgrow_crop else settings.crop_size
        super().__init__(checkpoint or "the model", num_classes, class_names, colors, crop)
        self.model, self.settings, self.checkpoint, self.step = model, settings, checkpoint, step
        self.bands = bands_of(settings.model)
        self.num_classes: int = num_classes
        self._trace()

    @property
    def config(self) -> ModelConfig:
        """The model's architecture."""
        return self.settings.model

    def within(self, scope: Callable[[], contextlib.AbstractContextManager]) -> ModelPredictor:
        """A predictor with the same model, which runs within another scope."""
        other = copy.copy(self)
        other.scope = scope
        other._trace()
        return other

    def restore(self, checkpoint: AnyCheckpoint) -> None:
        """Take a checkpoint's weights.

        Raises:
          UserError: the checkpoint does not hold every variable of this model, or a weight is not finite; the weights
            stay as they were.
        """
        opened = open_checkpoint(checkpoint)
        variables = variables_by_name(self.model)
        averages = self.use_averages and any(name != restore.averaged_name(name, opened) for name in variables)
        restore.restore(variables, opened, is_of_training_alone, require_all=True, averages=averages)
        if averages or opened.averages_alone:
            refresh_weight_ranges(self.model)
        if averages:
            console.note(f"{opened.prefix}: running averages of the weights (`use_averages=false` takes the weights)")
        self.source = self.checkpoint = opened.prefix
        self.step = opened.step

    def logits_of(self, pixels: tf.Tensor) -> tf.Tensor:
        """float32 [B, h, w, C], 0..255 -> merged logits float32 [B, h', w', num_classes]."""
        with self.scope():
            return self.model(pixels, training=False)[MERGED_LOGITS]

    def predict_padded(self, pixels: tf.Tensor) -> np.ndarray:
        """Labels of prepared images, float32 [B, h, w, C], resized and padded: int32 [B, h, w]."""
        self._require_same_process()
        with memory_errors():
            return self._of_pixels(pixels).numpy()

    def predict_confident_padded(self, pixels: tf.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """As `predict_padded`, with the probability of the predicted class: float32 [B, h, w]."""
        self._require_same_process()
        with memory_errors():
            labels, confidence = self._confident_of_pixels(pixels)
            return labels.numpy(), confidence.numpy()

    def predict_confident(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        self._require_same_process()
        require_fit(size_after_resizing(image.shape[:2], self.settings.resize), self.settings, "the image")
        with memory_errors():
            labels, confidence = self._confident_of_resized(image)
            return labels.numpy(), confidence.numpy()

    def predict_resized(self, image: np.ndarray) -> np.ndarray:
        if self.settings.resize.min_resize_value is None:
            return super().predict_resized(image)
        self._require_same_process()
        with memory_errors():
            return self._of_resized(image).numpy()

    def predict_images(self, images: np.ndarray, probabilities: bool = True) -> list[Prediction]:
        if len(images) == 1 or self.max_size:
            return super().predict_images(images, probabilities)
        self._require_same_process()
        with memory_errors():
            labels, scores = self._of_images(images)
            each_scores = scores.numpy() if probabilities else [None] * len(images)
            return [Prediction(*each) for each in zip(labels.numpy(), each_scores, strict=True)]

    def _predict(self, image: np.ndarray, probabilities: bool) -> Prediction:
        require_fit(size_after_resizing(image.shape[:2], self.settings.resize), self.settings, "the image")
        if not probabilities:
            return Prediction(self._labels_of(image).numpy(), None)
        labels, scores = self._both_of(image)
        return Prediction(labels.numpy(), scores.numpy())

    def _trace(self) -> None:
        """Make the functions of tensors: each is traced at its first use, once for all sizes."""
        settings = self.settings
        height, width = settings.crop_size if settings.crop_size and not settings.may_outgrow_crop else (None, None)
        channels = settings.model.input_channels
        image_signature = [tf.TensorSpec([None, None, channels], tf.as_dtype(self.bands.dtype))]

        @tf.function(input_signature=image_signature)
        def labels_of(image):
            return predict_image(self.logits_of, image, settings).labels

        @tf.function(input_signature=image_signature)
        def both_of(image):
            return predict_image(self.logits_of, image, settings)[:2]

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, channels], tf.as_dtype(self.bands.dtype))])
        def of_images(images):
            return predict_images(self.logits_of, images, settings)

        self._of_images = of_images

        @tf.function(input_signature=[tf.TensorSpec([None, height, width, channels], tf.float32)])
        def of_pixels(pixels):
            return predict_batch(self.logits_of, pixels, settings).labels

        @tf.function(input_signature=image_signature)
        def of_resized(image):
            frame = prepare(image, settings)
            return of_pixels(frame.pixels[tf.newaxis])[0, : frame.size[0], : frame.size[1]]

        @tf.function(input_signature=[tf.TensorSpec([None, height, width, channels], tf.float32)])
        def confident_of_pixels(pixels):
            raw = predict_batch(self.logits_of, pixels, settings)
            return raw.labels, tf.reduce_max(raw.probabilities, axis=-1)

        @tf.function(input_signature=image_signature)
        def confident_of_resized(image):
            frame = prepare(image, settings)
            found = confident_of_pixels(frame.pixels[tf.newaxis])
            return [one[0, : frame.size[0], : frame.size[1]] for one in found]

        self._labels_of, self._both_of, self._of_pixels, self._of_resized = labels_of, both_of, of_pixels, of_resized
        self._confident_of_pixels, self._confident_of_resized = confident_of_pixels, confident_of_resized


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Turn running out of memory into a UserError."""
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        hint = "use smaller images (`min_resize_value`, `max_resize_value`), fewer images per batch, or fewer scales"
        raise UserError("out-of-memory", "there is not enough memory for the model", hint, where="memory") from error


def shrunk_size(size: Size, crop: Size) -> Size:
    """The largest height and width of the same aspect ratio within the crop."""
    scale = min(crop[0] / size[0], crop[1] / size[1])
    return max(1, int(size[0] * scale)), max(1, int(size[1] * scale))


def require_same_classes(of_dataset: int, of_model: int | None, source: str, dataset: str) -> None:
    """Stop if a dataset and a model differ in their number of classes (None = unknown).

    Raises:
      UserError: with both numbers.
    """
    if of_model is not None and of_dataset != of_model:
        rule = f"{dataset} has {of_dataset} classes, the model in {source} {of_model}"
        hint = "give the dataset that it was trained on (the background counts as a class)"
        raise UserError("class-count-mismatch", rule, hint, field="dataset", value=of_dataset)
