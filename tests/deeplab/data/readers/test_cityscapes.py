"""Cityscapes as people have it on disk: which pairs, which splits, which label values."""

import numpy as np
import pytest
from support.errors import raises
from support.mask_files import built_labels, names_of, write_gray, write_image

from deeplab import build_data
from deeplab.data import dataset as datasets
from deeplab.data.readers.cityscapes import TRAIN_IDS, BuildCityscapesConfig, read_cityscapes

FRAMES = ("train/aachen/aachen_000000_000019", "train/ulm/ulm_000001_000019", "val/lindau/lindau_000000_000019")


def cityscapes_frame(root, frame, **masks):
    write_gray(root / "leftImg8bit" / f"{frame}_leftImg8bit.png")
    for kind, label in masks.items():
        annotations, kind = kind.split("_")
        write_image(root / annotations / f"{frame}_{annotations}_{kind}.png", label)


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


def test_label_ids_become_train_ids(cityscapes, capsys):
    source = read_cityscapes(city_config(cityscapes))
    assert names_of(source) == {
        "train_fine": ["aachen_000000_000019", "ulm_000001_000019"],
        "val_fine": ["lindau_000000_000019"],
    }
    assert "there are no masks of train ids" in capsys.readouterr().err
    labels = built_labels(source, cityscapes / "out", "train_fine")
    assert labels == {name: [[0, 1], [18, 255]] for name in names_of(source)["train_fine"]}
    assert datasets.load(cityscapes / "out" / "dataset.yml").num_classes == 19


def test_train_ids_are_taken_as_they_are_where_all_images_have_them(cityscapes, capsys):
    for frame in FRAMES:
        write_image(cityscapes / "gtFine" / f"{frame}_gtFine_labelTrainIds.png", [[7, 8], [18, 255]])
    source = read_cityscapes(city_config(cityscapes))
    assert source.label_map == {}
    assert capsys.readouterr().err == ""
    labels = built_labels(source, cityscapes / "out", "val_fine")
    assert labels == {"lindau_000000_000019": [[7, 8], [18, 255]]}


def test_half_converted_masks_are_not_mixed_with_others(cityscapes, capsys):
    write_image(cityscapes / "gtFine" / f"{FRAMES[0]}_gtFine_labelTrainIds.png", [[0, 1], [18, 255]])
    source = read_cityscapes(city_config(cityscapes))
    assert all(pair.mask.endswith("_labelIds.png") for pair in source.pairs())
    assert "only 1 of 3 images have masks of train ids" in capsys.readouterr().err
    (cityscapes / "gtFine" / f"{FRAMES[0]}_gtFine_labelIds.png").unlink()
    with raises("files-missing", where=cityscapes / "gtFine") as caught:
        read_cityscapes(city_config(cityscapes))
    assert "2 of 3 images have no *_labelTrainIds.png" in caught.value.rule
    assert "createTrainIdLabelImgs" in caught.value.hint


def test_missing_masks_are_named(cityscapes):
    missing = cityscapes / "gtFine" / f"{FRAMES[1]}_gtFine_labelIds.png"
    missing.unlink()
    with raises("files-missing", where=cityscapes / "gtFine") as caught:
        read_cityscapes(city_config(cityscapes))
    assert caught.value.value == 1 and str(missing) in caught.value.rule
    assert "unpack gtFine_trainvaltest.zip" in caught.value.hint


def test_missing_folders_are_named(tmp_path, cityscapes):
    with raises("folder-not-found", field="cityscapes_root") as caught:
        read_cityscapes(city_config(tmp_path / "elsewhere"))
    assert "leftImg8bit" in caught.value.rule
    with raises("folder-not-found", field="cityscapes_root") as caught:
        read_cityscapes(city_config(cityscapes, annotations="gtCoarse"))
    assert "gtCoarse" in caught.value.rule
    with raises("no-files", where=cityscapes / "leftImg8bit"):
        read_cityscapes(city_config(cityscapes, image_format="jpg"))


def test_test_images_are_left_out_and_said(cityscapes, capsys):
    cityscapes_frame(cityscapes, "test/berlin/berlin_000000_000019", gtFine_labelIds=[[3, 3], [3, 3]])
    assert "berlin_000000_000019" not in str(names_of(read_cityscapes(city_config(cityscapes))))
    assert "test is left out" in capsys.readouterr().err


def test_splits_on_request(cityscapes):
    source = read_cityscapes(city_config(cityscapes, splits="trainval_fine"))
    assert names_of(source) == {"trainval_fine": ["aachen_000000_000019", "ulm_000001_000019", "lindau_000000_000019"]}
    with raises("unknown-split", field="splits") as caught:
        read_cityscapes(city_config(cityscapes, splits="train_coarse"))
    assert caught.value.value == "train_coarse"
    with raises("unknown-split", field="splits") as caught:
        read_cityscapes(city_config(cityscapes, splits="train_fine,val_fin"))
    assert "'val_fine'" in caught.value.hint


def test_coarse_masks_with_and_without_train_extra(cityscapes, capsys):
    for frame in FRAMES:
        write_image(cityscapes / "gtCoarse" / f"{frame}_gtCoarse_labelIds.png", [[7, 7], [11, 0]])
    config = city_config(cityscapes, annotations="gtCoarse")
    assert names_of(read_cityscapes(config)) == {"train_coarse": ["aachen_000000_000019", "ulm_000001_000019"]}
    assert "train_extra: no such folder" in capsys.readouterr().err
    cityscapes_frame(cityscapes, "train_extra/bayreuth/bayreuth_000000_000019", gtCoarse_labelIds=[[7, 8], [11, 0]])
    source = read_cityscapes(config)
    assert names_of(source)["train_coarse"][-1] == "bayreuth_000000_000019"
    labels = built_labels(source, cityscapes / "out", "train_coarse")
    assert labels["bayreuth_000000_000019"] == [[0, 1], [2, 255]]


def test_image_in_two_formats(cityscapes):
    write_gray(cityscapes / "leftImg8bit" / f"{FRAMES[0]}_leftImg8bit.jpg")
    with raises("ambiguous-name") as caught:
        read_cityscapes(city_config(cityscapes))
    assert "`image_format`" in caught.value.hint
    with raises("no-files"):  # no validation image is a JPEG
        read_cityscapes(city_config(cityscapes, image_format="jpg"))


def test_the_command_writes_the_reference_s_shards(cityscapes):
    words = ["cityscapes", f"--cityscapes_root={cityscapes}", f"--output_dir={cityscapes / 'out'}", "--nocheck"]
    assert build_data.COMMAND.main(words) == 0
    shards = sorted(path.name for path in (cityscapes / "out").glob("*.tfrecord"))
    assert len(shards) == 20
    assert shards[0] == "train_fine-00000-of-00010.tfrecord"
    assert shards[10] == "val_fine-00000-of-00010.tfrecord"
