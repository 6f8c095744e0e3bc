"""Supervisely's projects as they are exported, into labels worked out by hand."""

import base64
import io
import json
import pickle
import zlib

import numpy as np
import pytest
from PIL import Image
from support.errors import raises

from deeplab.data.labels import LabelSpec
from deeplab.data.readers.source import UNDIVIDED, Painter
from deeplab.data.readers.supervisely import BuildSuperviselyConfig, read_supervisely

META = {
    "classes": [
        {"title": "skin", "shape": "polygon", "color": "#FFC0A0", "geometry_config": {}, "id": 1, "hotkey": ""},
        {"title": "hair", "shape": "bitmap", "color": "#204000", "geometry_config": {}, "id": 2, "hotkey": ""},
    ],
    "tags": [],
    "projectType": "images",
}
SQUARE = [[1, 1], [3, 1], [3, 3], [1, 3]]


def figure(title, kind, **geometry):
    """An object as Supervisely writes it."""
    entry = {"id": 7, "classId": 1, "labelerLogin": "", "description": "", "tags": [], "geometryType": kind}
    return {**entry, "classTitle": title, **geometry}


def polygon(title, exterior, *interior):
    return figure(title, "polygon", points={"exterior": exterior, "interior": list(interior)})


def rectangle(title, *corners):
    return figure(title, "rectangle", points={"exterior": list(corners), "interior": []})


def packed(pixels):
    """A bitmap as Supervisely's library packs it: a palette PNG whose color 0 is transparent, in zlib, in base64."""
    png = Image.fromarray(np.asarray(pixels, np.uint8))
    png.putpalette([0, 0, 0, 255, 255, 255])
    buffer = io.BytesIO()
    png.save(buffer, "PNG", transparency=0, optimize=0)
    return base64.b64encode(zlib.compress(buffer.getvalue())).decode()


def bitmap(title, pixels, origin):
    return figure(title, "bitmap", bitmap={"data": packed(pixels), "origin": origin})


def annotation(*figures, **more):
    """A file of an image of 6x4 pixels."""
    return {"description": "", "tags": [], "size": {"height": 4, "width": 6}, "objects": list(figures), **more}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def add(project, dataset, content, image="a.jpg", file=None):
    write(project / dataset / "ann" / (file or f"{image}.json"), content)
    (project / dataset / "img").mkdir(exist_ok=True)
    (project / dataset / "img" / image).touch()


@pytest.fixture
def project(tmp_path):
    write(tmp_path / "meta.json", META)
    return tmp_path


def read(project, **settings):
    return read_supervisely(BuildSuperviselyConfig(project_folder=str(project), **settings))


def draw(source, size=(4, 6)):
    painter = Painter(source.class_names, LabelSpec())
    return pickle.loads(pickle.dumps(source.pairs()[0].mask)).draw(painter, *size).tolist()


def drawn(project, *figures, **settings):
    add(project, "one", annotation(*figures))
    return draw(read(project, **settings))


# --- Classes and splits -------------------------------------------------------------------------------------


def test_source(project):
    add(project, "one", annotation(polygon("hair", SQUARE)))
    source = read(project)
    assert source.class_names == ("background", "skin", "hair") and source.drawn  # in the order of meta.json
    assert source.colors == ((0, 0, 0), (255, 192, 160), (32, 64, 0))
    (pair,) = source.splits[UNDIVIDED]
    assert (pair.name, pair.image) == ("one/a", str(project / "one" / "img" / "a.jpg"))
    assert pair.mask_file == str(project / "one" / "ann" / "a.jpg.json") and pair.mask.size == (4, 6)


def test_a_background_of_its_own_keeps_its_place_and_color(project):
    classes = [{"title": title, "shape": "polygon", "color": "#010203"} for title in ("skin", "background", "ignore")]
    write(project / "meta.json", {"classes": classes})
    label = drawn(project, polygon("skin", SQUARE), rectangle("ignore", [0, 0], [5, 0]))
    source = read(project)
    assert source.class_names == ("skin", "background") and source.colors == ((1, 2, 3), (1, 2, 3))
    assert label == [[255] * 6, [1, 0, 0, 1, 1, 1], [1, 0, 0, 1, 1, 1], [1] * 6]


