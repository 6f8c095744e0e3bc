"""From what a person gives as a checkpoint to its prefix, with an answer for all that is none."""

from __future__ import annotations

import difflib
import os
import tarfile
from typing import NoReturn

from deeplab.checkpoint import bundle, zoo
from deeplab.checkpoint.manager import STATE, all_checkpoints, latest
from deeplab.utils.errors import UserError

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
    ".pth": "a PyTorch file",
    ".pt": "a PyTorch file",
    ".keras": "a Keras file",
    ".h5": "a Keras HDF5 file",
    ".npz": "a NumPy archive",
}


def find(path: str | os.PathLike, checksums: bool = False) -> str:
    """The prefix of the checkpoint that a person means.

    Args:
      path: a prefix (`logs/model.ckpt-300`), one of a checkpoint's files, a V1 checkpoint file, a folder,
        the `checkpoint` file in it, or `zoo:NAME`, which is downloaded when it is not here yet.
      checksums: for a folder, read all bytes to find its newest whole checkpoint.

    Raises:
      UserError: there is none; the message lists what is there instead.
    """
    given = os.path.expanduser(os.fspath(path))
    if zoo.is_name(given):
        return zoo.fetch(given)
    if not given:
        raise UserError(
            "unclassified",
            "its path is empty",
            "give a prefix such as logs/model.ckpt-300, or a folder",
            where="checkpoint",
        )
    if os.path.basename(given) == STATE and os.path.isfile(given):
        given = os.path.dirname(given) or "."
    if os.path.isdir(given):
        return latest(given, checksums) or _none_in(given)
    prefix = bundle.PART.sub("", given)
    for candidate in (given, prefix):
        if bundle.exists(candidate):
            return candidate
    if bundle.data_files(prefix):
        raise UserError(
            "unclassified",
            f"is missing, though {os.path.basename(bundle.data_files(prefix)[0])} is there",
            "copy both files of the checkpoint, they only work together",
            where=f"{prefix}{bundle.INDEX}",
        )
    if os.path.isfile(given):
        raise _wrong_kind(given)
    raise _not_found(prefix)


def _none_in(folder: str) -> NoReturn:
    """Raises the error for a folder without a checkpoint, naming those in the folders below."""
    below = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())
    near = [prefix for inner in below for prefix in all_checkpoints(inner)]
    if near:
        raise UserError(
            "unclassified", "holds no checkpoint itself", f"did you mean {' or '.join(near[-3:])}?", where=folder
        )
    names = sorted(os.listdir(folder))
    there = f"it holds {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}" if names else "it is empty"
    raise UserError(
        "unclassified",
        f"holds no checkpoint: {there}",
        "a checkpoint has files such as model.ckpt-300.index",
        where=folder,
    )


def _not_found(prefix: str) -> UserError:
    """The error for a name under which nothing lies."""
    folder = os.path.dirname(prefix) or "."
    if not os.path.isdir(folder):
        return UserError("unclassified", f"the folder {folder} does not exist", "check the path", where=prefix)
    there = {os.path.basename(other): other for other in all_checkpoints(folder)}
    if not there:
        return UserError(
            "unclassified", f"does not exist, and {folder} holds no checkpoint", "check the path", where=prefix
        )
    near = difflib.get_close_matches(os.path.basename(prefix), there, n=1, cutoff=0.0)[0]
    names = ", ".join(there)
    return UserError(
        "unclassified", f"does not exist; {folder} holds {names}", f"did you mean {there[near]}?", where=prefix
    )


def _wrong_kind(path: str) -> UserError:
    """The error for a file that is not a checkpoint."""
    with open(path, "rb") as file:
        head = file.read(265)
    kind = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    if kind == "archive" or head[257:262] == b"ustar":
        return UserError("unclassified", "is an archive, not a checkpoint", _unpack(path), where=path)
    if kind == "zip":
        kind = _BY_SUFFIX.get(os.path.splitext(path)[1], "a zip archive, a Keras file or a PyTorch file")
    kind = kind or _BY_SUFFIX.get(os.path.splitext(path)[1])
    if kind is None:
        size = os.path.getsize(path)
        rule = f"is not a TensorFlow checkpoint, or a truncated one ({size} bytes)"
        return UserError(
            "unclassified", rule, "download or copy it again, and give the part of its name before .index", where=path
        )
    return UserError("unclassified", f"is {kind}, not a checkpoint", _beside(path), where=path)


def _beside(path: str) -> str:
    others = all_checkpoints(os.path.dirname(path) or ".")
    if others:
        return f"a checkpoint lies beside it: {others[-1]}"
    return "give a checkpoint, e.g. model.ckpt-300 (the part of the name before .index)"


def _unpack(path: str) -> str:
    """How to unpack an archive, and what to give then, read from its list of contents."""
    folder = os.path.dirname(path) or "."
    command = f"unpack it: tar xf {path} -C {folder}"
    try:
        with tarfile.open(path) as archive:
            inside = next((name for name in archive.getnames() if name.endswith(bundle.INDEX)), None)
    except (tarfile.TarError, EOFError, OSError):
        return command
    return f"{command}; then give {os.path.join(folder, inside.removesuffix(bundle.INDEX))}" if inside else command
