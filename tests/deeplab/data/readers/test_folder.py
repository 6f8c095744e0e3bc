"""Two parallel folders: patterns, lists of pairs, masks among the images, and subfolders that are splits."""

import re
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from support.empty_files import touch
from support.errors import raises
from support.mask_files import names_of

from deeplab.config.conversion_config import LabelConfig
from deeplab.data.mask_files import decode_label
from deeplab.data.readers import FORMATS, folder_files
from deeplab.data.readers.classes import classes_from
from deeplab.data.readers.folder import BuildFolderConfig, by_subfolder, match_config, read_folder
from deeplab.data.readers.source import UNDIVIDED, Pair


def config(root, images="images", masks="masks", **settings):
    return BuildFolderConfig(str(root / images), str(root / masks), **settings)


def test_finding_pairs_keeps_little_in_memory(tmp_path, monkeypatch):
    number = 20_000

    def walk(folder):
        yield "", [f"image_{place:06d}{'.png' if folder.name == 'masks' else '.jpg'}" for place in range(number)]

    touch(tmp_path, "images/a.jpg", "masks/a.png")
    monkeypatch.setattr(folder_files, "walk", walk)
    tracemalloc.start()
    try:
        splits = read_folder(config(tmp_path)).splits
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert list(map(len, splits.values())) == [number]
    assert size / number < 60  # bytes a pair


def test_masks_that_are_jpeg_are_read_if_there_are_no_others(tmp_path):
    touch(tmp_path, "images/a.jpg", "masks/a.jpg")
    assert read_folder(config(tmp_path)).pairs()[0].mask.endswith("masks/a.jpg")
    touch(tmp_path, "masks/a.png")  # a.jpg shows it in colors
    assert read_folder(config(tmp_path)).pairs()[0].mask.endswith("masks/a.png")


def test_images_and_masks_in_one_folder(tmp_path):
    touch(tmp_path, "images/a.jpg", "images/a.png", "images/b.jpg", "images/b_mask.png")
    together = config(tmp_path, masks="images")
    assert read_folder(together).pairs() == [
        Pair("a", str(tmp_path / "images" / "a.jpg"), str(tmp_path / "images" / "a.png"))
    ]
    (pair,) = read_folder(config(tmp_path, masks="images", mask_suffix="_mask", image_pattern="{name}.jpg")).pairs()
    assert pair.name == "b"


def test_patterns(tmp_path):
    touch(tmp_path, "all/100_sat.jpg", "all/100_mask.png", "all/101_sat.jpg", "all/101_mask.png")
    settings = {"image_pattern": "{name}_sat.jpg", "mask_pattern": "{name}_mask.png"}
    found = config(tmp_path, "all", "all", **settings)
    assert names_of(read_folder(found)) == {UNDIVIDED: ["100_sat", "101_sat"]}
    (tmp_path / "all" / "100_mask.png").unlink()
    matched = match_config(found)
    assert [pair.name for pair in matched.pairs] == ["101_sat"] and matched.images_without_mask == ("100_sat.jpg",)
    with raises("conflicting-settings", field="mask_suffix"):
        config(tmp_path, mask_suffix="_mask", mask_pattern="{name}_mask")


def test_patterns_with_folders(tmp_path):
    touch(tmp_path, "train/images/a.png", "train/masks/a.png", "val/images/a.png", "val/masks/a.png")
    settings = {"image_pattern": "{split}/images/{name}", "mask_pattern": "{split}/masks/{name}"}
    source = read_folder(config(tmp_path, "", "", **settings))
    assert names_of(source) == {"train": ["train/images/a"], "val": ["val/images/a"]}


