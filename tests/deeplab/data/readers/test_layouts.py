"""Cityscapes, ADE20K and CamVid as people have them on disk: which pairs, which splits, which label values."""

import pathlib
import re

import cv2
import numpy as np
import pytest

from deeplab import build_data
from deeplab.config.conversion_config import LabelConfig, RecordConfig
from deeplab.data import dataset as datasets
from deeplab.data import records
from deeplab.data.colormaps import read_color_table
from deeplab.data.conversion import local
from deeplab.data.labels import LabelRule, decode_label
from deeplab.data.readers.ade20k import BuildAde20kConfig, read_ade20k
from deeplab.data.readers.camvid import BuildCamvidConfig, read_camvid, split_of
from deeplab.data.readers.camvid import palette as camvid_palette
from deeplab.data.readers.cityscapes import TRAIN_IDS, BuildCityscapesConfig, read_cityscapes
from deeplab.utils.errors import UserError


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.asarray(pixels, np.uint8)
    assert cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)


def gray_image(path, height=2, width=2):
    write(path, np.full([height, width, 3], 90))


def names(source):
    return {split: [pair.name for pair in pairs] for split, pairs in source.splits.items()}


def built_labels(source, folder, split):
    """Labels in the records of a split, by image name."""
    local.build(source, folder, LabelConfig(), RecordConfig(num_shards=1))
    held = [record for path in records.list_shards(folder, split) for record in records.read_shard(path)]
    return {
        record[records.FILENAME].decode(): decode_label(record[records.LABEL], "", LabelRule()).label.tolist()
        for record in held
    }


# --- Cityscapes ---------------------------------------------------------------------------------------------

FRAMES = ("train/aachen/aachen_000000_000019", "train/ulm/ulm_000001_000019", "val/lindau/lindau_000000_000019")


def cityscapes_frame(root, frame, **masks):
    gray_image(root / "leftImg8bit" / f"{frame}_leftImg8bit.png")
    for kind, label in masks.items():
        annotations, kind = kind.split("_")
        write(root / annotations / f"{frame}_{annotations}_{kind}.png", label)


@pytest.fixture
def cityscapes(tmp_path):
    """Two training images and one for validation, with masks of label ids only: as the archives unpack."""
    for frame in FRAMES:
        cityscapes_frame(tmp_path, frame, gtFine_labelIds=[[7, 8], [33, 4]], gtFine_color=np.zeros([2, 2, 3]))
    return tmp_path


def city_config(root, **settings):
    return BuildCityscapesConfig(cityscapes_root=str(root), **settings)


def test_train_ids_are_the_published_ones():
    by_name = {7: "road", 8: "sidewalk", 11: "building", 19: "traffic light", 24: "person", 28: "bus", 33: "bicycle"}
    classes = datasets.load_known("cityscapes").class_names
    assert {label: classes[TRAIN_IDS[label]] for label in by_name} == by_name
    assert sorted(value for value in TRAIN_IDS.values() if value != 255) == list(range(19))
    assert [label for label, value in TRAIN_IDS.items() if value == 255] == [
        *(0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)
    ]


def test_cityscapes_label_ids_become_train_ids(cityscapes, capsys):
    source = read_cityscapes(city_config(cityscapes))
    assert names(source) == {
        "train_fine": ["aachen_000000_000019", "ulm_000001_000019"],
        "val_fine": ["lindau_000000_000019"],
    }
    assert "there are no masks of train ids" in capsys.readouterr().err
    labels = built_labels(source, cityscapes / "out", "train_fine")
    assert labels == {name: [[0, 1], [18, 255]] for name in names(source)["train_fine"]}
    assert datasets.load(cityscapes / "out" / "dataset.yml").num_classes == 19


def test_cityscapes_train_ids_are_taken_as_they_are_where_all_images_have_them(cityscapes, capsys):
    for frame in FRAMES:
        write(cityscapes / "gtFine" / f"{frame}_gtFine_labelTrainIds.png", [[7, 8], [18, 255]])
    source = read_cityscapes(city_config(cityscapes))
    assert source.label_map == {}
    assert capsys.readouterr().err == ""
    labels = built_labels(source, cityscapes / "out", "val_fine")
    assert labels == {"lindau_000000_000019": [[7, 8], [18, 255]]}


