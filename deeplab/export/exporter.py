"""One export: all formats are written into a hidden folder, checked against the model, and only then published."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplab import checkpoint as checkpoints
from deeplab.checkpoint.restore import require_finite
from deeplab.config import run_file
from deeplab.config.data_config import ResizeConfig
from deeplab.config.export_config import ExportConfig
from deeplab.config.fields import make
from deeplab.config.model_config import ModelConfig
from deeplab.data import dataset as datasets
from deeplab.export import parity, parity_images
from deeplab.export.formats import FORMATS, USUAL_STEM, ExportFormat, TensorInfo, mentions_predictions
from deeplab.export.formats.frozen_graph import GRAPH_TEXT
from deeplab.export.freeze import FrozenModel, freeze
from deeplab.export.metadata import LABELS_FILE, METADATA_FILE, NamedClasses, labels_text, metadata_text
from deeplab.export.parity import Expected, Parity
from deeplab.inference.load import load
from deeplab.inference.prediction import PredictionSettings
from deeplab.inference.predictor import ModelPredictor, require_same_classes
from deeplab.inference.runtimes import checkpoint as checkpoint_runtime
from deeplab.model.resize import fitting_size
from deeplab.model.segmentation_model import SegmentationModel
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import Transaction, partial_path, remove, write_atomically
from slim.layers import variables_by_name

GROUPS = (ExportConfig, ModelConfig, ResizeConfig)
Case = tuple[str, np.ndarray, Expected]
Results = dict[str, list[Parity]]


@dataclass(frozen=True)
class Exported:
    """The outcome of an export.

    Attributes:
      paths: all files and folders that were written, those of the formats first.
      tensors: file name -> its inputs and outputs.
      parity: file name -> how it compares with the model on each image.
      folded: whether batch norm is folded.
    """

    paths: list[str]
    tensors: dict[str, list[TensorInfo]]
    parity: Results
    folded: bool


@dataclass(frozen=True)
class _Destination:
    """Where an export goes.

    Attributes:
      folder: of all its files.
      stem: what its files are named after.
      formats: file name -> format.
    """

    folder: str
    stem: str
    formats: dict[str, ExportFormat]

    @property
    def metadata_file(self) -> str:
        return METADATA_FILE if self.stem == USUAL_STEM else f"{self.stem}_{METADATA_FILE}"

    def files(self, config: ExportConfig) -> dict[str, Callable[[str], bool]]:
        """Name of each file that may be replaced -> whether an existing one is an export."""
        texts = [self.metadata_file, *([GRAPH_TEXT] if config.save_inference_graph else [])]
        return {name: one.is_export for name, one in self.formats.items()} | dict.fromkeys(texts, mentions_predictions)


def export_checkpoint(given: Mapping[str, Any]) -> Exported:
    """Exports a checkpoint.

    Args:
      given: settings of `GROUPS` by name; `checkpoint_path` and `export_path` are required. What is not given is taken
        from `config.yml` beside the checkpoint, or inferred from the checkpoint's variables.

    Raises:
      UserError: settings that do not fit the checkpoint, and as `export`.
    """
    checkpoint = checkpoints.open(given["checkpoint_path"])
    resolved = checkpoint_runtime.resolve(given, checkpoint, GROUPS)
    config, model, resize = make(ExportConfig, resolved), make(ModelConfig, resolved), make(ResizeConfig, resolved)
    predictor = checkpoint_runtime.build(checkpoint, resolved, prediction_settings(config, model, resize))
    settings = predictor.settings
    if config.num_classes not in (None, predictor.num_classes):
        count = predictor.num_classes
        rule = f"is {config.num_classes}, but the logits of {predictor.checkpoint} have {count} classes"
        raise UserError("class-count-mismatch", rule, f"`num_classes={count}`, or leave it out", field="num_classes")
    names, colors = resolved.get("class_names") or (), resolved.get("colors") or ()
    return export(predictor, settings, config, classes_of(predictor, given.get("dataset", ""), names, colors))


def export_model(model: SegmentationModel, given: dict[str, Any]) -> Exported:
    """Exports a model of the Python API.

    Args:
      model: from `deeplab.create_model`, trained or not.
      given: settings of `ExportConfig` and `ResizeConfig` by name; `export_path` is required.

    Raises:
      UserError: as `export`.
    """
    config, resize = make(ExportConfig, given), make(ResizeConfig, given)
    settings = prediction_settings(config, model.config, resize)
    predictor = ModelPredictor(model.core, settings, model.num_classes, model.name)
    return export(predictor, settings, config, classes_of(predictor, config.dataset, model.class_names, model.colors))


def prediction_settings(config: ExportConfig, model: ModelConfig, resize: ResizeConfig) -> PredictionSettings:
    """Return how an exported model turns images into masks, with a note where the crop size is unfavorable."""
    stride = model.output_stride
    better = fitting_size(config.crop_size, stride)
    if better != config.crop_size:
        given, fitting = (f"`crop_size={run_file.show(size)}`" for size in (config.crop_size, better))
        console.note(f"{given} is not k * {stride} + 1 pixels: {fitting} gives slightly sharper masks")
    scales, flip = config.inference_scales, config.add_flipped_images
    return PredictionSettings(model, resize, config.crop_size, scales, flip, may_outgrow_crop=True)


def classes_of(
    predictor: ModelPredictor, dataset: str, names: Sequence[str] = (), colors: Sequence[Sequence[int]] = ()
) -> NamedClasses:
    """Return class names and colors: those of a dataset if it is given, else the known ones, else numbers.

    Raises:
      UserError: the dataset has another number of classes than the model.
    """
    if dataset:
        described = datasets.find(dataset)
        require_same_classes(described.num_classes, predictor.num_classes, predictor.checkpoint, described.name)
        names, colors = described.class_names, described.colors
    if len(names) != predictor.num_classes:
        console.note("no class names are known: labels.txt gets numbers (`dataset` names the classes)")
        names, colors = [f"class_{index}" for index in range(predictor.num_classes)], ()
    return NamedClasses(tuple(names), tuple((red, green, blue) for red, green, blue in colors))


def export(
    predictor: ModelPredictor, settings: PredictionSettings, config: ExportConfig, classes: NamedClasses
) -> Exported:
    """Writes a model in the formats of `config`, with `labels.txt` and a description beside them.

    Args:
      predictor: with a checkpoint's weights.
      settings: how images become masks; `crop_size` must be set.
      config: where to write, which formats, and on what to check.
      classes: for `labels.txt`.

    Raises:
      UserError: the weights are not finite, something cannot be written, or an exported file predicts something else
        than the model. Then nothing is left behind, and what was there before is unchanged.
    """
    job = _Job(predictor, settings, config, classes, _target(config))
    require_finite(variables_by_name(predictor.model), predictor.checkpoint)
    folder = job.target.folder
    with Transaction(folder, "export_path") as transaction, _staging(folder) as staging:
        for name, is_export in job.target.files(config).items():
            _require_replaceable(os.path.join(folder, name), is_export, config.overwrite)
        tensors, results, folded = _write_and_compare(job, _cases(job), staging)
        for name in sorted(os.listdir(staging), key=lambda name: (name not in tensors, name)):
            os.replace(os.path.join(staging, name), transaction.temporary(name))
        kept = _keep_other_labels(transaction, classes)
        paths = [str(path) for path in transaction.commit() if path.name != kept]
    if kept:
        console.note(f"{os.path.join(folder, LABELS_FILE)} had other class names: they are now in {kept}")
    return Exported(paths, tensors, results, folded)


@contextlib.contextmanager
def _staging(folder: str) -> Iterator[str]:
    """A hidden folder inside the target folder, where the files have their final names before they are published."""
    path = partial_path(os.path.join(folder, "export"))
    path.mkdir()
    try:
        yield str(path)
    finally:
        remove(path)


@dataclass(frozen=True)
class _Job:
    """What is to be exported, how, and where."""

    predictor: ModelPredictor
    settings: PredictionSettings
    config: ExportConfig
    classes: NamedClasses
    target: _Destination

    def freeze(self, folded: bool) -> FrozenModel:
        """The model as formats take it."""
        assets = {
            LABELS_FILE: labels_text(self.classes.names).encode(),
            METADATA_FILE: metadata_text(self.predictor, self.settings, self.classes, folded).encode(),
        }
        return dataclasses.replace(
            freeze(self.predictor, self.settings, folded),
            config=self.config,
            class_names=self.classes.names,
            colors=self.classes.colors,
            assets=assets,
        )


def _target(config: ExportConfig) -> _Destination:
    """Reads `export_path` and `formats`."""
    formats = {name: FORMATS.get(name) for name in config.chosen_formats()}
    if not formats:
        raise UserError("missing-setting", "names no format", f"choose from {', '.join(FORMATS)}", field="formats")
    path = os.path.expanduser(config.export_path)
    folder, file = os.path.split(path)
    stem, suffix = os.path.splitext(file)
    suffixes = [one.suffix for one in formats.values() if one.suffix.startswith(".")]
    if not suffix or (os.path.isdir(path) and suffix not in suffixes):
        folder, stem = path, USUAL_STEM
    elif suffix not in suffixes or os.path.isdir(path):
        rule = f"{path} is a folder" if os.path.isdir(path) else f"must end in {' or '.join(suffixes)}, not {suffix!r}"
        hint = f"`export_path={path}{''.join(suffixes[:1])}`, or a folder, which has no suffix"
        raise UserError("wrong-suffix", rule, hint, field="export_path", value=config.export_path)
    return _Destination(folder, stem, {one.file_name(stem): one for one in formats.values()})


def _require_replaceable(path: str, is_export: Callable[[str], bool], overwrite: bool) -> None:
    """Refuses to replace a file that is no export unless `overwrite` is set, and a folder that is no export always."""
    if os.path.exists(path) and not os.path.isdir(path) and not os.path.isfile(path):
        raise UserError("not-a-file", "is a device, a pipe or a socket", "give another `export_path`", where=path)
    if os.path.isdir(path):
        if os.listdir(path) and not is_export(path):
            hint = "move it away, or give another `export_path`"
            raise UserError("would-overwrite", "this folder is not an export and would be replaced", hint, where=path)
    elif os.path.exists(path) and not overwrite and not is_export(path):
        hint = "`overwrite=true` replaces it; or give another `export_path`"
        raise UserError("would-overwrite", "this file is not an export and would be replaced", hint, where=path)


def _cases(job: _Job) -> list[Case]:
    """The images to check on, with the model's predictions."""
    config, settings = job.config, job.settings
    assert settings.crop_size is not None  # nosec B101  # for the type checker
    channels = settings.model.input_channels
    chosen = parity_images.choose(
        config.parity_images, config.parity_folder, config.dataset_dir, settings.crop_size, channels
    )
    expected = parity.model_predictions(job.predictor.logits_of, settings)
    running = console.progress(chosen, what="predicting with the model", unit="image")
    return [(name, image, expected(image)) for name, image in running]


