"""Archives from elsewhere: what is unpacked, and what must never be."""

import copy
import gzip
import io
import os
import stat
import tarfile
import zipfile

import pytest

from deeplab.utils import archive, zips
from deeplab.utils.archive_entries import Limits
from deeplab.utils.errors import UserError


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
    with pytest.raises(UserError, match="is not to be trusted"):
        archive.unpack(path, folder)
    assert os.listdir(os.path.dirname(folder)) == ["inner"] and os.listdir(folder) == ["b"]


def test_one_entry_cannot_replace_another(tmp_path, folder):
    with pytest.raises(UserError, match="File exists"):
        archive.unpack(packed(tmp_path / "a", file("b"), file("b")), folder)


def test_too_many_files_and_too_many_bytes(tmp_path, folder):
    path = packed(tmp_path / "a", file("a"), file("b"), file("c"))
    with pytest.raises(UserError, match="holds more than 2 files or 1 GiB, as no letter does"):
        archive.unpack(path, folder, Limits("letter", files=2, bytes=1 << 30))
    (tmp_path / "second").mkdir()
    with pytest.raises(UserError, match="holds more than"):
        archive.unpack(path, str(tmp_path / "second"), Limits("letter", files=9, bytes=8))
    assert sorted(os.listdir(tmp_path / "second")) == ["a", "b"]


@pytest.mark.parametrize("ending", ["tar.gz", "zip"])
def test_what_grows_too_much(tmp_path, folder, ending):
    """A megabyte of zeros takes a kilobyte in either format."""
    path = str(tmp_path / f"a.{ending}")
    if ending == "zip":
        zipped(path, {"a": bytes(1 << 20)})
    else:
        packed(path, file("a", bytes(1 << 20)))
    limits = Limits("letter", files=9, bytes=1 << 30, ratio=50, harmless=1000)
    with pytest.raises(UserError, match=r"would grow from \d+ bytes to 1048576, more than 50 times, as no letter does"):
        archive.unpack(path, folder, limits)
    assert os.listdir(folder) == []
    assert archive.unpack(path, folder) == ["a"]  # harmless in itself


def test_truncated_anywhere(tmp_path, folder):
    with open(packed(tmp_path / "whole", file("a", os.urandom(5000))), "rb") as whole:
        content = whole.read()
    for length in (0, 1, 20, 3000, len(content) - 9, len(content) - 4, len(content) - 1):
        (tmp_path / "cut").write_bytes(content[:length])
        target = tmp_path / f"into{length}"
        target.mkdir()
        with pytest.raises(UserError, match=r"truncated or damaged|is no archive|is empty"):
            archive.unpack(str(tmp_path / "cut"), str(target))


def test_flipped_bit_behind_the_last_file(tmp_path, folder):
    with open(packed(tmp_path / "whole", file("a")), "rb") as whole:
        content = bytearray(whole.read())
    content[-8] ^= 1  # in the checksum
    (tmp_path / "spoilt").write_bytes(content)
    with pytest.raises(UserError, match="CRC"):
        archive.unpack(str(tmp_path / "spoilt"), folder)


@pytest.mark.parametrize(
    ("content", "words"), [(b"\n<!DOCTYPE html>", "a web page"), (b"x" * 2000, "is no archive"), (b"", "is empty")]
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
    with pytest.raises(UserError, match="truncated or damaged"):
        archive.unpack(str(tmp_path / "b"), str(tmp_path / "into"))


def test_plain_tar_cut_off_between_two_files(tmp_path, folder):
    path = packed(tmp_path / "a", file("a"), file("b"), compress=False)
    os.truncate(path, 1024)  # one header, one block of content
    with pytest.raises(UserError, match=r"truncated or damaged .*the mark at its end is missing"):
        archive.unpack(path, folder)


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
    with pytest.raises(UserError, match=r"is not to be trusted: its entry .* would lie outside"):
        archive.unpack(zipped(tmp_path / "a", {"b": b"b", name: b"evil"}), folder)
    assert os.listdir(os.path.dirname(folder)) == ["inner"] and os.listdir(folder) == []


def test_zip_with_a_link(tmp_path, folder):
    entry = zipfile.ZipInfo("link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a", "w") as made:
        made.writestr(entry, "/etc/passwd")
    with pytest.raises(UserError, match="neither a file nor a folder"):
        archive.unpack(str(tmp_path / "a"), folder)


def test_zip_with_two_entries_of_one_name(tmp_path, folder):
    with zipfile.ZipFile(tmp_path / "a", "w") as made, pytest.warns(UserWarning, match="Duplicate"):
        made.writestr("b", "one")
        made.writestr("b", "two")
    with pytest.raises(UserError, match="stands there twice: File exists"):
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
    with pytest.raises(UserError, match="entries lie over each other"):
        archive.unpack(str(tmp_path / "a"), folder)
    assert os.listdir(folder) == []


def test_zip_truncated_anywhere(tmp_path, folder):
    with open(zipped(tmp_path / "whole", {"a": os.urandom(5000)}), "rb") as whole:
        content = whole.read()
    for length in (5, 3000, len(content) - 30, len(content) - 1):
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(UserError, match="truncated or damaged"):
            archive.unpack(str(tmp_path / "cut"), folder)
    assert os.listdir(folder) == []


def test_zip_with_a_flipped_bit(tmp_path, folder):
    with open(zipped(tmp_path / "whole", {"a": b"abc" * 99}, zipfile.ZIP_STORED), "rb") as whole:
        content = bytearray(whole.read())
    content[100] ^= 1
    (tmp_path / "spoilt").write_bytes(content)
    with pytest.raises(UserError, match="Bad CRC-32 for file 'a'"):
        archive.unpack(str(tmp_path / "spoilt"), folder)


def test_zip_that_declares_less_than_comes(tmp_path, folder):
    path = zipped(tmp_path / "a", {"a": b"abc" * 99}, zipfile.ZIP_STORED)
    with open(path, "rb") as file:
        content = file.read()
    size = (297).to_bytes(4, "little")
    with open(path, "wb") as file:
        file.write(content.replace(size + size, size + (90).to_bytes(4, "little")))
    with pytest.raises(UserError, match="truncated or damaged"):
        archive.unpack(path, folder)


def test_zip_of_an_unknown_method(tmp_path, folder):
    path = zipped(tmp_path / "a", {"a": b"abc" * 99})
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content.replace(b"\x14\x00\x00\x00\x08\x00", b"\x14\x00\x00\x00\x09\x00"))
    with pytest.raises(UserError, match=r"(?s)not read here: deflate64.*7z x FILE"):
        archive.unpack(path, folder)


def test_size_that_a_zip_declares(tmp_path):
    assert zips.declared_size(zipped(tmp_path / "a", {"a": bytes(500), "b": bytes(70)})) == 570
    assert zips.declared_size(packed(tmp_path / "b", file("a"))) == 0


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
    with pytest.raises(UserError, match=r"one\.zip: holds more than 2 files"):
        archive.unpack(outer, folder, Limits("letter", files=2, bytes=1 << 30), nested=True)


@pytest.mark.parametrize(("head", "name"), [(b"7z\xbc\xaf\x27\x1c", "7z"), (b"Rar!\x1a\x07\x00", "RAR")])
def test_archives_of_other_kinds(tmp_path, folder, head, name):
    (tmp_path / "a").write_bytes(head + bytes(100))
    with pytest.raises(UserError, match=f"(?s)is a {name} archive, which is not read here.*7z x FILE"):
        archive.unpack(str(tmp_path / "a"), folder)
