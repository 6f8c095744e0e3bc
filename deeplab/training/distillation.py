"""A loss by which a model learns the predictions of another, usually larger one: its probabilities or its attention.

A teacher whose layers are known (a checkpoint, a model of this package) runs inside the training step, on the augmented
images. An exported file runs in the input pipeline, and its probabilities are part of the batches; with a cache
folder, they are read from there if the same image was seen before. Used by the training step. It never trains the
teacher.
"""

from __future__ import annotations

import hashlib
import io
import os
import pathlib
import weakref
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deeplab.config.compression_config import CompressionConfig
from deeplab.data.bands import RGB
from deeplab.data.dataset import Dataset
from deeplab.inference.load import load
from deeplab.inference.predictor import ModelPredictor, Predictor
from deeplab.model import MERGED_LOGITS
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import write_atomically
from deeplab.utils.text import shorten
from slim import kernels

FEATURES = "features"  # a model's output in training: what the logits are computed from
DISTILLATION = "distillation"  # name of the part of the loss
TEACHER = "teacher"  # part of a batch: the teacher's probabilities, float16 [B, h, w, classes]
_LOGITS_LAYERS = ("logits.semantic", "logits.subpixel")
_SMALLEST = 1e-6  # probability, so that logarithms of float16 values are finite
_CACHE_STRIDE = 4  # image size over the size of stored probabilities