def test_a_folder_for_each_split_is_refused_with_the_pattern_that_means_the_same(tmp_path):
    touch(tmp_path, "train/images/a.png", "train/sem/masks/a_rgb.png", "val/images/a.png", "val/sem/masks/a_rgb.png")

    def by_split(inside):
        return ",".join(f"{split}:{tmp_path}/{split}/{inside}" for split in ("train", "val"))

    with raises("not-supported", field="image_folder") as info:
        read_folder(BuildFolderConfig(by_split("images"), by_split("sem/masks")))
    images = re.findall("`[a-z_]+=(.*?)`", info.value.hint)
    with raises("not-supported", field="mask_folder") as info:
        read_folder(BuildFolderConfig(images[0], by_split("sem/masks"), mask_suffix="_rgb"))
    masks = re.findall("`[a-z_]+=(.*?)`", info.value.hint)
    source = read_folder(BuildFolderConfig(images[0], masks[0], image_pattern=images[1], mask_pattern=masks[1]))
    assert names_of(source) == {"train": ["train/images/a"], "val": ["val/images/a"]}
    with raises("folder-not-found", field="image_folder"):
        read_folder(BuildFolderConfig(str(tmp_path / "none"), str(tmp_path)))


def test_lists_of_pairs_may_be_splits(tmp_path):
    touch(tmp_path, "images/a.jpg", "images/b.jpg", "masks/x.png")
    lists = {"train": "a.jpg\tx.png\n", "val": "b.jpg\tx.png\n"}
    for split, text in lists.items():
        (tmp_path / f"{split}.txt").write_text(text)
    paths = [str(tmp_path / f"{split}.txt") for split in lists]
    assert names_of(read_folder(config(tmp_path, pair_list=",".join(paths)))) == {"train": ["a"], "val": ["b"]}
    named = f"one:{paths[0]},two:{paths[1]}"
    assert names_of(read_folder(config(tmp_path, pair_list=named))) == {"one": ["a"], "two": ["b"]}
    (tmp_path / "val.txt").write_text("b.jpg\tx.png\nlost.jpg\tx.png\n")
    skipped = read_folder(config(tmp_path, pair_list=named, on_missing="skip"))
    assert names_of(skipped) == {"one": ["a"], "two": ["b"]}


def test_subfolders_called_train_and_val_are_the_splits():
    pairs_of = {name: Pair(name, "", "") for name in ("train/a", "train/b", "val/a", "c")}
    splits = by_subfolder([pairs_of[name] for name in ("train/a", "train/b", "val/a")])
    assert {split: [pair.name for pair in members] for split, members in splits.items()} == {
        "train": ["train/a", "train/b"],
        "val": ["val/a"],
    }
    assert list(by_subfolder(list(pairs_of.values()))) == [UNDIVIDED]


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("train", "valid", "test"), ["test", "train", "val"]),
        (("Training", "Validation"), ["train", "val"]),
        (("train", "trainval", "val"), ["train", "trainval", "val"]),
        (("train", "val", "valid"), ["train", "val", "valid"]),  # no two become one
        (("trainset", "values"), [UNDIVIDED]),
    ],
)
def test_splits_have_the_names_that_the_commands_use(tmp_path, folders, splits, capsys):
    touch(tmp_path, *(f"{kind}/{folder}/a.png" for folder in folders for kind in ("images", "masks")))
    source = FORMATS.get("folder").read(config(tmp_path))
    assert list(source.splits) == splits
    assert ("valid is val" in capsys.readouterr().err) == ("valid" in folders and "val" not in folders)


