"""Statistics of the labels of a training's records, counted in one pass at its start.

Class weights, repeated images and pasted classes ask here; the answer is kept, so that the records are read once,
however many of them ask. Reads records; writes nothing.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deeplab.config.augmentation_config import AugmentationConfig
from deeplab.data import pipeline, records
from deeplab.data.bands import ImageBands
from deeplab.data.dataset import Dataset
from deeplab.losses.class_balance import ClassCounts
from deeplab.utils import console


@dataclass(frozen=True)
class RecordStatistics:
    """What the labels of a split hold.

    Attributes:
      counts: pixels and images per class.
      present: bool [records, classes], in the order of the shards: whether the class occurs in the image.
    """

    counts: ClassCounts
    present: np.ndarray


def count(dataset: Dataset, shards: Sequence[str]) -> RecordStatistics:
    """Counts the classes in the labels of a split; the last answer is kept.

    Raises:
      UserError: records that cannot be read, or label values that are no classes.
    """
    state = tuple((path, os.path.getsize(path), os.stat(path).st_mtime_ns) for path in shards)
    return _count(state, dataset.num_classes, dataset.ignore_label, dataset.image_bands)


@functools.lru_cache(maxsize=1)
def _count(
    shards: tuple[tuple[str, int, int], ...], classes: int, ignore_label: int, bands: ImageBands
) -> RecordStatistics:
    paths = [path for path, *_ in shards]
    pixels, pixels_around = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    present = np.zeros((records.count(paths), classes), bool)
    examples = pipeline.eval_images(
        paths, ignore_label=ignore_label, num_classes=classes, with_labels=True, bands=bands
    )
    with console.progress(total=len(present), what="counting the classes of the training split", unit="image") as bar:
        for index, example in enumerate(pipeline.explained(examples, paths)):
            label = example["label"].numpy()
            of_image = np.bincount(label[(label != ignore_label) & (label < classes)], minlength=classes)
            pixels += of_image
            present[index] = of_image > 0
            pixels_around += np.where(of_image > 0, of_image.sum(), 0)
            bar.update(1)
    counts = ClassCounts(pixels.tolist(), present.sum(0).tolist(), pixels_around.tolist(), len(present))
    return RecordStatistics(counts, present)


def repeats_for(config: AugmentationConfig, dataset: Dataset, shards: Sequence[str]) -> np.ndarray | None:
    """How often each record comes per epoch, on average; None = once.

    Args:
      config: `sampling` and `repeat_threshold`.
      dataset: classes and ignore label.
      shards: paths of the TFRecord files.

    Raises:
      UserError: as `count`.
    """
    if config.sampling == "uniform":
        return None
    return repeat_factors(count(dataset, shards).present, config.repeat_threshold)


def repeat_factors(present: np.ndarray, threshold: float) -> np.ndarray:
    """Repeat factors of images (Gupta et al. 2019, arXiv:1908.03195, section 4.1).

    That of a class is max(1, sqrt(threshold / fraction of the images with it)); an image has the largest one of its
    classes.

    Args:
      present: bool [images, classes].
      threshold: fraction of the images below which a class is repeated, 0 to 1.

    Returns:
      float64 [images], at least 1.
    """
    fraction = np.maximum(present.mean(0), 1e-12)
    of_class = np.maximum(1.0, np.sqrt(threshold / fraction))
    return np.where(present, of_class, 1.0).max(1, initial=1.0)
