"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator

from deeplab.utils import console
from deeplab.utils.errors import UserError

_NAME = ".deeplab.lock"


@contextlib.contextmanager
def folder_lock(folder: str | os.PathLike, doing: str, hint: str) -> Iterator[None]:
    """Holds a folder for this process; the system lets go of it when the process ends, however it ends.

    Args:
      folder: it must exist.
      doing: what the holder does there, for the message to the one who comes second.
      hint: what the second one can do instead of waiting.

    Raises:
      UserError: another process holds it.
    """
    path = pathlib.Path(folder) / _NAME
    descriptor = _acquire(path, doing, hint)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        os.close(descriptor)


def _acquire(path: pathlib.Path, doing: str, hint: str) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise UserError(
                "folder-in-use", f"another process is {doing} in this folder", f"wait, or {hint}", where=path.parent
            ) from None
        except OSError as fault:  # some network folders have no locks
            console.warning(f"{path.parent} cannot be locked ({fault.strerror}): see that only one is {doing} there")
            return descriptor
        if _is_current(descriptor, path):
            return descriptor
        os.close(descriptor)  # the holder before us removed the file between our opening and our locking it


def _is_current(descriptor: int, path: pathlib.Path) -> bool:
    try:
        return os.fstat(descriptor).st_ino == os.stat(path).st_ino
    except FileNotFoundError:
        return False


def is_running(process: int) -> bool:
    """Whether a process of this machine, by its number, still runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
