"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
from collections.abc import Iterator

from deeplab.utils import console
from deeplab.utils.errors import UserError

_NAME = ".deeplab.lock"


@contextlib.contextmanager
def folder_lock(
    folder: str | os.PathLike, doing: str, hint: str, name: str = _NAME, wait: float = 0.0
) -> Iterator[None]:
    """Holds a folder for this process; the system releases it when the process ends, even when it is killed.

    Args:
      folder: an existing folder.
      doing: what the holder does there, for the message to the second process.
      hint: what the second process can do instead of waiting.
      name: of the lock's file; locks of other names are held independently.
      wait: seconds to wait for another process.

    Raises:
      UserError: another process holds it (`folder-in-use`).
    """
    from filelock import FileLock, Timeout

    path = pathlib.Path(folder) / name
    lock = FileLock(path, mode=0o644, fallback_to_soft=False)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        rule = f"another process is {doing} in this folder"
        raise UserError("folder-in-use", rule, f"wait, or {hint}", where=folder) from None
    except OSError as problem:  # some network folders have no locks
        reason = problem.strerror or problem
        console.warning(f"{folder} cannot be locked ({reason}): make sure that only one process is {doing} there")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # before the release, so that no new holder loses its file
            path.unlink()
        lock.release()


def is_running(process: int) -> bool:
    """Return whether a process of this machine, given by its number, is running."""
    if sys.platform == "win32":
        return _is_running_on_windows(process)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _is_running_on_windows(process: int) -> bool:
    """As `is_running`; `os.kill` would end the process there."""
    import ctypes

    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
    handle = kernel.OpenProcess(0x1000, False, process)  # PROCESS_QUERY_LIMITED_INFORMATION
    if not handle:
        return False
    code = ctypes.c_ulong()
    kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return code.value == 259  # STILL_ACTIVE