@pytest.mark.parametrize(
    ("datasets", "splits"),
    [
        (["train", "val"], {"train": ["train/a"], "val": ["val/a"]}),
        (["Train_1", "train_2", "validation", "test2"], {"train": 2, "val": 1, "test": 1}),
        (["train", "trainval", "val"], {"train": ["train/a"], "trainval": ["trainval/a"], "val": ["val/a"]}),
        (["training", "train_val"], {"train": ["training/a"], "trainval": ["train_val/a"]}),
        (["trains", "values"], {UNDIVIDED: ["trains/a", "values/a"]}),
        (["berlin", "train"], {UNDIVIDED: ["berlin/a", "train/a"]}),
        (["train"], {UNDIVIDED: ["train/a"]}),  # to be divided
        (["berlin", "ulm"], {UNDIVIDED: ["berlin/a", "ulm/a"]}),
    ],
)
def test_splits_by_the_names_of_datasets(project, datasets, splits):
    for name in datasets:
        add(project, name, annotation(polygon("hair", SQUARE)))
    found = read(project).splits
    if all(isinstance(members, int) for members in splits.values()):
        assert {split: len(pairs) for split, pairs in found.items()} == splits
    else:
        assert {split: [pair.name for pair in pairs] for split, pairs in found.items()} == splits


def test_datasets_can_be_chosen(project):
    for name in ("train", "trainval", "val"):
        add(project, name, annotation(polygon("hair", SQUARE)))
    assert list(read(project, datasets="train, val").splits) == ["train", "val"]
    with raises("unknown-name", field="datasets") as caught:
        read(project, datasets="train,vla")
    assert caught.value.value == "vla" and "'val'" in caught.value.hint


def test_nested_datasets(project):
    add(project, "city", annotation(polygon("hair", SQUARE)))
    add(project, "city/datasets/night", annotation(polygon("hair", SQUARE)))
    assert [pair.name for pair in read(project).pairs()] == ["city/a", "city/night/a"]


def test_older_names_of_annotation_files(project):
    add(project, "one", annotation(polygon("hair", SQUARE)), image="frame.01.png", file="frame.01.json")
    assert read(project).pairs()[0].name == "one/frame.01"


# --- Figures ------------------------------------------------------------------------------------------------


def test_whole_numbers_are_pixels_and_fractions_are_places(project):
    # From the center of pixel 1 to that of pixel 3: the first is in, the last is out.
    square = [[0] * 6, [0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0] * 6]
    assert drawn(project, polygon("skin", SQUARE)) == square
    assert drawn(project, polygon("skin", [[1.4, 1.4], [3.4, 1.4], [3.4, 3.4], [1.4, 3.4]])) == square
    assert drawn(project, polygon("skin", [[1.6, 1.4], [3.6, 1.4], [3.6, 3.4], [1.6, 3.4]]))[1] == [0, 0, 1, 1, 0, 0]


def test_corners_are_the_centers_of_pixels(project):
    # The long side runs from the center of pixel (4, 0) to that of (0, 4): column + row < 4.
    triangle = [[1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]]
    assert drawn(project, polygon("skin", [[0, 0], [4, 0], [0, 4]])) == triangle


def test_polygon_with_a_hole(project):
    outer, inner = [[0, 0], [5, 0], [5, 3], [0, 3]], [[1, 1], [1, 2], [3, 2], [3, 1]]
    assert drawn(project, polygon("skin", outer, inner))[:3] == [[1] * 5 + [0], [1, 0, 0, 1, 1, 0], [1] * 5 + [0]]


def test_several_polygons_in_one(project):
    parts = [{"exterior": [[x, 0], [x + 1, 0], [x + 1, 2], [x, 2]], "interior": []} for x in (0, 3)]
    assert drawn(project, figure("skin", "multipolygon", parts=parts))[1] == [1, 0, 0, 1, 0, 0]


def test_rectangle_holds_its_last_pixels(project):
    expected = [[0] * 6, [0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0], [0] * 6]
    assert drawn(project, rectangle("skin", [1, 1], [3, 2])) == expected
    assert drawn(project, rectangle("skin", [3, 2], [1, 1])) == expected
    assert drawn(project, rectangle("skin", [0.8, 0.9], [4.2, 3.1])) == expected


