"""Splits of a dataset: the layout's own, lists, shares, classes, groups, folds."""

import os

import cv2
import numpy as np
import pytest

from deeplab.config.conversion_config import LabelConfig, SplitConfig
from deeplab.data.conversion.split_assignment import read_sources
from deeplab.data.readers import FORMATS, Format
from deeplab.data.readers.folder import BuildFolderConfig, read_folder
from deeplab.data.readers.source import Source
from deeplab.utils.errors import UserError

LABELS = LabelConfig(num_classes=3)


def write_pair(root, name, value):
    for kind in ("images", "masks"):
        (root / kind / name).parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(root / "images" / f"{name}.jpg"), np.full([4, 6, 3], 90, np.uint8))
    label = np.zeros([4, 6], np.uint8)
    label[0, 0] = value
    assert cv2.imwrite(str(root / "masks" / f"{name}.png"), label)


def read(root, **settings):
    config = BuildFolderConfig(str(root / "images"), str(root / "masks"))
    return read_sources("folder", config, LABELS, SplitConfig(**settings))


def members(source):
    return {split: [pair.name for pair in pairs] for split, pairs in source.splits.items()}


@pytest.fixture
def patients(tmp_path):
    """Ten images of five patients; class 2 in two of them alone."""
    for number in range(10):
        write_pair(tmp_path, f"p{number // 2}_{number}", 2 if number in (3, 8) else 1)
    return tmp_path


@pytest.fixture
def divided(tmp_path):
    """Images that lie in folders train and val."""
    for number in range(8):
        write_pair(tmp_path, f"{'train' if number < 6 else 'val'}/{number}", 2 if number in (0, 1) else 1)
    return tmp_path


def test_a_layout_without_splits_is_divided_in_eighty_and_twenty(patients):
    (source,) = read(patients).values()
    assert {split: len(names) for split, names in members(source).items()} == {"train": 8, "val": 2}


def test_a_third_split_for_testing(patients):
    (source,) = read(patients, train_pct=0.6, test_pct=0.2).values()
    assert {split: len(names) for split, names in members(source).items()} == {"train": 6, "val": 2, "test": 2}


def test_stratified_splits_hold_every_class(patients):
    """Two images hold class 2: one for each split, whatever the seed."""
    for seed in range(5):
        (source,) = read(patients, stratify=True, train_pct=0.5, seed=seed).values()
        assert [len({"p1_3", "p4_8"} & set(names)) for names in members(source).values()] == [1, 1]


def test_no_group_stands_in_two_splits(patients):
    (source,) = read(patients, group_by="^(p[0-9]+)_").values()
    groups = [{name.split("_")[0] for name in names} for names in members(source).values()]
    assert not set.intersection(*groups) and len(set.union(*groups)) == 5


def test_folds_are_data_sets_of_their_own(patients):
    folds = read(patients, folds=5)
    assert list(folds) == [f"fold_{number}" for number in range(5)]
    held_out = [name for source in folds.values() for name in members(source)["val"]]
    assert sorted(held_out) == sorted(pair.name for pair in folds["fold_0"].pairs())
    (only,) = read(patients, folds=5, fold=3).values()
    assert members(only) == members(folds["fold_3"])


def test_splits_of_the_layout_are_kept(divided):
    (source,) = read(divided).values()
    assert members(source)["val"] == ["val/6", "val/7"]


def test_shares_divide_the_layout_s_splits_anew(divided):
    (source,) = read(divided, train_pct=0.5, test_pct=0.25).values()
    assert {split: len(names) for split, names in members(source).items()} == {"train": 4, "val": 2, "test": 2}


def test_stratifying_divides_the_layout_s_splits_anew(divided):
    (source,) = read(divided, stratify=True).values()
    assert [len({"train/0", "train/1"} & set(names)) for names in members(source).values()] == [1, 1]


def test_grouping_divides_the_layout_s_splits_anew(divided):
    """Images train/0 and val/0 are of one group."""
    write_pair(divided, "val/0", 1)
    (source,) = read(divided, group_by="([0-9]+)$").values()
    assert [len({"train/0", "val/0"} & set(names)) for names in members(source).values()] in ([2, 0], [0, 2])