def _write_and_compare(job: _Job, cases: list[Case], folder: str) -> tuple[dict[str, list[TensorInfo]], Results, bool]:
    """Writes with batch norm folded, and as trained if predictions then differ.

    Returns:
      The files' tensors, the comparisons, and whether batch norm is folded.
    """
    ways = (True, False) if job.config.fold_batch_norm else (False,)
    for folded in ways:
        for name in os.listdir(folder):
            remove(os.path.join(folder, name))
        tensors = _write(job.freeze(folded), job.target, folder)
        results = _compare(job.target, cases, folder)
        if all(one.holds for ones in results.values() for one in ones):
            return tensors, results, folded
        if folded != ways[-1]:
            console.note(f"folding batch norm changes predictions ({_worst(results)}): exporting without folding")
    raise _not_equal(job.config.export_path, results)


def _write(model: FrozenModel, target: _Destination, folder: str) -> dict[str, list[TensorInfo]]:
    """Writes all files of an export into a folder."""
    write_atomically(os.path.join(folder, LABELS_FILE), model.assets[LABELS_FILE])
    write_atomically(os.path.join(folder, target.metadata_file), model.assets[METADATA_FILE])
    return {name: one.write(model, os.path.join(folder, name)) for name, one in target.formats.items()}


def _compare(target: _Destination, cases: list[Case], folder: str) -> Results:
    """Loads the written files and compares their predictions with the model's."""
    results = {}
    for name in target.formats:
        path = os.path.join(folder, name)
        written = load(path, {"trust_model": True})
        running = console.progress(cases, what=f"checking {name}", unit="image")
        results[name] = parity.compare(running, written.predict)
    return results


