"""Unpacks an archive that comes from somewhere else, so that it can do no harm."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable
from contextlib import nullcontext

from deeplab.utils import console, tars, zips
from deeplab.utils.archive_entries import AGAIN, CHECKPOINTS, CHUNK, Damaged, Limits, Target
from deeplab.utils.errors import UserError

_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_OTHERS = {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "RAR"}
_PAGES = (b"<!doctype", b"<html", b"<?xml")
_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_LONG = 1 << 28  # bytes; a second or so to read
_DEEPEST = 3  # archives within archives within archives


def unpack(
    archive: str,
    folder: str,
    limits: Limits = CHECKPOINTS,
    password: str = "",
    nested: bool = False,
    place: Callable[[str], str] = str,
) -> list[str]:
    """Unpacks the regular files of a `.zip`, a `.tar`, or one packed by gzip, bzip2 or xz; its content tells which.

    Every checksum in it is compared. What desktops add (`__MACOSX`, `Thumbs.db`) is left out.

    Args:
      archive: its path.
      folder: an empty folder of the caller's; on an error it holds a part, which the caller removes.
      limits: what it may become.
      password: for entries of a `.zip` that are encrypted.
      nested: unpack archives in the archive, too, each into the folder that it lies in, and remove them.
      place: where in the folder a file belongs, by its name in the archive; empty for one that is not wanted.

    Returns:
      Paths of the files in the folder, relative to it.

    Raises:
      UserError: not an archive, truncated, damaged; an entry that would lie outside the folder, that is a link or
        a device; more files or bytes than the limits allow; a missing password; no room on the disk.
    """
    target = Target(archive, folder, limits, place)
    _unpack_into(target, password)
    for _ in range(_DEEPEST if nested else 0):
        inner = [name for name in target.names if is_archive_name(name)]
        for name in inner:
            _unpack_inner(target, name, password)
    return target.names


def sha256(path: str) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    return checksum(path, "sha256")


def checksum(path: str, algorithm: str) -> str:
    """Checksum of a file by one of hashlib's algorithms, in hexadecimal digits; shows progress where it takes long."""
    digest, size = hashlib.new(algorithm), os.path.getsize(path)
    what = f"{algorithm} of {os.path.basename(path)}"
    with (
        open(path, "rb") as file,
        console.progress(total=size, what=what, unit="B") if size > _LONG else nullcontext() as bar,
    ):
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            if bar is not None:
                bar.update(len(chunk))
    return digest.hexdigest()


def is_archive_name(name: str) -> bool:
    """Whether a file is called as archives are that can be unpacked."""
    return name.lower().endswith(_ENDINGS)


def fault_of(path: str) -> UserError | None:
    """What speaks against a file at first sight: empty, a web page, an archive of a kind that is not read here."""
    head = _head(path)
    if not head:
        return UserError("unclassified", "is empty", AGAIN, where=path)
    if head.lstrip().lower().startswith(_PAGES):
        return UserError(
            "unclassified", "is a web page, not an archive: something stands before the network", AGAIN, where=path
        )
    for magic, name in _OTHERS.items():
        if head.startswith(magic):
            hint = "unpack it with another program (7z x FILE), and go on with the unpacked folder"
            return UserError("unclassified", f"is a {name} archive, which is not read here", hint, where=path)
    return None


def _unpack_into(target: Target, password: str) -> None:
    """Unpacks `target.archive`, and says what is wrong with it if something is."""
    try:
        if fault := fault_of(target.archive):
            raise fault
        if _head(target.archive).startswith(_ZIP_MAGIC):
            zips.unpack(target, password)
        else:
            tars.unpack(target)
    except Damaged as problem:
        raise _damaged(target.archive, problem) from problem
    except OSError as problem:
        raise UserError(
            "unclassified", f"cannot be read: {problem.strerror or problem}", where=target.archive
        ) from problem


def _unpack_inner(target: Target, name: str, password: str) -> None:
    """Unpacks an archive that came out of another, beside itself, within the same limits; then removes it."""
    inner = os.path.join(target.folder, name)
    target.names.remove(name)
    part = dataclasses.replace(target, archive=inner, inside=os.path.dirname(name))
    _unpack_into(part, password)
    target.size = part.size  # they share the list of names
    os.unlink(inner)


def _head(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(tars.BLOCK)


def _damaged(archive: str, problem: Damaged) -> UserError:
    size, head = os.path.getsize(archive), _head(archive)
    known = head.startswith((*_ZIP_MAGIC, *tars.MAGIC)) or tars.is_header(head)
    what = "is truncated or damaged" if known else "is no archive, or a damaged one"
    return UserError("unclassified", f"{what} ({size} bytes): {problem}", AGAIN, where=archive)
