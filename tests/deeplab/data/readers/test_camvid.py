"""CamVid as people have it on disk: which pairs, which splits, which label values."""

import pathlib
import re

import numpy as np
from support.errors import raises
from support.mask_files import built_labels, names_of, write_gray, write_image

from deeplab.data import dataset as datasets
from deeplab.data.colormaps import read_color_table
from deeplab.data.readers.camvid import BuildCamvidConfig, palette, read_camvid, split_of

PUBLISHED_SPLITS = {
    "0001TP_006690": "train",
    "0001TP_008520": "train",
    "0001TP_008550": "test",
    "0001TP_010380": "test",
    "0006R0_f00930": "train",
    "0006R0_f03930": "train",
    "0016E5_00390": "train",
    "0016E5_07920": "train",
    "0016E5_07959": "val",
    "0016E5_07960": "train",  # only odd frames of the stretch are labeled
    "0016E5_08159": "val",
    "0016E5_08190": "train",
    "Seq05VD_f00000": "test",
    "Seq05VD_f05100": "test",
    "0001TP_008550_L": "",
    "holiday": "",
}


def camvid_config(root, layout="", **settings):
    return BuildCamvidConfig(camvid_root=str(root), layout=layout, **settings)


def test_frames_have_their_published_splits():
    assert {frame: split_of(frame) for frame in PUBLISHED_SPLITS} == PUBLISHED_SPLITS


def test_split_rule_gives_the_published_numbers():
    """The frames of CamVid: which numbers each sequence has, as in the published archive."""
    frames = [
        *(f"0001TP_{number:06d}" for number in range(6690, 10381, 30)),
        *(f"0006R0_f{number:05d}" for number in range(930, 3931, 30)),
        *(f"0016E5_{number:05d}" for number in range(390, 2401, 30) if number != 900),
        "0016E5_00901",
        *(f"0016E5_{number:05d}" for number in range(4350, 7921, 30)),
        *(f"0016E5_{number:05d}" for number in range(7959, 8160, 2)),
        *(f"0016E5_{number:05d}" for number in range(8190, 8641, 30)),
        *(f"Seq05VD_f{number:05d}" for number in range(0, 5101, 30)),
    ]
    found = [split_of(frame) for frame in frames]
    assert {split: found.count(split) for split in ("train", "val", "test")} == dict(
        datasets.load_known("camvid").splits
    )


def test_original_colors_become_the_eleven_classes(tmp_path, capsys):
    colors = [[(128, 128, 128), (0, 128, 64), (0, 0, 64)], [(192, 0, 192), (0, 0, 0), (77, 77, 0)]]
    for frame in ("0001TP_006690", "0001TP_008550", "0016E5_07959"):
        write_gray(tmp_path / "701_StillsRaw_full" / f"{frame}.png", 2, 3)
        write_image(tmp_path / "LabeledApproved_full" / f"{frame}_L.png", colors)
    source = read_camvid(camvid_config(tmp_path))
    assert names_of(source) == {"train": ["0001TP_006690"], "val": ["0016E5_07959"], "test": ["0001TP_008550"]}
    assert "train 1 of 367" in capsys.readouterr().err
    labels = built_labels(source, tmp_path / "out", "val")
    assert labels == {"0016E5_07959": [[0, 1, 2], [10, 255, 255]]}


def test_palette_and_description_agree():
    table, described = read_color_table(palette()), datasets.load_known("camvid")
    assert table.names == described.class_names
    assert table.class_colors() == described.colors
    own = [line for line in pathlib.Path(palette()).read_text().splitlines() if re.match(r"\d.*#", line)]
    assert len(own) == 32  # CamVid's own colors, each with its name in a remark
    in_classes = [index for index in table.classes[:32] if index is not None]
    assert [in_classes.count(index) for index in range(11)] == [1, 5, 2, 3, 3, 2, 3, 1, 5, 4, 2]


def segnet(root, *splits):
    for split, frame in zip(splits, ("0001TP_006690", "0016E5_07959", "0001TP_008550"), strict=False):
        write_gray(root / split / f"{frame}.png")
        write_image(root / f"{split}annot" / f"{frame}.png", [[0, 10], [11, 3]])


