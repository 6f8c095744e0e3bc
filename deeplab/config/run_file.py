"""`config.yml`: the config of a training, saved beside its checkpoints and read by every later command.

Model flags are given once, to train: eval, vis, export and predict read them from here. A flag that contradicts the
saved settings where the weights depend on it stops the command, with the difference shown; one that does not
shape weights (output stride, atrous rates of equal number, scales) takes effect and is named in a note.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from deeplab import __version__
from deeplab.config.fields import as_dict, coerce, fields_of
from deeplab.config.model_config import ModelConfig
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import write_atomically
from deeplab.utils.yaml_files import load_mapping

FILE_NAME = "config.yml"
_RESTORE = "restore the file as the training wrote it"


def save(folder: str | os.PathLike, groups: Sequence[Any], facts: dict[str, Any]) -> None:
    """Writes `config.yml` into a training folder, whole or not at all.

    Args:
      folder: the training folder; it must exist.
      groups: settings instances; each becomes a section named after its class (`ModelConfig` -> `model`).
      facts: what the dataset says: num_classes, class_names, colors, ignore_label.
    """
    sections = {type(group).__name__.removesuffix("Config").lower(): as_dict(group) for group in groups}
    content = {"written_by": f"deeplab {__version__}", "dataset_facts": facts, **sections}
    target = pathlib.Path(folder) / FILE_NAME
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)
    write_atomically(target, text.encode("utf-8"))


def load(folder: str | os.PathLike) -> dict[str, Any]:
    """All saved settings and facts by name, flat; empty when the folder has no `config.yml`."""
    path = pathlib.Path(folder) / FILE_NAME
    if not path.exists():
        return {}
    content = load_mapping(path)
    facts = content.get("dataset_facts") or {}
    if not isinstance(facts, dict):
        raise UserError("wrong-type", "dataset_facts must be a mapping", _RESTORE, where=path, value="dataset_facts")
    flat = dict(facts)
    if "colours" in flat:  # the spelling of files written before version 0.2
        flat["colors"] = flat.pop("colours")
    _require_facts(flat, path)
    for name, section in content.items():
        if isinstance(section, dict) and name != "dataset_facts":
            flat.update(section)
    return flat


def _require_facts(facts: Mapping[str, Any], path: pathlib.Path) -> None:
    """Stops at facts of a dataset that a person has changed to something else."""

    def is_number(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63

    def is_color(value: Any) -> bool:
        return isinstance(value, list) and len(value) == 3 and all(is_number(part) and part < 256 for part in value)

    def is_list(value: Any, of: Callable[[Any], bool]) -> bool:
        return isinstance(value, list) and all(map(of, value))

    rules: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "class_names": ("a list of names", lambda value: is_list(value, lambda name: isinstance(name, str))),
        "colors": ("a list of colors [red, green, blue], 0..255", lambda value: is_list(value, is_color)),
        **dict.fromkeys(("num_classes", "ignore_label", "training_images", "seed"), ("a whole number", is_number)),
    }
    for name, (wanted, is_right) in rules.items():
        if facts.get(name) is not None and not is_right(facts[name]):
            rule = f"dataset_facts: {name} must be {wanted}"
            raise UserError("wrong-type", rule, _RESTORE, where=path, value=name)


def merge(given: dict[str, Any], saved: dict[str, Any], groups: Sequence[type], where: str) -> dict[str, Any]:
    """What was given, completed by what was saved.

    Args:
      given: settings by name from the command line and `config`.
      saved: settings by name from `load`.
      groups: the command's settings groups; only their fields are taken over.
      where: the saved file's name, for messages.

    Raises:
      UserError: a given setting that shapes the weights differs from the saved one.
    """
    merged = dict(given)
    conflicts = []
    for name, (field, group) in fields_of(groups).items():
        if name not in saved:
            continue
        value = coerce(field, group, saved[name])
        if name not in given:
            merged[name] = value
        elif given[name] != value:
            if _shapes_weights(field, given[name], value):
                conflicts.append(f"`{name}={show(given[name])}`, trained with {show(value)}")
            elif group is ModelConfig:
                console.note(f"`{name}={show(given[name])}` replaces {show(value)} of {where}")
    if conflicts:
        raise UserError(
            "checkpoint-mismatch",
            "the checkpoint was trained otherwise: " + "; ".join(conflicts),
            "leave those flags out",
            where=where,
        )
    return merged


def differences(saved: Mapping[str, Any], groups: Sequence[Any], ignore: Sequence[str] = ()) -> list[str]:
    """Return lines "`name`: was X, is Y" for saved settings that differ now and may not change on resume."""
    lines = []
    for group in groups:
        for field in dataclasses.fields(group):
            skipped = field.metadata["resumable"] or field.metadata["retired"] or field.name in ignore
            if skipped or field.name not in saved:
                continue
            was, now = coerce(field, type(group), saved[field.name]), getattr(group, field.name)
            if was != now:
                lines.append(f"`{field.name}`: was {show(was)}, is {show(now)}")
    return lines


def names_of(groups: Sequence[Any]) -> list[str]:
    """Return the names of all settings of these instances."""
    return [field.name for group in groups for field in dataclasses.fields(group)]


def shapes_weights(name: str, groups: Sequence[Any]) -> bool:
    """Whether a checkpoint trained with one value of a setting cannot be used with another."""
    fields = {field.name: field for group in groups for field in dataclasses.fields(group)}
    return bool(fields[name].metadata["shapes_weights"]) or name in ("atrous_rates", "quantize_delay_step")


def show(value: Any) -> str:
    """A setting as one would write it on the command line."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value)) or "(none)"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shapes_weights(field: dataclasses.Field, given: Any, saved: Any) -> bool:
    if field.name == "atrous_rates":  # other rates fit the same kernels; another number of branches does not
        return len(given) != len(saved)
    if field.name == "quantize_delay_step":  # only whether it is on shapes the weights, not when it begins
        return (given < 0) != (saved < 0)
    return field.metadata["shapes_weights"]
