"""One checkpoint on disk, in TensorFlow's V2 format: `PREFIX.index` and `PREFIX.data-00000-of-00001`.

The index holds names, shapes, offsets and checksums; the data file holds the bytes. Checkpoints of the older
V1 format (one file, as the first slim ImageNet weights) are read as well.
"""

from __future__ import annotations

import glob
import os
import re
import tempfile
import time

import numpy as np
import tensorflow as tf

from deeplab.utils.errors import UserError

INDEX = ".index"
DATA = ".data-00000-of-00001"
TABLE_MAGIC = bytes.fromhex("57fb808b247547db")  # the last eight bytes of an index and of a V1 checkpoint

PART = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")  # files of a V2 checkpoint


class Reader:
    """The names, shapes and dtypes of one checkpoint; arrays are read when asked for.

    Attributes:
      prefix: the checkpoint's path without `.index`.
      shapes: variable name (no `:0`) -> shape.
      dtypes: variable name -> NumPy dtype.

    Raises:
      UserError: the files are missing, truncated or damaged.
    """

    def __init__(self, prefix: str):
        self.prefix = os.fspath(prefix)
        self._require_data_files()
        try:
            self._reader = tf.train.load_checkpoint(self._plain_name())
            self.shapes = {name: tuple(s) for name, s in sorted(self._reader.get_variable_to_shape_map().items())}
            types = self._reader.get_variable_to_dtype_map()
        except Exception as problem:  # TensorFlow raises IndexError, OpError and others for one and the same fault
            raise _damaged(index_file(self.prefix), problem) from problem
        self.dtypes = {name: np.dtype(types[name].as_numpy_dtype) for name in self.shapes}
        self._require_size()

    def __contains__(self, name: str) -> bool:
        return name in self.shapes

    def array(self, name: str) -> np.ndarray:
        """One variable's values. Raises UserError when its bytes fail their checksum, KeyError for no such name."""
        if name not in self.shapes:
            raise KeyError(name)
        try:
            return np.asarray(self._reader.get_tensor(name))
        except Exception as problem:
            raise _damaged(self._data_file(), problem, name) from problem

    def arrays(self) -> dict[str, np.ndarray]:
        """All variables, by name."""
        return {name: self.array(name) for name in self.shapes}

    def _data_file(self) -> str:
        return next(iter(data_files(self.prefix)), self.prefix)

    def _plain_name(self) -> str:
        """The prefix, or links to the files where TensorFlow would take its characters for a pattern."""
        if not re.search(r"[*?\[\]{}\\]", self.prefix):
            return self.prefix
        self._links = tempfile.TemporaryDirectory()  # lives as long as this reader
        alias = os.path.join(self._links.name, "checkpoint")
        for path in filter(os.path.isfile, [self.prefix, self.prefix + INDEX, *data_files(self.prefix)]):
            os.symlink(os.path.abspath(path), alias + path.removeprefix(self.prefix))
        return alias

    def _require_size(self) -> None:
        """Stops at data that were cut off, before any of them is used."""
        numeric = [name for name, dtype in self.dtypes.items() if dtype != np.dtype(object)]
        need = sum(int(np.prod(self.shapes[name])) * self.dtypes[name].itemsize for name in numeric)
        size = sum(map(file_size, data_files(self.prefix)))
        if size < need and not is_v1(self.prefix):
            raise UserError(
                "unclassified",
                f"is truncated: {size} of {need} bytes",
                "copy or download the checkpoint again, or take an older one",
                where=self._data_file(),
            )

    def _require_data_files(self) -> None:
        if os.path.isfile(self.prefix + INDEX) and not data_files(self.prefix):
            raise UserError(
                "unclassified",
                f"is missing, though {os.path.basename(self.prefix)}{INDEX} is there",
                "copy both files of the checkpoint, they only work together",
                where=self.prefix + DATA,
            )


def index_file(prefix: str) -> str:
    """The file that names the variables: the index, or a V1 checkpoint itself."""
    return prefix + INDEX if os.path.isfile(prefix + INDEX) else prefix


def data_files(prefix: str) -> list[str]:
    """The files that hold the values (several when TensorFlow 1 wrote them from several machines)."""
    return sorted(glob.glob(glob.escape(prefix) + ".data-?????-of-?????"))


def exists(prefix: str) -> bool:
    """Whether a checkpoint of this name is there, whole or not."""
    return os.path.isfile(prefix + INDEX) or is_v1(prefix)


def is_v1(path: str) -> bool:
    """Whether a file is a checkpoint of the older one-file format."""
    if PART.search(path) or file_size(path) < len(TABLE_MAGIC) or not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            file.seek(-len(TABLE_MAGIC), os.SEEK_END)
            return file.read() == TABLE_MAGIC
    except OSError:  # gone meanwhile, or not ours to read
        return False


def file_size(path: str) -> int:
    """Bytes of a file; 0 for one that is gone: a training may remove what someone else has just listed."""
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0


def modified(path: str) -> float:
    """Time of the last change, in seconds since 1970; now for a file that is gone."""
    try:
        return os.path.getmtime(path)
    except FileNotFoundError:
        return time.time()


def fault(prefix: str, checksums: bool = False) -> str | None:
    """What is wrong with a checkpoint, or None when nothing is.

    Index and sizes alone are checked unless `checksums`; those need all bytes to be read (0.1 s for 100 MB).
    """
    try:
        reader = Reader(prefix)
        if checksums:
            reader.arrays()
    except UserError as problem:
        return f"{os.path.basename(problem.where)} {problem.rule}"
    return None


def _damaged(path: str, problem: Exception, name: str = "") -> UserError:
    """The error for a file that TensorFlow cannot read."""
    if not os.path.exists(path):
        return UserError("unclassified", "does not exist", where=path)
    what = f" (at {name})" if name else ""
    return UserError(
        "unclassified",
        f"is truncated or damaged{what}: {file_size(path)} bytes; TensorFlow says: {cause(problem)}",
        "copy or download the checkpoint again, or take an older one",
        where=path,
    )


def cause(problem: Exception) -> str:
    """What TensorFlow or the system says, without node names and paths that are said already."""
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    line = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
    return re.sub(r"^\{\{.*?\}\} | \[Op:.*$", "", line).rpartition("; ")[2][:200]
