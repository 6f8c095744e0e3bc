"""Zip archives with a password: those of other programs, and ones made here."""

import base64
import os
import zipfile
import zlib

import pytest

from deeplab.utils import archive, locked_zips, zips
from deeplab.utils.errors import UserError

# What `zip -P geheim` (Info-ZIP 3.0) makes of x/two.txt, one letter, and x/one.txt, "abc" eight times.
INFO_ZIP = base64.b64decode(
    "UEsDBAoACQAAAOY4dV3vjm7ODQAAAAEAAAAJAAAAeC90d28udHh0WQzob25ZnzqjnI1w81BLBwjvjm7ODQAAAAEAAABQSwMEFAAJ"
    "AAgA5jh1XTcPIAETAAAAGAAAAAkAAAB4L29uZS50eHRl6niFblvfhrYhClGHvJD0dUuCUEsHCDcPIAETAAAAGAAAAFBLAQIeAwoA"
    "CQAAAOY4dV3vjm7ODQAAAAEAAAAJAAAAAAAAAAEAAACkgQAAAAB4L3R3by50eHRQSwECHgMUAAkACADmOHVdNw8gARMAAAAYAAAA"
    "CQAAAAAAAAABAAAApIFEAAAAeC9vbmUudHh0UEsFBgAAAAACAAIAbgAAAI4AAAAAAA=="
)


def encrypted(path, contents: dict[str, bytes], password: bytes, method: int = zipfile.ZIP_DEFLATED) -> str:
    """Writes a .zip whose files are encrypted in the classic way."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            packed = zlib.compressobj(wbits=-15)
            body = packed.compress(content) + packed.flush() if method == zipfile.ZIP_DEFLATED else content
            archive.writestr(name, scrambled(bytes(11) + bytes([zlib.crc32(content) >> 24]) + body, password))
            entry = archive.getinfo(name)
            entry.flag_bits |= 1
            entry.compress_type, entry.CRC, entry.file_size = method, zlib.crc32(content), len(content)
    return str(path)


def scrambled(plain: bytes, password: bytes) -> bytes:
    """The classic encryption, byte by byte."""
    keys = [0x12345678, 0x23456789, 0x34567890]

    def crc(key: int, byte: int) -> int:
        return zlib.crc32(bytes([byte]), key ^ 0xFFFFFFFF) ^ 0xFFFFFFFF

    def update(byte: int) -> None:
        keys[0] = crc(keys[0], byte)
        keys[1] = ((keys[1] + (keys[0] & 0xFF)) * 134775813 + 1) & 0xFFFFFFFF
        keys[2] = crc(keys[2], keys[1] >> 24)

    for byte in password:
        update(byte)
    result = bytearray()
    for byte in plain:
        key = (keys[2] & 0xFFFF) | 2
        result.append(byte ^ ((key * (key ^ 1)) >> 8) & 0xFF)
        update(byte)
    return bytes(result)


@pytest.fixture
def folder(tmp_path) -> str:
    """An empty folder."""
    (tmp_path / "folder").mkdir()
    return str(tmp_path / "folder")


@pytest.mark.parametrize("fewest", [1, 64])  # in a batch, or one by one by zipfile
def test_archive_of_info_zip(tmp_path, folder, fewest, monkeypatch):
    monkeypatch.setattr(locked_zips, "FEWEST", fewest)
    (tmp_path / "a").write_bytes(INFO_ZIP)
    assert sorted(archive.unpack(str(tmp_path / "a"), folder, password="geheim")) == ["x/one.txt", "x/two.txt"]
    with (
        open(os.path.join(folder, "x", "one.txt"), "rb") as one,
        open(os.path.join(folder, "x", "two.txt"), "rb") as two,
    ):
        assert one.read() == b"abc" * 8 and two.read() == b"Q"


@pytest.mark.parametrize("fewest", [1, 64])
@pytest.mark.parametrize(("password", "words"), [("", "is encrypted"), ("wrong", "cannot be decrypted: Bad password")])
def test_password_that_is_missing_or_wrong(tmp_path, folder, password, words, fewest, monkeypatch):
    monkeypatch.setattr(locked_zips, "FEWEST", fewest)
    (tmp_path / "a").write_bytes(INFO_ZIP)
    with pytest.raises(zips.Locked, match=f"(?s){words}.*give its password with --password"):
        archive.unpack(str(tmp_path / "a"), folder, password=password)


def test_many_encrypted_files_of_all_lengths(tmp_path, folder):
    contents = {f"{number}": bytes([number]) * (7 * number) for number in range(70)}
    path = encrypted(tmp_path / "a", contents, b"geheim")
    assert len(archive.unpack(path, folder, password="geheim")) == 70
    for name, content in contents.items():
        with open(os.path.join(folder, name), "rb") as unpacked:
            assert unpacked.read() == content


def test_batches_are_of_similar_sizes_and_bounded(monkeypatch):
    def entry(number: int, size: int) -> tuple[str, zipfile.ZipInfo]:
        info = zipfile.ZipInfo(str(number))
        info.compress_size = info.file_size = size
        return str(number), info

    monkeypatch.setattr(locked_zips, "FEWEST", 2)
    monkeypatch.setattr(locked_zips, "_MOST_BYTES", 1000)
    sizes = [300, 20, 5, 2 << 20, 310, 320, 400, 30]  # 5: less than a header; 2 MiB: too large
    together, alone = locked_zips.batches([entry(number, size) for number, size in enumerate(sizes)])
    assert [[info.file_size for _, info in batch] for batch in together] == [[20, 30, 300], [310, 320]]
    assert [info.file_size for _, info in alone] == [5, 2 << 20, 400]


def test_spoilt_encrypted_file(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(locked_zips, "FEWEST", 1)
    path = encrypted(tmp_path / "a", {"a": b"abc" * 99}, b"geheim", zipfile.ZIP_STORED)
    with open(path, "r+b") as file:
        file.seek(100)
        file.write(b"\0\0\0")
    with pytest.raises(UserError, match="Bad CRC-32 for file 'a'"):
        archive.unpack(path, folder, password="geheim")
