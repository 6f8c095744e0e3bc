"""DeepFashion2: items and their parts, the published folders, and annotation files that are not right."""

import json
import pickle

import pytest
from PIL import Image
from support.errors import raises

from deeplab.data import dataset as datasets
from deeplab.data.labels import LabelSpec
from deeplab.data.readers import deepfashion2
from deeplab.data.readers.deepfashion2 import CLOTHES, BuildDeepFashion2Config, read_deepfashion2
from deeplab.data.readers.source import UNDIVIDED, Painter

SHIRT = [0, 0, 4, 0, 4, 3, 0, 3]  # 12 pixels in the top left corner
BELT = [1, 1, 3, 1, 3, 2, 1, 2]  # 2 of them, in row 1


def item(category, *rings):
    name = CLOTHES[category - 1]
    return {"category_id": category, "category_name": name, "segmentation": list(rings), "occlusion": 2, "style": 1}


def content(**items):
    return {**items, "source": "user", "pair_id": 1}


def write(root, data, number=1, annos="annos", image="image"):
    for folder in (annos, image):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / image / f"{number:06}.jpg").touch()
    (root / annos / f"{number:06}.json").write_text(data if isinstance(data, str) else json.dumps(data))


def read(root, **settings):
    folders = {"annotation_folder": str(root / "annos"), "image_folder": str(root / "image")}
    return read_deepfashion2(BuildDeepFashion2Config(**{**folders, **settings}))


def draw(source):
    painter = Painter(source.class_names, LabelSpec())
    return pickle.loads(pickle.dumps(source.pairs()[0])).mask.draw(painter, 4, 5).tolist()


def test_items_are_painted_with_their_category_small_ones_on_large_ones(tmp_path):
    write(tmp_path, content(item1=item(13, BELT), item2=item(1, SHIRT)))
    source = read(tmp_path)
    assert [pair.name for pair in source.splits[UNDIVIDED]] == ["000001"]
    assert source.class_names == ("background", *CLOTHES) and source.drawn
    assert draw(source) == [[1, 1, 1, 1, 0], [1, 13, 13, 1, 0], [1, 1, 1, 1, 0], [0] * 5]
    assert draw(read(tmp_path, overlap="file"))[1] == [1, 1, 1, 1, 0]


def test_parts_of_an_item_are_a_union(tmp_path):
    write(tmp_path, content(item1=item(7, SHIRT, BELT, [4, 3, 5, 3, 5, 4, 4, 4], [])))
    assert draw(read(tmp_path)) == [[7, 7, 7, 7, 0]] * 3 + [[0, 0, 0, 0, 7]]


def test_the_known_dataset_has_the_same_classes():
    known = datasets.load_known("deepfashion2")
    assert known.class_names == ("background", *CLOTHES)
    assert len(set(known.colors)) == 14


def test_the_published_folders_are_the_splits(tmp_path):
    write(tmp_path / "train", content(), 1)
    write(tmp_path / "train", content(), 2)
    write(tmp_path / "validation", content(), 1)
    source = read_deepfashion2(BuildDeepFashion2Config(deepfashion2_root=str(tmp_path)))
    assert {split: [pair.name for pair in pairs] for split, pairs in source.splits.items()} == {
        "train": ["train/000001", "train/000002"],
        "val": ["val/000001"],
    }
    assert source.splits["val"][0].image == str(tmp_path / "validation" / "image" / "000001.jpg")


def test_photos_without_items_are_background_or_left_out(tmp_path, capsys):
    write(tmp_path, content(), 1)
    write(tmp_path, content(item1=item(3, BELT)), 2)
    assert draw(read(tmp_path)) == [[0] * 5] * 4
    assert [pair.name for pair in read(tmp_path, skip_empty=True).pairs()] == ["000002"]
    assert "1 image without a shape: left out: 000001" in capsys.readouterr().err


