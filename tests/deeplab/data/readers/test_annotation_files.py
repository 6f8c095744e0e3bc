"""Which annotation files a setting means, and the split of each."""

import pytest
from support.empty_files import touch
from support.errors import raises

from deeplab.data.readers.annotation_files import files_by_split


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("instances_train2017.json", "instances_val2017.json"), ["train", "val"]),
        (("Train.json", "my_valid.json"), ["train", "val"]),
        (("trainval.json", "test-1.json"), ["trainval", "test"]),
        (("train_instances.json", "val_instances.json"), ["train", "val"]),
        (("train/a.json", "valid/a.json", "test/a.json"), ["train", "val", "test"]),
        (("instances_train.json",), ["train"]),
        (("train/a.json", "train/b.json"), ["", ""]),  # all of one folder: nothing to keep apart
        (("test_export.json",), [""]),
        (("instances_train2017.json", "more.json"), ["", ""]),
        (("contest.json", "latest.json"), ["", ""]),
        (("trainset/a.json", "values/a.json"), ["", ""]),
    ],
)
def test_splits_are_read_from_the_names_of_files_or_folders_if_all_tell(tmp_path, names, splits):
    touch(tmp_path, *names)
    paths = [str(tmp_path / name) for name in names]
    assert files_by_split(",".join(paths), "annotations", ".json") == list(zip(splits, paths, strict=True))


def test_a_folder_stands_for_its_files(tmp_path):
    touch(tmp_path, "train/_annotations.coco.json", "valid/_annotations.coco.json", "train/a.jpg")
    found = files_by_split(str(tmp_path), "annotations", ".json")
    assert [split for split, _ in found] == ["train", "val"]
    with raises("no-files", where=tmp_path):
        files_by_split(str(tmp_path), "annotations", ".xml")


def test_splits_are_named_before_the_paths(tmp_path):
    touch(tmp_path, "a,b/x.json", "y.json")
    named = f"one:{tmp_path / 'a,b' / 'x.json'}, two:{tmp_path / 'y.json'}"
    assert [split for split, _ in files_by_split(named, "annotations", ".json")] == ["one", "two"]
    with raises("missing-split", field="annotations"):
        files_by_split(f"{named},{tmp_path / 'y.json'}", "annotations", ".json")
    with raises("missing-setting", field="annotations"):
        files_by_split("", "annotations", ".json")
