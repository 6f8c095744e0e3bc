"""The batches of a training: what `data/input` makes of the records with the settings of this training."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

import slim
from deeplab.data import pipeline
from deeplab.data.dataset import Dataset
from deeplab.training.settings import Settings


def training_batches(
    settings: Settings,
    dataset: Dataset,
    shards: Sequence[str],
    strategy: tf.distribute.Strategy,
    seed: int,
    start_at: int = 0,
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Endless batches as `input.train_batches` gives them, spread over the devices where there are several.

    Args:
      settings: of the training.
      dataset: classes and ignore label.
      shards: paths of the TFRecord files.
      strategy: the devices.
      seed: the same seed gives the same batches.
      start_at: number of steps already done; the batches go on from there.

    Raises:
      UserError: as `input.train_batches`.
    """
    config = settings.train
    batches = pipeline.train_batches(
        shards,
        crop_size=config.train_crop_size,
        batch_size=config.train_batch_size,
        padding_color=slim.find(settings.model.model_variant).padding_color,
        ignore_label=dataset.ignore_label,
        num_classes=dataset.num_classes,
        min_scale_factor=config.min_scale_factor,
        max_scale_factor=config.max_scale_factor,
        scale_factor_step_size=config.scale_factor_step_size,
        resize=settings.resize,
        seed=seed,
        start=start_at,
    )
    return batches if strategy.num_replicas_in_sync == 1 else strategy.experimental_distribute_dataset(batches)
