"""Where an export goes: which formats it writes, what their files are called, and what they may replace.

Called by the exporter. It reads settings and looks at the target folder; it never writes a format.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass

from deeplab.config.export_config import ExportConfig
from deeplab.export import calibration_images
from deeplab.export.export_report import REPORT_FILE
from deeplab.export.formats import FORMATS, USUAL_STEM, ExportFormat, mentions_predictions
from deeplab.export.formats.frozen_graph import GRAPH_TEXT
from deeplab.export.metadata import METADATA_FILE, NamedClasses, labels_text
from deeplab.inference.file_predictor import LABELS_FILE
from deeplab.inference.prediction import PredictionSettings
from deeplab.inference.predictor import ModelPredictor
from deeplab.inference.runtimes.saved_model import version_folders, versions_in
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import Transaction
from slim.quantization import is_quantized

ALL = "all"


@dataclass(frozen=True)
class Destination:
    """Where an export goes.

    Attributes:
      folder: of all its files.
      stem: what its files are named after.
      formats: file name -> format.
    """

    folder: str
    stem: str
    formats: dict[str, ExportFormat]

    def beside(self, name: str) -> str:
        """The name of a text file of this export: `metadata.json`, or `small_metadata.json`; `labels.txt` always."""
        return name if self.stem == USUAL_STEM or name == LABELS_FILE else f"{self.stem}_{name}"

    def files(self, config: ExportConfig) -> dict[str, Callable[[str], bool]]:
        """Name of each file that may be replaced -> whether an existing one is an export."""
        texts = [self.beside(METADATA_FILE), self.beside(REPORT_FILE)]
        texts += [GRAPH_TEXT] if config.save_inference_graph else []
        return {name: one.is_export for name, one in self.formats.items()} | dict.fromkeys(texts, mentions_predictions)


def destination(config: ExportConfig, settings: PredictionSettings, predictor: ModelPredictor) -> Destination:
    """Reads `export_path` and `formats` for a model.

    Raises:
      UserError: no format is named, one cannot hold the model, or the path does not fit the formats.
    """
    formats = {name: FORMATS.get(name) for name in _format_names(config, settings, predictor)}
    if not formats:
        raise UserError("missing-setting", "names no format", f"choose from {', '.join(FORMATS)}", field="formats")
    if config.fixed_size and not any(one.takes_fixed_size for one in formats.values()):
        able = " and ".join(name for name in FORMATS if FORMATS.get(name).takes_fixed_size)
        rule, hint = f"is for {able}, which `formats` does not name", "leave it out, or name one of them"
        raise UserError("conflicting-settings", rule, hint, field="fixed_size")
    path = os.path.expanduser(config.export_path)
    folder, file = os.path.split(path)
    stem, suffix = os.path.splitext(file)
    extensions = list(dict.fromkeys(one.extension for one in formats.values() if one.extension))
    folders = [one for one in formats.values() if one.extension == suffix]
    if not suffix or (os.path.isdir(path) and suffix not in extensions):
        folder, stem = path, USUAL_STEM
    elif suffix not in extensions or (os.path.isdir(path) and not any(one.is_export(path) for one in folders)):
        wanted = " or ".join(extensions)
        rule = f"{path} is a folder" if os.path.isdir(path) else f"must end in {wanted}, not {suffix!r}"
        hint = f"`export_path={path}{''.join(extensions[:1])}`, or a folder, which has no suffix"
        raise UserError("wrong-suffix", rule, hint, field="export_path", value=config.export_path)
    named = {one.file_name(stem): one for one in formats.values()}
    of_suffix = [name for name, one in named.items() if one.extension == suffix and folder != path]
    if len(of_suffix) == 1:  # the only one with this extension has exactly the given name
        named = {file if name == of_suffix[0] else name: one for name, one in named.items()}
    return Destination(folder, stem, named)


def _format_names(config: ExportConfig, settings: PredictionSettings, predictor: ModelPredictor) -> list[str]:
    """The names of the formats to write; those that "all" leaves out are named in a note.

    Raises:
      UserError: a named one cannot hold the model.
    """
    names, with_ranges = list(config.chosen_formats()), is_quantized(predictor.model)

    def reason_against(one: ExportFormat) -> str:
        if with_ranges and not one.takes_ranges:
            return "it cannot store the ranges of fake quantization (`quantize_delay_step`)"
        return one.unfit(settings, predictor.num_classes)

    for name in names:
        if name != ALL and (reason := reason_against(FORMATS.get(name))):
            able = ", ".join(other for other in FORMATS if not reason_against(FORMATS.get(other)))
            rule = f"{name} cannot hold this model: {reason}"
            raise UserError("not-supported", rule, f"choose from {able}", field="formats", value=name)
    if ALL not in names:
        return names
    chosen, left_out = [], []
    for name in FORMATS:
        one, missing = FORMATS.get(name), FORMATS.get(name).missing()
        unfit = reason_against(one)
        lacks_images = needs_images(one, with_ranges) and not calibration_images.is_given(config)
        if name in names or not (unfit or missing or lacks_images):
            chosen.append(name)
        elif unfit:
            left_out.append(f"{name} ({unfit})")
        elif missing:
            left_out.append(f"{name} (needs {', '.join(missing)}: extra {next(iter(missing.values()))})")
        else:
            left_out.append(f"{name} (needs `calibration_images`)")
    if left_out:
        console.note(f"left out: {'; '.join(left_out)}")
    return chosen


def needs_images(one: ExportFormat, with_ranges: bool) -> bool:
    """Whether a format needs calibration images for a model."""
    return one.is_calibrated and not (with_ranges and one.takes_ranges)


def require_replaceable(path: str, is_export: Callable[[str], bool], overwrite: bool) -> None:
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


def keep_other_versions(folder: str, staging: str) -> None:
    """Copies the numbered versions of an existing SavedModel beside the one that was written."""
    for name in os.listdir(staging):
        written = versions_in(os.path.join(staging, name))
        for version in version_folders(os.path.join(folder, name)) if written else ():
            if int(version) not in written:
                shutil.copytree(os.path.join(folder, name, version), os.path.join(staging, name, version))


def keep_other_labels(transaction: Transaction, classes: NamedClasses) -> str:
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
