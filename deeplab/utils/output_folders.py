"""Output folders: made when they are needed, and taken away again when nothing came of it."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator

from deeplab.utils.errors import UserError


@contextlib.contextmanager
def made_folder(folder: pathlib.Path) -> Iterator[None]:
    """Makes a folder; takes it away again if it was new and nothing came of it."""
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise UserError("unwritable-folder", f"{folder} cannot be made: {fault.strerror}", field="output_dir") from None
    if not os.access(folder, os.W_OK):
        raise UserError(
            "unwritable-folder", f"{folder} cannot be written to", "give a folder of your own", field="output_dir"
        )
    try:
        yield
    except BaseException:
        if new:
            with contextlib.suppress(OSError):  # not empty: another build has begun there
                folder.rmdir()
        raise
