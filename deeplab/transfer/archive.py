"""Unpacks a tar archive that comes from somewhere else, so that it can do no harm."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO

from deeplab import console
from deeplab.errors import UserError

MOST_FILES = 1000
MOST_BYTES = 8 << 30
GZIP_MAGIC = b"\x1f\x8b"
CHUNK = 1 << 20
AGAIN = "remove it and fetch it again"


def unpack(archive: str, folder: str) -> list[str]:
    """Unpacks the regular files of a `.tar.gz`, `.tgz` or `.tar`; its checksums are checked to the last byte.

    Args:
      archive: its path.
      folder: an empty folder of the caller's; on an error it holds a part, which the caller removes.

    Returns:
      Paths of the files in the folder, relative to it.

    Raises:
      UserError: not an archive, truncated, damaged; an entry that would lie outside the folder, that is a link or
        a device; more than 1000 files or 8 GiB; no room on the disk.
    """
    names: list[str] = []
    left = MOST_BYTES
    try:
        with (
            open(archive, "rb") as file,
            _unzipped(file) as stream,
            tarfile.open(fileobj=stream, mode="r|") as entries,
            console.progress(total=os.path.getsize(archive), what="unpacking", unit="B") as bar,
        ):
            for entry in entries:
                name = _safe_name(archive, entry)
                if not entry.isfile():
                    continue
                left -= entry.size
                if left < 0 or len(names) >= MOST_FILES:
                    rule = f"holds more than {MOST_FILES} files or {MOST_BYTES >> 30} GiB, as no checkpoint does"
                    raise UserError(archive, rule, AGAIN)
                for _ in _copied(entries.extractfile(entry), os.path.join(folder, name), entry.size):
                    bar.update(file.tell() - bar.n)
                names.append(name)
            while stream.read(CHUNK):  # the gzip checksum stands behind the last byte
                pass
            bar.update(file.tell() - bar.n)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError) as problem:
        raise _damaged(archive, problem) from problem
    except OSError as problem:
        raise UserError(folder, f"cannot be written: {problem.strerror or problem}", "make room") from problem
    return names


def sha256(path: str) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _unzipped(file: IO[bytes]) -> IO[bytes]:
    """The tar stream inside; browsers store some `.tar.gz` without the compression."""
    packed = file.read(2) == GZIP_MAGIC
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if packed else file  # type: ignore[return-value]


def _safe_name(archive: str, entry: tarfile.TarInfo) -> str:
    """The entry's path inside the folder. Raises UserError for one that must not be unpacked."""
    parts = [part for part in entry.name.split("/") if part not in ("", ".")]
    outside = entry.name.startswith("/") or ".." in parts or "\\" in entry.name or "\0" in entry.name
    if outside or not (entry.isfile() or entry.isdir()) or (entry.isfile() and not parts):
        kind = "would lie outside its folder" if outside else "is neither a file nor a folder"
        raise UserError(archive, f"is not to be trusted: its entry {entry.name!r} {kind}", AGAIN)
    return os.path.join(*parts) if parts else ""


def _copied(source: IO[bytes] | None, path: str, size: int) -> Iterator[None]:
    """Writes one file; comes back after every piece."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "xb") as target:  # never over another entry
        while source is not None and (piece := source.read(CHUNK)):
            target.write(piece)
            yield
        if target.tell() != size:
            raise EOFError(f"{path} ends early")
        target.flush()
        os.fsync(target.fileno())


def _damaged(archive: str, problem: Exception) -> UserError:
    with open(archive, "rb") as file:
        head = file.read(64).lstrip().lower()
    size = os.path.getsize(archive)
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return UserError(archive, "is a web page, not an archive: something stands before the network", AGAIN)
    if head.startswith(GZIP_MAGIC) or isinstance(problem, EOFError):
        return UserError(archive, f"is truncated or damaged ({size} bytes): {problem}", AGAIN)
    return UserError(archive, f"is not a tar archive, or a damaged one ({size} bytes): {problem}", AGAIN)
