"""Files and folders: what is found where, what is left out, and what is said of those that cannot be read."""

import os
import pathlib
import shutil

import pytest
from support.empty_files import touch
from support.errors import raises

from deeplab.utils import paths
from deeplab.utils.paths import (
    files_of,
    list_files,
    matches,
    read_file,
    read_text,
    require_folder,
    split_paths,
    walk,
)


def test_folders_with_their_files(tmp_path):
    touch(tmp_path, "b.jpg", "a.jpg", "night/c.jpg", ".hidden.jpg", ".git/d.jpg", "night/._c.jpg")
    assert list(walk(tmp_path)) == [("", ["a.jpg", "b.jpg"]), ("night", ["c.jpg"])]
    assert list(list_files(tmp_path)) == ["a.jpg", "b.jpg", "night/c.jpg"]


def test_links_to_folders_are_followed(tmp_path):
    touch(tmp_path, "disk/a.jpg", "set/own/b.jpg")
    (tmp_path / "set" / "far").symlink_to(tmp_path / "disk", target_is_directory=True)
    assert list(list_files(tmp_path / "set")) == ["own/b.jpg", "far/a.jpg"]


def test_a_folder_is_known_by_its_own_name_not_by_a_link_s(tmp_path):
    touch(tmp_path, "x/run_3/a.jpg")
    (tmp_path / "latest").symlink_to(tmp_path / "x" / "run_3", target_is_directory=True)
    (tmp_path / "x" / "self").symlink_to(tmp_path, target_is_directory=True)
    assert list(list_files(tmp_path)) == ["x/run_3/a.jpg"]


@pytest.mark.skipif(not pathlib.Path("/proc/self/mountinfo").exists(), reason="the system has no /proc")
def test_what_the_system_shows_as_files_is_not_searched(tmp_path, capsys):
    """`/proc` holds the whole disk several times over, by links to the folders of each process."""
    assert list(walk("/proc")) == [("", [])]
    assert "/proc: is not searched" in capsys.readouterr().err
    touch(tmp_path, "a.jpg")
    (tmp_path / "system").symlink_to("/proc")
    assert list(list_files(tmp_path)) == ["a.jpg"]
    assert f"{tmp_path}/system: is not searched" in capsys.readouterr().err


def test_folders_that_cannot_be_read_are_counted(tmp_path, monkeypatch, capsys):
    touch(tmp_path, "a.jpg", "b/b.jpg", "c/c.jpg")
    real = os.scandir

    def scandir(place):
        if str(place).endswith(("b", "c")):
            raise PermissionError(13, "Permission denied", str(place))
        return real(place)

    monkeypatch.setattr(os, "scandir", scandir)
    assert list(list_files(tmp_path)) == ["a.jpg"]
    assert (
        f"2 folders cannot be read and are left out, first {tmp_path}/b: Permission denied" in capsys.readouterr().err
    )


def test_a_folder_that_cannot_be_read_is_an_error_where_it_was_named(tmp_path, monkeypatch):
    def scandir(place):
        raise PermissionError(13, "Permission denied", str(place))

    monkeypatch.setattr(os, "scandir", scandir)
    with raises("unreadable-file", where=tmp_path):
        list(walk(tmp_path))


def test_a_folder_that_goes_while_it_is_searched(tmp_path):
    touch(tmp_path, "a.jpg", "b/b.jpg")
    search = walk(tmp_path)
    assert next(search) == ("", ["a.jpg"])
    shutil.rmtree(tmp_path / "b")
    assert list(search) == []


def test_a_long_search_says_how_far_it_is(tmp_path, monkeypatch, capsys):
    touch(tmp_path, "a.jpg", "b/b.jpg", "c/c.jpg")
    now = iter(range(0, 1000, 4))
    monkeypatch.setattr(paths.time, "monotonic", lambda: next(now))
    assert len(list(list_files(tmp_path))) == 3
    assert capsys.readouterr().err == f"searching {tmp_path}: 3 files so far\n"


def test_a_folder_that_is_called_like_an_image_is_no_file(tmp_path):
    touch(tmp_path, "a.png", "b.png/c.txt", ".d.png")
    assert files_of(tmp_path) == ["a.png"]
    assert files_of(tmp_path / "nowhere") == []


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffnamé\r\n".encode())
    assert read_text(tmp_path / "a.txt") == "namé\r\n"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_of_windows_programs(tmp_path, encoding):
    text = "namé\r\n" if encoding == "utf-16" else "\ufeffnamé\r\n"
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert read_text(tmp_path / "a.txt") == "namé\r\n"
    (tmp_path / "a.txt").write_bytes(text.encode(encoding)[:-1])
    with raises("not-utf-8", where="a.txt"):
        read_text(tmp_path / "a.txt")


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "a.txt").write_bytes("namé".encode("latin-1"))
    with raises("not-utf-8", where="a.txt") as info:
        read_text(tmp_path / "a.txt")
    assert "byte 3" in info.value.rule
    with raises("file-not-found", where="b.txt"):
        read_text(tmp_path / "b.txt")
    with raises("not-a-file", where=tmp_path):
        read_file(tmp_path)


def test_folders_that_are_not_there(tmp_path):
    touch(tmp_path, "photos/a.jpg", ".cache/b")
    require_folder(tmp_path / "photos", "image_folder")
    with raises("folder-not-found", "image_folder") as info:
        require_folder(tmp_path / "photo", "image_folder")
    assert info.value.value == str(tmp_path / "photo") and info.value.hint.endswith("contains the folders photos")
    with raises("not-a-folder", "image_folder") as info:
        require_folder(tmp_path / "photos" / "a.jpg", "image_folder")
    assert info.value.hint == f"`image_folder={tmp_path / 'photos'}`"
    for name in ("photos.zip", "photos.tar.GZ", "photos.7z"):
        touch(tmp_path, name)
        with raises("not-a-folder", "image_folder") as info:
            require_folder(tmp_path / name, "image_folder")
        assert "unpack" in info.value.hint


def test_paths_with_commas_between_them(tmp_path, monkeypatch):
    touch(tmp_path, "a,b/x.json", "a,b/y,z.json", "c.json")
    monkeypatch.chdir(tmp_path)
    assert split_paths("a,b/x.json, c.json,a,b/y,z.json") == ["a,b/x.json", "c.json", "a,b/y,z.json"]
    assert split_paths("lost.json,c.json,") == ["lost.json", "c.json"]
    assert split_paths(" , ") == []


@pytest.mark.parametrize(
    ("path", "pattern", "fits"),
    [
        ("a.jpg", "*.jpg", True),
        ("in/a.jpg", "*.jpg", False),
        ("in/a.jpg", "*/*", True),
        ("a.jpg", "**/*.jpg", True),
        ("in/deep/a.jpg", "**/*.jpg", True),
        ("in/deep/a.jpg", "in/**/*.jpg", True),
        ("in/a.jpg", "in/**/*.jpg", True),
        ("inside/a.jpg", "in/**/*.jpg", False),
        ("in/x/y/a.jpg", "in/*/a.jpg", False),
        ("in/x/a.jpg", "in/**", True),
        ("out/a.jpg", "in/**", False),
    ],
)
def test_patterns(path, pattern, fits):
    assert matches(path, pattern) is fits
