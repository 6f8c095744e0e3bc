"""The class weights of a training: given as `label_weights`, or computed by the scheme that `class_balance` names."""

from __future__ import annotations

from collections.abc import Sequence

from deeplab.config.training_config import LossConfig
from deeplab.data.dataset import Dataset
from deeplab.losses import class_balance
from deeplab.losses.class_balance import ClassCounts
from deeplab.training import record_statistics
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
    if config.label_weights or name in ("none", class_balance.ADAPTIVE):
        if config.label_weights and name != "none":
            console.note(f"`label_weights` replace `class_balance={name}`")
        return config.label_weights
    pixels = dataset.pixels.get(split, ())
    enough = any(pixels) and class_balance.SCHEMES[name].pixels_only
    counts = ClassCounts(pixels) if enough else record_statistics.count(dataset, shards).counts
    if not any(counts.pixels):
        return ()
    # In three digits, as `label_weights` would be given: they are then equal wherever they are computed.
    weights = class_balance.class_weights(name, counts)
    return tuple(1.0 if weight is None else float(f"{weight:.3g}") for weight in weights)
