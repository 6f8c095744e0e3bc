"""One export: all formats are written into a hidden folder, checked against the model, and only then published."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deeplab import checkpoint as checkpoints
from deeplab.checkpoint.chosen import LATEST, chosen
from deeplab.checkpoint.restore import require_finite
from deeplab.checkpoint.sparsity import Sparsity, compressed_file_size, sparsity_of
from deeplab.config import run_file
from deeplab.config.data_config import ResizeConfig
from deeplab.config.export_config import ExportConfig
from deeplab.config.fields import Size, make
from deeplab.config.model_config import ModelConfig
from deeplab.data import dataset as datasets
from deeplab.export import calibration_images, export_report, parity, parity_images, quality
from deeplab.export.destination import (
    Destination,
    destination,
    keep_other_labels,
    keep_other_versions,
    needs_images,
    require_replaceable,
)
from deeplab.export.export_report import REPORT_FILE, Row
from deeplab.export.formats import FORMATS, ExportFormat, TensorInfo
from deeplab.export.freeze import FrozenModel, freeze
from deeplab.export.metadata import METADATA_FILE, NamedClasses, labels_text, metadata_text
from deeplab.export.parity import Expected, Parity
from deeplab.inference.file_predictor import LABELS_FILE, first_line
from deeplab.inference.load import load
from deeplab.inference.prediction import PredictionSettings
from deeplab.inference.predictor import ModelPredictor, Predictor, require_same_classes
from deeplab.inference.runtimes import checkpoint as checkpoint_runtime
from deeplab.model.resize import fitting_size, size_stride
from deeplab.model.segmentation_model import SegmentationModel
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import Transaction, partial_path, remove, size_of, write_atomically
from slim.layers import variables_by_name
from slim.quantization import is_quantized

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
      rows: size, time and quality of the model and of every file.
    """

    paths: list[str]
    tensors: dict[str, list[TensorInfo]]
    parity: Results
    folded: bool
    rows: list[Row] = field(default_factory=list)


def export_checkpoint(given: Mapping[str, Any]) -> Exported:
    """Exports a checkpoint.

    Args:
      given: settings of `GROUPS` by name; `checkpoint_path` and `export_path` are required. What is not given is taken
        from `config.yml` beside the checkpoint, or inferred from the checkpoint's variables.

    Raises:
      UserError: settings that do not fit the checkpoint, and as `export`.
    """
    checkpoint = checkpoints.open(chosen(given["checkpoint_path"], given.get("checkpoint", LATEST)))
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
    stride = size_stride(model)
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
    target = destination(config, settings, predictor)
    job = _Job(predictor, settings, config, classes, target)
    require_finite(variables_by_name(predictor.model), predictor.checkpoint)
    folder = job.target.folder
    with Transaction(folder, "export_path") as transaction, _staging(folder) as staging:
        for name, is_export in job.target.files(config).items():
            require_replaceable(os.path.join(folder, name), is_export, config.overwrite)
        cases = _cases(job)
        files: dict[str, Predictor] = {}
        tensors, results, folded = _write_and_compare(job, cases, staging, files)
        rows, how = _judge(job, cases, results, files, staging)
        _describe(job, tensors, rows, how, folded, staging)
        keep_other_versions(folder, staging)
        for name in sorted(os.listdir(staging), key=lambda name: (name not in tensors, name)):
            os.replace(os.path.join(staging, name), transaction.temporary(name))
        kept = keep_other_labels(transaction, classes)
        paths = [str(path) for path in transaction.commit() if path.name != kept]
    if kept:
        console.note(f"{os.path.join(folder, LABELS_FILE)} had other class names: they are now in {kept}")
    return Exported(paths, tensors, results, folded, rows)


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
    target: Destination

    @property
    def crop(self) -> Size:
        assert self.settings.crop_size is not None
        return self.settings.crop_size

    def freeze(self, folded: bool) -> FrozenModel:
        """The model as formats take it."""
        content = metadata_text(self.predictor, self.settings, self.classes, folded, fixed_size=self.config.fixed_size)
        assets = {LABELS_FILE: labels_text(self.classes.names).encode(), METADATA_FILE: content.encode()}
        return dataclasses.replace(
            freeze(self.predictor, self.settings, folded),
            config=self.config,
            class_names=self.classes.names,
            colors=self.classes.colors,
            assets=assets,
        )


