"""Compare a Predictor's labels with those of a split, and print the result."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from deeplab.config.fields import Size, typed
from deeplab.data.bands import require_same_bands
from deeplab.data.class_names import MANY_CLASSES, class_numbers
from deeplab.data.dataset import Dataset, load_dataset
from deeplab.evaluation import ConfusionMatrix, Report
from deeplab.evaluation.image_counts import ImageCounts, group_expression
from deeplab.evaluation.metrics import ACCUMULATORS, Accumulator, choose
from deeplab.evaluation.sparse_sums import SparseSums
from deeplab.evaluation.split_images import (
    ImageBatch,
    SplitImages,
    predict_confident,
    predict_labels,
    resized_label,
)
from deeplab.inference.load import load
from deeplab.inference.predictor import Predictor, require_same_classes
from deeplab.inference.runtimes import checkpoint
from deeplab.utils import console
from deeplab.utils.errors import UserError

Observer = Callable[[int, np.ndarray, np.ndarray], None]


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredPart:
    """What was measured on some images of a split.

    Attributes:
      positions: places of the images in the split.
      images: their counts.
      statistics: what each accumulator measured, by its name.
    """

    positions: Sequence[int]
    images: ImageCounts
    statistics: Mapping[str, Sequence[np.ndarray | SparseSums]]


@dataclasses.dataclass(frozen=True)
class Measures:
    """What an evaluation measures and shows.

    Attributes:
      metrics: names of the metrics to show; none = all that are functions of the confusion matrix.
      extra: names in `metrics.ACCUMULATORS` to add.
      excluded: names or numbers of classes that further means leave out.
      group_by: regular expression over the images' names, whose groups are measured apart.
      uncertainty: also measure how sure the model is in each image; slower, and not known by all exported files.
    """

    metrics: Sequence[str] = ()
    extra: Sequence[str] = ()
    excluded: Sequence[str] = ()
    group_by: str = ""
    uncertainty: bool = False


class Evaluator:
    """Evaluates a Predictor on a split, as often as its weights change.

    Args:
      predictor: a live model, a checkpoint or an exported file.
      images: the split, with the Predictor's `settings`.
      measures: what is measured and shown.
      observe: is called with each image's place in the split, its label and its prediction, integers [h, w].

    Raises:
      UserError: model and dataset differ in their number of classes, or there is no such metric, class or pattern.
    """

    def __init__(
        self,
        predictor: Predictor,
        images: SplitImages,
        measures: Measures | None = None,
        observe: Observer | None = None,
    ):
        described = images.dataset
        require_same_classes(described.num_classes, predictor.num_classes, predictor.source, described.name)
        require_same_bands(described.image_bands, predictor.bands, predictor.source, described.name)
        self.predictor, self.images, self.measures = predictor, images, measures or Measures()
        self.observe = observe
        self._shown, accumulated = choose(self.measures.metrics, self.measures.extra)
        self._makers = {name: ACCUMULATORS.get(name) for name in accumulated}
        self._excluded = class_numbers(self.measures.excluded, described.class_names, "exclude_classes")
        group_expression(self.measures.group_by)

    def evaluate(self, settings: Mapping[str, Any] | None = None) -> Report:
        """Predict the whole split with the present weights and compare.

        Args:
          settings: settings by name, for the report.

        Raises:
          UserError: damaged records, an image that does not fit, label values outside the classes.
        """
        started = time.monotonic()
        return self.report([self.measure()], settings, started)

    def report(
        self, parts: Sequence[MeasuredPart], settings: Mapping[str, Any] | None = None, started: float | None = None
    ) -> Report:
        """Put parts of a split together, whichever process measured them.

        Args:
          parts: each image of the split is in one of them.
          settings: settings by name, for the report.
          started: `time.monotonic()` when the evaluation began; None = unknown.
        """
        dataset = self.images.dataset
        order = np.argsort([position for part in parts for position in part.positions], kind="stable").tolist()
        images = ImageCounts()
        for part in parts:
            images.extend(part.images)
        images = images.subset(order)
        accumulators = self._accumulators()
        for name, metric in accumulators.items():
            statistics = [one for part in parts for one in part.statistics[name]]
            metric.statistics = [statistics[index] for index in order]
        counts = images.total() if images.names else None
        return Report(
            ConfusionMatrix(dataset.num_classes, dataset.ignore_label, counts),
            dataset.class_names,
            self.predictor.source,
            self.predictor.step,
            self.images.name,
            len(images.names),
            settings or {},
            0.0 if started is None else time.monotonic() - started,
            np.array(dataset.colors, np.uint8) if dataset.colors else None,
            images,
            accumulators,
            self._shown if self.measures.metrics else (),
            self._excluded,
            self.measures.group_by,
        )

    def _accumulators(self) -> dict[str, Accumulator]:
        dataset = self.images.dataset
        return {name: make(dataset.num_classes, dataset.ignore_label) for name, make in self._makers.items()}

    def measure(self, quiet: bool = False) -> MeasuredPart:
        """Count all images, with a progress bar unless `quiet`."""
        images, accumulators, positions = self.images, self._accumulators(), []
        matrix = ConfusionMatrix(images.dataset.num_classes, images.dataset.ignore_label)
        per_image = ImageCounts()
        needs_confidence = any(metric.needs_confidence for metric in accumulators.values())
        bar = None if quiet else console.progress(total=len(images), what=f"evaluating {images.name}", unit="image")
        with bar or contextlib.nullcontext():
            for batch in images.batches():
                if needs_confidence or self.measures.uncertainty:
                    found = predict_confident(self.predictor, batch)
                    labels, confidences = [one for one, _ in found], [sure for _, sure in found]
                else:
                    labels, confidences = predict_labels(self.predictor, batch), None
                if needs_confidence:
                    self._require_probabilities(confidences)
                metrics = list(accumulators.values())
                count(batch, labels, images, matrix, per_image, metrics, confidences, self.observe)
                positions += batch.positions
                if bar:
                    bar.update(len(batch.names))
        return MeasuredPart(positions, per_image, {name: one.statistics for name, one in accumulators.items()})

    def _require_probabilities(self, confidences: Sequence[np.ndarray | None] | None) -> None:
        if confidences is None or any(sure is None for sure in confidences):
            rule, hint = "this model file has no probabilities", "leave out `calibration`, or evaluate the checkpoint"
            raise UserError("no-probabilities", rule, hint, where=self.predictor.source)


def evaluate(
    model: str | os.PathLike | keras.Model | Predictor,
    data: Dataset | str | os.PathLike,
    split: str = "val",
    *,
    crop_size: Size | None = None,
    batch_size: int = 1,
    extra_metrics: Sequence[str] = (),
    metrics: Sequence[str] = (),
    exclude_classes: Sequence[str] = (),
    group_by: str = "",
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
      extra_metrics: metrics to add that take more time: `boundary_iou`, `trimap_iou`, `calibration`, `object_size`.
      metrics: names of the metrics to report; none = all that are read from the confusion matrix.
      exclude_classes: names or numbers of classes that further means leave out.
      group_by: regular expression over the images' names, whose groups are measured apart.
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
    measures = Measures(metrics, extra_metrics, exclude_classes, group_by)
    return Evaluator(predictor, images, measures).evaluate(
        {"eval_split": split, "dataset_dir": described.folder, **given}
    )


def count(
    batch: ImageBatch,
    predictions: Sequence[np.ndarray],
    images: SplitImages,
    matrix: ConfusionMatrix,
    per_image: ImageCounts | None = None,
    accumulators: Sequence[Accumulator] = (),
    confidences: Sequence[np.ndarray | None] | None = None,
    observe: Observer | None = None,
) -> None:
    """Add a batch's predictions, int32 [h, w] each, to a confusion matrix, and to the metrics per image.

    Args:
      confidences: probability of each prediction, float32 [h, w]; None = unknown.
      observe: is called with the place of each image, its label and its prediction, integers [h, w].

    Raises:
      UserError: the images have no labels.
    """
    if not batch.labels:
        hint = "the vis command draws images without labels"
        raise UserError("missing-label", "has no labels to compare with", hint, where=images.name)
    sures = confidences or [None] * len(predictions)
    found = zip(batch.positions, batch.labels, predictions, batch.names, sures, strict=True)
    for position, label, prediction, name, sure in found:
        resized = resized_label(label, images.resize)
        counts = matrix.add(resized, prediction, name)
        if per_image is not None:
            per_image.add(name, counts, float("nan") if sure is None else 1.0 - float(sure.mean()))
        for metric in accumulators:
            metric.add(resized, prediction, sure)
        if observe:
            observe(position, resized, prediction)


def tell(report: Report, folder: str, evaluator: Evaluator | None = None) -> None:
    """Print a report, its warnings and the research DeepLab's tag lines, and write its files into a folder.

    Args:
      report: the evaluation.
      folder: made if it does not exist.
      evaluator: what made the report, for an HTML page with examples; None = no page.
    """
    print(report.text())
    print()
    scalars = list(report.reference_scalars().items())
    for tag, value in scalars[:1] if len(report.class_names) > MANY_CLASSES else scalars:  # the mean, then classes
        print(f"{tag}[{value:.9g}]")
    for warning in report.warnings():
        console.warning(warning)
    page = ""
    if evaluator:
        from deeplab.evaluation import html_report  # here: evaluation while training needs none

        try:
            page = html_report.page_for(report, evaluator.images, evaluator.predictor, folder)
        except BaseException:  # the examples are predicted again: the measured numbers are not lost with them
            report.save(folder)
            raise
    paths = report.save(folder, page)
    print(console.spelled("\nwritten: " + ", ".join(map(str, paths))), flush=True)


def warn_of_other_names(trained: Sequence[str] | None, dataset: Sequence[str], where: str) -> None:
    """Warn if the classes had other names in training: the numbers may then mean something else."""
    if trained and list(trained) != list(dataset):
        differing = [f"{a} / {b}" for a, b in zip(trained, dataset, strict=False) if a != b][:4]
        console.warning(f"class names differ between training and {where}: {', '.join(differing)}; are they the same?")
