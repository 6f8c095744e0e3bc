"""The files of a model to be published, without details about this computer.

Owns the choice of files and the removal of paths from their texts; push calls it, and uploads what it returns. It loads
no model and changes no file here.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from deeplab.checkpoint.chosen import LATEST, chosen
from deeplab.config import run_file
from deeplab.inference.load import find_model
from deeplab.utils.errors import UserError
from deeplab.utils.remote_names import remote_names
from deeplab.utils.yaml_files import load_mapping

Files = dict[str, bytes | pathlib.Path]
METADATA = "metadata.json"
_BESIDE = (METADATA, "labels.txt")  # an export of all formats describes them together
_NEVER = re.compile(r"\.|__pycache__|.*\.(partial|lock|tmp)$|events\.out\.tfevents")
_OPAQUE = ("class_names", "classes", "remark")  # their slashes are no paths
_MAX_FILES = 1000


@dataclass(frozen=True)
class ModelFiles:
    """A model to publish.

    Attributes:
      kind: name of the runtime that loads it: checkpoint, frozen_graph, ...
      files: bytes or a file here, by its path in the repository.
      facts: what `config.yml` or `metadata.json` says, by name; the content of both is flat.
      prefix: of the checkpoint, "" for exported files.
    """

    kind: str
    files: Files
    facts: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""

    def sha256(self) -> str:
        """Return the hash that `metrics.json` names a checkpoint by: that of its index; "" for exported files."""
        if not self.prefix:
            return ""
        return hashlib.sha256(pathlib.Path(f"{self.prefix}.index").read_bytes()).hexdigest()


def collect(source: str, which: str = LATEST) -> ModelFiles:
    """Return what belongs to a model: a checkpoint with its `config.yml`, or exported files with their description.

    Args:
      source: training folder, prefix of a checkpoint, exported file, or a folder of exported files.
      which: checkpoint of a training folder: latest, best or averaged.

    Raises:
      UserError: there is no model, its weights are of another project (`not-supported`), or its folder holds more
        than a model (`too-large`).
    """
    path, kind = find_model(chosen(source, which))
    if kind == "server":
        raise UserError("not-a-checkpoint", "is a server, not files", "give the files it serves", where=source)
    if kind == "checkpoint":
        return _checkpoint(path)
    folder = pathlib.Path(source if os.path.isdir(source) else path)
    if os.path.isdir(folder):
        files = _below(folder)
    else:
        beside = [folder.parent / name for name in _BESIDE]
        files = {each.name: each for each in (folder, *beside) if each.is_file()}
    facts = _described(files)
    return ModelFiles(kind, files, facts)


def _checkpoint(path: str) -> ModelFiles:
    from deeplab import checkpoint
    from deeplab.checkpoint import bundle
    from deeplab.checkpoint.foreign.sources import ImportedCheckpoint

    opened = checkpoint.open(path)
    if isinstance(opened, ImportedCheckpoint):
        rule = f"holds weights of another project ({opened.source.title}), which only their authors give away"
        raise UserError("not-supported", rule, "train from them, or export them, and push that", where=path)
    prefix = opened.prefix
    folder, name = os.path.split(prefix)
    parts = [f"{prefix}{bundle.INDEX}", *bundle.data_files(prefix)]
    files: Files = {os.path.basename(each): pathlib.Path(each) for each in parts}
    files["checkpoint"] = f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n'.encode()
    config = pathlib.Path(folder, run_file.FILE_NAME)
    if config.is_file():
        content = without_paths(load_mapping(config))
        files[run_file.FILE_NAME] = yaml.safe_dump(
            content, sort_keys=False, default_flow_style=None, width=100
        ).encode()
    return ModelFiles("checkpoint", files, run_file.load(folder), prefix)


def _below(folder: pathlib.Path) -> Files:
    """All files of a folder of exports, hidden and unfinished ones left out."""
    files: Files = {}
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _NEVER.match(name)]
        for name in (name for name in names if not _NEVER.match(name)):
            path = pathlib.Path(root, name)
            if path.is_file():
                files[path.relative_to(folder).as_posix()] = path
        if len(files) > _MAX_FILES:
            rule = f"holds more than {_MAX_FILES} files"
            raise UserError("too-large", rule, "give a folder that holds nothing but the model", where=folder)
    return files


def _described(files: Files) -> dict[str, Any]:
    """Return the facts of an export's `metadata.json`, and put a copy without paths in its place."""
    path = files.get(METADATA)
    if not isinstance(path, pathlib.Path):
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UserError("unreadable-file", "is no description of an export", "export the model again", where=path)
    content = without_paths(content)
    files[METADATA] = json.dumps(content, indent=1, ensure_ascii=False).encode()
    return content


def without_paths(content: Any, name: str = "") -> Any:
    """Return settings in which every path is cut to its last part: the others name users and folders of this computer.

    Args:
      content: mappings, lists and values as YAML and JSON have them.
      name: key of the content in its mapping; "" = none.
    """
    if name in _OPAQUE:
        return content
    if isinstance(content, Mapping):
        return {key: without_paths(value, str(key)) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [without_paths(value, name) for value in content]
    is_address = isinstance(content, str) and "://" in content and not remote_names(content)
    if isinstance(content, str) and not is_address and re.search(r"[/\\]", content):
        return re.split(r"[/\\]", content.rstrip("/\\"))[-1]
    return content
