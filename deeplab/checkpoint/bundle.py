"""One checkpoint on disk, in TensorFlow's V2 format: `PREFIX.index` and `PREFIX.data-00000-of-00001`.

The index holds names, shapes, offsets and checksums; the data file holds the bytes. Checkpoints of the older V1 format
(one file, as the first slim ImageNet weights) are read as well.

A weight of which only the running average is stored has that average as its value, under its own name.
"""

from __future__ import annotations

import functools
import glob
import os
import re
import tempfile
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplab.checkpoint.names import averages_alone
from deeplab.config import run_file
from deeplab.utils.errors import UserError
from deeplab.utils.text import counted

if TYPE_CHECKING:  # imported where a file is opened: a wrong path shows before TensorFlow starts
    import tensorflow as tf

INDEX = ".index"
DATA = ".data-00000-of-00001"
TABLE_MAGIC = bytes.fromhex("57fb808b247547db")  # the last eight bytes of an index and of a V1 checkpoint

PART = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")  # files of a V2 checkpoint
_COPY_AGAIN = "copy or download the checkpoint again, or use an older one"


class Checkpoint:
    """One checkpoint on disk; opening it reads the index, arrays are read on demand.

    Args:
      prefix: the checkpoint's path without `.index`.

    Attributes:
      prefix: as given.
      shapes: variable name (without `:0`) -> shape.
      dtypes: variable name -> NumPy dtype.
      averages_alone: weights whose value is their running average, as the weight is not stored -> name of the average.

    Raises:
      UserError: the files are missing, truncated or damaged.
    """

    def __init__(self, prefix: str | os.PathLike):
        self.prefix = os.fspath(prefix)
        self._require_data_files()
        import tensorflow as tf

        try:
            self._reader = tf.train.load_checkpoint(self._plain_name())
            stored = self._reader.get_variable_to_shape_map()
            types = self._reader.get_variable_to_dtype_map()
        except Exception as error:  # TensorFlow raises IndexError, OpError and others for the same damage
            raise _damaged(index_file(self.prefix), error) from error
        self.averages_alone = averages_alone(stored)
        weights = {average: weight for weight, average in self.averages_alone.items()}
        self._stored = {weights.get(name, name): name for name in stored}
        self.shapes = {name: tuple(stored[self._stored[name]]) for name in sorted(self._stored)}
        self.dtypes = {name: np.dtype(types[self._stored[name]].as_numpy_dtype) for name in self.shapes}
        self._require_size()

    @property
    def folder(self) -> str:
        """The folder that holds the files."""
        return os.path.dirname(self.prefix) or "."

    @functools.cached_property
    def step(self) -> int:
        """The global step: as stored, else the number in the checkpoint's name, else 0."""
        return int(self.array("global_step")) if "global_step" in self else step_in_name(self.prefix) or 0

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """Settings and dataset facts by name from the `config.yml` beside it; empty where there is none."""
        return run_file.load(self.folder)

    @property
    def config_place(self) -> str:
        """Where `config` comes from, for messages."""
        return os.path.join(self.folder, run_file.FILE_NAME)

    @property
    def remark(self) -> str:
        """A note for the user on what the weights are: those of another project, or averages; else empty."""
        return _averages_text(self.prefix, self.averages_alone)

    def __contains__(self, name: str) -> bool:
        return name in self.shapes

    def array(self, name: str) -> np.ndarray:
        """Return a variable's values. Raises UserError for damaged bytes, KeyError for an unknown name."""
        if name not in self.shapes:
            raise KeyError(name)
        try:
            return np.asarray(self._reader.get_tensor(self._stored[name]))
        except Exception as error:
            raise _damaged(self._data_file(), error, name) from error

    def arrays(self) -> dict[str, np.ndarray]:
        """All variables by name, in the dtypes they were stored with."""
        return {name: self.array(name) for name in self.shapes}

    def _data_file(self) -> str:
        return next(iter(data_files(self.prefix)), self.prefix)

    def _plain_name(self) -> str:
        """The prefix, or links to the files where TensorFlow would read its characters as a pattern."""
        if not re.search(r"[*?\[\]{}\\]", self.prefix):
            return self.prefix
        self._links = tempfile.TemporaryDirectory()  # removed together with this object
        alias = os.path.join(self._links.name, "checkpoint")
        for path in filter(os.path.isfile, [self.prefix, self.prefix + INDEX, *data_files(self.prefix)]):
            os.symlink(os.path.abspath(path), alias + path.removeprefix(self.prefix))
        return alias

    def _require_size(self) -> None:
        """Stop at data that were cut off before any of them is used."""
        numeric = [name for name, dtype in self.dtypes.items() if dtype != np.dtype(object)]
        need = sum(int(np.prod(self.shapes[name])) * self.dtypes[name].itemsize for name in numeric)
        size = sum(map(file_size, data_files(self.prefix)))
        if size < need and not is_v1(self.prefix):
            rule = f"is truncated: {size} of {need} bytes"
            raise UserError("damaged-checkpoint", rule, _COPY_AGAIN, where=self._data_file(), value=size)

    def _require_data_files(self) -> None:
        if os.path.isfile(self.prefix + INDEX) and not data_files(self.prefix):
            raise incomplete(self.prefix + DATA, self.prefix + INDEX)


