"""Unpacks .zip and .tar archives safely: no file is written outside the folder, and sizes are limited.

Owns safe names, limits on size and number of files, and the check that an archive is whole. Called by the model zoo
and the dataset catalog. It never downloads, and never decrypts: encrypted archives are refused with the command that
unpacks them.
"""

from __future__ import annotations

import bz2
import dataclasses
import errno
import gzip
import hashlib
import lzma
import os
import shlex
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import IO

from deeplab.utils import console
from deeplab.utils.errors import UserError

_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_TAR_MAGIC = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_OTHER_MAGIC = {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "RAR"}
_HTML_STARTS = (b"<!doctype", b"<html", b"<?xml")
_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_DESKTOP_FILES = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")
_ZIP_METHODS = {9: "deflate64", 99: "AES encryption"}
_READABLE_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_ENCRYPTED = 0x1
_TAR_BLOCK = 512  # bytes; headers are one block, contents fill whole ones
_CHUNK = 1 << 20
_LONG = 1 << 28  # bytes; a second or so to read
_MAX_DEPTH = 3  # archives within archives within archives
_FETCH_AGAIN = "remove it and fetch it again"


class _Damaged(Exception):
    """What the reader of a damaged archive met."""


@dataclass(frozen=True)
class Limits:
    """How large an archive of one kind may become when it is unpacked.

    Attributes:
      kind: what such an archive holds, for messages: "checkpoint".
      max_files: number of files.
      max_bytes: bytes of all files together.
      max_ratio: bytes of all files per byte of the archive, checked beyond `harmless` bytes.
      harmless: bytes up to which any ratio is accepted.
      durable: sync each file to the disk; without it the caller does so once for all.
    """

    kind: str
    max_files: int
    max_bytes: int
    max_ratio: int = 200
    harmless: int = 1 << 30
    durable: bool = True


CHECKPOINT_LIMITS = Limits("checkpoint", max_files=1000, max_bytes=8 << 30)


def unpack(
    archive: str,
    folder: str,
    limits: Limits = CHECKPOINT_LIMITS,
    nested: bool = False,
    place: Callable[[str], str] = str,
) -> list[str]:
    """Unpack the regular files of a .zip, or of a .tar, plain or compressed by gzip, bzip2 or xz.

    The content decides the format, not the name. Every checksum in the archive is compared. Files that desktops add
    (`__MACOSX`, `Thumbs.db`) are left out.

    Args:
      archive: its path.
      folder: an empty folder of the caller's; after an error it holds a part, which the caller removes.
      limits: how large it may become.
      nested: also unpack archives inside the archive, each into the folder that holds it, and remove them.
      place: the path in `folder` for a file's name in the archive; empty for a file that is not wanted.

    Returns:
      Paths of the files, relative to the folder.

    Raises:
      UserError: not an archive, truncated, damaged, encrypted; an entry outside the folder, a link or a device; more
        files or bytes than the limits allow; no space on the disk.
    """
    target = _Target(archive, folder, limits, place)
    _unpack_into(target)
    for _ in range(_MAX_DEPTH if nested else 0):
        for name in [name for name in target.names if is_archive_name(name)]:
            inner = dataclasses.replace(target, archive=os.path.join(folder, name), inside=os.path.dirname(name))
            target.names.remove(name)
            _unpack_into(inner)
            target.size = inner.size  # both share the list of names
            os.unlink(inner.archive)
    return target.names


def checksum(path: str, algorithm: str = "sha256") -> str:
    """Checksum of a file by one of hashlib's algorithms, in hexadecimal digits; long files show progress."""
    digest, size = hashlib.new(algorithm), os.path.getsize(path)
    what = f"{algorithm} of {os.path.basename(path)}"
    with (
        open(path, "rb") as file,
        console.progress(total=size, what=what, unit="B") if size > _LONG else nullcontext() as bar,
    ):
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            if bar is not None:
                bar.update(len(chunk))
    return digest.hexdigest()


def is_archive_name(name: str) -> bool:
    """Whether a file name has the suffix of an archive that can be unpacked."""
    return name.lower().endswith(_SUFFIXES)