class Distillation:
    """The teacher, and the loss between its predictions and the student's.

    Args:
      config: which teacher, how much it counts.
      dataset: whose classes it must have.
      align_corners: of the student's maps, as in `slim.kernels.resize_bilinear`.

    Raises:
      UserError: there is no such teacher, it has other classes or bands, or it is an exported file whose features are
        asked for.
    """

    def __init__(self, config: CompressionConfig, dataset: Dataset, align_corners: bool = True):
        self.config, self._align = config, align_corners
        self.teacher = load(config.distill_from)
        _require_fit(self.teacher, dataset, config)
        self._in_step = isinstance(self.teacher, ModelPredictor) and not config.distill_cache
        # Stored probabilities, and those of files, have the corners of the image.
        self._teacher_aligns = True
        self._features = None
        if isinstance(self.teacher, ModelPredictor) and self._in_step:
            self._teacher_aligns = self.teacher.settings.model.align_corners
        else:
            _require_probabilities(self.teacher)
        if config.distill_on == "features":
            if not isinstance(self.teacher, ModelPredictor):
                rule = f"{self.teacher.source} is an exported file, whose features are not accessible"
                hint = "`distill_on=logits`, or a checkpoint as teacher"
                raise UserError("not-supported", rule, hint, field="distill_on", value="features")
            self._teacher_aligns = self.teacher.settings.model.align_corners
            self._features = keras.Model(self.teacher.model.input, features_of(self.teacher.model))

    def loss(
        self,
        outputs: Mapping[str, tf.Tensor],
        batch: Mapping[str, tf.Tensor],
        features: Any,
        ignore_label: int,
        fraction: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The loss of a batch, times `distill_weight`: float32 scalar.

        Args:
          outputs: the student's, with `merged_logits` [B, h, w, classes].
          batch: image float32 [B, H, W, C], 0..255, label int32 [B, H, W], and `teacher` where `add_to` adds it.
          features: the student's output `FEATURES` with `distill_on=features`, else None.
          ignore_label: pixels with this label do not count.
          fraction: where several devices share a batch, the factor that this one's loss gets in their mean. The product
            of both is the part of this device in the loss of the whole batch.
        """
        if self._features is not None:
            theirs = self._features(batch["image"], training=False)
            if self._teacher_aligns != self._align:
                theirs = self._onto(theirs, batch, *_sides(features))
            attention = attention_loss(features, theirs, self._align)
            attention = attention if fraction is None else tf.math.divide_no_nan(attention, fraction)
            return self.config.distill_weight * attention
        logits = tf.cast(outputs[MERGED_LOGITS], tf.float32)
        height, width = _sides(logits)
        temperature = self.config.distill_temperature
        if self._in_step:
            assert isinstance(self.teacher, ModelPredictor)
            scores = self._onto(self.teacher.logits_of(batch["image"]), batch, height, width)
        else:
            soft = self._onto(tf.cast(batch[TEACHER], tf.float32), batch, height, width)
            scores = tf.math.log(tf.maximum(soft, _SMALLEST))
        labels = kernels.resize_nearest(batch["label"][..., tf.newaxis], height, width)[..., 0]
        counts = tf.cast(tf.not_equal(labels, ignore_label), tf.float32)
        number = tf.reduce_sum(counts)
        if fraction is not None:
            number = fraction * tf.distribute.get_replica_context().all_reduce("MEAN", number)
        scores = tf.stop_gradient(scores)
        return self.config.distill_weight * soft_target_loss(logits, scores, counts, temperature, number)

    def _onto(self, maps: Any, batch: Mapping[str, tf.Tensor], height: Any, width: Any) -> tf.Tensor:
        """The teacher's maps [B, h, w, C] on the student's grid, by way of the image where the two align otherwise."""
        if self._teacher_aligns != self._align:
            maps = kernels.resize_bilinear(maps, *_sides(batch["image"]), align_corners=self._teacher_aligns)
        return kernels.resize_bilinear(maps, height, width, self._align)

    def add_to(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Batches with the probabilities of a teacher that cannot run inside the step, or that are cached.

        The dataset owns the teacher. TensorFlow never releases a NumPy function, so the function must not own it.
        """
        if self._in_step or self._features is not None:
            return batches
        classes, reference = self.teacher.num_classes, weakref.ref(self)

        def probabilities_of(images: np.ndarray) -> np.ndarray:
            owned = reference()
            assert owned is not None  # its dataset is being read
            return owned._probabilities(images)

        def add(batch):
            (probabilities,) = tf.numpy_function(probabilities_of, [batch["image"]], [tf.float16])
            probabilities.set_shape([batch["image"].shape[0], None, None, classes])
            return {**batch, TEACHER: probabilities}

        prepared = batches.map(add, num_parallel_calls=1, deterministic=True).prefetch(1)
        prepared.teacher = self
        return prepared

    def _probabilities(self, images: np.ndarray) -> np.ndarray:
        """Probabilities of a batch, float16 [B, (H-1)//4+1, (W-1)//4+1, classes]."""
        return np.stack([self._of_image(image) for image in images.round().clip(0, 255).astype(np.uint8)])

    def _of_image(self, image: np.ndarray) -> np.ndarray:
        path = self._cached(image)
        if path and path.is_file():
            return np.load(path, allow_pickle=False)
        found = self.teacher.predict(image).probabilities
        assert found is not None  # required at the start
        size = [(side - 1) // _CACHE_STRIDE + 1 for side in image.shape[:2]]
        small = kernels.resize_bilinear(found[np.newaxis], *size).numpy()[0].astype(np.float16)
        if path:
            content = io.BytesIO()
            np.save(content, small)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content.getvalue())
        return small

    def _cached(self, image: np.ndarray) -> pathlib.Path | None:
        """Where the probabilities of an image are stored: named after teacher and pixels."""
        if not self.config.distill_cache:
            return None
        facts = f"{self.teacher.source} {self.teacher.step} {_age(self.teacher.source)} {image.shape}"
        name = hashlib.sha256(facts.encode() + image.tobytes()).hexdigest()
        return pathlib.Path(os.path.expanduser(self.config.distill_cache), name[:2], f"{name}.npy")


def make(config: CompressionConfig, dataset: Dataset, align_corners: bool = True) -> Distillation | None:
    """The teacher that the config names, for a student that aligns corners or not; None where it names none."""
    if not config.distill_from:
        return None
    made = Distillation(config, dataset, align_corners)
    console.note(f"the teacher is {made.teacher.source}: {config.distill_on}, weight {config.distill_weight:g}")
    return made


def with_features(model: keras.Model) -> keras.Model:
    """The same model with one more output, `FEATURES`."""
    return keras.Model(model.input, {**model.output, FEATURES: features_of(model)}, name=model.name)


def features_of(model: keras.Model) -> Any:
    """What the logits of a model are computed from: [B, h, w, C].

    Raises:
      UserError: the model has no such layer, or an image pyramid around it.
    """
    layers = [layer for layer in model.layers if layer.name in _LOGITS_LAYERS]
    if not layers:
        rule = "no single layer computes the logits of this model (image pyramid, or decoder output as logits)"
        raise UserError("not-supported", rule, "`distill_on=logits`", field="distill_on", value="features")
    found = layers[0].input
    return found[0] if isinstance(found, (list, tuple)) else found


def soft_target_loss(
    student: tf.Tensor, teacher: tf.Tensor, counts: tf.Tensor, temperature: float, number: tf.Tensor | None = None
) -> tf.Tensor:
    """Kullback-Leibler divergence of softened probabilities, times the temperature squared, mean over pixels.

    Hinton et al. 2015, arXiv:1503.02531, section 2: the factor keeps gradients of one size at every temperature.

    Args:
      student, teacher: logits, float32 [B, h, w, classes]; the teacher's may be logarithms of probabilities.
      counts: float32 [B, h, w], 1 where a pixel counts, else 0.
      temperature: both are divided by it.
      number: float32 scalar by which the sum over pixels is divided; None = the sum of `counts`.
    """
    number = tf.reduce_sum(counts) if number is None else number
    soft = tf.nn.softmax(teacher / temperature)
    distance = soft * (tf.nn.log_softmax(teacher / temperature) - tf.nn.log_softmax(student / temperature))
    of_pixel = tf.reduce_sum(distance, axis=-1)
    return temperature**2 * tf.math.divide_no_nan(tf.reduce_sum(of_pixel * counts), number)


def attention_loss(student: tf.Tensor, teacher: tf.Tensor, align_corners: bool = True) -> tf.Tensor:
    """Squared distance of two attention maps of length 1, mean over images.

    Zagoruyko and Komodakis 2017, arXiv:1612.03928, equation 2 with p = 2. A map is the sum of the squares of all
    channels, so that the numbers of channels may differ. The teacher's is resized to the student's size.

    Args:
      student, teacher: features [B, h, w, C] of any size and float type.
      align_corners: of both, as in `slim.kernels.resize_bilinear`.
    """
    own, other = (tf.reduce_sum(tf.cast(one, tf.float32) ** 2, axis=-1, keepdims=True) for one in (student, teacher))
    other = kernels.resize_bilinear(other, *_sides(own), align_corners=align_corners)
    maps = [tf.math.l2_normalize(tf.reshape(one, [tf.shape(one)[0], -1]), axis=1) for one in (own, other)]
    return tf.reduce_mean(tf.reduce_sum((maps[0] - tf.stop_gradient(maps[1])) ** 2, axis=1))


def _sides(maps: tf.Tensor) -> tuple[Any, Any]:
    """Height and width: ints where they are known, else int32 scalars."""
    shape = tf.shape(maps)
    height, width = (shape[axis] if maps.shape[axis] is None else maps.shape[axis] for axis in (1, 2))
    return height, width


def _age(source: str) -> str:
    """When a teacher's file was written, so that another teacher of the same name has other entries in the cache."""
    for path in (source, f"{source}.index"):
        if os.path.exists(path):
            return str(os.stat(path).st_mtime_ns)
    return ""


def _require_probabilities(teacher: Predictor) -> None:
    """Refuses a teacher that computes labels alone, before batches ask for more."""
    if teacher.predict(np.zeros((33, 33, 3), np.uint8)).probabilities is None:
        rule = "predicts labels only; a teacher must predict probabilities"
        raise UserError("no-probabilities", rule, "export it with probabilities", where=teacher.source)


def _require_fit(teacher: Predictor, dataset: Dataset, config: CompressionConfig) -> None:
    """Refuses a teacher of other classes or bands."""
    if teacher.num_classes != dataset.num_classes:
        rule = f"{teacher.source} has {teacher.num_classes} classes, but {dataset.name} has {dataset.num_classes}"
        raise UserError("class-count-mismatch", rule, "give a teacher with the same classes", field="distill_from")
    if teacher.names_are_known and teacher.class_names != tuple(dataset.class_names):
        rule = f"{teacher.source} has the classes {shorten(teacher.class_names, 20)}, not those of {dataset.name}"
        hint = "give a teacher with the same classes in the same order"
        raise UserError("other-dataset", rule, hint, field="distill_from", value=config.distill_from)
    by_file = not isinstance(teacher, ModelPredictor) or bool(config.distill_cache)
    if teacher.bands.channels != dataset.image_bands.channels or (by_file and dataset.image_bands != RGB):
        rule = (
            f"{teacher.source} takes {teacher.bands.channels} channels, the images have {dataset.image_bands.channels}"
        )
        if teacher.bands.channels == dataset.image_bands.channels:
            rule = "exported files and a cache need 8-bit RGB images"
        raise UserError("wrong-channels", rule, "give another teacher", field="distill_from")