class ArrayCheckpoint:
    """Arrays in memory with the interface of a `Checkpoint`.

    Args:
      tensors: variable name (without `:0`) -> array.

    Attributes:
      averages_alone: as of a `Checkpoint`.
    """

    prefix = "the given arrays"

    def __init__(self, tensors: Mapping[str, np.ndarray | tf.Tensor]):
        self.averages_alone = averages_alone(tensors)
        weights = {average: weight for weight, average in self.averages_alone.items()}
        self._tensors = {weights.get(name, name): value for name, value in tensors.items()}
        self.shapes = {name: tuple(np.shape(value)) for name, value in self._tensors.items()}
        self.dtypes: dict[str, np.dtype] = {}
        self.config: dict[str, Any] = {}

    @property
    def step(self) -> int:
        """The global step; 0 where there is none."""
        return int(self.array("global_step")) if "global_step" in self else 0

    @property
    def remark(self) -> str:
        """As of a `Checkpoint`."""
        return _averages_text(self.prefix, self.averages_alone)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def array(self, name: str) -> np.ndarray:
        """Return a variable's values."""
        return np.asarray(self._tensors[name])

    def arrays(self) -> dict[str, np.ndarray]:
        """All variables by name."""
        return {name: self.array(name) for name in self.shapes}


def _averages_text(prefix: str, alone: Mapping[str, str]) -> str:
    """What a user must know of a checkpoint that lacks the weights of some averages; empty if it lacks none."""
    if not alone:
        return ""
    averages = f"the running averages of {counted(len(alone), 'weight')} alone"
    return f"{prefix}: holds {averages}, which are taken as the weights"


def step_in_name(prefix: str) -> int | None:
    """`model.ckpt-300` -> 300; None for a name without a number."""
    match = re.search(r"-(\d+)$", os.path.basename(prefix))
    return int(match[1]) if match else None


def index_file(prefix: str) -> str:
    """The file that names the variables: the index, or a V1 checkpoint itself."""
    return prefix + INDEX if os.path.isfile(prefix + INDEX) else prefix


def data_files(prefix: str) -> list[str]:
    """The files that hold the values (several if TensorFlow 1 wrote them from several machines)."""
    return sorted(glob.glob(glob.escape(prefix) + ".data-?????-of-?????"))


def exists(prefix: str) -> bool:
    """Whether a checkpoint of this name exists, whole or not."""
    return os.path.isfile(prefix + INDEX) or is_v1(prefix)


def is_v1(path: str) -> bool:
    """Whether a file is a checkpoint of the older one-file format."""
    if PART.search(path) or file_size(path) < len(TABLE_MAGIC) or not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            file.seek(-len(TABLE_MAGIC), os.SEEK_END)
            return file.read() == TABLE_MAGIC
    except OSError:  # removed in the meantime, or no permission to read it
        return False


def file_size(path: str) -> int:
    """Bytes of a file; 0 for a missing one: a training may remove what another process has just listed."""
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0


def modified(path: str) -> float:
    """Time of the last change in seconds since 1970; now for a missing file."""
    try:
        return os.path.getmtime(path)
    except FileNotFoundError:
        return time.time()


def open_whole(prefix: str, checksums: bool = False) -> Checkpoint | UserError:
    """A checkpoint, or the error that keeps it from being used.

    Args:
      prefix: the checkpoint's path without `.index`.
      checksums: read all bytes and check them (0.1 s for 100 MB), not just the index and the sizes.
    """
    try:
        opened = Checkpoint(prefix)
        if checksums:
            opened.arrays()
    except UserError as error:
        return error
    return opened


def is_whole(prefix: str, checksums: bool = False) -> bool:
    """Whether a checkpoint can be used; see `open_whole`."""
    return isinstance(open_whole(prefix, checksums), Checkpoint)


def incomplete(missing: str, present: str) -> UserError:
    """The error for a checkpoint of which one file is missing."""
    rule = f"is missing, though {os.path.basename(present)} is there"
    return UserError("incomplete-checkpoint", rule, "copy both files of the checkpoint", where=missing)


def _damaged(path: str, error: Exception, name: str = "") -> UserError:
    """The error for a file that TensorFlow cannot read."""
    if not os.path.exists(path):
        return UserError("checkpoint-not-found", "does not exist", where=path)
    place = f" (at {name})" if name else ""
    rule = f"is truncated or damaged{place}: {file_size(path)} bytes; TensorFlow says: {cause(error)}"
    return UserError("damaged-checkpoint", rule, _COPY_AGAIN, where=path, value=name or None)


def cause(error: Exception) -> str:
    """What TensorFlow or the system says, without node names and paths that the message has already."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\{\{.*?\}\} | \[Op:.*$", "", line).rpartition("; ")[2][:200]
