"""Finds the checkpoint that a path or a name means, with a clear error for everything else."""

from __future__ import annotations

import difflib
import os
import shlex
import tarfile
import zipfile
from typing import NoReturn

from deeplab.checkpoint import bundle, foreign, hub, zoo
from deeplab.checkpoint.bundle import Checkpoint
from deeplab.checkpoint.manager import STATE, all_checkpoints, latest
from deeplab.utils.errors import UserError
from deeplab.utils.paths import require_regular
from deeplab.utils.remote_names import is_server
from deeplab.utils.text import counted

_MAGIC = {
    b"\x1f\x8b": "archive",
    b"PK\x03\x04": "zip",
    b"\x89HDF": "a Keras HDF5 file",
    b"BZh": "archive",
    b"\xfd7zXZ": "archive",
}
_BY_SUFFIX = {
    ".pb": "a frozen graph or SavedModel",
    ".tflite": "a TensorFlow Lite file",
    ".onnx": "an ONNX file",
    ".mnn": "an MNN file",
    ".pth": "a PyTorch file",
    ".pt": "a PyTorch file",
    ".keras": "a Keras file",
    ".h5": "a Keras HDF5 file",
    ".npz": "a NumPy archive",
    ".meta": "the graph of a TensorFlow 1 checkpoint, without its weights",
    **dict.fromkeys((".yml", ".yaml"), "a YAML file"),
    ".json": "a JSON file",
    ".html": "an HTML page",
    **dict.fromkeys((".csv", ".txt", ".log", ".md", ".py"), "a text file"),
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"), "an image"),
}


def find(path: str | os.PathLike) -> Checkpoint:
    """Open the checkpoint that a path or name means; see `deeplab.checkpoint.open`."""
    from deeplab.checkpoint.foreign.sources import open_file

    given = os.path.expanduser(hub.local(os.fspath(path)))
    if zoo.is_name(given):
        return Checkpoint(zoo.fetch(given))
    if not given:
        hint = "give a prefix such as logs/model.ckpt-300, or a folder"
        raise UserError("checkpoint-not-found", "its path is empty", hint, where="checkpoint")
    if os.path.basename(given) == STATE and os.path.isfile(given):
        given = os.path.dirname(given) or "."
    if os.path.isdir(given):
        _refuse_saved_model(given)
        found, weights = latest(given, checksums=True), foreign.in_folder(given)
        return found or (open_file(weights) if weights else _none_in(given))
    prefix = bundle.PART.sub("", given)
    for candidate in (given, prefix):
        if bundle.exists(candidate):
            return Checkpoint(candidate)
    if bundle.data_files(prefix):
        raise bundle.incomplete(f"{prefix}{bundle.INDEX}", bundle.data_files(prefix)[0])
    if foreign.is_foreign(given):
        return open_file(given)
    if os.path.isfile(given):
        raise _wrong_kind(given)
    raise _not_found(prefix)


def require_something(path: str) -> None:
    """Stops at a path at which there is nothing at all; called before TensorFlow is imported.

    Args:
      path: a checkpoint, a folder or an exported file, as a user named it; "" = not given. Addresses of servers pass:
        only a request shows whether they answer.

    Raises:
      UserError: there is no file, folder or checkpoint of this name (`checkpoint-not-found`), or it is a device, a pipe
        or a socket (`not-a-file`).
    """
    given = os.path.expanduser(path)
    if hub.is_address(given):
        hub.parse(given)
    if not given or zoo.is_name(given) or hub.is_address(given) or is_server(given):
        return
    if os.path.exists(given):
        if not os.path.isdir(given):
            require_regular(given)
        return
    prefix = bundle.PART.sub("", given)
    if not bundle.exists(prefix) and not bundle.data_files(prefix):
        raise _not_found(prefix)


def _refuse_saved_model(folder: str) -> None:
    """Refuse the folder of a SavedModel and its `variables`, whose names are those of no checkpoint."""
    path = os.path.abspath(folder)
    home = os.path.dirname(path) if os.path.basename(path) == "variables" else path
    if os.path.isfile(os.path.join(home, "saved_model.pb")) and (home != path or not all_checkpoints(folder)):
        rule = "is a SavedModel" if home == path else "is a part of a SavedModel"
        hint = f"predict with {os.path.dirname(folder.rstrip(os.sep)) or '..'}; " if home != path else ""
        hint += "to train or export, give the checkpoint from which it was exported"
        raise UserError("not-a-checkpoint", f"{rule}, not a checkpoint", hint, where=folder)


