"""Tar archives, plain or packed by gzip, bzip2 or xz, read as a stream from the first byte to the last."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tarfile
import zlib
from typing import IO

from deeplab.utils import console
from deeplab.utils.archive_entries import CHUNK, Damaged, Target

MAGIC = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
BLOCK = 512  # bytes; headers are one block, contents fill whole ones
_FAULTS = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)


def unpack(target: Target) -> None:
    """Unpacks the regular files of an archive; a checksum behind the last byte is compared, too.

    Raises:
      UserError: an entry that must not be unpacked, or more of them than the limits allow.
      Damaged: the archive is truncated or spoilt.
    """
    try:
        _unpack(target)
    except _FAULTS as fault:
        raise Damaged(str(fault)) from fault
    except OSError as fault:
        if fault.errno is None:  # what gzip and bz2 raise for spoilt data
            raise Damaged(str(fault)) from fault
        raise


def is_header(head: bytes) -> bool:
    """Whether a block is the header of an entry, in a format that says so (POSIX and GNU)."""
    return head[257:262] == b"ustar"


def _unpack(target: Target) -> None:
    size = os.path.getsize(target.archive)
    with (
        open(target.archive, "rb") as file,
        _unpacked(file) as stream,
        tarfile.open(fileobj=stream, mode="r|") as entries,
        console.progress(total=size, what="unpacking", unit="B") as bar,
    ):
        for entry in entries:
            name = target.destination(entry.name)
            if not (entry.isfile() or entry.isdir()):
                raise target.distrust(entry.name, "is neither a file nor a folder")
            if entry.isdir() or not name:
                continue
            target.admit(entry.size, packed=size if stream is file else file.tell())
            for _ in target.write(name, entries.extractfile(entry), entry.size):
                bar.update(file.tell() - bar.n)
        while stream.read(CHUNK):  # the checksum stands behind the last entry
            pass
        bar.update(file.tell() - bar.n)
        if stream is file:
            _require_end_mark(file, size)


def _require_end_mark(file: IO[bytes], size: int) -> None:
    """A plain archive cut off between two entries reads as whole, but lacks the empty blocks at the end."""
    file.seek(max(0, size - BLOCK))
    if any(file.read()):
        raise Damaged("the mark at its end is missing")


def _unpacked(file: IO[bytes]) -> IO[bytes]:
    """The tar stream inside; browsers store some `.tar.gz` without the compression."""
    head = file.read(6)
    file.seek(0)
    for magic, reader in MAGIC.items():
        if head.startswith(magic):
            return reader(file)  # type: ignore[operator,no-any-return]
    return file