def test_bitmap_lies_at_its_origin(project):
    pixels = [[1, 0, 1], [1, 1, 0]]
    expected = [[0] * 6, [0, 0, 2, 0, 2, 0], [0, 0, 2, 2, 0, 0], [0] * 6]
    assert drawn(project, bitmap("hair", pixels, [2, 1])) == expected


def test_bitmap_from_supervisely_itself(project):
    """The example of its library's documentation: a ring of 3x3 pixels."""
    text = (
        "eJzrDPBz5+WS4mJgYOD19HAJAtLMIMwIInOeqf8BUmwBPiGuQPr///9Lb86/C2QxlgT5BTM4PLuRBuTwebo4"
        "hlTMSa44sKHhISMDuxpTYrr03F6gDIOnq5/LOqeEJgDM5ht6"
    )
    label = drawn(project, figure("hair", "bitmap", bitmap={"data": text, "origin": [1, 0]}))
    assert [row[:5] for row in label[:3]] == [[0, 2, 2, 2, 0], [0, 2, 0, 2, 0], [0, 2, 2, 2, 0]]


def test_lines_of_a_width(project):
    line = figure("skin", "line", points={"exterior": [[0, 1], [5, 1]], "interior": []})
    assert drawn(project, line, line_width=1) == [[0] * 6, [1] * 6, [0] * 6, [0] * 6]


def test_files_of_before_2019_state_no_geometry(project):
    old_bitmap = {"classTitle": "hair", "bitmap": {"data": packed([[1, 1]]), "origin": [0, 0]}, "points": None}
    old_polygon = {"classTitle": "skin", "bitmap": None, "points": {"exterior": SQUARE, "interior": []}}
    assert drawn(project, old_bitmap, old_polygon)[:2] == [[2, 2, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0]]


def test_order(project):
    large, small = rectangle("skin", [0, 0], [5, 3]), polygon("hair", SQUARE)
    assert drawn(project, small, large)[1] == [1] * 6
    assert drawn(project, small, large, overlap="area")[1] == [1, 2, 2, 1, 1, 1]


def test_other_figures_are_counted(project, capsys):
    line = figure("skin", "line", points={"exterior": [[0, 0], [3, 3]], "interior": []})
    nodes = figure("skin", "graph", nodes={})
    add(project, "one", annotation(line, nodes, line, polygon("skin", [[0, 0], [1, 1]])))
    add(project, "one", annotation(polygon("hair", SQUARE)), image="b.jpg")
    assert [pair.name for pair in read(project, skip_empty=True).pairs()] == ["one/b"]
    said = capsys.readouterr().err
    assert "4 shapes without an area left out (1 graph, 2 line, 1 too small)" in said
    assert "1 image without a shape: left out: one/a" in said


def test_images_without_an_annotation_file(project, capsys):
    add(project, "one", annotation(polygon("hair", SQUARE)))
    (project / "one" / "img" / "b.jpg").touch()
    assert len(read(project).pairs()) == 1
    assert "1 image without an annotation file left out: one/img/b.jpg" in capsys.readouterr().err


# --- Files that are not right ----------------------------------------------------------------------------


def test_where_no_project_is(tmp_path):
    with raises("file-not-found", where=tmp_path / "meta.json") as caught:
        read(tmp_path)
    assert "`project_folder`" in caught.value.hint
    write(tmp_path / "meta.json", META)
    with raises("wrong-layout", where=tmp_path):
        read(tmp_path)
    add(tmp_path, "one", annotation(polygon("hair", SQUARE)))
    with raises("file-not-found", where="meta.json") as caught:
        read(tmp_path / "one")
    assert caught.value.hint == f"`project_folder={tmp_path}`"
    write(tmp_path / "two" / "ann" / "a.jpg.json", annotation())
    with raises("wrong-layout", where=tmp_path) as caught:
        read(tmp_path)
    assert "two: there is ann/, but no img/" in caught.value.rule


@pytest.mark.parametrize(
    ("content", "code", "place"),
    [
        ("", "invalid-json", ""),
        ({"classes": None}, "wrong-type", ""),
        ({"classes": ["hair"]}, "wrong-type", "class 1"),
        ({"classes": [{"title": None}]}, "wrong-type", "class 1"),
        ({"classes": [{"title": "hair", "shape": 5}]}, "wrong-type", "class 1"),
    ],
)
def test_meta_that_breaks_the_format(project, content, code, place):
    write(project / "meta.json", content)
    add(project, "one", annotation())
    meta = project / "meta.json"
    with raises(code, where=f"{meta}, {place}" if place else meta) as caught:
        read(project)
    assert caught.value.hint


