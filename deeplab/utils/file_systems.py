"""Remote file systems: those of `tf.io.gfile`, and those of fsspec's libraries (extra `remote`), behind one interface.

Owns which library serves a scheme such as `gs`, and how a file gets there whole. `remote_files` is its caller, which
decides what is copied, when, and what happens when an operation fails. TensorFlow and fsspec are imported with the
first file system.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import importlib
import posixpath
from collections.abc import Mapping
from typing import Any, NamedTuple

from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import partial_path
from deeplab.utils.parallel import ordered_map

_WORKERS = 16  # files whose facts are asked for at the same time
# Schemes of object storage, where a file appears when its upload has ended.
_WHOLE_OBJECTS = {"gs", "gcs", "s3", "s3a", "s3n", "az", "abfs", "abfss", "adl", "oss", "oci", "r2"}
_PACKAGES = {  # what pip installs for a scheme
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "hdfs": "pyarrow",
}


class Facts(NamedTuple):
    """What tells whether a file has changed: its bytes, and the second of its last change, 0 where that is unknown."""

    size: int
    changed: int


class FileSystem(abc.ABC):
    """A remote file system. All methods raise the exceptions of its library."""

    @abc.abstractmethod
    def files(self, name: str) -> dict[str, Facts]:
        """Return the files of a folder and of those in it, by their path within it; of a file itself under ""."""

    @abc.abstractmethod
    def names_in(self, name: str) -> list[str]:
        """Return the names of the files that a folder itself holds; those of its folders may be among them."""

    @abc.abstractmethod
    def download(self, name: str, path: str) -> None:
        """Copy a file to a local path."""

    @abc.abstractmethod
    def upload(self, path: str, name: str) -> None:
        """Copy a local file, replacing one of that name; it appears whole."""

    @abc.abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file; nothing happens if there is none."""


class TensorFlowFiles(FileSystem):
    """The file systems of `tf.io.gfile`."""

    def __init__(self) -> None:
        console.import_tensorflow()
        import tensorflow as tf

        self._gfile, self._not_found = tf.io.gfile, tf.errors.NotFoundError

    def files(self, name: str) -> dict[str, Facts]:
        if not self._gfile.exists(name):
            return {}
        if not self._gfile.isdir(name):
            return {"": self._facts(name)}
        root = name.rstrip("/")
        paths = [
            posixpath.join(folder.removeprefix(root).strip("/"), file)
            for folder, _, files in self._gfile.walk(root)
            for file in files
        ]
        facts = ordered_map(lambda path: self._facts_if_there(f"{root}/{path}"), paths, _WORKERS)
        return {path: found for path, found in zip(paths, facts, strict=True) if found}

    def names_in(self, name: str) -> list[str]:
        return [entry for entry in self._gfile.listdir(name) if not entry.endswith("/")]

    def _facts_if_there(self, name: str) -> Facts | None:
        with contextlib.suppress(self._not_found):  # removed in the meantime
            return self._facts(name)
        return None

    def _facts(self, name: str) -> Facts:
        found = self._gfile.stat(name)
        return Facts(found.length, found.mtime_nsec // 10**9)

    def download(self, name: str, path: str) -> None:
        self._gfile.copy(name, path, overwrite=True)

    def upload(self, path: str, name: str) -> None:
        self._gfile.makedirs(posixpath.dirname(name))
        if name.partition("://")[0] in _WHOLE_OBJECTS:
            self._gfile.copy(path, name, overwrite=True)
            return
        temporary = _partial_name(name)
        self._gfile.copy(path, temporary, overwrite=True)
        self._gfile.rename(temporary, name, overwrite=True)

    def remove(self, name: str) -> None:
        with contextlib.suppress(self._not_found):
            self._gfile.remove(name)


class FsspecFiles(FileSystem):
    """The file systems of fsspec's libraries, such as s3fs.

    Args:
      scheme: its name before `://`.
    """

    def __init__(self, scheme: str):
        self._scheme = scheme
        self._system = importlib.import_module("fsspec").filesystem(scheme, skip_instance_cache=True)

    def files(self, name: str) -> dict[str, Facts]:
        self._system.invalidate_cache()
        root = self._system._strip_protocol(name).rstrip("/")
        found = self._system.find(name, detail=True)
        return {path.removeprefix(root).strip("/"): self._facts(entry) for path, entry in found.items()}

    def names_in(self, name: str) -> list[str]:
        self._system.invalidate_cache()
        entries = self._system.ls(name, detail=True)
        return [posixpath.basename(entry["name"]) for entry in entries if entry["type"] == "file"]

    def _facts(self, entry: Mapping[str, Any]) -> Facts:
        times = (entry.get(key) for key in ("mtime", "LastModified", "last_modified", "updated", "created"))
        changed = next((time for time in times if time), 0)
        return Facts(int(entry.get("size") or 0), int(changed.timestamp() if hasattr(changed, "timestamp") else 0))

    def download(self, name: str, path: str) -> None:
        self._system.get_file(name, path)

    def upload(self, path: str, name: str) -> None:
        self._system.makedirs(posixpath.dirname(name), exist_ok=True)
        if self._scheme in _WHOLE_OBJECTS:
            self._system.put_file(path, name)
            return
        temporary = _partial_name(name)
        self._system.put_file(path, temporary)
        self.remove(name)  # some file systems do not replace files
        self._system.mv(temporary, name)

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._system.rm_file(name)


def _partial_name(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{partial_path(last)}"


@functools.cache
def file_system(scheme: str) -> FileSystem:
    """Return the file system of a scheme such as `gs`.

    Raises:
      UserError: neither TensorFlow nor an installed library knows it (`unknown-file-system`).
    """
    system = TensorFlowFiles()
    with contextlib.suppress(ImportError):  # it registers further file systems
        importlib.import_module("tensorflow_io")
    import tensorflow as tf

    if scheme in tf.io.gfile.get_registered_schemes():
        return system
    try:
        return FsspecFiles(scheme)
    except (ImportError, ValueError) as error:  # the second: a scheme that fsspec has never heard of
        package = _PACKAGES.get(scheme)
        rule = f"no library for {scheme}:// is installed ({error})"
        hint = f"pip install fsspec {package}" if package else "copy the files to a local folder, and give its path"
        raise UserError("unknown-file-system", rule, hint, value=scheme) from None
