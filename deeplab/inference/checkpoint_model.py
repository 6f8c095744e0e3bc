"""A network with a checkpoint's weights: its architecture from flags, `config.yml` or the checkpoint itself."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import tensorflow as tf

from deeplab import checkpoint as checkpoints
from deeplab.checkpoint import AnyCheckpoint, restore
from deeplab.checkpoint.bundle import Checkpoint
from deeplab.checkpoint.infer_config import describe, model_settings, rates_at
from deeplab.config import run_file
from deeplab.config.model_config import ModelConfig
from deeplab.model import MERGED_LOGITS, build_model
from deeplab.utils import console
from deeplab.utils.errors import UserError
from slim.layers import variables_by_name


@dataclass
class Network:
    """A network that has learned.

    Attributes:
      model: float32 [B, H, W, C], 0..255 -> {"merged_logits": float32 [B, h, w, num_classes], ...}.
      config: its architecture.
      num_classes: classes, background included.
      checkpoint: prefix of the weights it has now.
      step: their global step.
    """

    model: keras.Model
    config: ModelConfig
    num_classes: int
    checkpoint: str = ""
    step: int = 0

    def restore(self, checkpoint: AnyCheckpoint) -> None:
        """Takes a checkpoint's weights.

        Raises:
          UserError: the checkpoint does not hold every variable of this network; the weights stay as they were.
        """
        opened = checkpoints.open(checkpoint)
        restore.restore(variables_by_name(self.model), opened, require_all=True)
        self.checkpoint, self.step = opened.prefix, opened.step

    def logits_of(self, pixels: tf.Tensor) -> tf.Tensor:
        """float32 [B, h, w, C], 0..255 -> merged logits float32 [B, h', w', num_classes]."""
        return self.model(pixels, training=False)[MERGED_LOGITS]


def build(config: ModelConfig, checkpoint: AnyCheckpoint, one_pass: bool = True) -> Network:
    """The network of an architecture with a checkpoint's weights; its number of classes is the checkpoint's.

    Args:
      config: the architecture.
      checkpoint: prefix of a checkpoint that holds all its variables.
      one_pass: whether predictions are made by one pass; several passes at scales of their own take the place of
        an image pyramid inside the network, as in the research DeepLab.

    Raises:
      UserError: damaged checkpoint, one of another architecture, or one without a segmentation head.
    """
    if config.image_pyramid and not one_pass:
        console.note("the scales of `eval_scales` take the place of `image_pyramid`")
        config = replace(config, image_pyramid=())
    checkpoint = checkpoints.open(checkpoint)
    num_classes = classes_in(checkpoint)
    network = Network(build_model(config, num_classes, train_batch_norm=False), config, num_classes)
    network.restore(checkpoint)
    return network


def classes_in(checkpoint: AnyCheckpoint) -> int:
    """The number of classes that a checkpoint's logits have.

    Raises:
      UserError: it has none: a backbone alone, or another kind of file.
    """
    found = describe(checkpoint)
    if found.num_classes is None:
        rule = f"has no segmentation head: it looks like {found.sentence()}"
        raise UserError(
            "unclassified",
            rule,
            "train from it first (`tf_initial_checkpoint`)",
            where=checkpoints.open(checkpoint).prefix,
        )
    return found.num_classes


def resolve(given: Mapping[str, Any], checkpoint: Checkpoint, groups: Sequence[type]) -> dict[str, Any]:
    """All settings by name: as given, else as saved in `config.yml` beside the checkpoint, else as its variables show.

    Args:
      given: settings by name from a command line or a caller, each in its field's type.
      checkpoint: the opened checkpoint.
      groups: the settings groups that count.

    Returns:
      Settings by name, and the dataset's facts that training saved (`class_names`, `colors`, ...), if any.

    Raises:
      UserError: a given setting contradicts the saved ones where weights depend on it.
    """
    saved = checkpoint.config
    where = os.path.join(checkpoint.folder, run_file.FILE_NAME)
    merged = run_file.merge(dict(given), saved, groups, where)
    if _may_rescale_rates(given, saved):
        rates = rates_at(merged["atrous_rates"], saved["output_stride"], merged["output_stride"])
        if rates != merged["atrous_rates"]:
            shown = run_file.show(rates)
            console.note(f"`atrous_rates={shown}`: as far as those of {where} at its output stride")
        merged["atrous_rates"] = rates
    if saved:
        return {**{name: saved[name] for name in ("class_names", "colors") if saved.get(name)}, **merged}
    return {**model_settings(describe(checkpoint), checkpoint.prefix, given), **merged}


def _may_rescale_rates(given: Mapping[str, Any], saved: Mapping[str, Any]) -> bool:
    """Whether another output stride was given without atrous rates, which count feature cells, not pixels."""
    return "output_stride" in given and "atrous_rates" not in given and {"output_stride", "atrous_rates"} <= set(saved)
