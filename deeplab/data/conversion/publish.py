"""The last step of a build: complete shards get their names, and `dataset.yml` says what they are.

Until then everything has a hidden temporary name. From the first rename to the last a journal stands in the folder, by
which the next build takes back what a kill has left half done.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Protocol

from deeplab.data import dataset as datasets
from deeplab.data.dataset import Dataset
from deeplab.data.records import remove_partial_files, shards_by_split
from deeplab.utils.errors import UserError
from deeplab.utils.files import write_atomically

_JOURNAL = ".publishing.json"  # names of the shards that are being renamed


class Unpublished(Protocol):
    """A shard that is complete under a temporary name."""

    @property
    def path(self) -> pathlib.Path:
        """Where it will stand."""

    def publish(self) -> None:
        """Gives it its own name, in one step."""


def publish(folder: pathlib.Path, shards: Sequence[Unpublished], dataset: Dataset, others: Dataset | None) -> None:
    """Puts shards in place of those that an older build made of the same splits, and writes the description.

    Args:
      folder: the output folder, locked by the caller.
      shards: all shards of all splits.
      dataset: the description of the folder with them in it.
      others: the description of the splits that the folder held before and keeps; None where there are none.

    Raises:
      UserError: the disk does not take it; nothing has changed then.
    """
    description, journal = folder / datasets.FILE_NAME, folder / _JOURNAL
    names = [shard.path.name for shard in shards]
    try:  # what needs room on the disk comes before what cannot be taken back
        new = _written_aside(description, "new", datasets.as_text(dataset))
        kept = _written_aside(description, "kept", datasets.as_text(others)) if others else None
        listed = _written_aside(journal, "new", json.dumps(names))
    except UserError:
        remove_partial_files(folder)
        raise
    except OSError as fault:
        remove_partial_files(folder)
        raise UserError(
            "unclassified", f"cannot be written to: {fault.strerror}", "is the disk full?", where=folder
        ) from None
    if kept:
        os.replace(kept, description)
    else:
        description.unlink(missing_ok=True)
    _remove_older(folder, {name.rsplit("-", 3)[0] for name in names})
    os.replace(listed, journal)
    for shard in shards:
        shard.publish()
    os.replace(new, description)
    journal.unlink()


def _written_aside(path: pathlib.Path, what: str, text: str) -> pathlib.Path:
    """Writes what is to become a file under a name that the next build removes; that name."""
    aside = path.with_name(f".{path.name}.{what}.{os.getpid()}.partial")
    write_atomically(aside, text.encode())
    return aside


def clear_unfinished(folder: pathlib.Path) -> int:
    """Removes what a build that was killed has left, be it in the middle of publishing; number of files."""
    removed = 0
    journal = folder / _JOURNAL
    if journal.is_file():
        with contextlib.suppress(ValueError):
            for name in json.loads(journal.read_bytes()):
                path = folder / os.path.basename(name)
                removed += path.is_file()
                path.unlink(missing_ok=True)
        journal.unlink()
    return removed + len(remove_partial_files(folder))


def _remove_older(folder: pathlib.Path, splits: set[str]) -> None:
    for split, names in shards_by_split(folder).items():
        for name in names if split in splits else ():
            (folder / name).unlink()
