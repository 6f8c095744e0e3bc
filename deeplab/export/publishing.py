"""Files that appear whole, or not at all: written under temporary names, renamed when all of them are proved."""

from __future__ import annotations

import contextlib
import os
import re
import shutil

from deeplab.utils.errors import UserError
from deeplab.utils.locks import is_running

_LEFT_OVER = re.compile(r"^\.(?P<name>.+)\.(?P<process>\d+)\.partial$")


class Publication:
    """Temporary names for files and folders of one folder, and their renaming in the end.

        with Publication("models") as publication:
            write(publication.temporary("frozen_inference_graph.pb"))
            publication.publish()

    Leaving the context without `publish` removes everything that was written, and the folder if it was made for it;
    what was there before stays.

    Args:
      folder: where the files go; it is made when missing.

    Raises:
      UserError: it cannot be written.
    """

    def __init__(self, folder: str):
        self.folder = folder or "."
        self._names: list[str] = []
        self._made = _missing_folders(self.folder)
        try:
            os.makedirs(self.folder, exist_ok=True)
        except OSError as fault:
            raise UserError(
                "unclassified", f"cannot be made: {fault.strerror}", "give another `export_path`", where=self.folder
            ) from None
        if not os.access(self.folder, os.W_OK):
            raise UserError(
                "unclassified",
                "cannot be written to",
                "check its permissions, or give another `export_path`",
                where=self.folder,
            )
        self._remove_left_overs()

    def temporary(self, name: str) -> str:
        """The path under which to write what shall be called `name`; fresh, whatever was written there before."""
        if name not in self._names:
            self._names.append(name)
        path = self.written(name)
        _remove(path)
        return path

    def written(self, name: str) -> str:
        """Where the content of `name` lies until it is published."""
        return os.path.join(self.folder, f".{name}.{os.getpid()}.partial")

    def publish(self) -> list[str]:
        """Gives everything its name, replacing what had it; the paths."""
        for name in self._names:
            _sync(self.written(name))
        for name in self._names:
            self._rename(name)
        _sync(self.folder)
        return [os.path.join(self.folder, name) for name in self._names]

    def _rename(self, name: str) -> None:
        target, old = os.path.join(self.folder, name), self.written(f"{name}.replaced")
        if os.path.isdir(target):  # a folder cannot be renamed over another one
            os.rename(target, old)
        os.replace(self.written(name), target)
        _remove(old)

    def _remove_left_overs(self) -> None:
        """Clears what killed exports left here; a folder that one of them was about to replace gets its name back."""
        for entry in os.listdir(self.folder):
            match = _LEFT_OVER.match(entry)
            if match is None or is_running(int(match["process"])):
                continue
            path, name = os.path.join(self.folder, entry), match["name"].removesuffix(".replaced")
            if name != match["name"] and not os.path.exists(os.path.join(self.folder, name)):
                os.rename(path, os.path.join(self.folder, name))
            _remove(path)

    def __enter__(self) -> Publication:
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._names:
            _remove(self.written(name))
        for folder in self._made:
            with contextlib.suppress(OSError):  # it is in use now
                os.rmdir(folder)


def _missing_folders(folder: str) -> list[str]:
    """The folder and those above it that do not exist yet, the innermost first."""
    missing = []
    folder = os.path.abspath(folder)
    while not os.path.exists(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    return missing


def write_bytes(path: str, content: bytes) -> None:
    """Writes a file.

    Raises:
      UserError: the disk is full, or writing fails for another reason.
    """
    try:
        with open(path, "wb") as file:
            file.write(content)
    except OSError as fault:
        free = shutil.disk_usage(os.path.dirname(path) or ".").free / 1e6
        hint = f"{len(content) / 1e6:.1f} MB are needed, {free:.1f} MB are free; what was there before is untouched"
        raise UserError("unclassified", f"cannot be written: {fault.strerror}", hint, where=path) from None


def size_of(path: str) -> int:
    """Bytes of a file, or of all files in a folder."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _sync(path: str) -> None:
    """Waits until a file, or a folder's files and entries, are on the disk."""
    inside = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    for each in [*inside, path]:
        descriptor = os.open(each, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # some file systems cannot sync folders
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