def test_lists_name_the_splits(patients, tmp_path):
    (tmp_path / "mine.txt").write_text("p0_0\np1_3.jpg\n")
    (tmp_path / "rest.txt").write_text("p4_8\n")
    (source,) = read(patients, list_files=f"{tmp_path}/mine.txt, {tmp_path}/rest.txt").values()
    assert members(source) == {"mine": ["p0_0", "p1_3"], "rest": ["p4_8"]}


def test_names_on_a_list_that_have_no_pair(patients, tmp_path):
    (tmp_path / "mine.txt").write_text("p0_0\nlost\n")
    with pytest.raises(UserError, match=r"(?s)mine\.txt: 1 of its 2 names .*: lost.*such as 'p0_0'"):
        read(patients, list_files=f"{tmp_path}/mine.txt")


def test_two_lists_of_one_name(patients, tmp_path):
    (tmp_path / "other").mkdir()
    for folder in (tmp_path, tmp_path / "other"):
        (folder / "mine.txt").write_text("p0_0\n")
    with pytest.raises(UserError, match="--list_files: two lists are called mine"):
        read(patients, list_files=f"{tmp_path}/mine.txt,{tmp_path}/other/mine.txt")


def test_images_on_no_list_are_told_of(patients, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("p0_0\np1_3\n")
    read(patients, list_files=str(tmp_path / "mine.txt"))
    assert "8 of 10 images are on no list, and left out: p0_1, p1_2" in capsys.readouterr().err


def test_lists_with_commas_in_their_names_and_no_list_at_all(patients, tmp_path):
    (tmp_path / "a,b.txt").write_text("\ufeffp0_0\r\n", encoding="utf-8")
    (source,) = read(patients, list_files=str(tmp_path / "a,b.txt")).values()
    assert members(source) == {"a,b": ["p0_0"]}
    with pytest.raises(UserError, match="--list_files: names no list"):
        read(patients, list_files=",")


def test_how_images_were_divided_is_said(patients, capsys):
    read(patients, group_by="^(p[0-9]+)_", seed=3)
    assert "10 images in 5 groups divided by seed 3: train 8, val 2\n" in capsys.readouterr().err
    read(patients, folds=5)
    assert "10 images divided by seed 0 into 5 folds\n" in capsys.readouterr().err


def test_splits_that_give_way_are_named(divided, capsys):
    read(divided, train_pct=0.5)
    assert "the splits that the dataset has (train, val) give way to new ones" in capsys.readouterr().err


@pytest.fixture
def namesakes(tmp_path, monkeypatch):
    """A layout that calls different images of train and val by the same names, as COCO's folders may."""
    splits = {}
    for split in ("train", "val"):
        for number in range(4):
            write_pair(tmp_path / split, f"{number:04d}", 1)
        folder = BuildFolderConfig(str(tmp_path / split / "images"), str(tmp_path / split / "masks"))
        splits[split] = read_folder(folder).pairs()
    monkeypatch.setitem(FORMATS._items, "namesakes", Format(object, lambda _: Source(splits)))
    return lambda **settings: read_sources("namesakes", None, LABELS, SplitConfig(**settings))


def test_images_of_one_name_are_all_divided(namesakes):
    (source,) = namesakes(train_pct=0.5).values()
    pairs = source.pairs()
    assert len({pair.image for pair in pairs}) == len(pairs) == 8
    assert sorted(pair.name for pair in pairs)[3:5] == ["train/0003", "val/0000"]
    (kept,) = namesakes().values()
    assert members(kept)["val"][0] == "0000"


def test_images_of_one_name_on_a_list(namesakes, tmp_path):
    (tmp_path / "mine.txt").write_text("val/0001\n")
    (source,) = namesakes(list_files=str(tmp_path / "mine.txt")).values()
    assert source.splits["mine"][0].image == str(tmp_path / "val" / "images" / "0001.jpg")
    (tmp_path / "mine.txt").write_text("0001\n")
    with pytest.raises(UserError, match="such as 'train/0000'"):
        namesakes(list_files=str(tmp_path / "mine.txt"))


def test_a_file_name_that_no_record_can_hold(patients):
    for kind, ending in (("images", b".jpg"), ("masks", b".png")):
        folder = os.fsencode(patients / kind)
        os.rename(folder + b"/p0_0" + ending, folder + b"/caf\xe9" + ending)
    with pytest.raises(UserError, match="images/caf\ufffd\\.jpg: has a name that is not UTF-8"):
        read(patients)
