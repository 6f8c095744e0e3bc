"""Encrypted members of a zip archive, unpacked in batches of similar sizes; see `zip_crypto` for why."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import IO

from deeplab.utils import zip_crypto
from deeplab.utils.archive_entries import Damaged

FEWEST = 64  # members in a batch, below which zipfile is faster
_MOST = 4096
_MOST_BYTES = 64 << 20  # of a batch, every member taken for as long as the longest
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # mark, ..., lengths of name and extra field
_HAS_DESCRIPTOR = 0x8

Entry = tuple[str, zipfile.ZipInfo]


def batches(entries: Sequence[Entry]) -> tuple[list[list[Entry]], list[Entry]]:
    """Members that are decrypted together, and those that are left to zipfile: too large, or too few of their size."""
    small = [each for each in entries if _is_fit(each[1])]
    small.sort(key=lambda each: each[1].compress_size)
    together: list[list[Entry]] = [[]]
    for each in small:
        batch = together[-1]
        if len(batch) == _MOST or (len(batch) + 1) * each[1].compress_size > _MOST_BYTES:
            together.append([])
        together[-1].append(each)
    names = {name for batch in together if len(batch) >= FEWEST for name, _ in batch}
    return [batch for batch in together if len(batch) >= FEWEST], [each for each in entries if each[0] not in names]


def read(file: IO[bytes], batch: Sequence[Entry], password: str) -> Iterator[tuple[str, IO[bytes], int]]:
    """Name, content and size of every member of a batch.

    Args:
      file: the archive.
      batch: some of its encrypted members, at least one.
      password: of all of them.

    Raises:
      Damaged: a member that is not what the directory says, which a wrong password may be the cause of.
      RuntimeError: the password is wrong.
    """
    by_place = sorted(batch, key=lambda each: each[1].header_offset)
    plain = zip_crypto.decrypt([_packed(file, entry) for _, entry in by_place], password.encode())
    for (name, entry), content in zip(by_place, plain, strict=True):
        if content[zip_crypto.HEADER - 1] != _check_byte(entry):
            raise RuntimeError(f"Bad password for file {entry.filename!r}")
        yield name, io.BytesIO(_inflated(entry, content[zip_crypto.HEADER :])), entry.file_size


def _is_fit(entry: zipfile.ZipInfo) -> bool:
    known = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    return known and entry.compress_size >= zip_crypto.HEADER and max(entry.file_size, entry.compress_size) < 1 << 20


def _packed(file: IO[bytes], entry: zipfile.ZipInfo) -> bytes:
    file.seek(entry.header_offset)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
        raise Damaged(f"{entry.filename} is not where the directory says")
    _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    file.seek(name_length + extra_length, io.SEEK_CUR)
    content = file.read(entry.compress_size)
    if len(content) < entry.compress_size:
        raise Damaged(f"{entry.filename} ends early")
    return content


def _check_byte(entry: zipfile.ZipInfo) -> int:
    """The last byte of the decrypted header: of the checksum, or of the time where that came later."""
    if entry.flag_bits & _HAS_DESCRIPTOR:
        _, _, _, hour, minute, _ = entry.date_time
        return (hour << 3) | (minute >> 3)
    return entry.CRC >> 24


def _inflated(entry: zipfile.ZipInfo, content: bytes) -> bytes:
    if entry.compress_type == zipfile.ZIP_DEFLATED:
        content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, entry.file_size + 1)
    if len(content) != entry.file_size or zlib.crc32(content) != entry.CRC:
        raise Damaged(f"Bad CRC-32 for file {entry.filename!r}")
    return content
