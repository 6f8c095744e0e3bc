"""ADE20K as people have it on disk: which pairs, which splits, which label values."""

import pytest
from support.errors import raises
from support.mask_files import built_labels, names_of, write_gray, write_image

from deeplab.data import dataset as datasets
from deeplab.data.readers.ade20k import BuildAde20kConfig, read_ade20k


def ade_config(root, **settings):
    folders = {
        "train_image_folder": "images/training",
        "train_image_label_folder": "annotations/training",
        "val_image_folder": "images/validation",
        "val_image_label_folder": "annotations/validation",
    }
    return BuildAde20kConfig(**{field: str(root / folder) for field, folder in folders.items()}, **settings)


def ade_pair(root, part, name, label=((0, 1), (2, 150))):
    write_gray(root / "images" / part / f"{name}.jpg")
    write_image(root / "annotations" / part / f"{name}.png", label)


@pytest.fixture
def ade20k(tmp_path):
    for number in range(12):
        ade_pair(tmp_path, "training", f"ADE_train_{number:08d}")
    for number in (2, 1, 3):
        ade_pair(tmp_path, "validation", f"ADE_val_{number:08d}")
    return tmp_path


def test_training_images_are_shuffled_by_the_seed(ade20k):
    first, again, other = (names_of(read_ade20k(ade_config(ade20k, shuffle_seed=seed))) for seed in (0, 0, 1))
    assert first == again
    assert first["train"] != other["train"]
    assert first["train"] != sorted(first["train"])
    assert sorted(first["train"]) == sorted(other["train"]) == [f"ADE_train_{number:08d}" for number in range(12)]
    assert first["val"] == ["ADE_val_00000001", "ADE_val_00000002", "ADE_val_00000003"]


def test_label_zero_is_ignored(ade20k):
    source = read_ade20k(ade_config(ade20k))
    labels = built_labels(source, ade20k / "out", "val")
    assert labels["ADE_val_00000001"] == [[0, 1], [2, 150]]
    described = datasets.load(ade20k / "out" / "dataset.yml")
    assert (described.num_classes, described.ignore_label) == (151, 0)
    assert described.ignored_pixels == {"train": 12, "val": 3}


def test_images_without_a_mask_are_named(ade20k):
    for number in range(11):
        (ade20k / "annotations" / "training" / f"ADE_train_{number:08d}.png").unlink()
    with raises("files-missing", where=ade20k / "annotations" / "training") as caught:
        read_ade20k(ade_config(ade20k))
    text = caught.value.rule
    assert caught.value.value == 11
    assert "ADE_train_00000009: no such file (.png)" in text and "ADE_train_00000010: no" not in text
    assert "and 1 more" in text


def test_masks_without_an_image_are_said(ade20k, capsys):
    write_image(ade20k / "annotations" / "validation" / "ADE_val_00000009.png", [[1]])
    assert len(read_ade20k(ade_config(ade20k)).splits["val"]) == 3
    assert "1 mask without an image, left out: ADE_val_00000009" in capsys.readouterr().err


def test_missing_and_empty_folders(ade20k):
    with raises("folder-not-found", field="train_image_folder"):
        read_ade20k(ade_config(ade20k / "nowhere"))
    with raises("no-files", field="train_image_folder"):
        read_ade20k(ade_config(ade20k, image_format="png"))
