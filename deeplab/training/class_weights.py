"""The class weights of a training: given as `label_weights`, or computed by the scheme that `class_balance` names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deeplab.config.training_config import LossConfig
from deeplab.data import pipeline, records
from deeplab.data.dataset import Dataset
from deeplab.losses import class_balance
from deeplab.losses.class_balance import ClassCounts
from deeplab.utils import console


def weights_for(config: LossConfig, dataset: Dataset, split: str, shards: Sequence[str]) -> tuple[float, ...]:
    """One weight per class, with mean 1 over the classes that occur and 1 for the others; empty = 1 for all.

    The pixels of each class come from dataset.yml. Where it has none, and for the schemes that also need to know in
    which images a class occurs, the labels are read once.

    Args:
      config: its `label_weights` and `class_balance` are read.
      dataset: classes, ignore label, pixels of each class.
      split: name of the training split.
      shards: paths of its TFRecord files.

    Raises:
      UserError: records that cannot be read or used.
    """
    name = config.class_balance
    if config.label_weights or name == "none":
        if name != "none":
            console.note(f"`label_weights` replace `class_balance={name}`")
        return config.label_weights
    pixels = dataset.pixels.get(split, ())
    enough = any(pixels) and class_balance.SCHEMES[name].pixels_only
    counts = ClassCounts(pixels) if enough else count(dataset, split, shards)
    if not any(counts.pixels):
        return ()
    # In three digits, as `label_weights` would be given: they are then equal wherever they are computed.
    weights = class_balance.class_weights(name, counts)
    return tuple(1.0 if weight is None else float(f"{weight:.3g}") for weight in weights)


def count(dataset: Dataset, split: str, shards: Sequence[str]) -> ClassCounts:
    """Counts the classes in the labels of a split.

    Raises:
      UserError: records that cannot be read, or label values that are no classes.
    """
    classes, images = dataset.num_classes, 0
    pixels, images_with, pixels_around = (np.zeros(classes, np.int64) for _ in range(3))
    examples = pipeline.eval_images(shards, ignore_label=dataset.ignore_label, num_classes=classes, with_labels=True)
    with console.progress(total=records.count(shards), what=f"counting the classes of {split}", unit="image") as bar:
        for example in examples:
            label = example["label"].numpy()
            of_image = np.bincount(label[(label != dataset.ignore_label) & (label < classes)], minlength=classes)
            pixels += of_image
            images_with += of_image > 0
            pixels_around += np.where(of_image > 0, of_image.sum(), 0)
            images += 1
            bar.update(1)
    return ClassCounts(pixels.tolist(), images_with.tolist(), pixels_around.tolist(), images)