def _prepares_inside(one: ExportFormat, config: ExportConfig) -> bool:
    """Whether files of a format resize and pad images themselves."""
    return one.prepares_inside and not (config.fixed_size and one.takes_fixed_size)


def _cases(job: _Job) -> list[Case]:
    """The images to check on, with the model's predictions."""
    config, settings = job.config, job.settings
    chosen = parity_images.choose(
        config.parity_images, config.parity_folder, config.dataset_dir, job.crop, job.predictor.bands
    )
    expected = parity.model_predictions(job.predictor.logits_of, settings)
    running = console.progress(chosen, what="predicting with the model", unit="image")
    return [(name, image, expected(image)) for name, image in running]


def _write_and_compare(
    job: _Job, cases: list[Case], folder: str, files: dict[str, Predictor]
) -> tuple[dict[str, list[TensorInfo]], Results, bool]:
    """Writes with batch norm folded, and as trained if predictions of formats with full precision then differ.

    Args:
      job, cases, folder: what to write, on what to check it, and where.
      files: gets every written file as a Predictor, by name.

    Returns:
      The files' tensors, the comparisons, and whether batch norm is folded.
    """
    formats = job.target.formats
    exact = {name: one for name, one in formats.items() if one.is_exact}
    ways = (True, False) if job.config.fold_batch_norm else (False,)
    for folded in ways:
        for name in os.listdir(folder):
            remove(os.path.join(folder, name))
        model = job.freeze(folded)
        for name, content in model.assets.items():  # classes, which loading looks for
            write_atomically(os.path.join(folder, job.target.beside(name)), content)
        tensors = _write(model, exact, folder)
        results = _compare(tensors, cases, folder, files)
        if all(one.holds for ones in results.values() for one in ones):
            break
        if folded == ways[-1]:
            raise _not_equal(job.config.export_path, results)
        console.note(f"folding batch norm changes predictions ({_worst(results)}): exporting without folding")
    others = {name: one for name, one in formats.items() if not one.is_exact}
    if any(needs_images(one, is_quantized(model.model)) for one in others.values()):
        chosen = calibration_images.choose(job.config, job.crop, job.predictor.bands)
        model = dataclasses.replace(model, calibration=chosen)
    reduced = _write(model, others, folder)
    runnable = {name: described for name, described in reduced.items() if others[name].has_runtime}
    tensors, results = tensors | reduced, results | _compare(runnable, cases, folder, files)
    return (
        {name: tensors[name] for name in formats},
        {name: results[name] for name in formats if name in results},
        folded,
    )


def _write(model: FrozenModel, formats: Mapping[str, ExportFormat], folder: str) -> dict[str, list[TensorInfo]]:
    """Writes files of some formats into a folder.

    Raises:
      UserError: a converter, which is a program of others, refuses the model.
    """
    tensors = {}
    for name, one in formats.items():
        try:
            tensors[name] = one.write(model, os.path.join(folder, name))
        except (UserError, MemoryError):
            raise
        except Exception as error:
            rule = f"the model cannot be converted: {first_line(error)}"
            raise UserError("conversion-failed", rule, "leave this format out of `formats`", where=name) from error
    return tensors


def _compare(
    tensors: Mapping[str, Sequence[TensorInfo]], cases: list[Case], folder: str, files: dict[str, Predictor]
) -> Results:
    """Loads the files whose tensors are given into `files` and compares their predictions with the model's."""
    results = {}
    for name, described in tensors.items():
        scores = any(word in tensor.lower() for tensor, _, _ in described for word in ("probabilities", "logits"))
        files[name] = load(os.path.join(folder, name), {"trust_model": True})
        running = console.progress(cases, what=f"checking {name}", unit="image")
        results[name] = parity.compare(running, files[name].predict, scores)
    return results


