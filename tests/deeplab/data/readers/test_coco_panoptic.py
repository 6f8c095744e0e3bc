"""COCO panoptic: segments in colors, their categories in JSON files, and where files are looked for."""

import json
import pickle

import numpy as np
import pytest
from support.errors import raises
from support.mask_files import built_labels, names_of, write_gray, write_image

from deeplab.data import dataset as datasets
from deeplab.data.readers.coco_panoptic import BuildCocoPanopticConfig, read_coco_panoptic

PERSON, GRASS, SKY = 1, 193, 187
CATEGORIES = [
    {"id": SKY, "name": "sky-other-merged", "isthing": 0, "color": [70, 130, 180]},
    {"id": PERSON, "name": "person", "isthing": 1, "color": [220, 20, 60]},
    {"id": GRASS, "name": "grass-merged", "isthing": 0, "color": [0, 200, 0]},
]
NUMBERS = [[0, 7], [300, 70000]]  # of segments: one per byte of the color


def as_colors(numbers):
    numbers = np.array(numbers)
    return np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=-1).astype(np.uint8)


def segment(number, category, **more):
    return {"id": number, "category_id": category, "iscrowd": 0, "bbox": [0, 0, 1, 1], "area": 1, **more}


def panoptic_file(root, split, names, **changes):
    """Writes images, PNG files and the JSON file of a split; `changes` replaces parts of the JSON file."""
    segments = [segment(7, PERSON), segment(300, PERSON, iscrowd=1), segment(70000, SKY)]
    content = {
        "info": {},
        "images": [
            {"id": number, "file_name": f"{name}.jpg", "height": 2, "width": 2} for number, name in enumerate(names)
        ],
        "annotations": [
            {"image_id": number, "file_name": f"{name}.png", "segments_info": segments}
            for number, name in enumerate(names)
        ],
        "categories": CATEGORIES,
        **changes,
    }
    for name in names:
        write_gray(root / f"{split}2017" / f"{name}.jpg")
        write_image(root / "annotations" / f"panoptic_{split}2017" / f"{name}.png", as_colors(NUMBERS))
    path = root / "annotations" / f"panoptic_{split}2017.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def release(tmp_path):
    panoptic_file(tmp_path, "train", ["000000000009", "000000000025"])
    panoptic_file(tmp_path, "val", ["000000000139"])
    return tmp_path


def read(root, **settings):
    given = {
        "annotations": ",".join(str(root / "annotations" / f"panoptic_{split}2017.json") for split in ("train", "val")),
        "image_folder": f"train:{root}/train2017,val:{root}/val2017",
    }
    return read_coco_panoptic(BuildCocoPanopticConfig(**{**given, **settings}))


def test_segments_become_classes_in_the_order_of_their_ids(release):
    source = read(release)
    assert source.class_names == ("person", "sky-other-merged", "grass-merged")
    assert names_of(source) == {"train": ["000000000009", "000000000025"], "val": ["000000000139"]}
    assert built_labels(source, release / "out", "train")["000000000009"] == [[255, 0], [0, 1]]
    described = datasets.load(release / "out" / "dataset.yml")
    assert described.class_names == source.class_names and described.colors[1] == (70, 130, 180)
    assert pickle.loads(pickle.dumps(source)).pairs() == source.pairs()


def test_png_files_in_one_folder_and_an_undivided_dataset(release, tmp_path):
    folder = release / "annotations" / "panoptic_val2017"
    source = read(
        release,
        annotations=f"{release}/annotations/panoptic_val2017.json",
        mask_folder=str(folder.rename(tmp_path / "elsewhere")),
        image_folder=f"{release}/val2017",
    )
    assert names_of(source) == {"val": ["000000000139"]}


def test_cityscapes_names_its_images_otherwise(tmp_path):
    image = {"id": "a", "file_name": "a_gtFine_leftImg8bit.png", "height": 2, "width": 2}
    annotation = {"image_id": "a", "file_name": "a.png", "segments_info": [segment(7, PERSON)]}
    path = panoptic_file(tmp_path, "val", ["a"], images=[image], annotations=[annotation])
    write_gray(tmp_path / "city" / "a_leftImg8bit.png")
    source = read(tmp_path, annotations=str(path), image_folder=str(tmp_path / "city"))
    assert names_of(source) == {"val": ["a_leftImg8bit"]}


def test_segments_that_are_not_listed(release):
    write_image(release / "annotations/panoptic_train2017/000000000025.png", as_colors([[9, 7], [9, 0]]))
    with raises("label-out-of-range", where="000000000025.png") as caught:
        built_labels(read(release), release / "out", "train")
    assert caught.value.value == [9]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"annotations": [{"image_id": 0, "segmentation": [[1, 2, 3, 4, 5, 6]], "category_id": 1}]}, "wrong-format"),
        ({"annotations": [{"image_id": 5, "file_name": "a.png", "segments_info": []}]}, "unknown-id"),
        ({"annotations": [{"image_id": 0, "file_name": "z.png", "segments_info": []}]}, "image-not-found"),
        ({"annotations": [{"image_id": 0, "file_name": "a.png", "segments_info": []}] * 2}, "duplicate-id"),
        (
            {"annotations": [{"image_id": 0, "file_name": "a.png", "segments_info": [segment(1, 99)]}]},
            "unknown-id",
        ),
        (
            {"annotations": [{"image_id": 0, "file_name": "a.png", "segments_info": [segment(2**24, PERSON)]}]},
            "out-of-range",
        ),
        ({"annotations": []}, "no-pairs"),
        ({"categories": []}, "missing-class-names"),
        ({"images": 3}, "wrong-type"),
    ],
)
def test_files_that_break_the_format(tmp_path, changes, code):
    path = panoptic_file(tmp_path, "val", ["a"], **changes)
    with raises(code):
        read(tmp_path, annotations=str(path), image_folder=f"{tmp_path}/val2017")


def test_what_is_missing_can_be_left_out(release, capsys):
    (release / "train2017" / "000000000009.jpg").unlink()
    with raises("image-not-found"):
        read(release)
    assert names_of(read(release, on_missing="skip"))["train"] == ["000000000025"]
    assert "left out: 000000000009.jpg" in capsys.readouterr().err


def test_several_files_of_one_split(release):
    files = ",".join(f"train:{path}" for path in sorted((release / "annotations").glob("*.json")))
    for folder in ({}, {"mask_folder": f"train:{release}"}):
        assert len(read(release, annotations=files, image_folder=f"train:{release}", **folder).pairs()) == 3