def _worst(results: Results) -> str:
    name, one = max(
        ((name, one) for name, ones in results.items() for one in ones if not one.holds),
        key=lambda pair: (pair[1].unequal, pair[1].max_difference),
    )
    return (
        f"{name}, {one.image}: {one.unequal} of {one.size[0] * one.size[1]} pixels differ, "
        f"probabilities by up to {one.max_difference:.2g}"
    )


def _not_equal(export_path: str, results: Results) -> UserError:
    print(parity.table(results))
    rule = f"the export and the model predict different labels ({_worst(results)}), so the export was not kept"
    hint = "this is an error of this program or of this machine's TensorFlow: please report it with the table above"
    return UserError("export-differs", rule, hint, where=export_path)


def _keep_other_labels(transaction: Transaction, classes: NamedClasses) -> str:
    """Adds a copy of an existing `labels.txt` with other names, which may be written by hand; its name, or ""."""
    path = transaction.folder / LABELS_FILE
    if not path.is_file():
        return ""
    content = path.read_bytes()
    if content == labels_text(classes.names).encode():
        return ""
    names = (f"{path.stem}.previous-{number}{path.suffix}" for number in itertools.count(1))
    kept = next(name for name in names if not os.path.lexists(transaction.folder / name))
    transaction.temporary(kept).write_bytes(content)
    return kept
