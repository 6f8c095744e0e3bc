"""Writing and removing checkpoints in TensorFlow's V2 format, so that a kill never leaves a mixture.

Everything is written whole under a temporary name in the same folder, synced to the disk and renamed: first
the data, then the index, without which the data are nothing. `remove_leftovers` clears what kills leave.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import socket
import time
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from deeplab.checkpoint.bundle import DATA, INDEX, cause, data_files, fault, modified
from deeplab.utils.errors import UserError
from deeplab.utils.locks import is_running

STALE_SECONDS = 24 * 3600.0  # leftovers of other machines, whose processes cannot be seen, go after a day
_TEMPORARY = re.compile(r".*\.saving-[^/.]*-\d+")


def write(prefix: str, tensors: Mapping[str, np.ndarray | tf.Tensor]) -> str:
    """Writes a checkpoint so that a kill at any moment leaves a usable one.

    Both files are first written whole under a temporary name in the same folder and synced; then the data
    and last the index get their names. A checkpoint of the same name stays usable beside them, as
    `model.ckpt.replaced-STEP`, until the new one is complete.

    Args:
      prefix: path without `.index`; its folder is made when missing.
      tensors: variable name (no `:0`) -> float32 array; `global_step` is stored as an int64 scalar, other
        dtypes stay as they are.

    Returns:
      The prefix.

    Raises:
      UserError: the disk is full or the folder cannot be written; what was there before is intact.
    """
    prefix = os.fspath(prefix)
    folder, arrays = os.path.dirname(prefix) or ".", _as_stored(tensors)
    temporary = temporary_prefix(prefix)
    try:
        os.makedirs(folder, exist_ok=True)
        _save(temporary, arrays)
        kept = _keep_replaced(prefix)
        os.replace(temporary + DATA, prefix + DATA)
        os.replace(temporary + INDEX, prefix + INDEX)
        _sync(folder)
        if kept:
            remove(kept)
    except (OSError, tf.errors.OpError) as problem:
        raise _cannot_write(prefix, arrays, problem) from problem
    finally:
        _discard(temporary)
    return prefix


def _as_stored(tensors: Mapping[str, np.ndarray | tf.Tensor]) -> dict[str, np.ndarray]:
    arrays = {name: np.asarray(value) for name, value in tensors.items()}
    if "global_step" in arrays:
        arrays["global_step"] = arrays["global_step"].astype(np.int64).reshape(())
    if not arrays:
        raise ValueError("a checkpoint needs at least one tensor")
    unfit = [name for name, array in arrays.items() if array.dtype == object or not name]
    if unfit:
        raise ValueError(f"not arrays of numbers: {unfit[:3]}")
    return arrays


def _save(prefix: str, arrays: dict[str, np.ndarray]) -> None:
    """Both files, complete and on the disk. SaveV2 run eagerly takes .1 s where a graph's Saver takes 10 s."""
    with tf.device("CPU:0"):
        tf.raw_ops.SaveV2(
            prefix=prefix,
            tensor_names=list(arrays),
            shape_and_slices=[""] * len(arrays),
            tensors=list(arrays.values()),
        )
    _sync(prefix + DATA)
    _sync(prefix + INDEX)


def _keep_replaced(prefix: str) -> str | None:
    """Gives a checkpoint that is about to be replaced a second name, under which it stays usable."""
    if not os.path.isfile(prefix + INDEX) or data_files(prefix) != [prefix + DATA]:
        return None
    kept = replaced_prefix(prefix)
    remove(kept)
    for suffix in (DATA, INDEX):
        _link_or_copy(prefix + suffix, kept + suffix)
    _sync(os.path.dirname(prefix) or ".")
    return kept


def replaced_prefix(prefix: str) -> str:
    """`model.ckpt-5` -> `model.ckpt.replaced-5`: the number stays last, so that its step can be read."""
    stem, dash, step = prefix.rpartition("-")
    return f"{stem}.replaced-{step}" if dash and step.isdigit() else f"{prefix}.replaced"


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # no hard links there, e.g. a mounted cloud drive
        shutil.copyfile(source, target)
        _sync(target)


