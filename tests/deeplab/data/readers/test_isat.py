"""ISAT: layers, holes, classes of isat.yaml, crowds."""

import json

import numpy as np
import pytest
from PIL import Image
from support.errors import raises

from deeplab.config.conversion_config import FilePerImageConfig
from deeplab.data.labels import LabelSpec
from deeplab.data.readers.isat import read_isat
from deeplab.data.readers.source import Painter

OUTER = [[1, 1], [9, 1], [9, 9], [1, 9]]
INNER = [[3, 3], [7, 3], [7, 7], [3, 7]]


def entry(category, points, layer, **more):
    return {"category": category, "group": 1, "segmentation": points, "layer": layer, "iscrowd": False, **more}


def write(folder, objects, name="a", **info):
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10)).save(folder / f"{name}.jpg")
    info = {"description": "ISAT", "name": f"{name}.jpg", "width": 12, "height": 10, **info}
    (folder / f"{name}.json").write_text(json.dumps({"info": info, "objects": objects}))
    return folder


def drawn(folder, **settings):
    source = read_isat(FilePerImageConfig(annotation_folder=str(folder), **settings))
    return source, source.pairs()[0].mask.draw(Painter(source.class_names, LabelSpec()), 10, 12)


def test_higher_layers_cover_lower_ones_and_the_background_cuts_holes(tmp_path):
    objects = [entry("__background__", INNER, 2.5), entry("cup", OUTER, 1.0)]
    source, label = drawn(write(tmp_path, objects))
    assert source.class_names == ("background", "cup") and source.drawn
    assert label.sum() == 64 - 16 and label[5, 5] == 0 and label[2, 2] == 1


def test_objects_of_several_polygons_and_crowds(tmp_path, capsys):
    objects = [entry("cup", [INNER, OUTER], 1.0), entry("cup", [[0, 0], [12, 0], [12, 10], [0, 10]], 9.0, iscrowd=True)]
    source, label = drawn(write(tmp_path, objects))
    assert np.count_nonzero(label == 1) == 64 and np.count_nonzero(label == 255) == 120 - 64  # crowds are beneath
    assert "1 crowd region turned into ignored pixels" in capsys.readouterr().err
    assert source.class_names == ("background", "cup")


def test_isat_yaml_gives_order_and_colors(tmp_path):
    write(tmp_path, [entry("cup", OUTER, 1), entry("spoon", INNER, 2)])
    names = [("__background__", "#000000"), ("spoon", "#ff0000"), ("cup", "#00ff00")]
    lines = ["label:"] + [f"- {{name: {name}, color: '{color}'}}" for name, color in names]
    (tmp_path / "isat.yaml").write_text("\n".join(lines))
    source, label = drawn(tmp_path)
    assert source.class_names == ("background", "spoon", "cup") and source.colors[1:] == ((255, 0, 0), (0, 255, 0))
    assert label[5, 5] == 1 and label[2, 2] == 2


def test_a_wrong_image_name_is_replaced_by_that_of_the_file_and_said(tmp_path, capsys):
    write(tmp_path, [entry("cup", OUTER, 1)])
    path = tmp_path / "a.json"
    path.write_text(path.read_text().replace("a.jpg", "elsewhere.png"))
    source, _ = drawn(tmp_path)
    assert [pair.name for pair in source.pairs()] == ["a"]
    assert "found by the name of the annotation file" in capsys.readouterr().err


def test_subfolders_that_are_splits(tmp_path):
    write(tmp_path / "train", [entry("cup", OUTER, 1)])
    write(tmp_path / "val", [entry("cup", INNER, 1)], "b")
    source, _ = drawn(tmp_path)
    assert {split: len(pairs) for split, pairs in source.splits.items()} == {"train": 1, "val": 1}


@pytest.mark.parametrize(
    ("objects", "code"),
    [
        ([entry("", OUTER, 1)], "empty-name"),
        ([entry("cup", "text", 1)], "wrong-type"),
        ([entry("cup", [[1, 2], [3]], 1)], "invalid-points"),
        ([entry("cup", OUTER, "high")], "wrong-type"),
    ],
)
def test_errors_name_the_object(tmp_path, objects, code):
    with raises(code, where="a.json, object 1"):
        drawn(write(tmp_path, objects))


def test_other_json_files_are_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"shapes": []}')
    with raises("wrong-format", where="a.json"):
        drawn(tmp_path)