@pytest.mark.parametrize("place", ["masks", ".", "masks/train"])
def test_a_file_of_classes_beside_the_masks_is_read(tmp_path, place, capsys):
    touch(tmp_path, "images/train/a.png", "masks/train/a.png")
    (tmp_path / place / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, road\n")
    assert read_folder(config(tmp_path)).class_names == ("background", "road")
    (tmp_path / place / "class_dict.csv").write_text("name,r,g,b\nbackground,0,0,0\nroad,1,2,3\n")
    source = read_folder(config(tmp_path))
    assert source.palette == str(tmp_path / place / "class_dict.csv") and source.class_names == ()
    assert "class_dict.csv lists the classes" in capsys.readouterr().err


CLASS_FILES = {
    "labelmap.txt": "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,64,128::\nVoid:9,9,9::\n",
    "class_dict.csv": "name,r,g,b\nbackground,0,0,0\nroad,128,64,128\nVoid,9,9,9\n",
    "label_colors.txt": "0 0 0 background\n128 64 128 road\n9 9 9 Void\n",
}


@pytest.mark.parametrize("name", CLASS_FILES)
def test_masks_in_colors_need_no_flag_where_a_file_of_colors_is_beside_them(tmp_path, name):
    touch(tmp_path, "images/a.png")
    (tmp_path / "masks").mkdir()
    colors = np.array([[[128, 64, 128], [0, 0, 0], [9, 9, 9]]], np.uint8)
    Image.fromarray(colors).save(tmp_path / "masks" / "a.png")
    (tmp_path / "masks" / name).write_text(CLASS_FILES[name])
    source = read_folder(config(tmp_path))
    classes = classes_from(LabelConfig(), source)
    mask = source.pairs()[0].mask
    label = decode_label((tmp_path / "masks" / "a.png").read_bytes(), mask, classes.rule).label
    assert classes.names == ("background", "road") and label.tolist() == [[1, 0, 255]]


def test_masks_of_indices_have_the_names_of_roboflow_s_file(tmp_path):
    touch(tmp_path, "all/train/a.jpg", "all/valid/b.jpg", "all/train/a_mask.png", "all/valid/b_mask.png")
    (tmp_path / "all" / "train" / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, road\n2, wall\n")
    source = FORMATS.get("folder").read(config(tmp_path, "all", "all", mask_suffix="_mask"))
    assert names_of(source) == {"train": ["train/a"], "val": ["valid/b"]}
    assert classes_from(LabelConfig(), source).names == ("background", "road", "wall")


@pytest.mark.parametrize(
    "text", ["background:0,0,0::\nroad:1,2,3,4::\n", "name,r,g,b\nbackground,0,0,0\nroad\n", "# none\n"]
)
def test_a_damaged_file_beside_the_masks_is_pointed_out_and_not_used(tmp_path, text, capsys):
    touch(tmp_path, "images/a.png", "masks/a.png", "masks/labelmap.txt")
    (tmp_path / "masks" / "labelmap.txt").write_text(text)
    source = read_folder(config(tmp_path))
    assert source.class_names == () and not source.palette
    assert "labelmap.txt is not used" in capsys.readouterr().err


def test_masks_in_folders_beside_those_of_their_images_are_no_images(tmp_path, capsys):
    touch(tmp_path, *(f"all/{part}{kind}" for part in ("train", "val") for kind in ("/a.png", "_labels/a_L.png")))
    settings = {"image_pattern": "{split}/{name}.png", "mask_pattern": "{split}_labels/{name}_L.png"}
    assert names_of(read_folder(config(tmp_path, "all", "all", **settings))) == {"train": ["train/a"], "val": ["val/a"]}
    assert capsys.readouterr().err == ""


def test_a_palette_that_was_given_comes_before_a_file_beside_the_masks(tmp_path):
    touch(tmp_path, "images/a.png", "masks/a.png")
    for path, name in ((tmp_path / "masks" / "class_dict.csv", "road"), (tmp_path / "own.csv", "street")):
        path.write_text(f"name,r,g,b\nbackground,0,0,0\n{name},128,64,128\n")
    labels = LabelConfig(palette=str(tmp_path / "own.csv"))
    assert classes_from(labels, read_folder(config(tmp_path))).names == ("background", "street")


@pytest.mark.parametrize(("suffix", "classes"), [("", 182), ("_labelTrainIds", 171)])
def test_coco_stuff_as_it_is_published(tmp_path, suffix, classes):
    """Label ids 0 to 181, or the 171 training ids of other projects in files beside them; 255 is ignored."""
    for split, name in (("train2017", "000000000009"), ("val2017", "000000000139")):
        touch(tmp_path, f"images/{split}/{name}.jpg")
        folder = tmp_path / "stuffthingmaps" / split
        folder.mkdir(parents=True)
        for end in {"", suffix}:
            mask = np.array([[0, classes - 1 if end == suffix else 181, 255]], np.uint8)
            Image.fromarray(mask).save(folder / f"{name}{end}.png")
    source = read_folder(config(tmp_path, masks="stuffthingmaps", mask_suffix=suffix))
    assert {split: len(pairs) for split, pairs in source.splits.items()} == {"train2017": 1, "val2017": 1}
    rule = classes_from(LabelConfig(num_classes=classes), source).rule
    for pair in source.pairs():
        with open(pair.mask, "rb") as file:
            decoded = decode_label(file.read(), pair.mask, rule)
        assert decoded.label.tolist() == [[0, classes - 1, 255]] and rule.ignore_label == 255
