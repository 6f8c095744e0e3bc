"""One export: all formats are written into a hidden folder, checked against the model, and only then published."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from deeplab.config.export_config import ExportConfig
from deeplab.export import parity, parity_images
from deeplab.export.formats import FORMATS, USUAL_STEM, ExportFormat, TensorInfo, mentions_predictions
from deeplab.export.formats.frozen_graph import GRAPH_TEXT
from deeplab.export.freeze import FrozenModel, freeze
from deeplab.export.metadata import LABELS_FILE, METADATA_FILE, NamedClasses, labels_text, metadata_text
from deeplab.export.parity import Expected, Parity
from deeplab.inference.checkpoint_model import Network
from deeplab.inference.prediction import PredictionSettings
from deeplab.inference.runtimes import frozen_graph as graphs
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import Transaction, partial_path, remove, write_atomically
from slim.layers import variables_by_name

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
class _Target:
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


def export(network: Network, settings: PredictionSettings, config: ExportConfig, classes: NamedClasses) -> Exported:
    """Writes a model in the formats of `config`, with `labels.txt` and a description beside them.

    Args:
      network: with a checkpoint's weights.
      settings: how images become masks; `crop_size` must be set.
      config: where to write, which formats, and on what to check.
      classes: for `labels.txt`.

    Raises:
      UserError: the weights are not finite, something cannot be written, or an exported file predicts something else
        than the model. Then nothing is left behind, and what was there before is unchanged.
    """
    job = _Job(network, settings, config, classes, _target(config))
    _require_finite(network)
    folder = job.target.folder
    with Transaction(folder, "export_path") as transaction, _staging(folder) as staging:
        for name, is_export in job.target.files(config).items():
            _require_replaceable(os.path.join(folder, name), is_export, config.overwrite)
        tensors, results, folded = _write_and_compare(job, _cases(job), staging)
        for name in sorted(os.listdir(staging), key=lambda name: (name not in tensors, name)):
            os.replace(os.path.join(staging, name), transaction.temporary(name))
        _keep_other_labels(os.path.join(folder, LABELS_FILE), classes)
        return Exported([str(path) for path in transaction.commit()], tensors, results, folded)


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

    network: Network
    settings: PredictionSettings
    config: ExportConfig
    classes: NamedClasses
    target: _Target

    def freeze(self, folded: bool) -> FrozenModel:
        """The model as formats take it."""
        assets = {
            LABELS_FILE: labels_text(self.classes.names).encode(),
            METADATA_FILE: metadata_text(self.network, self.settings, self.classes, folded).encode(),
        }
        return dataclasses.replace(freeze(self.network, self.settings, folded), config=self.config, assets=assets)


def _target(config: ExportConfig) -> _Target:
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
    return _Target(folder, stem, {one.file_name(stem): one for one in formats.values()})


def _require_finite(network: Network) -> None:
    for name, variable in variables_by_name(network.model).items():
        wrong = int((~np.isfinite(np.asarray(variable))).sum())
        if wrong:
            rule = f"{wrong} values of {name} are not finite: the training had diverged"
            hint = "export an earlier checkpoint, or train with a lower learning rate"
            raise UserError("weights-not-finite", rule, hint, where=network.checkpoint, value=name)


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
    assert settings.crop_size is not None
    channels = settings.model.input_channels
    chosen = parity_images.choose(
        config.parity_images, config.parity_folder, config.dataset_dir, settings.crop_size, channels
    )
    expected = parity.model_predictions(job.network.logits_of, settings)
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


def _write(model: FrozenModel, target: _Target, folder: str) -> dict[str, list[TensorInfo]]:
    """Writes all files of an export into a folder."""
    write_atomically(os.path.join(folder, LABELS_FILE), model.assets[LABELS_FILE])
    write_atomically(os.path.join(folder, target.metadata_file), model.assets[METADATA_FILE])
    return {name: one.write(model, os.path.join(folder, name)) for name, one in target.formats.items()}


def _compare(target: _Target, cases: list[Case], folder: str) -> Results:
    """Loads the written files and compares their predictions with the model's."""
    results = {}
    for name in target.formats:
        path = os.path.join(folder, name)
        graph = graphs.load_saved_model(path) if os.path.isdir(path) else graphs.load_frozen(path)
        running = console.progress(cases, what=f"checking {name}", unit="image")
        results[name] = parity.compare(running, functools.partial(graph.answer, probabilities=True))
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


def _keep_other_labels(path: str, classes: NamedClasses) -> None:
    """Renames an existing `labels.txt` with other names, which may be written by hand."""
    if not os.path.isfile(path):
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        if file.read() == labels_text(classes.names):
            return
    stem, suffix = os.path.splitext(path)
    aside = next(name for n in range(1, 1000) if not os.path.exists(name := f"{stem}.previous-{n}{suffix}"))
    os.rename(path, aside)
    console.note(f"{path} had other class names: it is now called {os.path.basename(aside)}")
