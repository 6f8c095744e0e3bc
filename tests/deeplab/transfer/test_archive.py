"""Archives from elsewhere: what is unpacked, and what must never be."""

import gzip
import io
import os
import tarfile

import pytest

from deeplab.checkpoint import archive
from deeplab.errors import UserError


def packed(path, *entries: tuple[tarfile.TarInfo, bytes], compress: bool = True) -> str:
    """Writes an archive of these entries."""
    with tarfile.open(path, "w:gz" if compress else "w") as tar:
        for entry, content in entries:
            tar.addfile(entry, io.BytesIO(content))
    return str(path)


def file(name: str, content: bytes = b"abc") -> tuple[tarfile.TarInfo, bytes]:
    """An entry of a file."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    return entry, content


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    """An entry of another kind."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry, b""


@pytest.fixture
def folder(tmp_path) -> str:
    """An empty folder inside one that must stay empty besides."""
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    return str(tmp_path / "outer" / "inner")


@pytest.mark.parametrize("compress", [True, False])
def test_files_and_folders(tmp_path, folder, compress):
    path = packed(tmp_path / "a", special("x", tarfile.DIRTYPE), file("./x/a.index"), file("b"), compress=compress)
    assert archive.unpack(path, folder) == ["x/a.index", "b"]
    with open(os.path.join(folder, "x", "a.index"), "rb") as unpacked:
        assert unpacked.read() == b"abc"


@pytest.mark.parametrize(
    "entry",
    [
        file("../evil"),
        file("x/../../evil"),
        file("/evil"),
        file("..\\evil"),
        special("link", tarfile.SYMTYPE, "/etc/passwd"),
        special("link", tarfile.LNKTYPE, "b"),
        special("device", tarfile.CHRTYPE),
        special("pipe", tarfile.FIFOTYPE),
    ],
)
def test_what_could_do_harm_is_refused(tmp_path, folder, entry):
    path = packed(tmp_path / "a.tar.gz", file("b"), entry)
    with pytest.raises(UserError, match="is not to be trusted"):
        archive.unpack(path, folder)
    assert os.listdir(os.path.dirname(folder)) == ["inner"] and os.listdir(folder) == ["b"]


def test_one_entry_cannot_replace_another(tmp_path, folder):
    with pytest.raises(UserError, match="File exists"):
        archive.unpack(packed(tmp_path / "a", file("b"), file("b")), folder)


def test_too_many_files_and_too_many_bytes(tmp_path, folder, monkeypatch):
    path = packed(tmp_path / "a", file("a"), file("b"), file("c"))
    monkeypatch.setattr(archive, "MOST_FILES", 2)
    with pytest.raises(UserError, match="holds more than 2 files"):
        archive.unpack(path, folder)
    monkeypatch.setattr(archive, "MOST_FILES", 9)
    monkeypatch.setattr(archive, "MOST_BYTES", 8)
    (tmp_path / "second").mkdir()
    with pytest.raises(UserError, match="holds more than"):
        archive.unpack(path, str(tmp_path / "second"))
    assert sorted(os.listdir(tmp_path / "second")) == ["a", "b"]


def test_truncated_anywhere(tmp_path, folder):
    with open(packed(tmp_path / "whole", file("a", os.urandom(5000))), "rb") as whole:
        content = whole.read()
    for length in (0, 1, 20, 3000, len(content) - 9, len(content) - 4, len(content) - 1):
        (tmp_path / "cut").write_bytes(content[:length])
        target = tmp_path / f"into{length}"
        target.mkdir()
        with pytest.raises(UserError, match=r"truncated or damaged|not a tar archive"):
            archive.unpack(str(tmp_path / "cut"), str(target))


def test_flipped_bit_behind_the_last_file(tmp_path, folder):
    with open(packed(tmp_path / "whole", file("a")), "rb") as whole:
        content = bytearray(whole.read())
    content[-8] ^= 1  # in the checksum
    (tmp_path / "spoilt").write_bytes(content)
    with pytest.raises(UserError, match="CRC"):
        archive.unpack(str(tmp_path / "spoilt"), folder)


@pytest.mark.parametrize(
    ("content", "words"), [(b"\n<!DOCTYPE html>", "a web page"), (b"x" * 2000, "not a tar archive")]
)
def test_no_archive_at_all(tmp_path, folder, content, words):
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(UserError, match=words):
        archive.unpack(str(tmp_path / "a.tar.gz"), folder)


def test_sha256_of_known_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert archive.sha256(str(tmp_path / "a")) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_gzip_that_holds_no_tar(tmp_path, folder):
    (tmp_path / "a").write_bytes(gzip.compress(b"x" * 2000))
    with pytest.raises(UserError, match="truncated or damaged"):
        archive.unpack(str(tmp_path / "a"), folder)
