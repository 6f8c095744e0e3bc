"""Archives from elsewhere: what is unpacked, and what must never be."""

import contextlib
import copy
import gzip
import io
import os
import random
import shutil
import stat
import tarfile
import zipfile

import pytest
from support.errors import raises

from deeplab.utils import archive
from deeplab.utils.archive import Limits


def packed(path, *entries: tuple[tarfile.TarInfo, bytes], compress: bool = True) -> str:
    """Writes an archive of these entries."""
    with tarfile.open(path, "w:gz" if compress else "w") as tar:
        for entry, content in entries:
            tar.addfile(entry, io.BytesIO(content))
    return str(path)


def zipped(path, contents: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> str:
    """Writes a .zip of these files."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
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
    with raises("unsafe-archive", where=path):
        archive.unpack(path, folder)
    assert os.listdir(os.path.dirname(folder)) == ["inner"] and os.listdir(folder) == ["b"]


def test_one_entry_cannot_replace_another(tmp_path, folder):
    with raises("unsafe-archive"):
        archive.unpack(packed(tmp_path / "a", file("b"), file("b")), folder)


def test_too_many_files_and_too_many_bytes(tmp_path, folder):
    path = packed(tmp_path / "a", file("a"), file("b"), file("c"))
    with raises("archive-too-large", where=path):
        archive.unpack(path, folder, Limits("letter", max_files=2, max_bytes=1 << 30))
    (tmp_path / "second").mkdir()
    with raises("archive-too-large", where=path):
        archive.unpack(path, str(tmp_path / "second"), Limits("letter", max_files=9, max_bytes=8))
    assert sorted(os.listdir(tmp_path / "second")) == ["a", "b"]


@pytest.mark.parametrize("ending", ["tar.gz", "zip"])
def test_what_grows_too_much(tmp_path, folder, ending):
    """A megabyte of zeros takes a kilobyte in either format."""
    path = str(tmp_path / f"a.{ending}")
    if ending == "zip":
        zipped(path, {"a": bytes(1 << 20)})
    else:
        packed(path, file("a", bytes(1 << 20)))
    limits = Limits("letter", max_files=9, max_bytes=1 << 30, max_ratio=50, harmless=1000)
    with raises("archive-too-large", where=path) as caught:
        archive.unpack(path, folder, limits)
    assert "to 1048576, more than 50 times, as no letter does" in caught.value.rule
    assert os.listdir(folder) == []
    assert archive.unpack(path, folder) == ["a"]  # harmless in itself


def test_truncated_anywhere(tmp_path, folder):
    with open(packed(tmp_path / "whole", file("a", os.urandom(5000))), "rb") as whole:
        content = whole.read()
    for length in (0, 1, 20, 3000, len(content) - 9, len(content) - 4, len(content) - 1):
        (tmp_path / "cut").write_bytes(content[:length])
        target = tmp_path / f"into{length}"
        target.mkdir()
        with pytest.raises(archive.UserError) as caught:
            archive.unpack(str(tmp_path / "cut"), str(target))
        assert caught.value.code in ("damaged-archive", "not-an-archive", "empty-file")


def test_flipped_bit_behind_the_last_file(tmp_path, folder):
    with open(packed(tmp_path / "whole", file("a")), "rb") as whole:
        content = bytearray(whole.read())
    content[-8] ^= 1  # in the checksum
    (tmp_path / "spoilt").write_bytes(content)
    with raises("damaged-archive") as caught:
        archive.unpack(str(tmp_path / "spoilt"), folder)
    assert "CRC" in caught.value.rule


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"\n<!DOCTYPE html>", "not-an-archive"), (b"x" * 2000, "not-an-archive"), (b"", "empty-file")],
)
def test_no_archive_at_all(tmp_path, folder, content, code):
    (tmp_path / "a.tar.gz").write_bytes(content)
    with raises(code, where="a.tar.gz"):
        archive.unpack(str(tmp_path / "a.tar.gz"), folder)


def test_sha256_of_known_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert archive.checksum(str(tmp_path / "a")) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_gzip_that_holds_no_tar(tmp_path, folder):
    (tmp_path / "a").write_bytes(gzip.compress(b"x" * 2000))
    with raises("damaged-archive"):
        archive.unpack(str(tmp_path / "a"), folder)


# ---- other packings of tar ---------------------------------------------------------------------------


@pytest.mark.parametrize("packing", ["bz2", "xz"])
def test_other_packings(tmp_path, folder, packing):
    with tarfile.open(tmp_path / "a", f"w:{packing}") as tar:
        entry, content = file("x/a", b"abc" * 1000)
        tar.addfile(entry, io.BytesIO(content))
    assert archive.unpack(str(tmp_path / "a"), folder) == ["x/a"]
    spoilt = bytearray((tmp_path / "a").read_bytes())
    spoilt[60] ^= 255
    (tmp_path / "b").write_bytes(spoilt)
    (tmp_path / "into").mkdir()
    with raises("damaged-archive"):
        archive.unpack(str(tmp_path / "b"), str(tmp_path / "into"))


def test_plain_tar_cut_off_between_two_files(tmp_path, folder):
    path = packed(tmp_path / "a", file("a"), file("b"), compress=False)
    os.truncate(path, 1024)  # one header, one block of content
    with raises("damaged-archive", where=path) as caught:
        archive.unpack(path, folder)
    assert "the end marker is missing" in caught.value.rule


# ---- zip ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip(tmp_path, folder, method):
    contents = {"x/": b"", "x/a.png": b"abc" * 999, "b": b"", "__MACOSX/x/._a.png": b"junk", "x/.DS_Store": b"junk"}
    assert archive.unpack(zipped(tmp_path / "a", contents, method), folder) == ["x/a.png", "b"]
    with open(os.path.join(folder, "x", "a.png"), "rb") as unpacked:
        assert unpacked.read() == b"abc" * 999
    assert sorted(os.listdir(folder)) == ["b", "x"]


def test_zip_of_a_program_with_the_other_slashes(tmp_path, folder):
    assert archive.unpack(zipped(tmp_path / "a", {"x\\y\\a": b"a"}), folder) == ["x/y/a"]


@pytest.mark.parametrize("name", ["../evil", "x/../../evil", "/evil", "..\\evil", "C:\\evil", "\\evil"])
def test_zip_entries_outside(tmp_path, folder, name):
    with raises("unsafe-archive"):
        archive.unpack(zipped(tmp_path / "a", {"b": b"b", name: b"evil"}), folder)
    assert os.listdir(os.path.dirname(folder)) == ["inner"] and os.listdir(folder) == []


def test_zip_with_a_link(tmp_path, folder):
    entry = zipfile.ZipInfo("link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a", "w") as made:
        made.writestr(entry, "/etc/passwd")
    with raises("unsafe-archive"):
        archive.unpack(str(tmp_path / "a"), folder)


def test_zip_with_two_entries_of_one_name(tmp_path, folder):
    with zipfile.ZipFile(tmp_path / "a", "w") as made, pytest.warns(UserWarning, match="Duplicate"):
        made.writestr("b", "one")
        made.writestr("b", "two")
    with raises("unsafe-archive"):
        archive.unpack(str(tmp_path / "a"), folder)


def test_zip_whose_entries_lie_over_each_other(tmp_path, folder):
    """Many entries that share one stretch of the file: small, and endless when unpacked."""
    with zipfile.ZipFile(tmp_path / "a", "w") as made:
        made.writestr("b", os.urandom(5000))
        info = made.getinfo("b")
        for number in range(9):
            other = copy.copy(info)
            other.filename = f"c{number}"
            made.filelist.append(other)
    with raises("unsafe-archive") as caught:
        archive.unpack(str(tmp_path / "a"), folder)
    assert "overlap" in caught.value.rule
    assert os.listdir(folder) == []


def test_zip_truncated_anywhere(tmp_path, folder):
    with open(zipped(tmp_path / "whole", {"a": os.urandom(5000)}), "rb") as whole:
        content = whole.read()
    for length in (5, 3000, len(content) - 30, len(content) - 1):
        (tmp_path / "cut").write_bytes(content[:length])
        with raises("damaged-archive"):
            archive.unpack(str(tmp_path / "cut"), folder)
    assert os.listdir(folder) == []


def test_zip_with_a_flipped_bit(tmp_path, folder):
    with open(zipped(tmp_path / "whole", {"a": b"abc" * 99}, zipfile.ZIP_STORED), "rb") as whole:
        content = bytearray(whole.read())
    content[100] ^= 1
    (tmp_path / "spoilt").write_bytes(content)
    with raises("damaged-archive") as caught:
        archive.unpack(str(tmp_path / "spoilt"), folder)
    assert "Bad CRC-32 for file 'a'" in caught.value.rule


def test_zip_that_declares_less_than_comes(tmp_path, folder):
    path = zipped(tmp_path / "a", {"a": b"abc" * 99}, zipfile.ZIP_STORED)
    with open(path, "rb") as file:
        content = file.read()
    size = (297).to_bytes(4, "little")
    with open(path, "wb") as file:
        file.write(content.replace(size + size, size + (90).to_bytes(4, "little")))
    with raises("damaged-archive"):
        archive.unpack(path, folder)


def test_zip_of_an_unknown_method(tmp_path, folder):
    path = zipped(tmp_path / "a", {"a": b"abc" * 99})
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content.replace(b"\x14\x00\x00\x00\x08\x00", b"\x14\x00\x00\x00\x09\x00"))
    with raises("unsupported-archive", where=path) as caught:
        archive.unpack(path, folder)
    assert "deflate64" in caught.value.rule and f"7z x {path}" in caught.value.hint


def test_size_that_a_zip_declares(tmp_path):
    assert archive.zip_size(zipped(tmp_path / "a", {"a": bytes(500), "b": bytes(70)})) == 570
    assert archive.zip_size(packed(tmp_path / "b", file("a"))) == 0


# ---- archives in archives ----------------------------------------------------------------------------


def test_archives_in_archives(tmp_path, folder):
    inner = zipped(tmp_path / "inner.zip", {"pictures/1.png": b"1"})
    innermost = packed(tmp_path / "innermost.tgz", file("2.png"))
    with open(inner, "rb") as one, open(innermost, "rb") as two:
        zipped(tmp_path / "middle.zip", {"two.tgz": two.read()})
        with open(tmp_path / "middle.zip", "rb") as middle:
            outer = zipped(tmp_path / "outer.zip", {"x/one.zip": one.read(), "y/mid.zip": middle.read(), "3": b"3"})
    assert sorted(archive.unpack(outer, folder, nested=True)) == ["3", "x/pictures/1.png", "y/2.png"]
    assert sorted(os.listdir(os.path.join(folder, "x"))) == ["pictures"]


def test_archives_in_archives_stay_unless_asked_for(tmp_path, folder):
    outer = zipped(tmp_path / "outer.zip", {"one.zip": b"not even one"})
    assert archive.unpack(outer, folder) == ["one.zip"]


def test_limits_hold_over_all_inner_archives(tmp_path, folder):
    inner = zipped(tmp_path / "inner.zip", {"1": b"1", "2": b"2"})
    with open(inner, "rb") as one:
        outer = zipped(tmp_path / "outer.zip", {"one.zip": one.read(), "3": b"3"})
    with raises("archive-too-large", where="one.zip"):
        archive.unpack(outer, folder, Limits("letter", max_files=2, max_bytes=1 << 30), nested=True)


@pytest.mark.parametrize(("head", "name"), [(b"7z\xbc\xaf\x27\x1c", "7z"), (b"Rar!\x1a\x07\x00", "RAR")])
def test_archives_of_other_kinds(tmp_path, folder, head, name):
    (tmp_path / "a").write_bytes(head + bytes(100))
    with raises("unsupported-archive") as caught:
        archive.unpack(str(tmp_path / "a"), folder)
    assert name in caught.value.rule and "7z x" in caught.value.hint


def test_encrypted_zip_names_the_command_that_unpacks_it(tmp_path, folder):
    path = zipped(tmp_path / "a b.zip", {"a": b"abc" * 99})
    with open(path, "rb") as stream:
        content = bytearray(stream.read())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    with open(path, "wb") as stream:
        stream.write(content)
    with raises("encrypted-archive", where=path) as caught:
        archive.unpack(path, folder)
    assert f"7z x -pPASSWORD '{path}'" in caught.value.hint and os.listdir(folder) == []


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "zip"])
def test_mutated_archives_end_with_an_error_of_ours_or_whole(tmp_path, folder, ending):
    """Flipped bytes anywhere: the parsers of the standard library raise many kinds of exceptions on them."""
    if ending == "zip":
        path = zipped(tmp_path / "a.zip", {"x/a": b"abc" * 99, "b": b"b" * 50})
    else:
        path = packed(tmp_path / "a", file("x/a", b"abc" * 99), file("b", b"b" * 50), compress=ending == "tar.gz")
    with open(path, "rb") as stream:
        whole = stream.read()
    chance = random.Random(0)
    for number in range(300):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        (tmp_path / "mutated").write_bytes(content)
        target = tmp_path / f"into{number}"
        target.mkdir()
        with contextlib.suppress(archive.UserError):
            names = archive.unpack(str(tmp_path / "mutated"), str(target))
            assert all(os.path.realpath(target / name).startswith(str(target)) for name in names)
        shutil.rmtree(target)
