"""Room on a disk, asked for before the work that would fill it."""

from __future__ import annotations

import os
import pathlib
import shutil

from deeplab.utils.errors import UserError


def require_room(folder: str | os.PathLike, need: int, what: str, hint: str) -> None:
    """Stops where a disk has less room than is needed.

    Args:
      folder: a folder on that disk, or one still to be made.
      need: bytes.
      what: what needs them, for the message: "are to come".
      hint: what a person can do.

    Raises:
      UserError: less than `need` bytes are free.
    """
    place = pathlib.Path(folder).absolute()
    there = next(path for path in (place, *place.parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    if free < need:
        raise UserError("unclassified", f"{amount(need)} {what} and {amount(free)} are free", hint, where=folder)


def amount(size: int) -> str:
    """Bytes in words: `1.9 GB`, `253 MB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
