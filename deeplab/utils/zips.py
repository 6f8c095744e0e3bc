"""Zip archives, those with a password among them."""

from __future__ import annotations

import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import IO

from deeplab.utils import console, locked_zips
from deeplab.utils.archive_entries import AGAIN, Damaged, Target
from deeplab.utils.errors import UserError

_METHODS = {9: "deflate64", 99: "AES encryption"}
_READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_ENCRYPTED = 0x1
Entry = locked_zips.Entry
_FAULTS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error, UnicodeDecodeError)


class Locked(UserError):
    """An encrypted archive, and no password or a wrong one."""


def unpack(target: Target, password: str = "") -> None:
    """Unpacks the regular files of an archive, and compares the checksum of each.

    Raises:
      UserError: an entry that must not be unpacked, more of them than the limits allow, a password that is missing or
        wrong, a kind of compression that is not read here.
      Damaged: the archive is truncated or spoilt.
    """
    try:
        with zipfile.ZipFile(target.archive) as archive:
            entries = _wanted(target, archive.infolist())
            _require_password(target.archive, entries, password)
            total = sum(entry.file_size for _, entry in entries)
            with console.progress(total=total, what="unpacking", unit="B") as bar:
                for name, source, size in _contents(archive, entries, password):
                    before = 0
                    for _ in target.write(name, source, size):
                        bar.update(source.tell() - before)
                        before = source.tell()
    except NotImplementedError as fault:
        raise _unreadable(target.archive, str(fault)) from fault
    except RuntimeError as fault:  # so zipfile calls a wrong password
        raise Locked(
            "unclassified", f"cannot be decrypted: {fault}", "give its password with `password`", where=target.archive
        ) from None
    except _FAULTS as fault:
        doubt = "; or the password is wrong" if password else ""
        raise Damaged(f"{fault}{doubt}") from fault


def declared_size(path: str) -> int:
    """Bytes of all files of an archive together, as its directory states them; 0 where that cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(entry.file_size for entry in archive.infolist())
    except (*_FAULTS, NotImplementedError, OSError):
        return 0


def _wanted(target: Target, infos: Sequence[zipfile.ZipInfo]) -> list[Entry]:
    """Files with their safe names; everything that speaks against the archive is found before anything is written."""
    entries = []
    for entry in infos:
        name = target.destination(_slashes(entry.filename))
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise target.distrust(entry.filename, "is neither a file nor a folder")
        if entry.is_dir() or entry.filename.endswith("\\") or not name:
            continue
        if entry.compress_type not in _READABLE:
            raise _unreadable(target.archive, _METHODS.get(entry.compress_type, f"method {entry.compress_type}"))
        entries.append((name, entry))
    if sum(entry.compress_size for _, entry in entries) > os.path.getsize(target.archive):
        raise UserError(
            "unclassified", "is not to be trusted: its entries lie over each other", AGAIN, where=target.archive
        )
    target.admit(sum(entry.file_size for _, entry in entries), len(entries))
    return entries


def _unreadable(path: str, what: str) -> UserError:
    hint = "unpack it with another program (7z x FILE), and go on with the unpacked folder"
    return UserError("unclassified", f"is packed in a way that is not read here: {what}", hint, where=path)


def _slashes(name: str) -> str:
    """A name with the slashes of the format's rules; some programs for Windows write the other ones."""
    name = name.replace("\\", "/")
    return "/" + name if name[1:2] == ":" else name


def _require_password(path: str, entries: Sequence[Entry], password: str) -> None:
    if not password and any(entry.flag_bits & _ENCRYPTED for _, entry in entries):
        raise Locked("unclassified", "is encrypted", "give its password with `password`", where=path)


def _contents(
    archive: zipfile.ZipFile, entries: Sequence[Entry], password: str
) -> Iterator[tuple[str, IO[bytes], int]]:
    """Name, content and size of every entry."""
    encrypted = [each for each in entries if each[1].flag_bits & _ENCRYPTED]
    batches, others = locked_zips.batches(encrypted)
    if batches:
        with open(str(archive.filename), "rb") as file:
            for batch in batches:
                yield from locked_zips.read(file, batch, password)
    for name, entry in [each for each in entries if not each[1].flag_bits & _ENCRYPTED] + others:
        with archive.open(entry, pwd=password.encode() if entry.flag_bits & _ENCRYPTED else None) as source:
            yield name, source, entry.file_size
