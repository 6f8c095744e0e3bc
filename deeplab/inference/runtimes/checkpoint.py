"""Checkpoints: the model is built from flags, `config.yml` or the checkpoint's own variables, and takes its weights."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from deeplab.config import run_file
from deeplab.config.data_config import ResizeConfig
from deeplab.config.fields import Size, make
from deeplab.config.model_config import ModelConfig
from deeplab.config.prediction_config import InferenceConfig
from deeplab.inference.runtimes import RUNTIMES, LoadOptions, Runtime
from deeplab.utils import console
from deeplab.utils.errors import UserError

if TYPE_CHECKING:
    from deeplab.checkpoint.bundle import Checkpoint
    from deeplab.inference.prediction import PredictionSettings
    from deeplab.inference.predictor import ModelPredictor

GROUPS = (ModelConfig, ResizeConfig, InferenceConfig)


def recognizes(path: str) -> bool:
    """Whether this is `zoo:NAME`, a checkpoint's prefix or one of its files, another project's weights, or a folder."""
    from deeplab.checkpoint import bundle, foreign, manager, zoo

    if zoo.is_name(path) or foreign.is_foreign(path) or bundle.exists(path) or bundle.exists(bundle.PART.sub("", path)):
        return True
    return os.path.isdir(path) and bool(manager.all_checkpoints(path) or foreign.in_folder(path))


def load(path: str | Checkpoint, options: LoadOptions) -> ModelPredictor:
    """Build a checkpoint's model.

    Raises:
      UserError: there is no such checkpoint, it is damaged or has no segmentation head, or a setting contradicts the
        training.
    """
    from deeplab.checkpoint import open as open_checkpoint

    opened = open_checkpoint(path)
    resolved = resolve(options.settings, opened, GROUPS)
    return build(opened, resolved, settings_of(resolved, options.crop_size, options.crop_field))


def settings_of(
    resolved: Mapping[str, Any], crop_size: Size | None, crop_field: str = "crop_size"
) -> PredictionSettings:
    """How images become masks, from resolved settings by name."""
    from deeplab.inference.prediction import PredictionSettings

    values = dict(resolved)
    inference = make(InferenceConfig, values)
    return PredictionSettings(
        make(ModelConfig, values),
        make(ResizeConfig, values),
        crop_size,
        inference.eval_scales,
        inference.add_flipped_images,
        crop_field=crop_field,
    )


def build(checkpoint: Checkpoint, resolved: Mapping[str, Any], settings: PredictionSettings) -> ModelPredictor:
    """Build the model of an architecture with a checkpoint's weights; the checkpoint tells its number of classes.

    Args:
      checkpoint: holds all variables of the architecture.
      resolved: names and colors of the classes, if known: `class_names`, `colors`; see `resolve`.
      settings: the architecture, and how images become masks. Several passes at scales of their own replace an image
        pyramid inside the model, as in the research DeepLab.

    Raises:
      UserError: a damaged checkpoint, one of another architecture, or one without a segmentation head.
    """
    from deeplab.inference.predictor import ModelPredictor
    from deeplab.model import build_model

    if settings.model.image_pyramid and not settings.one_pass:
        console.note("the scales of `eval_scales` replace `image_pyramid`")
        settings = replace(settings, model=replace(settings.model, image_pyramid=()))
    num_classes = classes_in(checkpoint)
    model = build_model(settings.model, num_classes, train_batch_norm=False)
    names, colors = resolved.get("class_names") or (), resolved.get("colors") or ()
    predictor = ModelPredictor(model, settings, num_classes, class_names=names, colors=colors)
    predictor.use_averages = bool(resolved.get("use_averages", True))
    predictor.restore(checkpoint)
    return predictor


def classes_in(checkpoint: Checkpoint) -> int:
    """The number of classes of a checkpoint's logits.

    Raises:
      UserError: it has no logits: a backbone alone, or another kind of file.
    """
    from deeplab.checkpoint.infer_config import describe

    found = describe(checkpoint)
    if found.num_classes is None:
        rule = f"has no segmentation head: it looks like {found.sentence()}"
        hint = "train from it first (`tf_initial_checkpoint`)"
        raise UserError("not-a-deeplab-model", rule, hint, where=checkpoint.prefix)
    return found.num_classes


def resolve(given: Mapping[str, Any], checkpoint: Checkpoint, groups: Sequence[type]) -> dict[str, Any]:
    """All settings by name: as given, else as saved in `config.yml` beside the checkpoint, else as its variables show.

    Args:
      given: settings by name from a command line or a caller, each in its field's type.
      checkpoint: the opened checkpoint.
      groups: the settings groups to look up.

    Returns:
      Settings by name, and the dataset's facts that training saved (`class_names`, `colors`), if any.

    Raises:
      UserError: a given setting contradicts a saved one that shapes the weights.
    """
    from deeplab.checkpoint.infer_config import describe, model_settings, rates_at

    saved = checkpoint.config
    where = checkpoint.config_place
    if checkpoint.remark:
        console.note(checkpoint.remark)
    merged = run_file.merge(dict(given), saved, groups, where)
    if _may_rescale_rates(given, saved):
        rates = rates_at(merged["atrous_rates"], saved["output_stride"], merged["output_stride"])
        if rates != merged["atrous_rates"]:
            shown = run_file.show(rates)
            console.note(f"`atrous_rates={shown}`: the same field of view as those of {where} at its output stride")
        merged["atrous_rates"] = rates
    if saved:
        return {**{name: saved[name] for name in ("class_names", "colors") if saved.get(name)}, **merged}
    return {**model_settings(describe(checkpoint), checkpoint.prefix, given), **merged}


def _may_rescale_rates(given: Mapping[str, Any], saved: Mapping[str, Any]) -> bool:
    """Whether another output stride was given without atrous rates, which count feature cells, not pixels."""
    return "output_stride" in given and "atrous_rates" not in given and {"output_stride", "atrous_rates"} <= set(saved)


RUNTIMES.register("checkpoint")(Runtime(recognizes, load, is_program=False, takes_settings=True))