def _sync(path: str) -> None:
    """Waits until a file or a folder's entries are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not os.path.isdir(path):  # some file systems cannot sync folders; files they all can
            raise
    finally:
        os.close(handle)


def _cannot_write(prefix: str, arrays: dict[str, np.ndarray], problem: Exception) -> UserError:
    need = sum(array.nbytes for array in arrays.values()) / 1e6
    folder = os.path.dirname(prefix) or "."
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder) or "."
    free = shutil.disk_usage(folder).free / 1e6
    return UserError(
        "unclassified",
        f"the checkpoint could not be written: {cause(problem)}",
        f"it needs {need:.1f} MB and {free:.1f} MB are free in {folder}: make room (or check permissions and quota)"
        " and start again; the checkpoints written before are untouched",
        where=prefix,
    )


def write_text(path: str, text: str) -> None:
    """Writes a small text file in one stroke: whole under a temporary name, synced, renamed."""
    temporary = temporary_prefix(path)
    try:
        with open(temporary + ".text", "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary + ".text", path)
        _sync(os.path.dirname(path) or ".")
    except OSError as problem:
        raise UserError(
            "unclassified", f"could not be written: {cause(problem)}", "make room and start again", where=path
        ) from problem
    finally:
        _discard(temporary)


# ---- removing ----------------------------------------------------------------------------------------


def remove(prefix: str) -> None:
    """Removes a checkpoint, index first, so that no half of it looks like a checkpoint."""
    remove_files([prefix + INDEX, *data_files(prefix), prefix + ".meta"])


def remove_files(paths: list[str]) -> None:
    """Removes files; those that are gone already are no matter."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def temporary_prefix(prefix: str) -> str:
    """The name under which this process writes before it renames."""
    return f"{prefix}.saving-{_host()}-{os.getpid()}"


def remove_leftovers(folder: str) -> None:
    """Clears what killed savers left in a folder, and brings back what one of them was about to replace."""
    matches = map(_TEMPORARY.match, glob.glob(os.path.join(glob.escape(folder), "*.saving-*")))
    for temporary in sorted({match[0] for match in matches if match}):
        if _is_abandoned(temporary):
            _discard(temporary)
    pattern = os.path.join(glob.escape(folder), "*.replaced*" + DATA)
    for kept in (path.removesuffix(DATA) for path in glob.glob(pattern)):
        _bring_back(kept, kept.replace(".replaced", ""))


def _bring_back(kept: str, prefix: str) -> None:
    """Ends a replacement that was cut short: the old data return if the new data came without their index."""
    if not os.path.isfile(prefix + INDEX):
        return
    if os.path.isfile(kept + INDEX) and fault(prefix, checksums=True) and not fault(kept):
        os.replace(kept + DATA, prefix + DATA)  # the index is still the old one, so the two fit again
    remove(kept)


def _discard(temporary: str) -> None:
    """Removes a temporary checkpoint, and its data where that was renamed while the index was not."""
    prefix = temporary.rpartition(".saving-")[0]
    data_moved = os.path.exists(temporary + INDEX) and not os.path.exists(temporary + DATA)
    if data_moved and not os.path.exists(prefix + INDEX):
        remove_files([prefix + DATA])
    remove_files(glob.glob(glob.escape(temporary) + ".*"))


def _is_abandoned(temporary: str) -> bool:
    """Whether the process that wrote a temporary is gone, or is this one, which is not writing now."""
    host, _, process = temporary.rpartition(".saving-")[2].rpartition("-")
    written = [modified(path) for path in glob.glob(glob.escape(temporary) + ".*")]
    if time.time() - max(written, default=time.time()) > STALE_SECONDS:
        return True
    return host == _host() and (int(process) == os.getpid() or not is_running(int(process)))


def _host() -> str:
    return re.sub(r"[/.]", "_", socket.gethostname())