def _judge(
    job: _Job, cases: list[Case], results: Results, files: dict[str, Predictor], folder: str
) -> tuple[list[Row], list[str]]:
    """Measures quality and time.

    Returns:
      A row for the model and for every file, and sentences that say how they were measured.

    Raises:
      UserError: a file with reduced precision is too far from the model.
    """
    formats, config = job.target.formats, job.config
    reduced = [name for name in files if not formats[name].is_exact]
    labeled = None
    if reduced:
        labeled = quality.labeled_images(config, job.predictor.num_classes, job.crop, job.predictor.bands)
    model = ModelPredictor(job.predictor.model, job.settings, job.predictor.num_classes)

    def score(predictor: Predictor, name: str) -> float | None:
        return labeled.mean_iou(lambda image: predictor.predict(image, probabilities=False), name) if labeled else None

    base = score(model, export_report.MODEL)
    times = export_report.measure({export_report.MODEL: model, **files}, cases[0][1]) if config.measure_time else {}
    rows = [Row(export_report.MODEL, "", time=times.get(export_report.MODEL), mean_iou=base)]
    pruned = _sparsity(job)
    for name, one in formats.items():
        size = size_of(os.path.join(folder, name)) / 1e6
        packed = compressed_file_size(os.path.join(folder, name)) / 1e6 if pruned else None
        kind = next(kind for kind in FORMATS if FORMATS.get(kind) is one)
        if name not in files:
            rows.append(Row(kind, name, size, agreement=None, is_reduced=True, compressed=packed))
            continue
        predictor, agreement = files[name], parity.agreement(results[name])
        found = score(predictor, name) if name in reduced else None
        loss = base - found if base is not None and found is not None else None
        if name in reduced:
            quality.require_enough(name, loss, agreement, config)
        rows.append(Row(kind, name, size, times.get(name), found, loss, agreement, name in reduced, packed))
    how = [f"Pixels equal: on {len(cases)} images; of formats with full precision all must be, but for close calls."]
    unchecked = [name for name in formats if name not in files]
    if unchecked:
        how.append(f"Converted only, not run, because nothing here can run them: {', '.join(unchecked)}.")
    if pruned:
        how.append(f"Pruned: {pruned.text()}.")
    if labeled:
        how.append(f"Mean IoU: on {len(labeled.pairs)} images of {labeled.split}, shrunk to the crop where larger.")
    return rows, how


def _sparsity(job: _Job) -> Sparsity | None:
    """Zeros in the model's kernels; None where it is not pruned."""
    found = sparsity_of({name: np.asarray(v) for name, v in variables_by_name(job.predictor.model).items()})
    return found if found.kernels else None


def _describe(
    job: _Job, tensors: dict[str, list[TensorInfo]], rows: list[Row], how: list[str], folded: bool, folder: str
) -> None:
    """Writes metadata and report beside the files."""
    described = {
        row.file: {
            "format": row.format,
            "bytes": round(row.megabytes * 1e6),
            "tensors": [{"name": name, "dtype": kind, "shape": shape} for name, kind, shape in tensors[row.file]],
            "prepared_inside": _prepares_inside(job.target.formats[row.file], job.config),
            "milliseconds": row.time and round(row.time.wall, 2),
            "cpu_milliseconds": row.time and round(row.time.processor, 2),
            "mean_iou": row.mean_iou,
            "label_agreement": row.agreement,
        }
        for row in rows
        if row.megabytes is not None
    }
    content = metadata_text(job.predictor, job.settings, job.classes, folded, described, job.config.fixed_size)
    write_atomically(os.path.join(folder, job.target.beside(METADATA_FILE)), content)
    text = export_report.text(rows, tensors, how, job.predictor.checkpoint)
    write_atomically(os.path.join(folder, job.target.beside(REPORT_FILE)), text)


def _worst(results: Results) -> str:
    name, one = max(
        ((name, one) for name, ones in results.items() for one in ones if not one.holds),
        key=lambda pair: (pair[1].unequal, pair[1].max_difference or 0.0),
    )
    return (
        f"{name}, {one.image}: {one.unequal} of {one.size[0] * one.size[1]} pixels differ, "
        f"probabilities by up to {one.shown_difference}"
    )


def _not_equal(export_path: str, results: Results) -> UserError:
    print(parity.table(results))
    rule = f"the export and the model predict different labels ({_worst(results)}), so the export was not kept"
    hint = (
        "if the training has not diverged (logits above 10,000 differ by rounding), this is an error of this program "
        "or of this machine's TensorFlow: please report it with the table above"
    )
    return UserError("export-differs", rule, hint, where=export_path)
