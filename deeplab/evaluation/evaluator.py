"""Counts how a network's labels agree with a split's, and tells the result."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deeplab.checkpoint.bundle import Checkpoint
from deeplab.evaluation import ConfusionMatrix, Report, write_report
from deeplab.evaluation.metrics import present_classes
from deeplab.evaluation.split_images import Batch, Split, labels_of, resized_label
from deeplab.inference import load
from deeplab.inference.checkpoint_model import Network
from deeplab.utils import console
from deeplab.utils.errors import UserError, nearest


class Evaluator:
    """Evaluates one checkpoint after the other on one split.

    Args:
      network: takes the weights of each checkpoint in turn.
      split: images, labels and prediction settings.

    Raises:
      UserError: network and dataset differ in their number of classes.
    """

    def __init__(self, network: Network, split: Split):
        described = split.dataset
        load.require_same_classes(described.num_classes, network.num_classes, network.checkpoint, described.name)
        self._network, self._split = network, split
        self._labels_of = labels_of(network, split.settings)

    def evaluate(self, checkpoint: Checkpoint, settings: Mapping[str, Any]) -> Report:
        """Runs a checkpoint over the whole split.

        Args:
          checkpoint: the opened checkpoint.
          settings: every flag by name as it was resolved, for the report.

        Raises:
          UserError: damaged checkpoint or records, an image that does not fit, label values outside the classes.
        """
        if checkpoint.prefix != self._network.checkpoint:
            self._network.restore(checkpoint)
        started = time.monotonic()
        matrix = self._count()
        dataset = self._split.dataset
        return Report(
            matrix,
            dataset.class_names,
            checkpoint.prefix,
            self._network.step,
            self._split.name,
            len(self._split),
            settings,
            time.monotonic() - started,
            np.array(dataset.colors, np.uint8) if dataset.colors else None,
        )

    def _count(self) -> ConfusionMatrix:
        """The confusion matrix over all images, with a progress bar meanwhile."""
        split = self._split
        matrix = ConfusionMatrix(split.dataset.num_classes, split.dataset.ignore_label)
        with console.progress(total=len(split), what=f"evaluating {split.name}", unit="image") as bar:
            for batch in split.batches():
                count(batch, self._labels_of(batch), split, matrix)
                bar.update(len(batch.names))
        return matrix


def count(batch: Batch, answers: Sequence[np.ndarray], split: Split, matrix: ConfusionMatrix) -> None:
    """Adds a batch's answers, int32 [h, w] each, to a confusion matrix.

    Raises:
      UserError: the images have no labels.
    """
    if not batch.labels:
        raise UserError(
            "unclassified", "has no labels to compare with", "vis.py draws images without labels", where=split.name
        )
    for label, answer, name in zip(batch.labels, answers, batch.names, strict=True):
        matrix.add(resized_label(label, split.settings.resize), answer, name)


def tell(report: Report, folder: str, excluded: Sequence[int] = ()) -> None:
    """Prints a report, its warnings and the research DeepLab's tag lines, and writes its files into a folder."""
    print(report.text())
    if excluded:
        print(mean_without(report, excluded))
    print()
    for tag, value in report.reference_scalars().items():
        print(f"{tag}[{value:.9g}]")
    for warning in report.warnings():
        console.warning(warning)
    paths = write_report(report, folder)
    print("\nwritten: " + ", ".join(map(str, paths)), flush=True)


def class_numbers(texts: Sequence[str], class_names: Sequence[str]) -> list[int]:
    """Numbers of classes that are given by name or number, one or several (with commas) a text.

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
            raise UserError(
                "unclassified",
                f"no class is called {word!r}",
                nearest(word, list(class_names)),
                field="exclude_classes",
            )
    return sorted(set(numbers))


def mean_without(report: Report, excluded: Sequence[int]) -> str:
    """A line with the mean IoU over the classes that occur in the labels and are not excluded.

    The excluded classes' pixels still count in the other classes' IoU: taken for another class, they are its error.
    """
    counted = present_classes(report.counts)
    counted[list(excluded)] = False
    names = ", ".join(report.class_names[index] for index in excluded)
    mean = report.per_class()["iou"][counted].mean() if counted.any() else float("nan")
    return f"mean IoU without {names}: {mean:.4f} over {int(counted.sum())} classes"


def warn_of_other_names(trained: Sequence[str] | None, dataset: Sequence[str], where: str) -> None:
    """Says when the classes had other names in training: the numbers may then mean other things."""
    if trained and list(trained) != list(dataset):
        differing = [f"{a} / {b}" for a, b in zip(trained, dataset, strict=False) if a != b][:4]
        console.warning(f"class names differ between training and {where}: {', '.join(differing)}; are they the same?")
