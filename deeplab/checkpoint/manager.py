"""The checkpoints of one folder, and its `checkpoint` file that names the latest.

The file has TensorFlow's text format (`model_checkpoint_path: "model.ckpt-100"`), with paths relative to the folder, so
that a folder can be moved. `save_step` keeps files and folder consistent.
"""

from __future__ import annotations

import functools
import glob
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deeplab.checkpoint import bundle, writer
from deeplab.checkpoint.bundle import Checkpoint, step_in_name
from deeplab.utils import console
from deeplab.utils.errors import UserError

if TYPE_CHECKING:
    import tensorflow as tf

STATE = "checkpoint"
NAME = "model.ckpt"
_LINE = re.compile(r'^\s*(model_checkpoint_path|all_model_checkpoint_paths)\s*:\s*"((?:[^"\\]|\\.)*)"', re.M)


@dataclass(frozen=True)
class State:
    """What a folder's `checkpoint` file says: prefixes, the oldest first in `listed`."""

    latest: str
    listed: tuple[str, ...]


def read_state(folder: str) -> State | None:
    """Read the folder's `checkpoint` file; None if there is none or it names nothing.

    A path is read as relative to this folder if such a file exists in it: folders get moved and copied, and older
    files hold absolute paths of another machine.
    """
    path = os.path.join(folder, STATE)
    if not os.path.isfile(path):
        return None
    with open(path, encoding="utf-8", errors="replace") as file:
        entries = _LINE.findall(file.read())
    latest = [_located(folder, _unescaped(name)) for key, name in entries if key == "model_checkpoint_path"]
    listed = [_located(folder, _unescaped(name)) for key, name in entries if key != "model_checkpoint_path"]
    return State(latest[-1], tuple(dict.fromkeys([*listed, latest[-1]]))) if latest else None


def write_state(folder: str, latest: str, listed: list[str]) -> None:
    """Write the folder's `checkpoint` file atomically (prefixes, the oldest first)."""
    lines = [("model_checkpoint_path", latest), *(("all_model_checkpoint_paths", prefix) for prefix in listed)]
    text = "".join(f'{key}: "{_escaped(os.path.relpath(prefix, folder))}"\n' for key, prefix in lines)
    writer.write_text(os.path.join(folder, STATE), text)


def _located(folder: str, name: str) -> str:
    name = name.replace("\0", "")  # in a damaged file
    here = os.path.join(folder, re.split(r"[\\/]", name)[-1])
    elsewhere = os.path.join(folder, name)  # an absolute name stays as it is
    return elsewhere if bundle.exists(elsewhere) and not bundle.exists(here) else here


def _escaped(name: str) -> str:
    """Escape a string for protocol buffers' text format: everything but plain characters as octal bytes."""
    return "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:03o}" for b in name.encode())


def _unescaped(text: str) -> str:
    try:
        return text.encode().decode("unicode_escape").encode("latin-1").decode()
    except UnicodeError:  # edited by hand, e.g. a Windows path with single backslashes
        return text


# ---- which checkpoint --------------------------------------------------------------------------------


def all_checkpoints(folder: str | os.PathLike) -> list[str]:
    """Prefixes of all checkpoints in a folder, listed in its state file or not, by step and then by age."""
    inside = os.path.join(glob.escape(os.path.normpath(folder)), "*")
    prefixes = {path.removesuffix(bundle.INDEX) for path in glob.glob(inside + bundle.INDEX)}
    prefixes |= {path for path in glob.glob(inside + ".ckpt*") if bundle.is_v1(path)}
    return sorted(filter(_is_plain, prefixes), key=_by_step)


def _is_plain(prefix: str) -> bool:
    """Neither a temporary nor one that is being replaced."""
    return not re.search(r"\.(saving|replaced)\b", os.path.basename(prefix))


def _by_step(prefix: str) -> tuple[int, float, str]:
    step = step_in_name(prefix)
    return (-1 if step is None else step, bundle.modified(bundle.index_file(prefix)), prefix)


def latest(folder: str | os.PathLike, checksums: bool = False) -> Checkpoint | None:
    """Open the checkpoint to resume from: the one that the state file names, else the newest that is whole.

    Args:
      folder: a training folder.
      checksums: read all bytes to find the newest whole one, not just names and sizes.

    Returns:
      The checkpoint, or None if the folder holds none.

    Raises:
      UserError: all checkpoints are damaged, or no state file tells which of several is meant.
    """
    folder = os.path.normpath(folder)
    state = read_state(folder)
    named = _named(folder) if state is None else state.latest
    errors: dict[str, UserError] = {}
    for prefix in _candidates(folder, state):
        opened = bundle.open_whole(prefix, checksums or bundle.exists(writer.replaced_prefix(prefix)))
        if isinstance(opened, Checkpoint):
            _tell_choice(folder, state, named, prefix, errors)
            return opened
        errors[prefix] = opened
    if any(bundle.exists(prefix) or bundle.data_files(prefix) for prefix in errors):
        rule = "holds no checkpoint that can be read: " + "; ".join(map(_in_short, errors.values()))
        hint = "copy its checkpoints there again, or train from scratch in an empty folder"
        raise UserError("damaged-checkpoint", rule, hint, where=folder)
    if named:
        console.warning(f"{folder}/{STATE} names {os.path.basename(named)}, but there is no checkpoint in the folder")
    return None


