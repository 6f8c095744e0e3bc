"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import pathlib


def write_atomically(path: str | os.PathLike, content: bytes) -> None:
    """Writes a file under a temporary name in its folder, then renames it: a kill leaves the old file or the new."""
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
