"""Files of a folder by their names without extension."""

import pytest
from support.empty_files import touch

from deeplab.data.readers.folder_files import Folder


@pytest.fixture
def folder(tmp_path):
    touch(tmp_path, "a.jpg", "a.PNG", "b.Png", "notes.txt", "day/a.jpg", "day/.hidden.jpg", "masks/a.png")
    return Folder(tmp_path, (".jpg", ".png"))


def test_names_with_a_wanted_extension(folder, tmp_path):
    assert sorted(folder.candidates("a")) == [str(tmp_path / "a.PNG"), str(tmp_path / "a.jpg")]
    assert folder.candidates("day/a") == [str(tmp_path / "day" / "a.jpg")]
    assert folder.candidates("notes") == folder.candidates("c") == folder.candidates("night/a") == []
    assert folder.others("notes") == [".txt"]


def test_case_is_ignored_where_it_is_the_only_difference(folder, tmp_path):
    assert folder.candidates("B") == [str(tmp_path / "b.Png")]
    touch(tmp_path, "B.jpg")
    assert Folder(tmp_path, (".jpg",)).candidates("B") == [str(tmp_path / "B.jpg")]


@pytest.mark.parametrize(("name", "stem"), [("a", "a"), ("a.jpg", "a"), ("day/a.bmp", "day/a"), ("c", "")])
def test_listed_names_may_have_an_extension(folder, name, stem):
    assert folder.find(name) == stem


def test_all_names_but_those_of_another_folder_inside(folder, tmp_path):
    assert folder.wanted_stems() == ["a", "b", "day/a", "masks/a"]
    assert folder.wanted_stems(leave_out=tmp_path / "masks") == ["a", "b", "day/a"]
    assert folder.wanted_stems(leave_out=tmp_path.parent) == ["a", "b", "day/a", "masks/a"]


def test_wanted_files_come_sorted_by_subfolder_and_stem(folder, tmp_path):
    touch(tmp_path, "a.b.png", "a-1.jpg")
    assert list(folder.wanted(tmp_path / "masks")) == [
        ("", "a", ["a.PNG", "a.jpg"]),
        ("", "a-1", ["a-1.jpg"]),
        ("", "a.b", ["a.b.png"]),
        ("", "b", ["b.Png"]),
        ("day", "a", ["day/a.jpg"]),
    ]