def test_cityscapes_half_converted_masks_are_not_mixed_with_others(cityscapes, capsys):
    write(cityscapes / "gtFine" / f"{FRAMES[0]}_gtFine_labelTrainIds.png", [[0, 1], [18, 255]])
    source = read_cityscapes(city_config(cityscapes))
    assert all(pair.mask.endswith("_labelIds.png") for pair in source.pairs())
    assert "only 1 of 3 images have masks of train ids" in capsys.readouterr().err
    (cityscapes / "gtFine" / f"{FRAMES[0]}_gtFine_labelIds.png").unlink()
    with pytest.raises(UserError, match=r"(?s)two kinds of masks are mixed.*2 of 3.*createTrainIdLabelImgs"):
        read_cityscapes(city_config(cityscapes))


def test_cityscapes_missing_masks_are_named(cityscapes):
    missing = cityscapes / "gtFine" / f"{FRAMES[1]}_gtFine_labelIds.png"
    missing.unlink()
    with pytest.raises(UserError) as fault:
        read_cityscapes(city_config(cityscapes))
    assert "1 of 3 images have no mask" in str(fault.value)
    assert str(missing) in str(fault.value)
    assert "unpack gtFine_trainvaltest.zip" in str(fault.value)


def test_cityscapes_missing_folders_are_named(tmp_path, cityscapes):
    with pytest.raises(UserError, match=r"--cityscapes_root: no such folder: .*leftImg8bit"):
        read_cityscapes(city_config(tmp_path / "elsewhere"))
    with pytest.raises(UserError, match=r"no such folder: .*gtCoarse"):
        read_cityscapes(city_config(cityscapes, annotations="gtCoarse"))
    with pytest.raises(UserError, match=r"holds no CITY/NAME_leftImg8bit with \.jpg"):
        read_cityscapes(city_config(cityscapes, image_format="jpg"))


def test_cityscapes_test_images_are_left_out_and_said(cityscapes, capsys):
    cityscapes_frame(cityscapes, "test/berlin/berlin_000000_000019", gtFine_labelIds=[[3, 3], [3, 3]])
    assert "berlin_000000_000019" not in str(names(read_cityscapes(city_config(cityscapes))))
    assert "test is left out" in capsys.readouterr().err


def test_cityscapes_splits_on_request(cityscapes):
    source = read_cityscapes(city_config(cityscapes, splits="trainval_fine"))
    assert names(source) == {"trainval_fine": ["aachen_000000_000019", "ulm_000001_000019", "lindau_000000_000019"]}
    with pytest.raises(UserError, match=r"gtFine has no split 'train_coarse'"):
        read_cityscapes(city_config(cityscapes, splits="train_coarse"))
    with pytest.raises(UserError, match="did you mean 'val_fine'"):
        read_cityscapes(city_config(cityscapes, splits="train_fine,val_fin"))


def test_cityscapes_coarse_masks_with_and_without_train_extra(cityscapes, capsys):
    for frame in FRAMES:
        write(cityscapes / "gtCoarse" / f"{frame}_gtCoarse_labelIds.png", [[7, 7], [11, 0]])
    config = city_config(cityscapes, annotations="gtCoarse")
    assert names(read_cityscapes(config)) == {"train_coarse": ["aachen_000000_000019", "ulm_000001_000019"]}
    assert "train_extra: no such folder" in capsys.readouterr().err
    cityscapes_frame(cityscapes, "train_extra/bayreuth/bayreuth_000000_000019", gtCoarse_labelIds=[[7, 8], [11, 0]])
    source = read_cityscapes(config)
    assert names(source)["train_coarse"][-1] == "bayreuth_000000_000019"
    labels = built_labels(source, cityscapes / "out", "train_coarse")
    assert labels["bayreuth_000000_000019"] == [[0, 1], [2, 255]]


def test_cityscapes_image_in_two_formats(cityscapes):
    gray_image(cityscapes / "leftImg8bit" / f"{FRAMES[0]}_leftImg8bit.jpg")
    with pytest.raises(UserError, match=r"(?s)several of this image.*--image_format"):
        read_cityscapes(city_config(cityscapes))
    with pytest.raises(UserError, match="holds no CITY/NAME"):  # no validation image is a JPEG
        read_cityscapes(city_config(cityscapes, image_format="jpg"))


def test_cityscapes_command_writes_the_reference_s_shards(cityscapes):
    words = ["cityscapes", f"--cityscapes_root={cityscapes}", f"--output_dir={cityscapes / 'out'}", "--nocheck"]
    assert build_data.COMMAND.main(words) == 0
    shards = sorted(path.name for path in (cityscapes / "out").glob("*.tfrecord"))
    assert len(shards) == 20
    assert shards[0] == "train_fine-00000-of-00010.tfrecord"
    assert shards[10] == "val_fine-00000-of-00010.tfrecord"


# --- ADE20K -------------------------------------------------------------------------------------------------