def _in_short(error: UserError) -> str:
    return f"{os.path.basename(error.where)} {error.rule}"


def _candidates(folder: str, state: State | None) -> Iterator[str]:
    """What might be meant, the most likely first, each followed by the copy it had while it was replaced."""
    listed = [] if state is None else [state.latest, *reversed(state.listed)]
    for prefix in dict.fromkeys([*listed, *reversed(all_checkpoints(folder))]):
        yield prefix
        if bundle.exists(writer.replaced_prefix(prefix)):
            yield writer.replaced_prefix(prefix)


def _named(folder: str) -> str | None:
    """The newest by number, for a folder without a state file; several others are ambiguous."""
    prefixes = all_checkpoints(folder)
    stems = {prefix.removesuffix(f"-{step_in_name(prefix)}") for prefix in prefixes}
    if len(prefixes) > 1 and (len(stems) > 1 or None in map(step_in_name, prefixes)):
        names = ", ".join(map(os.path.basename, prefixes))
        rule = f"holds several checkpoints ({names}) and no file '{STATE}' that names the latest"
        raise UserError("ambiguous-checkpoint", rule, f"give one of them, e.g. {prefixes[-1]}", where=folder)
    return prefixes[-1] if prefixes else None


def _tell_choice(
    folder: str, state: State | None, named: str | None, chosen: str, errors: Mapping[str, UserError]
) -> None:
    """Print a line if the choice is not simply what the state file names."""
    if named and chosen != named:
        reason = _in_short(errors[named]) if named in errors else f"{os.path.basename(named)} does not exist"
        _say_once(console.warning, f"{folder}: {reason}; taking {os.path.basename(chosen)}, the newest whole one")
    elif state is None:
        count = len(all_checkpoints(folder))
        which = "its only checkpoint" if count == 1 else f"the newest of {count}"
        _say_once(console.note, f"{folder} has no file '{STATE}'; taking {which}, {os.path.basename(chosen)}")


@functools.lru_cache(maxsize=256)
def _say_once(speak, text: str) -> None:
    """Callers that wait for checkpoints ask repeatedly; one line is enough."""
    speak(text)


# ---- saving ------------------------------------------------------------------------------------------


def save_step(
    folder: str | os.PathLike,
    step: int,
    tensors: Mapping[str, np.ndarray | tf.Tensor],
    keep: int = 5,
) -> str:
    """Write `FOLDER/model.ckpt-STEP`, make it the latest, and remove the oldest beyond `keep`.

    A kill at any moment leaves a usable latest checkpoint; the next save removes what was left half-written. Only
    checkpoints that the state file lists are ever removed.

    Args:
      folder: the training folder, created if missing.
      step: global step; stored as `global_step` (int64).
      tensors: variable name -> array, optimizer slots included.
      keep: number of checkpoints to keep; 0 = all.

    Returns:
      The new checkpoint's prefix.

    Raises:
      UserError: the disk is full or the folder cannot be written to; earlier checkpoints are intact.
    """
    folder = os.path.normpath(folder)
    writer.remove_leftovers(folder)
    prefix = os.path.join(folder, f"{NAME}-{step}")
    listed = _still_listed(folder, prefix)
    writer.write(prefix, {**tensors, "global_step": np.int64(step)})
    outdated = listed[: max(0, len(listed) + 1 - keep)] if keep else []
    # Outdated ones stay listed until they are removed: a kill in between must not leave them behind.
    write_state(folder, prefix, [*listed, prefix])
    for old in outdated:
        writer.remove(old)
    if outdated:
        write_state(folder, prefix, [*listed[len(outdated) :], prefix])
    return prefix


def _still_listed(folder: str, new: str) -> list[str]:
    """Listed checkpoints of this folder that exist, the oldest first; remains of removed ones are deleted."""
    state = read_state(folder)
    inside = [prefix for prefix in state.listed if os.path.dirname(prefix) == folder] if state else []
    others = [prefix for prefix in inside if prefix != new]
    for prefix in others:
        if not bundle.exists(prefix):
            writer.remove(prefix)
    return [prefix for prefix in others if bundle.exists(prefix)]