def test_of_segnet_ignores_eleven(tmp_path):
    segnet(tmp_path, "train", "val", "test")
    source = read_camvid(camvid_config(tmp_path))
    assert list(source.splits) == ["train", "val", "test"]
    assert built_labels(source, tmp_path / "out", "train") == {"0001TP_006690": [[0, 10], [255, 3]]}


def test_of_kaggle_is_in_colors(tmp_path):
    for split, frame in (("train", "0001TP_006690"), ("val", "0016E5_07959")):
        write_gray(tmp_path / split / f"{frame}.png", 1, 3)
        write_image(tmp_path / f"{split}_labels" / f"{frame}_L.png", [[(128, 128, 128), (0, 128, 64), (0, 0, 0)]])
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nSky,128,128,128\n")  # 32 classes, of which 11 count
    source = read_camvid(camvid_config(tmp_path))
    assert names_of(source) == {"train": ["0001TP_006690"], "val": ["0016E5_07959"]}
    assert built_labels(source, tmp_path / "out", "val") == {"0016E5_07959": [[0, 1, 255]]}


def test_with_lists(tmp_path):
    for frame in ("a", "b"):
        write_gray(tmp_path / "images" / f"{frame}.jpg")
        write_image(tmp_path / "masks" / f"{frame}.png", [[1, 11], [2, 2]])
    (tmp_path / "train.txt").write_text("b\n")
    (tmp_path / "test.txt").write_text("a\n")
    (tmp_path / "README.txt").write_text("CamVid, by its makers\n")
    source = read_camvid(camvid_config(tmp_path))
    assert names_of(source) == {"train": ["b"], "test": ["a"]}
    assert built_labels(source, tmp_path / "out", "train") == {"b": [[1, 255], [2, 2]]}
    (tmp_path / "test.txt").write_text("a\nlost\n")
    with raises("files-missing", where="test.txt"):
        read_camvid(camvid_config(tmp_path))
    assert names_of(read_camvid(camvid_config(tmp_path, on_missing="skip"))) == {"train": ["b"], "test": ["a"]}
    for split in ("train", "test"):
        (tmp_path / f"{split}.txt").unlink()
    with raises("no-files", where=tmp_path):
        read_camvid(camvid_config(tmp_path))


def test_in_two_layouts_asks_which(tmp_path):
    segnet(tmp_path, "train")
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    with raises("unclear-layout", field="camvid_root") as caught:
        read_camvid(camvid_config(tmp_path))
    assert caught.value.value == ("segnet", "lists") and "`layout=segnet`" in caught.value.hint
    assert names_of(read_camvid(camvid_config(tmp_path, "segnet"))) == {"train": ["0001TP_006690"]}


def test_of_which_half_is_missing(tmp_path):
    (tmp_path / "LabeledApproved_full").mkdir()
    with raises("wrong-layout", field="camvid_root") as caught:
        read_camvid(camvid_config(tmp_path))
    assert "701_StillsRaw_full does not" in caught.value.rule
    with raises("folder-not-found", field="camvid_root"):
        read_camvid(camvid_config(tmp_path / "nowhere"))
    segnet(tmp_path, "train", "val")
    (tmp_path / "valannot" / "0016E5_07959.png").unlink()
    with raises("files-missing", where=tmp_path / "valannot") as caught:
        read_camvid(camvid_config(tmp_path, "segnet"))
    segnet(tmp_path, "train", "val")
    (tmp_path / "test").mkdir()
    with raises("folder-not-found", field="camvid_root"):
        read_camvid(camvid_config(tmp_path, "segnet"))


def test_with_strange_frames(tmp_path):
    for frame in ("0001TP_006690", "holiday"):
        write_gray(tmp_path / "701_StillsRaw_full" / f"{frame}.png")
        write_image(tmp_path / "LabeledApproved_full" / f"{frame}_L.png", np.zeros([2, 2, 3]))
    with raises("wrong-layout", where=tmp_path / "701_StillsRaw_full") as caught:
        read_camvid(camvid_config(tmp_path))
    assert caught.value.value == ("holiday",)
