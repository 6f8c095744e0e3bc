"""Compare a Predictor's labels with those of a split, and print the result."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from deeplab.config.fields import Size, typed
from deeplab.data.dataset import Dataset, load_dataset
from deeplab.evaluation import ConfusionMatrix, Report
from deeplab.evaluation.image_counts import ImageCounts
from deeplab.evaluation.metrics import ACCUMULATORS, Accumulator, present_classes
from deeplab.evaluation.split_images import ImageBatch, SplitImages, predict_labels, resized_label
from deeplab.inference.load import load
from deeplab.inference.predictor import Predictor, require_same_classes
from deeplab.inference.runtimes import checkpoint
from deeplab.utils import console
from deeplab.utils.errors import UserError, nearest


class Evaluator:
    """Evaluates a Predictor on a split, as often as its weights change.

    Args:
      predictor: a live model, a checkpoint or an exported file.
      images: the split, with the Predictor's `settings`.
      extra_metrics: names in `metrics.ACCUMULATORS`.

    Raises:
      UserError: model and dataset differ in their number of classes, or there is no such metric.
    """

    def __init__(self, predictor: Predictor, images: SplitImages, extra_metrics: Sequence[str] = ()):
        described = images.dataset
        require_same_classes(described.num_classes, predictor.num_classes, predictor.source, described.name)
        self.predictor, self.images = predictor, images
        self.extra_metrics = {name: ACCUMULATORS.get(name) for name in extra_metrics}

    def evaluate(self, settings: Mapping[str, Any] | None = None) -> Report:
        """Predict the whole split with the present weights and compare.

        Args:
          settings: settings by name, for the report.

        Raises:
          UserError: damaged records, an image that does not fit, label values outside the classes.
        """
        started = time.monotonic()
        dataset = self.images.dataset
        extra = {name: make(dataset.num_classes, dataset.ignore_label) for name, make in self.extra_metrics.items()}
        matrix, per_image = self._count(list(extra.values()))
        return Report(
            matrix,
            dataset.class_names,
            self.predictor.source,
            self.predictor.step,
            self.images.name,
            len(self.images),
            settings or {},
            time.monotonic() - started,
            np.array(dataset.colors, np.uint8) if dataset.colors else None,
            per_image,
            {name: metric.per_class() for name, metric in extra.items()},
        )

    def _count(self, extra: Sequence[Accumulator]) -> tuple[ConfusionMatrix, ImageCounts]:
        """Count all images, with a progress bar."""
        images = self.images
        matrix = ConfusionMatrix(images.dataset.num_classes, images.dataset.ignore_label)
        per_image = ImageCounts()
        with console.progress(total=len(images), what=f"evaluating {images.name}", unit="image") as bar:
            for batch in images.batches():
                count(batch, predict_labels(self.predictor, batch), images, matrix, per_image, extra)
                bar.update(len(batch.names))
        return matrix, per_image


def evaluate(
    model: str | os.PathLike | keras.Model | Predictor,
    data: Dataset | str | os.PathLike,
    split: str = "val",
    *,
    crop_size: Size | None = None,
    batch_size: int = 1,
    extra_metrics: Sequence[str] = (),
    **settings: Any,
) -> Report:
    """Evaluate a model on a split of records.

    Args:
      model: from `deeplab.create_model`, or whatever `deeplab.Segmenter` takes: a training folder, a checkpoint, an
        exported file.
      data: from `deeplab.load_dataset`, or its folder of records.
      split: name of the split.
      crop_size: height, width to which every image is padded; None = each keeps its own size.
      batch_size: images per batch; more than 1 needs `crop_size`.
      extra_metrics: metrics that take more time: `boundary_iou`.
      **settings: anything of `ModelConfig`, `ResizeConfig` and `InferenceConfig` that differ from the training.

    Raises:
      UserError: as `load` and `Evaluator`.

    Example:
      report = deeplab.evaluate("runs/first", "data/tfrecord")
      report.mean_iou
      report.save("runs/first/eval")
    """
    described = data if isinstance(data, Dataset) else load_dataset(data)
    given = typed(checkpoint.GROUPS, settings)
    predictor = load(model, given, crop_size=crop_size)
    images = SplitImages(described, described.folder, split, predictor.settings, batch_size)
    images.require_crop_fits_all()
    return Evaluator(predictor, images, extra_metrics).evaluate(
        {"eval_split": split, "dataset_dir": described.folder, **given}
    )


def count(
    batch: ImageBatch,
    predictions: Sequence[np.ndarray],
    images: SplitImages,
    matrix: ConfusionMatrix,
    per_image: ImageCounts | None = None,
    extra: Sequence[Accumulator] = (),
) -> None:
    """Add a batch's predictions, int32 [h, w] each, to a confusion matrix, and to the metrics per image.

    Raises:
      UserError: the images have no labels.
    """
    if not batch.labels:
        hint = "the vis command draws images without labels"
        raise UserError("missing-label", "has no labels to compare with", hint, where=images.name)
    for label, prediction, name in zip(batch.labels, predictions, batch.names, strict=True):
        resized = resized_label(label, images.resize)
        counts = matrix.add(resized, prediction, name)
        if per_image is not None:
            per_image.add(name, counts)
        for metric in extra:
            metric.add(resized, prediction)


def tell(report: Report, folder: str, excluded: Sequence[int] = ()) -> None:
    """Print a report, its warnings and the research DeepLab's tag lines, and write its files into a folder."""
    print(report.text())
    if excluded:
        print(mean_without(report, excluded))
    print()
    for tag, value in report.reference_scalars().items():
        print(f"{tag}[{value:.9g}]")
    for warning in report.warnings():
        console.warning(warning)
    paths = report.save(folder)
    print("\nwritten: " + ", ".join(map(str, paths)), flush=True)


def class_numbers(texts: Sequence[str], class_names: Sequence[str]) -> list[int]:
    """Return the numbers of classes given by name or number; a text may hold several, separated by commas.

    Raises:
      UserError: no such class.
    """
    numbers = []
    for word in (part.strip() for text in texts for part in text.split(",")):
        if word in class_names:
            numbers.append(list(class_names).index(word))
        elif word.isdigit() and int(word) < len(class_names):
            numbers.append(int(word))
        else:
            rule = f"there is no class called {word!r}"
            raise UserError("unknown-name", rule, nearest(word, class_names), field="exclude_classes", value=word)
    return sorted(set(numbers))


def mean_without(report: Report, excluded: Sequence[int]) -> str:
    """Format a line with the mean IoU over the classes that occur in the labels and are not excluded.

    Pixels of the excluded classes still count in the IoU of the other classes, as false positives.
    """
    counted = present_classes(report.counts)
    counted[list(excluded)] = False
    names = ", ".join(report.class_names[index] for index in excluded)
    mean = report.per_class()["iou"][counted].mean() if counted.any() else float("nan")
    return f"mean IoU without {names}: {mean:.4f} over {int(counted.sum())} classes"


def warn_of_other_names(trained: Sequence[str] | None, dataset: Sequence[str], where: str) -> None:
    """Warn if the classes had other names in training: the numbers may then mean something else."""
    if trained and list(trained) != list(dataset):
        differing = [f"{a} / {b}" for a, b in zip(trained, dataset, strict=False) if a != b][:4]
        console.warning(f"class names differ between training and {where}: {', '.join(differing)}; are they the same?")
