"""The folder of a mended copy: new or empty, or left by a run that was stopped; no file in it is ever half written."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
from collections.abc import Iterator

from deeplab.data.validation.subject import Subject
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import remove_partial, write_atomically
from deeplab.utils.locks import folder_lock

_UNFINISHED = ".unfinished_fix.json"
_LOCK = ".deeplab.lock"  # stays behind when a run is killed


@contextlib.contextmanager
def opened(folder: pathlib.Path, subject: Subject) -> Iterator[None]:
    """Holds the folder; it must be new, empty, or left by a stopped run on the same dataset with the same flags.

    Raises:
      UserError: it is none of these, or cannot be made.
    """
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise UserError(
            "unclassified", f"{folder} cannot be made: {fault.strerror}", "give another folder", field="fix"
        ) from None
    try:
        with folder_lock(folder, "writing a mended copy", "give `fix` another folder"), _marked(folder, subject):
            yield
    except UserError:
        if new:
            with contextlib.suppress(OSError):  # not empty: something came of it
                folder.rmdir()
        raise


@contextlib.contextmanager
def _marked(folder: pathlib.Path, subject: Subject) -> Iterator[None]:
    """Keeps a file in the folder that says that it is not finished; only whoever ends well removes it."""
    marker = folder / _UNFINISHED
    mark = json.dumps({"fix of": subject.checked, "classes": repr(subject.classes), "exif": subject.exif})
    _require_ours(folder, marker, mark)
    write_atomically(marker, mark.encode())
    try:
        yield
    except UserError:
        if {entry.name for entry in folder.iterdir()} <= {marker.name, _LOCK}:
            marker.unlink()
        raise


def _require_ours(folder: pathlib.Path, marker: pathlib.Path, mark: str) -> None:
    ours = re.compile(re.escape(_LOCK) + "|" + re.escape(f".{_UNFINISHED}.") + r"\d+\.partial")  # of a killed run
    there = [entry.name for entry in sorted(folder.iterdir()) if not ours.fullmatch(entry.name)]
    if not there:
        return
    if not marker.is_file():
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        rule = f"{folder} holds {there[0]}{more}"
        raise UserError("unclassified", rule, "give a new or empty folder: nothing is ever written over", field="fix")
    if marker.read_text(encoding="utf-8") != mark:
        rule = f"{folder} holds an unfinished copy of another dataset, or one with other flags"
        raise UserError("unclassified", rule, "remove it, or give another folder", field="fix")
    console.note(f"{folder}: a copy was begun here and stopped; it is written again")
    for place, _, _ in os.walk(folder):
        remove_partial(place, of_running=True)


def write(path: pathlib.Path, data: bytes) -> None:
    """A file, whole or not at all; brought to the disk with all others at the end."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as fault:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise UserError(
            "unclassified", f"cannot be written: {fault.strerror}", "is the disk full?", where=path
        ) from None


def finish(folder: pathlib.Path) -> None:
    """Brings all files to the disk; only then the folder counts as finished."""
    os.sync()
    (folder / _UNFINISHED).unlink()