def ade_config(root, **settings):
    folders = {
        "train_image_folder": "images/training",
        "train_image_label_folder": "annotations/training",
        "val_image_folder": "images/validation",
        "val_image_label_folder": "annotations/validation",
    }
    return BuildAde20kConfig(**{flag: str(root / folder) for flag, folder in folders.items()}, **settings)


def ade_pair(root, part, name, label=((0, 1), (2, 150))):
    gray_image(root / "images" / part / f"{name}.jpg")
    write(root / "annotations" / part / f"{name}.png", label)


@pytest.fixture
def ade20k(tmp_path):
    for number in range(12):
        ade_pair(tmp_path, "training", f"ADE_train_{number:08d}")
    for number in (2, 1, 3):
        ade_pair(tmp_path, "validation", f"ADE_val_{number:08d}")
    return tmp_path


def test_ade20k_training_images_are_shuffled_by_the_seed(ade20k):
    first, again, other = (names(read_ade20k(ade_config(ade20k, shuffle_seed=seed))) for seed in (0, 0, 1))
    assert first == again
    assert first["train"] != other["train"]
    assert first["train"] != sorted(first["train"])
    assert sorted(first["train"]) == sorted(other["train"]) == [f"ADE_train_{number:08d}" for number in range(12)]
    assert first["val"] == ["ADE_val_00000001", "ADE_val_00000002", "ADE_val_00000003"]


def test_ade20k_label_zero_is_ignored(ade20k):
    source = read_ade20k(ade_config(ade20k))
    labels = built_labels(source, ade20k / "out", "val")
    assert labels["ADE_val_00000001"] == [[0, 1], [2, 150]]
    described = datasets.load(ade20k / "out" / "dataset.yml")
    assert (described.num_classes, described.ignore_label) == (151, 0)
    assert described.ignored_pixels == {"train": 12, "val": 3}


def test_ade20k_images_without_a_mask_are_named(ade20k):
    for number in range(11):
        (ade20k / "annotations" / "training" / f"ADE_train_{number:08d}.png").unlink()
    with pytest.raises(UserError) as fault:
        read_ade20k(ade_config(ade20k))
    text = str(fault.value)
    assert "11 files cannot be found" in text
    assert "ADE_train_00000009: no such file (.png)" in text and "ADE_train_00000010: no" not in text
    assert "and 1 more" in text


def test_ade20k_masks_without_an_image_are_said(ade20k, capsys):
    write(ade20k / "annotations" / "validation" / "ADE_val_00000009.png", [[1]])
    assert len(read_ade20k(ade_config(ade20k)).splits["val"]) == 3
    assert "1 masks without an image, left out: ADE_val_00000009" in capsys.readouterr().err


def test_ade20k_missing_and_empty_folders(ade20k):
    with pytest.raises(UserError, match=r"--train_image_folder: no such folder: .*nowhere"):
        read_ade20k(ade_config(ade20k / "nowhere"))
    with pytest.raises(UserError, match=r"--train_image_folder: .*training holds no file with \.png"):
        read_ade20k(ade_config(ade20k, image_format="png"))


# --- CamVid -------------------------------------------------------------------------------------------------

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


def camvid_config(root, layout=""):
    return BuildCamvidConfig(camvid_root=str(root), layout=layout)


def test_camvid_frames_have_their_published_splits():
    assert {frame: split_of(frame) for frame in PUBLISHED_SPLITS} == PUBLISHED_SPLITS


def test_camvid_split_rule_gives_the_published_numbers():
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


def test_camvid_original_colors_become_the_eleven_classes(tmp_path, capsys):
    colors = [[(128, 128, 128), (0, 128, 64), (0, 0, 64)], [(192, 0, 192), (0, 0, 0), (77, 77, 0)]]
    for frame in ("0001TP_006690", "0001TP_008550", "0016E5_07959"):
        gray_image(tmp_path / "701_StillsRaw_full" / f"{frame}.png", 2, 3)
        write(tmp_path / "LabeledApproved_full" / f"{frame}_L.png", colors)
    source = read_camvid(camvid_config(tmp_path))
    assert names(source) == {"train": ["0001TP_006690"], "val": ["0016E5_07959"], "test": ["0001TP_008550"]}
    assert "train 1 of 367" in capsys.readouterr().err
    labels = built_labels(source, tmp_path / "out", "val")
    assert labels == {"0016E5_07959": [[0, 1, 2], [10, 255, 255]]}


