"""What has arrived: whether it is the published archive, whether it is complete, and where its files belong."""

from __future__ import annotations

import filecmp
import fnmatch
import os
import pathlib
from collections.abc import Callable
from typing import Any

from deeplab.data.catalog import Archive
from deeplab.utils import archive as archives
from deeplab.utils.errors import UserError

_TEXTS = ("readme", "license", "license", "attribution")
_STOPPED = "a copy or a download that was stopped: fetch it again"


def check(archive: Archive, path: pathlib.Path, name: str) -> dict[str, Any]:
    """Compares a file's size and checksum with the published ones, as far as these are known.

    Returns:
      Its facts, for a record.

    Raises:
      UserError: empty, a web page, truncated, or another file.
    """
    if fault := archives.fault_of(str(path)):
        raise fault
    size = path.stat().st_size
    if archive.bytes is not None and size < archive.bytes:
        hint = f"{_STOPPED}; {_accept(name, archive, f'{{bytes: {size}, checksum: null}}')}"
        raise UserError("unclassified", f"is truncated: it has {size} bytes of {archive.bytes}", hint, where=path)
    algorithm, _, published = archive.checksum.partition(":")
    digest = archives.checksum(str(path), algorithm) if published else ""
    other = digest != published or (archive.bytes is not None and size != archive.bytes)
    if other:
        rule = f"is not the published {archive.file}: "
        rule += f"its {algorithm} is {digest}, not {published}" if published else f"{size} bytes, not {archive.bytes}"
        accept = f"{{bytes: {size}, checksum: '{algorithm}:{digest}'}}" if published else f"{{bytes: {size}}}"
        raise UserError(
            "unclassified", rule, f"remove it and fetch it again; {_accept(name, archive, accept)}", where=path
        )
    return {"bytes": size, **({"checksum": archive.checksum} if published else {})}


def count(folder: pathlib.Path, pattern: str) -> int:
    """Number of files in a folder that fit a pattern."""
    return sum(1 for _ in folder.glob(pattern))


def shortfall(archive: Archive, folder: pathlib.Path) -> str:
    """Which patterns fewer files fit than are published, in words; empty where none."""
    found = {pattern: count(folder, pattern) for pattern in archive.expected}
    short = [
        f"{found[pattern]} of {number} {pattern}"
        for pattern, number in archive.expected.items()
        if found[pattern] < number
    ]
    return ", ".join(short)


def require_complete(archive: Archive, path: pathlib.Path, staging: pathlib.Path, name: str) -> None:
    """Stops where an archive held fewer files than are published.

    Raises:
      UserError: with the patterns and both numbers.
    """
    if short := shortfall(archive, staging):
        found = ", ".join(f"'{pattern}': {count(staging, pattern)}" for pattern in archive.expected)
        hint = f"fetch it again; {_accept(name, archive, f'{{expected: {{{found}}}}}')}"
        raise UserError("unclassified", f"is incomplete: it holds only {short}", hint, where=path)


def _accept(name: str, archive: Archive, facts: str) -> str:
    entry = f"{name}: {{archives: {{{archive.file}: {facts}}}}}"
    return f"if its publisher has replaced it, `addresses=FILE.yml` with this line takes it: {entry}"


def placer(archive: Archive, folder: pathlib.Path) -> Callable[[str], str]:
    """Where a file of an archive belongs below the output folder: a function of its name; empty = it is not wanted.

    Args:
      archive: its entry in the table.
      folder: the output folder, in which what `only_with` names is in place.
    """
    stems = {path.stem for path in (folder / archive.only_with).iterdir()} if archive.only_with else set()

    def place(name: str) -> str:
        base = os.path.basename(name)
        if archive.only and not fnmatch.fnmatch(base.lower(), archive.only):
            return name if archive.nested and archives.is_archive_name(base) else ""
        if archive.only_with and os.path.splitext(base)[0] not in stems:
            return ""
        if archive.flatten:
            return os.path.join(archive.folder, base)
        inside = not archive.folder or name.startswith(archive.folder + "/")
        return name if inside else os.path.join(archive.folder, name)

    return place


def move_into(source: pathlib.Path, target: pathlib.Path, output_dir: pathlib.Path) -> None:
    """Moves a tree into another on the same disk, folder by folder where the target lacks them.

    A file that is there already stays: it is the same, or a text such as README that several archives hold.

    Raises:
      UserError: a picture or annotation that is there already differs.
    """
    for path in sorted(source.iterdir()):
        there = target / path.name
        if not there.exists():
            os.replace(path, there)
        elif path.is_dir() and there.is_dir():
            move_into(path, there, output_dir)
        elif path.is_dir() or there.is_dir() or not _may_stay(path, there):
            rule = "is there already, and differs from the file of the archive"
            raise UserError(
                "unclassified", rule, f"move it out of {output_dir}, or give another `output_dir`", where=there
            )


def _may_stay(new: pathlib.Path, there: pathlib.Path) -> bool:
    return new.stem.lower() in _TEXTS or filecmp.cmp(new, there, shallow=False)
