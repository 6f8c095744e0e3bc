"""Loads a `Predictor` from a path or a live model."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

from deeplab.checkpoint import watch
from deeplab.checkpoint.bundle import Checkpoint
from deeplab.checkpoint.chosen import LATEST, chosen
from deeplab.config.fields import Size
from deeplab.data import dataset as datasets
from deeplab.inference import postprocess
from deeplab.inference.predictor import ModelPredictor, Predictor, require_same_classes
from deeplab.inference.runtimes import RUNTIMES, LoadOptions, checkpoint, keras_model, probe
from deeplab.utils import console, remote_files
from deeplab.utils.errors import UserError


def load(
    source: str | os.PathLike | Checkpoint | keras.Model | Predictor,
    given: Mapping[str, Any] | None = None,
    dataset: str = "",
    crop_size: Size | None = None,
    shrink_large_images: bool = False,
    crop_field: str = "crop_size",
) -> Predictor:
    """Load a Predictor.

    Args:
      source: training folder, prefix or file of a checkpoint, `zoo:NAME`, `hf://USER/NAME`, an exported file or a
        folder that holds one, a live model from `deeplab.create_model`, or a Predictor, which is returned as it is.
      given: settings of `ModelConfig`, `ResizeConfig`, `InferenceConfig` by name; they complete or replace those of
        the `config.yml` beside a checkpoint. An exported file has its settings built in and takes none.
      dataset: known name or `dataset.yml` from which class names and colors are taken; unset = as trained.
      crop_size: height, width in pixels to which images are padded; None = each its own size.
      shrink_large_images: images larger than the crop are shrunk, and their masks enlarged again.
      crop_field: the setting that `crop_size` comes from, for messages.

    Raises:
      UserError: there is nothing, another kind of file, an unsafe one, or settings that contradict the training.
    """
    if isinstance(source, Predictor):
        return source
    values = dict(given or {})
    steps = postprocess.parse(values.pop("postprocess", ""))
    options = LoadOptions(values, crop_size, crop_field, bool(values.pop("trust_model", False)))
    if isinstance(source, keras.Model):
        predictor: Predictor = keras_model.of_model(source, options)
    elif isinstance(source, Checkpoint):
        predictor = checkpoint.load(source, options)
    else:
        path = chosen(os.path.expanduser(remote_files.local_copy(source)), values.get("checkpoint", LATEST))
        predictor = _from_path(path, options)
    predictor.shrinks_large_images = shrink_large_images
    _name_classes(predictor, dataset)
    return postprocess.PostprocessedPredictor(predictor, steps) if steps else predictor


def find_model(source: str) -> tuple[str, str]:
    """The path that is meant, and the name of the runtime that loads it.

    Raises:
      UserError: it is nothing that predicts, does not exist, or is a folder of several.
    """
    source = os.path.expanduser(source)
    for name in RUNTIMES:
        if RUNTIMES.get(name).recognizes(source):
            return source, name
    if os.path.isdir(source):
        inside = [os.path.join(source, name) for name in sorted(os.listdir(source))]
        for name in (name for name in RUNTIMES if name != "checkpoint"):
            found = [path for path in inside if RUNTIMES.get(name).recognizes(path)]
            if len(found) > 1:
                names = ", ".join(map(os.path.basename, found))
                raise UserError(
                    "ambiguous-model", f"holds several models: {names}", f"give one: {found[0]}", where=source
                )
            if found:
                return found[0], name
    return source, "checkpoint"  # which says what is there instead


def each_model(
    source: str,
    given: Mapping[str, Any],
    groups: Sequence[type],
    crop_field: str,
    max_number: int = 1,
    interval_secs: float = 300.0,
) -> Iterator[tuple[Predictor, dict[str, Any]]]:
    """Yield a Predictor and all its settings by name for every checkpoint that comes; once for an exported file.

    Further checkpoints of a training come as the same Predictor with new weights.

    Args:
      source: as for `load`; a training folder may not exist yet if it is waited for.
      given: settings by name from a command line.
      groups: the command's settings groups.
      crop_field: the setting of the crop size.
      max_number, interval_secs: as for `watch.checkpoints`.
    """
    source = chosen(source, given.get("checkpoint", LATEST))
    path, name = find_model(source)
    if name != "checkpoint":
        fields = {each.name for group in checkpoint.GROUPS for each in dataclasses.fields(group)}
        own = {name: value for name, value in given.items() if name in fields}
        shrink = bool(given.get("shrink_large_images"))
        crop = given.get(crop_field)
        yield load(path, own, crop_size=crop, shrink_large_images=shrink, crop_field=crop_field), dict(given)
        return
    if given.get("shrink_large_images"):
        rule = "is for exported files of a fixed size: a checkpoint predicts images of any size"
        hint = f"leave it out, and `{crop_field}` as well"
        raise UserError("conflicting-settings", rule, hint, field="shrink_large_images", where=source)
    predictor: ModelPredictor | None = None
    steps = postprocess.parse(given.get("postprocess", ""))
    processed: Predictor | None = None
    for opened in watch.checkpoints(source, max_number, interval_secs):
        if predictor is None:
            resolved = checkpoint.resolve(given, opened, groups)
            if resolved.get("dataset_dir"):  # as trained: it may be remote
                resolved["dataset_dir"] = remote_files.local_copy(resolved["dataset_dir"])
            settings = checkpoint.settings_of(resolved, resolved.get(crop_field), crop_field)
            predictor = checkpoint.build(opened, resolved, settings)
            processed = postprocess.PostprocessedPredictor(predictor, steps) if steps else None
        else:
            predictor.restore(opened)
            if processed:
                processed.source = predictor.source
        yield processed or predictor, resolved


def _from_path(source: str, options: LoadOptions) -> Predictor:
    path, name = find_model(source)
    runtime = RUNTIMES.get(name)
    names = [*options.settings, *([options.crop_field] if options.crop_size else [])]
    if names and not runtime.takes_settings:
        rule = f"{' '.join(f'`{each}`' for each in names)} cannot be set: an exported file has its settings built in"
        raise UserError(
            "settings-built-in", rule, "leave them out, or give the checkpoint instead", where=path, value=names
        )
    if runtime.is_program and not options.trust_model:
        probe.require_survival(lambda: runtime.load(path, options), path, name)
    return runtime.load(path, options)


def _name_classes(predictor: Predictor, dataset: str) -> None:
    """Take names and colors of the classes from a dataset, if one is given."""
    if dataset:
        described = datasets.find(dataset)
        require_same_classes(described.num_classes, predictor.num_classes, predictor.source, described.name)
        predictor.set_classes(described.class_names, described.colors)
    elif predictor.num_classes and not predictor.names_are_known:
        console.note(f"{predictor.source} has no class names: `dataset` takes them from a dataset")