def test_camvid_palette_and_description_agree():
    table, described = read_color_table(camvid_palette()), datasets.load_known("camvid")
    assert table.names == described.class_names
    assert table.class_colors() == described.colors
    own = [line for line in pathlib.Path(camvid_palette()).read_text().splitlines() if re.match(r"\d.*#", line)]
    assert len(own) == 32  # CamVid's own colors, each with its name in a remark
    in_classes = [index for index in table.classes[:32] if index is not None]
    assert [in_classes.count(index) for index in range(11)] == [1, 5, 2, 3, 3, 2, 3, 1, 5, 4, 2]


def segnet(root, *splits):
    for split, frame in zip(splits, ("0001TP_006690", "0016E5_07959", "0001TP_008550"), strict=False):
        gray_image(root / split / f"{frame}.png")
        write(root / f"{split}annot" / f"{frame}.png", [[0, 10], [11, 3]])


def test_camvid_of_segnet_ignores_eleven(tmp_path):
    segnet(tmp_path, "train", "val", "test")
    source = read_camvid(camvid_config(tmp_path))
    assert list(source.splits) == ["train", "val", "test"]
    assert built_labels(source, tmp_path / "out", "train") == {"0001TP_006690": [[0, 10], [255, 3]]}


def test_camvid_with_lists(tmp_path):
    for frame in ("a", "b"):
        gray_image(tmp_path / "images" / f"{frame}.jpg")
        write(tmp_path / "masks" / f"{frame}.png", [[1, 11], [2, 2]])
    (tmp_path / "train.txt").write_text("b\n")
    (tmp_path / "test.txt").write_text("a\n")
    (tmp_path / "README.txt").write_text("CamVid, by its makers\n")
    source = read_camvid(camvid_config(tmp_path))
    assert names(source) == {"train": ["b"], "test": ["a"]}
    assert built_labels(source, tmp_path / "out", "train") == {"b": [[1, 255], [2, 2]]}
    for split in ("train", "test"):
        (tmp_path / f"{split}.txt").unlink()
    with pytest.raises(UserError, match=r"holds none of train\.txt, val\.txt, test\.txt"):
        read_camvid(camvid_config(tmp_path))


def test_camvid_in_two_layouts_asks_which(tmp_path):
    segnet(tmp_path, "train")
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    with pytest.raises(UserError, match=r"(?s)more than one layout: segnet, lists.*--layout=segnet"):
        read_camvid(camvid_config(tmp_path))
    assert names(read_camvid(camvid_config(tmp_path, "segnet"))) == {"train": ["0001TP_006690"]}


def test_camvid_of_which_half_is_missing(tmp_path):
    (tmp_path / "LabeledApproved_full").mkdir()
    with pytest.raises(UserError, match=r"LabeledApproved_full is there, but .*701_StillsRaw_full is not"):
        read_camvid(camvid_config(tmp_path))
    with pytest.raises(UserError, match=r"--camvid_root: no such folder"):
        read_camvid(camvid_config(tmp_path / "nowhere"))
    segnet(tmp_path, "train", "val")
    (tmp_path / "valannot" / "0016E5_07959.png").unlink()
    with pytest.raises(UserError, match=r"(?s)valannot.*1 files cannot be found.*0016E5_07959: no such file"):
        read_camvid(camvid_config(tmp_path, "segnet"))
    segnet(tmp_path, "train", "val")
    (tmp_path / "test").mkdir()
    with pytest.raises(UserError, match=r"no such folder: .*testannot"):
        read_camvid(camvid_config(tmp_path, "segnet"))


def test_camvid_with_strange_frames(tmp_path):
    for frame in ("0001TP_006690", "holiday"):
        gray_image(tmp_path / "701_StillsRaw_full" / f"{frame}.png")
        write(tmp_path / "LabeledApproved_full" / f"{frame}_L.png", np.zeros([2, 2, 3]))
    with pytest.raises(UserError, match=r"1 files are not named as CamVid's frames .*holiday"):
        read_camvid(camvid_config(tmp_path))


# --- Descriptors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lfw_parts", "celeba_hair_skin"])
def test_hair_and_skin_sets_agree_with_their_palettes(name):
    described, table = datasets.load_known(name), read_color_table(datasets.KNOWN_FOLDER / f"{name}.palette")
    assert described.class_names == table.names == ("background", "hair", "skin")
    assert described.colors == table.class_colors()


def test_isic_descriptors():
    assert datasets.load_known("isic2018_task1").class_names == ("background", "lesion")
    task2 = datasets.load_known("isic2018_task2")
    assert task2.class_names[1:] == ("pigment_network", "negative_network", "streaks", "milia_like_cyst", "globules")
    assert len(set(task2.colors)) == task2.num_classes
