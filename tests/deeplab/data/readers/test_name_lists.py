"""Lists of names, and settings that name splits."""

import pathlib

import pytest
from support.empty_files import touch
from support.errors import raises

from deeplab.data.readers.name_lists import find_lists, paths_by_split, read_list, read_names, splits_in_folders


def test_names_in_lists_of_images_and_masks(tmp_path):
    """The lists of the augmented PASCAL VOC name image and mask, with the folders that they have elsewhere."""
    path = tmp_path / "train_aug.txt"
    path.write_text("/JPEGImages/2007_1.jpg /SegmentationClassAug/2007_1.png\n/x/day/b.jpg\t/y/b.png\n")
    assert read_names(path, {"2007_1", "day/b"}.__contains__) == ["2007_1", "day/b"]
    path.write_text("a.jpg a.png\nb.jpg other.png\n")
    with raises("wrong-format", where="train_aug.txt") as caught:
        read_names(path, bool)
    assert "pair_list" in caught.value.hint
    path.write_text("my photo.jpg\nb.jpg\n")
    assert read_names(path, bool) == ["my photo.jpg", "b.jpg"]


def test_list_of_names(tmp_path, capsys):
    (tmp_path / "train.txt").write_bytes(b"a\r\nb \r\n\r\na\r\n")
    assert read_list(tmp_path / "train.txt") == ["a", "b", "a"]
    assert "these images are listed more than once, and count as often: a\n" in capsys.readouterr().err


def test_comments_in_a_list(tmp_path):
    (tmp_path / "train.txt").write_text("# split of 2024\n\na\n#b\n  # more\n#1 c\n")
    assert read_list(tmp_path / "train.txt") == ["a"]
    assert read_list(tmp_path / "train.txt", {"#b", "#1 c"}.__contains__) == ["a", "#b", "#1 c"]
    (tmp_path / "train.txt").write_text("# nothing\n")
    with raises("empty-list", where="train.txt"):
        read_list(tmp_path / "train.txt")


@pytest.mark.parametrize("listed", ["JPEGImages/a.jpg", "C:\\VOC\\JPEGImages\\a.jpg", "/home/me/VOC/a", "./a.jpg", "a"])
def test_lists_of_paths_of_another_place(tmp_path, listed):
    (tmp_path / "train.txt").write_text(f"# list\n{listed}\nday/b\n")
    assert [
        pathlib.PurePath(name).stem for name in read_names(tmp_path / "train.txt", {"a", "day/b"}.__contains__)
    ] == [
        "a",
        "b",
    ]
    assert read_names(tmp_path / "train.txt", {"x", "day/b"}.__contains__) == [listed, "day/b"]  # for the message


def test_empty_list(tmp_path):
    (tmp_path / "val.txt").write_text("\n  \n")
    with raises("empty-list", where="val.txt"):
        read_list(tmp_path / "val.txt")


def test_a_list_that_windows_has_written(tmp_path):
    (tmp_path / "train.txt").write_bytes("\ufeffname 1\r\nname 2\r\n".encode())
    assert read_list(tmp_path / "train.txt") == ["name 1", "name 2"]


def test_lists_of_a_folder(tmp_path):
    touch(tmp_path, "train.txt", "val.txt", "._train.txt")
    assert list(find_lists(tmp_path)) == ["train", "val"]
    assert list(find_lists(tmp_path, ["val"])) == ["val"]
    with raises("unknown-split", field="splits") as caught:
        find_lists(tmp_path, ["test"])
    assert caught.value.value == "test" and "train, val" in caught.value.hint
    with raises("no-files", where=tmp_path.parent):
        find_lists(tmp_path.parent)


def test_paths_may_name_splits(tmp_path):
    touch(tmp_path, "a,b", "c")
    assert paths_by_split(f"{tmp_path / 'a,b'},{tmp_path / 'c'}", "annotations") == [
        ("", str(tmp_path / "a,b")),
        ("", str(tmp_path / "c")),
    ]
    assert paths_by_split("train:C:\\x.json,val:y", "annotations") == [("train", "C:\\x.json"), ("val", "y")]
    assert paths_by_split("C:\\x.json", "annotations") == [("", "C:\\x.json")]
    assert paths_by_split("https://x.org/a.json", "annotations") == [("", "https://x.org/a.json")]


def test_first_folders_are_splits_if_all_are():
    assert splits_in_folders(["train/a", "valid/b/c"]) == ["train", "valid"]
    assert splits_in_folders(["train/a", "b"]) == splits_in_folders(["trainer/a", "values/b"]) == ["", ""]
