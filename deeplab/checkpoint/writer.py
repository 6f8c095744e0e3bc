"""Writing and removing checkpoints in TensorFlow's V2 format so that a kill never leaves a mixture.

Everything is written whole under a temporary name in the same folder, synced to the disk and renamed: first the data,
then the index, without which the data are ignored. `remove_leftovers` removes what killed processes left.
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
from typing import TYPE_CHECKING

import numpy as np

from deeplab.checkpoint.bundle import DATA, INDEX, cause, data_files, is_whole, modified
from deeplab.utils.errors import UserError
from deeplab.utils.files import STALE_SECONDS, free_space
from deeplab.utils.locks import is_running

if TYPE_CHECKING:
    import tensorflow as tf

_TEMPORARY = re.compile(r".*\.saving-[^/.]*-\d+")


def write(prefix: str, tensors: Mapping[str, np.ndarray | tf.Tensor]) -> str:
    """Write a checkpoint so that a kill at any moment leaves a usable one.

    Both files are first written whole under a temporary name in the same folder and synced; then the data and last the
    index get their names. A checkpoint of the same name stays usable as `model.ckpt.replaced-STEP` until the new one is
    complete.

    Args:
      prefix: path without `.index`; its folder is created if missing.
      tensors: variable name (no `:0`) -> float32 array; `global_step` is stored as an int64 scalar, other
        dtypes stay as they are.

    Returns:
      The prefix.

    Raises:
      UserError: the disk is full or the folder cannot be written to; existing files are intact.
    """
    import tensorflow as tf

    prefix = os.fspath(prefix)
    folder, arrays = os.path.dirname(prefix) or ".", _as_stored(tensors)
    temporary = temporary_prefix(prefix)
    try:
        os.makedirs(folder, exist_ok=True)
        _require_space(prefix, arrays)
        _save(temporary, arrays)
        kept = _keep_replaced(prefix)
        os.replace(temporary + DATA, prefix + DATA)
        os.replace(temporary + INDEX, prefix + INDEX)
        _sync(folder)
        if kept:
            remove(kept)
    except (OSError, tf.errors.OpError) as error:
        raise _cannot_write(prefix, arrays, error) from error
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
    """Write both files and sync them. Eager SaveV2 takes 0.1 s where a graph's Saver takes 10 s."""
    import tensorflow as tf

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
    """Give a checkpoint that is about to be replaced a second name under which it stays usable."""
    if not os.path.isfile(prefix + INDEX) or data_files(prefix) != [prefix + DATA]:
        return None
    kept = replaced_prefix(prefix)
    remove(kept)
    for suffix in (DATA, INDEX):
        _link_or_copy(prefix + suffix, kept + suffix)
    _sync(os.path.dirname(prefix) or ".")
    return kept


def replaced_prefix(prefix: str) -> str:
    """`model.ckpt-5` -> `model.ckpt.replaced-5`: the number stays last so that the step can be read from it."""
    stem, dash, step = prefix.rpartition("-")
    return f"{stem}.replaced-{step}" if dash and step.isdigit() else f"{prefix}.replaced"


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links, e.g. a mounted cloud drive
        shutil.copyfile(source, target)
        _sync(target)


def _sync(path: str) -> None:
    """Wait until a file or a folder's entries are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not os.path.isdir(path):  # some file systems cannot sync folders; all can sync files
            raise
    finally:
        os.close(handle)


def _require_space(prefix: str, arrays: dict[str, np.ndarray]) -> None:
    """Stop before anything is written if the disk has less room than the arrays take."""
    need, free = sum(array.nbytes for array in arrays.values()), free_space(os.path.dirname(prefix) or ".")
    if need > free:
        rule = f"the disk is full: the checkpoint needs {need / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free"
        hint = "free some space and start again; the checkpoints written before are intact"
        raise UserError("disk-full", rule, hint, where=prefix)


def _cannot_write(prefix: str, arrays: dict[str, np.ndarray], error: Exception) -> UserError:
    need = sum(array.nbytes for array in arrays.values()) / 1e6
    folder = os.path.dirname(prefix) or "."
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder) or "."
    free = shutil.disk_usage(folder).free / 1e6
    rule = f"the checkpoint could not be written: {cause(error)}"
    hint = (
        f"it needs {need:.1f} MB and {free:.1f} MB are free in {folder}: free some space (or check permissions and "
        "quota) and start again; the checkpoints written before are intact"
    )
    return UserError("unwritable-file", rule, hint, where=prefix)


def write_text(path: str, text: str) -> None:
    """Write a small text file atomically: whole under a temporary name, synced, renamed."""
    temporary = temporary_prefix(path)
    try:
        with open(temporary + ".text", "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary + ".text", path)
        _sync(os.path.dirname(path) or ".")
    except OSError as error:
        rule, hint = f"could not be written: {cause(error)}", "free some space and start again"
        raise UserError("unwritable-file", rule, hint, where=path) from error
    finally:
        _discard(temporary)


# ---- removing ----------------------------------------------------------------------------------------


def remove(prefix: str) -> None:
    """Remove a checkpoint, the index first, so that no half of it looks like a checkpoint."""
    remove_files([prefix + INDEX, *data_files(prefix), prefix + ".meta"])


def remove_files(paths: list[str]) -> None:
    """Remove files; missing ones are ignored."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def temporary_prefix(prefix: str) -> str:
    """The name under which this process writes before renaming."""
    return f"{prefix}.saving-{_host()}-{os.getpid()}"


def remove_leftovers(folder: str) -> None:
    """Remove what killed processes left in a folder, and restore what one of them was about to replace."""
    matches = map(_TEMPORARY.match, glob.glob(os.path.join(glob.escape(folder), "*.saving-*")))
    for temporary in sorted({match[0] for match in matches if match}):
        if _is_abandoned(temporary):
            _discard(temporary)
    pattern = os.path.join(glob.escape(folder), "*.replaced*" + DATA)
    for kept in (path.removesuffix(DATA) for path in glob.glob(pattern)):
        _bring_back(kept, kept.replace(".replaced", ""))


def _bring_back(kept: str, prefix: str) -> None:
    """Finish an interrupted replacement: restore the old data if the new data have no index yet."""
    if not os.path.isfile(prefix + INDEX):
        return
    if os.path.isfile(kept + INDEX) and not is_whole(prefix, checksums=True) and is_whole(kept):
        os.replace(kept + DATA, prefix + DATA)  # the index is still the old one, so both files match again
    remove(kept)


def _discard(temporary: str) -> None:
    """Remove a temporary checkpoint, and its data if those were renamed but the index was not."""
    prefix = temporary.rpartition(".saving-")[0]
    data_moved = os.path.exists(temporary + INDEX) and not os.path.exists(temporary + DATA)
    if data_moved and not os.path.exists(prefix + INDEX):
        remove_files([prefix + DATA])
    remove_files(glob.glob(glob.escape(temporary) + ".*"))


def _is_abandoned(temporary: str) -> bool:
    """Whether the process that wrote a temporary has ended, or is this one, which is not writing now."""
    host, _, process = temporary.rpartition(".saving-")[2].rpartition("-")
    written = [modified(path) for path in glob.glob(glob.escape(temporary) + ".*")]
    if time.time() - max(written, default=time.time()) > STALE_SECONDS:
        return True
    return host == _host() and (int(process) == os.getpid() or not is_running(int(process)))


def _host() -> str:
    return re.sub(r"[/.]", "_", socket.gethostname())