def _none_in(folder: str) -> NoReturn:
    """Raise the error for a folder without a checkpoint, naming those in the folders below."""
    below = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())
    near = [prefix for inner in below for prefix in all_checkpoints(inner)]
    if near:
        hint = f"did you mean {' or '.join(near[-3:])}?"
        raise UserError("checkpoint-not-found", "holds no checkpoint itself", hint, where=folder)
    names = sorted(os.listdir(folder))
    content = f"it holds {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}" if names else "it is empty"
    hint = "a checkpoint has files such as model.ckpt-300.index"
    raise UserError("checkpoint-not-found", f"holds no checkpoint: {content}", hint, where=folder)


def _not_found(prefix: str) -> UserError:
    """The error for a prefix without files."""
    folder = os.path.dirname(prefix) or "."
    rule, hint = f"does not exist, and {folder} holds no checkpoint", "check the path"
    if not os.path.isdir(folder):
        rule = f"the folder {folder} does not exist"
    elif others := {os.path.basename(other): other for other in all_checkpoints(folder)}:
        near = difflib.get_close_matches(os.path.basename(prefix), others, n=1, cutoff=0.0)[0]
        rule, hint = f"does not exist; {folder} holds {', '.join(others)}", f"did you mean {others[near]}?"
    return UserError("checkpoint-not-found", rule, hint, where=prefix)


def _wrong_kind(path: str) -> UserError:
    """The error for a file that is not a checkpoint."""
    with open(path, "rb") as file:
        head = file.read(265)
    kind = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    if kind == "archive" or head[257:262] == b"ustar":
        return UserError("not-a-checkpoint", "is an archive, not a checkpoint", _unpack(path), where=path)
    if kind == "zip" and (hint := _unzip(path)):
        return UserError("not-a-checkpoint", "is an archive, not a checkpoint", hint, where=path)
    if kind == "zip":
        kind = _BY_SUFFIX.get(os.path.splitext(path)[1], "a zip archive, a Keras file or a PyTorch file")
    kind = kind or _BY_SUFFIX.get(os.path.splitext(path)[1].lower())
    kind = "a TensorBoard file" if kind is None and ".tfevents." in os.path.basename(path) else kind
    if kind is None:
        rule = f"is not a TensorFlow checkpoint, or a truncated one ({counted(os.path.getsize(path), 'byte')})"
        hint = "download or copy it again, and give the part of its name before .index"
        return UserError("not-a-checkpoint", rule, hint, where=path)
    return UserError("not-a-checkpoint", f"is {kind}, not a checkpoint", _beside(path), where=path)


def _beside(path: str) -> str:
    others = all_checkpoints(os.path.dirname(path) or ".")
    if others:
        return f"there is a checkpoint beside it: {others[-1]}"
    return "give a checkpoint, e.g. model.ckpt-300 (the part of the name before .index)"


def _unpack(path: str) -> str:
    """How to unpack an archive and what to give afterwards, read from its list of contents."""
    folder = os.path.dirname(path) or "."
    command = f"unpack it: tar xf {shlex.quote(path)} -C {shlex.quote(folder)}"
    try:
        with tarfile.open(path) as archive:
            inside = next((name for name in archive.getnames() if name.endswith(bundle.INDEX)), None)
    except (tarfile.TarError, EOFError, OSError):
        return command
    return _then_give(command, folder, inside) if inside else command


def _unzip(path: str) -> str:
    """As `_unpack`, for a zip archive that holds a checkpoint; "" for one that does not."""
    folder = os.path.dirname(path) or "."
    try:
        with zipfile.ZipFile(path) as archive:
            inside = next((name for name in archive.namelist() if name.endswith(bundle.INDEX)), None)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return ""
    return (
        _then_give(f"unpack it: unzip {shlex.quote(path)} -d {shlex.quote(folder)}", folder, inside) if inside else ""
    )


def _then_give(command: str, folder: str, inside: str) -> str:
    return f"{command}; then give {os.path.join(folder, inside.removesuffix(bundle.INDEX))}"