def first_look(path: str) -> UserError | None:
    """The error for a file that is certainly no readable archive: empty, a web page, another format; else None."""
    head = _head(path)
    if not head:
        return UserError("empty-file", "is empty", _FETCH_AGAIN, where=path)
    if head.lstrip().lower().startswith(_HTML_STARTS):
        rule = "is a web page, not an archive: a login page or a proxy answered instead of the server"
        return UserError("not-an-archive", rule, _FETCH_AGAIN, where=path)
    for magic, name in _OTHER_MAGIC.items():
        if head.startswith(magic):
            return UserError("unsupported-archive", f"is a {name} archive", _with_7z(path), where=path)
    return None


def zip_size(path: str) -> int:
    """Bytes of all files of a .zip together, as its directory states them; 0 for anything else."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(entry.file_size for entry in archive.infolist())
    except Exception:  # whatever the parser meets in a damaged file
        return 0


@dataclass
class _Target:
    """Where the entries of one archive are written.

    Attributes:
      archive: path of the archive, for messages.
      folder: an empty folder.
      limits: how large it may become.
      place: the path in `folder` for a file's name in the archive; empty for one that is not wanted.
      inside: prefix of every name: the folder of an archive that is inside another.
      names: paths of the files written so far, relative to the folder.
      size: their bytes together.
    """

    archive: str
    folder: str
    limits: Limits
    place: Callable[[str], str] = str
    inside: str = ""
    names: list[str] = field(default_factory=list)
    size: int = 0

    def admit(self, size: int, files: int, packed: int) -> None:
        """Count files that are about to be written.

        Args:
          size: their bytes, as the archive states them.
          files: their number.
          packed: bytes of the archive that have been read for all files so far.

        Raises:
          UserError: more than the limits allow.
        """
        limits = self.limits
        self.size += size
        if self.size > limits.max_bytes or len(self.names) + files > limits.max_files:
            rule = f"holds more than {limits.max_files} files or {limits.max_bytes >> 30} GiB, as no {limits.kind} does"
            raise UserError("archive-too-large", rule, _FETCH_AGAIN, where=self.archive)
        if self.size > limits.harmless and self.size > limits.max_ratio * max(1, packed):
            rule = f"would grow from {packed} bytes to {self.size}, more than {limits.max_ratio} times"
            raise UserError("archive-too-large", f"{rule}, as no {limits.kind} does", _FETCH_AGAIN, where=self.archive)

    def destination(self, name: str) -> str:
        """An entry's path in the folder; empty where it is not wanted or is the folder itself.

        Raises:
          UserError: it would be outside.
        """
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
            raise self.unsafe(name, "would be written outside its folder")
        if not parts or parts[0] in _DESKTOP_FILES or parts[-1] in _DESKTOP_FILES:
            return ""
        return self.place(os.path.join(self.inside, *parts))

    def unsafe(self, name: str, rule: str) -> UserError:
        """The error for an entry that must not be unpacked."""
        return UserError("unsafe-archive", f"is unsafe: its entry {name!r} {rule}", _FETCH_AGAIN, where=self.archive)

    def write(self, name: str, source: IO[bytes] | None, size: int) -> Iterator[None]:
        """Write one file under a safe name; yields after every chunk.

        Raises:
          _Damaged: the source ends before `size` bytes, or cannot be decompressed.
          UserError: a file of that name exists already, or the disk does not take it.
        """
        path = os.path.join(self.folder, name)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "xb") as file:  # never over another entry
                while source is not None and (chunk := source.read(_CHUNK)):
                    file.write(chunk)
                    yield
                if file.tell() != size:
                    raise _Damaged(f"{name} ends early")
                if self.limits.durable:
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as problem:
            if problem.errno is None:  # from decompression, not from the disk
                raise _Damaged(str(problem)) from problem
            if problem.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
                raise self.unsafe(name, f"occurs twice: {problem.strerror}") from problem
            full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
            hint = "free some space" if full else "check that the folder can be written to"
            rule = f"{name} cannot be written: {problem.strerror or problem}"
            raise UserError("unwritable-file", rule, hint, where=self.folder) from problem
        self.names.append(name)


def _unpack_into(target: _Target) -> None:
    path = target.archive
    try:
        if error := first_look(path):
            raise error
        if _head(path).startswith(_ZIP_MAGIC):
            _unpack_zip(target)
        else:
            _unpack_tar(target)
    except UserError:
        raise
    except OSError as problem:
        if problem.errno is not None:
            rule = f"cannot be read: {problem.strerror or problem}"
            raise UserError("unreadable-file", rule, where=path) from problem
        raise _damaged(path, problem) from problem
    except Exception as problem:  # the parsers of the standard library raise anything at all on damaged files
        raise _damaged(path, problem) from problem


def _damaged(archive: str, problem: Exception) -> UserError:
    size, head = os.path.getsize(archive), _head(archive)
    known = head.startswith((*_ZIP_MAGIC, *_TAR_MAGIC)) or head[257:262] == b"ustar"
    code, what = ("damaged-archive", "is truncated or damaged") if known else ("not-an-archive", "is not an archive")
    reason = str(problem) or type(problem).__name__
    return UserError(code, f"{what} ({size} bytes): {reason}", _FETCH_AGAIN, where=archive)


def _head(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_TAR_BLOCK)


def _with_7z(path: str, password: bool = False) -> str:
    secret = " -pPASSWORD" if password else ""
    return f"unpack it yourself (7z x{secret} {shlex.quote(path)}) and continue with the unpacked folder"


# ---- tar ---------------------------------------------------------------------------------------------


def _unpack_tar(target: _Target) -> None:
    size = os.path.getsize(target.archive)
    with (
        open(target.archive, "rb") as file,
        _decompressed(file) as stream,
        tarfile.open(fileobj=stream, mode="r|") as entries,
        console.progress(total=size, what="unpacking", unit="B") as bar,
    ):
        done = 0
        for entry in entries:
            name = target.destination(entry.name)
            if not (entry.isfile() or entry.isdir()):
                raise target.unsafe(entry.name, "is neither a file nor a folder")
            tarfile.data_filter(entry, target.folder)  # Python's own rules on top of ours
            if entry.isdir() or not name:
                continue
            target.admit(entry.size, 1, size if stream is file else file.tell())
            for _ in target.write(name, entries.extractfile(entry), entry.size):
                bar.update(file.tell() - done)
                done = file.tell()
        while stream.read(_CHUNK):  # the checksum follows the last entry
            pass
        bar.update(file.tell() - done)
        if stream is file:  # a plain archive cut between two entries reads as whole, but lacks the empty last blocks
            file.seek(max(0, size - _TAR_BLOCK))
            if any(file.read()):
                raise _Damaged("the end marker is missing")


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    """The tar stream inside; browsers store some `.tar.gz` without the compression."""
    head = file.read(6)
    file.seek(0)
    for magic, reader in _TAR_MAGIC.items():
        if head.startswith(magic):
            return reader(file)  # type: ignore[operator,no-any-return]
    return file


# ---- zip ---------------------------------------------------------------------------------------------


def _unpack_zip(target: _Target) -> None:
    with zipfile.ZipFile(target.archive) as archive:
        entries = _admitted(target, archive.infolist())
        total = sum(entry.file_size for _, entry in entries)
        with console.progress(total=total, what="unpacking", unit="B") as bar:
            for name, entry in entries:
                with archive.open(entry) as source:
                    before = 0
                    for _ in target.write(name, source, entry.file_size):
                        bar.update(source.tell() - before)
                        before = source.tell()


def _admitted(target: _Target, infos: Sequence[zipfile.ZipInfo]) -> list[tuple[str, zipfile.ZipInfo]]:
    """Files with their safe names; the archive is checked as a whole before anything is written."""
    path, entries = target.archive, []
    for entry in infos:
        name = target.destination(_with_slashes(entry.filename))
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise target.unsafe(entry.filename, "is neither a file nor a folder")
        if entry.is_dir() or entry.filename.endswith("\\") or not name:
            continue
        if entry.flag_bits & _ENCRYPTED or entry.compress_type == 99:
            raise UserError("encrypted-archive", "is encrypted", _with_7z(path, password=True), where=path)
        if entry.compress_type not in _READABLE_ZIP_METHODS:
            method = _ZIP_METHODS.get(entry.compress_type, f"method {entry.compress_type}")
            raise UserError("unsupported-archive", f"is compressed by {method}", _with_7z(path), where=path)
        entries.append((name, entry))
    if sum(entry.compress_size for _, entry in entries) > os.path.getsize(path):
        raise UserError("unsafe-archive", "is unsafe: its entries overlap", _FETCH_AGAIN, where=path)
    target.admit(sum(entry.file_size for _, entry in entries), len(entries), os.path.getsize(path))
    return entries


def _with_slashes(name: str) -> str:
    """A name with forward slashes, as the format demands; some programs for Windows write backslashes."""
    name = name.replace("\\", "/")
    return "/" + name if name[1:2] == ":" else name
