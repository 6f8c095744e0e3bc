"""From what a person has (training folder, checkpoint, frozen graph, SavedModel) to something that predicts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab import checkpoint
from deeplab.checkpoint.bundle import Checkpoint
from deeplab.checkpoint.manager import all_checkpoints
from deeplab.config.data_config import ResizeConfig
from deeplab.config.fields import Size, make
from deeplab.config.model_config import ModelConfig
from deeplab.config.prediction_config import InferenceConfig
from deeplab.data import colormaps, transforms
from deeplab.data import dataset as datasets
from deeplab.inference import checkpoint_model
from deeplab.inference.prediction import LargerThanCrop, PredictionSettings, predict_image, require_fit
from deeplab.inference.runtimes import frozen_graph
from deeplab.inference.runtimes.frozen_graph import Answer
from deeplab.utils import console
from deeplab.utils.errors import UserError

GROUPS = (ModelConfig, ResizeConfig, InferenceConfig)
_OTHER_FORMATS = (".tflite", ".onnx", ".keras", ".h5", ".pbtxt", ".mlmodel", ".pth", ".pt")


@dataclass(frozen=True)
class Predictor:
    """Something that turns pictures into masks.

    Attributes:
      source: the checkpoint, graph or folder it came from.
      answer: (uint8 [H, W, 3] RGB, whether probabilities are wanted) -> labels int32 [H, W], and probabilities
        float32 [H, W, classes], 0..1, or None where they are not wanted or the source has none. Pictures may differ
        in size; it may be called from several threads.
      class_names: one name a class; empty where nobody knows how many there are.
      colors: RGB of each class, uint8 [256, 3].
    """

    source: str
    answer: Callable[[np.ndarray, bool], Answer]
    class_names: tuple[str, ...]
    colors: np.ndarray


def load(
    source: str | os.PathLike,
    given: Mapping[str, Any] | None = None,
    dataset: str = "",
    crop_size: Size | None = None,
    shrink_large_images: bool = False,
) -> Predictor:
    """Finds out what `source` is, and loads it.

    Args:
      source: training folder, prefix or file of a checkpoint, `zoo:NAME`, frozen graph (`.pb`), SavedModel folder, or
        a folder that holds an export.
      given: settings of `ModelConfig`, `ResizeConfig`, `InferenceConfig` by name; they complete or replace those of
        the `config.yml` beside a checkpoint. An export has its settings built in and takes none.
      dataset: known name or `dataset.yml` of which class names and colors are taken; unset = as trained.
      crop_size: height, width in pixels to which pictures are padded; None = each its own size.
      shrink_large_images: pictures larger than the crop are shrunk, and their masks enlarged again.

    Raises:
      UserError: nothing there, another kind of file, settings that contradict the training.
    """
    path, kind = identify(os.fspath(source))
    given = dict(given or {})
    if kind == "checkpoint":
        return _from_checkpoint(checkpoint.open(path), given, dataset, crop_size, shrink_large_images)
    if given or crop_size:
        names = ", ".join(f"--{name}" for name in [*given, *(["crop_size"] if crop_size else [])])
        rule = f"{names} cannot be set any more: an export has its settings built in"
        raise UserError("unclassified", rule, "leave them out, or give the checkpoint instead", where=path)
    graph = frozen_graph.load_frozen(path) if kind == "frozen graph" else frozen_graph.load_saved_model(path)
    class_names, colors = _classes(graph.num_classes, *frozen_graph.classes_beside(path), dataset, path)
    answer = _shrinking(graph.answer, graph.crop_size) if shrink_large_images else graph.answer
    return Predictor(path, answer, class_names, colors)


def identify(source: str) -> tuple[str, str]:
    """The path that is meant, and its kind: `checkpoint`, `frozen graph` or `saved model`.

    Raises:
      UserError: it is none of these, or does not exist.
    """
    source = os.path.expanduser(source)
    if os.path.basename(source) == "saved_model.pb":
        return os.path.dirname(source) or ".", "saved model"
    if os.path.isfile(source) and source.endswith(".pb"):
        return source, "frozen graph"
    if source.endswith(_OTHER_FORMATS) and os.path.isfile(source):
        rule = f"a {os.path.splitext(source)[1]} file is none of training folder, checkpoint, frozen graph, SavedModel"
        raise UserError("unclassified", rule, "give the checkpoint or frozen graph it was made from", where=source)
    if os.path.isdir(source):
        return _inside(source)
    return source, "checkpoint"


def _inside(folder: str) -> tuple[str, str]:
    """What a folder holds: itself a SavedModel, checkpoints, or an export."""
    if os.path.isfile(os.path.join(folder, "saved_model.pb")):
        return folder, "saved model"
    frozen = sorted(name for name in os.listdir(folder) if name.endswith(".pb"))
    if all_checkpoints(folder) or not (frozen or os.path.isdir(os.path.join(folder, "saved_model"))):
        return folder, "checkpoint"
    if len(frozen) > 1:
        raise UserError(
            "unclassified",
            f"holds several graphs: {', '.join(frozen)}",
            f"give one: {folder}/{frozen[0]}",
            where=folder,
        )
    if frozen:
        return os.path.join(folder, frozen[0]), "frozen graph"
    return _inside(os.path.join(folder, "saved_model"))


# ---- checkpoints -----------------------------------------------------------------------------------------


def _from_checkpoint(
    opened: Checkpoint, given: dict[str, Any], dataset: str, crop: Size | None, shrink: bool
) -> Predictor:
    prefix = opened.prefix
    settings = checkpoint_model.resolve(given, opened, GROUPS)
    inference = make(InferenceConfig, settings)
    prediction = PredictionSettings(
        model=make(ModelConfig, settings),
        resize=make(ResizeConfig, settings),
        crop_size=crop,
        scales=inference.eval_scales,
        flip=inference.add_flipped_images,
    )
    if prediction.model.input_channels != 3:
        rule = f"the network wants images of {prediction.model.input_channels} channels; pictures have 3"
        raise UserError(
            "unclassified", rule, "call the network itself: deeplab.inference.checkpoint_model.build", where=prefix
        )
    loaded = checkpoint_model.build(prediction.model, opened, prediction.one_pass)
    saved = tuple(settings.get("class_names") or ()), tuple(settings.get("colors") or ())
    names, colors = _classes(loaded.num_classes, *saved, dataset, prefix)
    answer = _answer_of(loaded.logits_of, prediction)
    return Predictor(prefix, _shrinking(answer, crop) if shrink else answer, names, colors)


def _answer_of(logits_of: Callable, settings: PredictionSettings) -> Callable:
    """The prediction as a function of arrays; traced once for all sizes, and once more with probabilities."""
    signature = [tf.TensorSpec([None, None, 3], tf.uint8)]

    @tf.function(input_signature=signature)
    def labels_of(image):
        return predict_image(logits_of, image, settings).labels

    @tf.function(input_signature=signature)
    def both_of(image):
        return predict_image(logits_of, image, settings)[:2]

    def answer(image: np.ndarray, probabilities: bool) -> Answer:
        if settings.resize.min_resize_value is None:
            require_fit(image.shape[:2], settings, "the picture", "`crop_size`")
        if not probabilities:
            return labels_of(image).numpy(), None
        labels, scores = both_of(image)
        return labels.numpy(), scores.numpy()

    return answer


# ---- pictures larger than the crop -----------------------------------------------------------------------


def _shrinking(answer: Callable, crop: Size | None) -> Callable:
    """`answer` for pictures of any size: too large ones are shrunk to the crop, their answers enlarged again."""

    def shrinking(image: np.ndarray, probabilities: bool) -> Answer:
        try:
            return answer(image, probabilities)
        except LargerThanCrop:
            if crop is None:
                raise
            small = transforms.resize_bilinear(image, shrunk_size(image.shape[:2], crop)).numpy()
            labels, scores = answer(small.round().astype(np.uint8), probabilities)
            labels = transforms.resize_nearest(labels, image.shape[:2]).numpy()
            return labels, None if scores is None else transforms.resize_bilinear(scores, image.shape[:2]).numpy()

    return shrinking


def shrunk_size(size: Size, crop: Size) -> Size:
    """The largest height and width of the same aspect ratio that lie within the crop."""
    scale = min(crop[0] / size[0], crop[1] / size[1])
    return max(1, int(size[0] * scale)), max(1, int(size[1] * scale))


# ---- classes ---------------------------------------------------------------------------------------------


def _classes(
    num_classes: int | None, names: tuple[str, ...], colors: tuple, dataset: str, where: str
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and colors of the classes: the dataset's, else the saved ones, else numbers and PASCAL's colors."""
    if dataset:
        described = datasets.find(dataset)
        require_same_classes(described.num_classes, num_classes, where, described.name)
        names, colors = described.class_names, described.colors
    elif num_classes and len(names) != num_classes:  # none are known, or those of another model lie there
        console.note(f"{where} has no class names: `dataset` takes them from a dataset")
        names, colors = tuple(f"class_{index}" for index in range(num_classes)), ()
    return names, colormaps.colors_for(colors if len(colors) else "pascal", len(names))


def require_same_classes(of_dataset: int, of_model: int | None, checkpoint: str, dataset: str) -> None:
    """Stops when a dataset and a network differ in their number of classes (None = unknown).

    Raises:
      UserError: with both numbers.
    """
    if of_model is not None and of_dataset != of_model:
        rule = f"{dataset} has {of_dataset} classes, the network in {checkpoint} {of_model}"
        raise UserError(
            "unclassified",
            rule,
            "give the dataset it was trained on (the background counts as a class)",
            field="dataset",
        )