def test_photos_without_an_annotation_file_are_counted(tmp_path, capsys):
    write(tmp_path, content())
    (tmp_path / "image" / "000009.jpg").touch()
    assert len(read(tmp_path).pairs()) == 1
    assert "warning: 1 image without an annotation file left out: 000009.jpg" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "code", "place"),
    [
        ("{", "invalid-json", ""),
        ([], "wrong-format", ""),
        ({"shapes": []}, "wrong-format", ""),
        (content(item1=None), "wrong-type", "item1"),
        (content(item1={"segmentation": []}), "missing-key", "item1"),
        (content(item1=item(13, BELT) | {"category_id": 14}), "out-of-range", "item1"),
        (content(item1=item(13, BELT) | {"category_id": "13"}), "wrong-type", "item1"),
        (content(item2=item(13, BELT) | {"segmentation": None}), "wrong-type", "item2"),
        (content(item1=item(13, [1, 2, 3, 4, 5])), "invalid-points", "item1"),
        (content(item1=item(13, [1, 2, 3, 4, "a", 6])), "wrong-type", "item1"),
    ],
)
def test_files_that_break_the_format(tmp_path, data, code, place):
    write(tmp_path, data)
    with raises(code, where=f"000001.json, {place}" if place else "000001.json") as caught:
        draw(read(tmp_path))
    assert caught.value.hint


def test_items_without_an_area_paint_nothing(tmp_path):
    write(tmp_path, content(item1=item(13, [1, 2, 3, 4])))
    assert draw(read(tmp_path)) == [[0] * 5] * 4
    with raises("no-pairs"):
        read(tmp_path, skip_empty=True)


def test_an_annotation_file_without_its_photo_is_named(tmp_path):
    write(tmp_path, content())
    (tmp_path / "annos" / "000002.json").write_text("{}")
    with raises("image-not-found", where="000002.json") as caught:
        read(tmp_path)
    assert caught.value.value == "000002.jpg"
    assert len(read(tmp_path, on_missing="skip").pairs()) == 1


@pytest.mark.parametrize(
    ("settings", "code", "field"),
    [
        (
            {"deepfashion2_root": "{0}", "image_folder": "", "annotation_folder": ""},
            "wrong-layout",
            "deepfashion2_root",
        ),
        ({"deepfashion2_root": "{0}"}, "conflicting-settings", "deepfashion2_root"),
        ({"image_folder": ""}, "conflicting-settings", "deepfashion2_root"),
        ({"annotation_folder": "{0}/nowhere"}, "folder-not-found", "annotation_folder"),
        ({"image_folder": "{0}/nowhere"}, "folder-not-found", "image_folder"),
        ({"annotation_folder": "{0}/image"}, "no-pairs", None),
    ],
)
def test_folders_that_do_not_fit(tmp_path, settings, code, field):
    write(tmp_path, content())
    with raises(code, field=field):
        read(tmp_path, **{key: value.format(tmp_path) for key, value in settings.items()})


def test_items_far_outside_their_photos_stop_the_build(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(deepfashion2, "_MAX_LOOKED_AT", 6)
    for number in range(1, 13):
        write(tmp_path, content(item1=item(1, [0, 0, 80, 0, 80, 60, 0, 60])), number)
        Image.new("RGB", (80, 60)).save(tmp_path / "image" / f"{number:06}.jpg")
    read(tmp_path)
    assert "outside" not in capsys.readouterr().err
    for number in range(1, 13):
        Image.new("RGB", (40, 30)).save(tmp_path / "image" / f"{number:06}.jpg")
    with raises("shapes-outside", where="annotations") as caught:
        read(tmp_path)
    assert caught.value.value == 6 and "`annotation_scale=0.5`" in caught.value.hint  # every second file was looked at
    read(tmp_path, annotation_scale=0.5)
    assert "outside" not in capsys.readouterr().err
    assert len(read(tmp_path, on_outside="cut").pairs()) == 12