@pytest.mark.parametrize("color", ["red", 5, None, "#12"])
def test_colors_are_only_decoration(project, color):
    write(project / "meta.json", {"classes": [{"title": "hair", "shape": "polygon", "color": color}]})
    add(project, "one", annotation(polygon("hair", SQUARE)))
    assert read(project).colors == ((0, 0, 0), (0, 0, 0))


@pytest.mark.parametrize("name", ["neutral", "Void", "IGNORE"])
def test_classes_that_mark_ignored_pixels(project, name, capsys):
    classes = [{"title": title, "shape": "polygon", "color": "#010203"} for title in ("skin", name)]
    write(project / "meta.json", {"classes": classes})
    assert drawn(project, polygon(name, SQUARE))[1] == [0, 255, 255, 0, 0, 0]
    assert read(project).class_names == ("background", "skin")
    assert f"class {name!r} marks pixels that do not count" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "code", "place"),
    [
        ("{", "invalid-json", ""),
        ({"size": {}}, "missing-key", ""),
        (annotation(objects={}), "wrong-type", ""),
        (annotation("hair"), "wrong-type", "object 1"),
        (annotation(polygon("hair", SQUARE), polygon("hiar", SQUARE)), "unknown-class", "object 2"),
        (annotation(polygon(None, SQUARE)), "wrong-type", "object 1"),
        (annotation(figure("hair", 3)), "wrong-type", "object 1"),
        (annotation(size=[4, 6]), "wrong-type", ""),
        (annotation(size={"height": -4, "width": 6}), "out-of-range", ""),
    ],
)
def test_files_that_break_the_format(project, content, code, place):
    add(project, "one", content)
    path = project / "one" / "ann" / "a.jpg.json"
    with raises(code, where=f"{path}, {place}" if place else path) as caught:
        read(project)
    assert caught.value.hint


def broken_bitmap(**more):
    return figure("hair", "bitmap", bitmap={"data": packed([[1]]), "origin": [0, 0], **more})


def deflated(data):
    return base64.b64encode(zlib.compress(data)).decode()


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (polygon("skin", None), "wrong-type"),
        (polygon("skin", [[0, 0], [1, 1], ["2", 2]]), "wrong-type"),
        (figure("skin", "polygon"), "missing-key"),
        (figure("skin", "multipolygon", parts=[{}]), "missing-key"),
        (rectangle("skin", [0, 0]), "invalid-points"),
        (rectangle("skin", [0, 0], [None, 2]), "wrong-type"),
        (rectangle("skin", 3, 4), "wrong-type"),
        (broken_bitmap(origin=[1]), "invalid-points"),
        (broken_bitmap(origin=None), "wrong-type"),
        (broken_bitmap(origin=["1", 2]), "wrong-type"),
        (broken_bitmap(data=None), "wrong-type"),
        (broken_bitmap(data="!"), "invalid-base64"),
        (broken_bitmap(data=base64.b64encode(b"raw").decode()), "invalid-bitmap"),
        (broken_bitmap(data=base64.b64encode(zlib.compress(b"raw" * 99)[:-9]).decode()), "invalid-bitmap"),
        (broken_bitmap(data=deflated(b"raw")), "unreadable-image"),
        (broken_bitmap(data=packed(np.ones([7, 7]))), "size-mismatch"),
        (broken_bitmap(data=deflated(bytes(10**7))), "invalid-bitmap"),
    ],
)
def test_figures_that_break_the_format(project, entry, code):
    with raises(code, where=f"{project / 'one' / 'ann' / 'a.jpg.json'}, object 2") as caught:
        drawn(project, polygon("skin", SQUARE), entry)
    assert caught.value.hint


def test_figures_without_an_outline_are_left_out(project):
    assert drawn(project, figure("skin", "multipolygon", parts=[])) == [[0] * 6] * 4


def test_image_that_does_not_exist(project):
    add(project, "one", annotation(polygon("hair", SQUARE)))
    (project / "one" / "img" / "a.jpg").unlink()
    with raises("image-not-found", where="a.jpg.json") as caught:
        read(project)
    assert caught.value.value == "a.jpg"
