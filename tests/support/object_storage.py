"""A remote file system for tests: a local folder that behaves like object storage, and fails when it is told to."""

import os
import pathlib
import shutil
import threading

from deeplab.utils.file_systems import Facts, FileSystem


class ObjectStorage(FileSystem):
    """Objects in a folder. There are no renames and no locks; each call is noted in `calls`.

    Attributes:
      failures: for each operation the exceptions that its next calls raise.
    """

    def __init__(self, folder):
        self.folder, self.calls, self.failures = pathlib.Path(folder), [], {}

    def path(self, name):
        return self.folder / name.partition("://")[2]

    def _called(self, operation, name):
        self.calls.append((operation, name.partition("://")[2]))
        if self.failures.get(operation):
            raise self.failures[operation].pop(0)

    def files(self, name):
        self._called("list", name)
        root = self.path(name)
        if root.is_file():
            return {"": self._facts(root)}
        return {file.relative_to(root).as_posix(): self._facts(file) for file in root.rglob("*") if file.is_file()}

    def names_in(self, name):
        return [entry.name for entry in self.path(name).iterdir() if entry.is_file()]

    def _facts(self, file):
        return Facts(file.stat().st_size, int(file.stat().st_mtime))

    def download(self, name, path):
        self._called("read", name)
        shutil.copyfile(self.path(name), path)

    def upload(self, path, name):
        self._called("write", name)
        self.folder.mkdir(exist_ok=True)
        temporary = self.folder / f"temporary.{threading.get_ident()}"
        shutil.copyfile(path, temporary)
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, self.path(name))

    def remove(self, name):
        self._called("remove", name)
        self.path(name).unlink(missing_ok=True)
