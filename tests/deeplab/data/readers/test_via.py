"""VIA's files as they are written, into labels worked out by hand."""

import json
import math
import pickle

import numpy as np
import pytest
from PIL import Image
from support.errors import raises

from deeplab.data.labels import LabelSpec
from deeplab.data.readers.source import UNDIVIDED, Painter
from deeplab.data.readers.via import BuildViaConfig, read_via
from deeplab.utils.errors import UserError
from deeplab.utils.text import counted

SQUARE = {"name": "polygon", "all_points_x": [1, 3, 3, 1], "all_points_y": [1, 1, 3, 3]}
WHOLE = {"name": "rect", "x": 0, "y": 0, "width": 6, "height": 3}


def region(outline, label="hair", **attributes):
    return {"shape_attributes": outline, "region_attributes": {"part": label, **attributes}}


def image(*regions, name="a.jpg", size=1234):
    return {"filename": name, "size": size, "regions": list(regions), "file_attributes": {}}


def export(*images):
    """What VIA 2 exports: an object with a key of name and size for each image."""
    return {f"{entry['filename']}{entry['size']}": entry for entry in images}


def project(*images, options=None):
    """What VIA 2 saves as a project."""
    attribute = {"type": "dropdown", "description": "", "options": options or {}, "default_options": {}}
    return {
        "_via_settings": {"ui": {}, "core": {"default_filepath": ""}, "project": {"name": "heads"}},
        "_via_img_metadata": export(*images),
        "_via_attributes": {"region": {"part": attribute}, "file": {}},
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": list(export(*images)),
    }


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").touch()
    return tmp_path


def read(folder, content, **settings):
    (folder / "via.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return read_via(
        BuildViaConfig(annotations=str(folder / "via.json"), image_folder=str(folder / "images"), **settings)
    )


def draw(source, name="a", size=(4, 6)):
    (pair,) = [pair for pair in source.pairs() if pair.name == name]
    painter = Painter(source.class_names, LabelSpec())
    return pickle.loads(pickle.dumps(pair.mask)).draw(painter, *size).tolist()


def drawn(folder, *regions, **settings):
    return draw(read(folder, export(image(*regions)), **settings))


def test_export_of_version_2(folder):
    source = read(folder, export(image(region(WHOLE, "skin"), region(SQUARE))))
    assert source.class_names == ("background", "hair", "skin") and source.drawn
    (pair,) = source.splits[UNDIVIDED]
    assert (pair.name, pair.image) == ("a", str(folder / "images" / "a.jpg"))
    assert pair.mask_file == f"{folder / 'via.json'}, image 'a.jpg'" and pair.mask.size is None
    assert draw(source) == [[2] * 6, [2, 1, 1, 2, 2, 2], [2, 1, 1, 2, 2, 2], [0] * 6]


def test_export_of_version_1(folder):
    entry = {
        **image(),
        "fileref": "",
        "base64_img_data": "",
        "regions": {"0": region(WHOLE), "1": region(SQUARE, "skin")},
    }
    assert draw(read(folder, {"a.jpg1234": entry}))[1] == [1, 2, 2, 1, 1, 1]


def test_project(folder):
    assert draw(read(folder, project(image(region(SQUARE)))))[1] == [0, 1, 1, 0, 0, 0]


def test_numbered_options_of_a_project_have_names(folder):
    content = project(image(region(SQUARE, "2"), region(SQUARE, "1")), options={"1": "hair", "2": "skin"})
    assert read(folder, content).class_names == ("background", "hair", "skin")
    content = project(image(region(SQUARE, "hair")), options={"hair": "the hair of the head"})
    assert read(folder, content).class_names == ("background", "hair")


def test_order(folder):
    assert drawn(folder, region(SQUARE, "skin"), region(WHOLE))[1] == [1] * 6
    assert drawn(folder, region(SQUARE, "skin"), region(WHOLE), overlap="area")[1] == [1, 2, 2, 1, 1, 1]


def test_rectangle_circle_and_ellipse(folder):
    box = {"name": "rect", "x": 2, "y": 1, "width": 3, "height": 2}
    assert drawn(folder, region(box)) == [[0] * 6, [0, 0, 1, 1, 1, 0], [0, 0, 1, 1, 1, 0], [0] * 6]
    circle = [[0, 0, 1, 1, 0, 0], [0, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0]]
    assert drawn(folder, region({"name": "circle", "cx": 3, "cy": 2, "r": 1.8})) == circle
    flat = {"name": "ellipse", "cx": 3, "cy": 2, "rx": 2.8, "ry": 0.9}
    assert drawn(folder, region(flat)) == [[0] * 6, [0, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 0], [0] * 6]
    upright = {"name": "ellipse", "cx": 3, "cy": 2, "rx": 2.8, "ry": 0.9, "theta": math.pi / 2}  # radians
    assert drawn(folder, region(upright)) == [[0, 0, 1, 1, 0, 0]] * 4
    down = {"name": "ellipse", "cx": 3, "cy": 2, "rx": 2.8, "ry": 0.6, "theta": math.pi / 4}  # the right end sinks
    label = drawn(folder, region(down))
    assert label[3][4] == 1 and label[0][1] == 1 and label[0][4] == 0


def test_lines_and_points_are_counted(folder, capsys):
    line = {"name": "polyline", "all_points_x": [1, 2], "all_points_y": [1, 2]}
    content = export(image(region(line, "x"), region({"name": "point", "cx": 1, "cy": 2}, "x"), region(SQUARE)))
    assert read(folder, content).class_names == ("background", "hair")
    assert "2 shapes without an area left out (1 point, 1 polyline): a\n" in capsys.readouterr().err


# --- Which attribute is the class ---------------------------------------------------------------------------


def test_attribute_must_be_clear(folder):
    content = export(image(region(SQUARE, "hair", sure="yes"), region(SQUARE, "skin", sure="no")))
    with raises("unclear-attribute", where=folder / "via.json") as caught:
        read(folder, content)
    assert caught.value.value == ("part", "sure") and caught.value.hint.startswith("`label_attribute=part`")
    assert read(folder, content, label_attribute="part").class_names == ("background", "hair", "skin")
    assert read(folder, content, label_attribute="sure").class_names == ("background", "no", "yes")
    with raises("unknown-name", field="label_attribute") as caught:
        read(folder, content, label_attribute="prat")
    assert caught.value.value == "prat" and "'part'" in caught.value.hint


def test_check_boxes(folder):
    assert read(folder, export(image(region(SQUARE, {"hair": True, "skin": False})))).class_names[1:] == ("hair",)
    with raises("several-classes", where="image 'a.jpg', region 1"):
        read(folder, export(image(region(SQUARE, {"hair": True, "skin": True}))))


@pytest.mark.parametrize("label", ["", "  ", None, {}, {"hair": False}])
def test_regions_without_a_class(folder, label):
    content = export(image(region(WHOLE, "skin"), region(SQUARE, label)))
    with raises("missing-class", where="image 'a.jpg', region 2") as caught:
        read(folder, content)
    assert "`default_class=NAME`" in caught.value.hint
    assert draw(read(folder, content, default_class="hair"))[1] == [2, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("attributes", [{}, [], None])
def test_no_attribute_at_all(folder, attributes):
    content = export(image({"shape_attributes": SQUARE, "region_attributes": attributes}))
    with raises("missing-class", where="via.json") as caught:
        read(folder, content)
    assert "`default_class=NAME`" in caught.value.hint
    assert read(folder, content, default_class="balloon").class_names == ("background", "balloon")


# --- Images -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", ["a.png", "https://some.where/a.jpg?x=1", "C:\\heads\\a.jpg", "../../a.jpg"])
def test_images_by_other_names(folder, stored):
    source = read(folder, export(image(region(SQUARE), name=stored)))
    assert source.pairs()[0].image == str(folder / "images" / "a.jpg")


def test_images_without_a_region_and_unlisted_ones(folder, capsys):
    for name in ("b.jpg", "c.jpg"):
        (folder / "images" / name).touch()
    content = export(image(region(SQUARE)), image(name="b.jpg"))
    source = read(folder, content)
    assert [pair.name for pair in source.pairs()] == ["a", "b"] and draw(source, "b") == [[0] * 6] * 4
    said = capsys.readouterr().err
    assert "1 image without a shape: background everywhere" in said
    assert "1 image that no file lists left out: c.jpg" in said
    assert [pair.name for pair in read(folder, content, skip_empty=True).pairs()] == ["a"]


def test_image_listed_twice(folder):
    content = export(image(region(SQUARE)), image(region(SQUARE), size=99))
    with raises("duplicate-image", where="via.json, image 'a.jpg'"):
        read(folder, content)


def test_images_that_do_not_exist(folder):
    content = export(image(region(SQUARE)), image(name="x.jpg"), image(name="../via.json"))
    with pytest.raises(UserError, match=r"(?s)its image 'x\.jpg' is not in .*and 1 more errors.*'\.\./via\.json'"):
        read(folder, content)


# --- Several files and CSV ----------------------------------------------------------------------------------


def write_split(folder, split, label="hair"):
    (folder / split).mkdir()
    (folder / split / "a.jpg").touch()
    (folder / split / "via_region_data.json").write_text(json.dumps(export(image(region(SQUARE, label)))))
    return str(folder / split / "via_region_data.json")


def test_a_file_per_split(folder):
    """As in the balloon dataset of Mask R-CNN: train/via_region_data.json and val/via_region_data.json."""
    files = [write_split(folder, "train"), write_split(folder, "val", "skin")]
    for named in (",".join(files), f"train:{files[0]},val:{files[1]}"):
        for image_folder in ("", str(folder)):
            source = read_via(BuildViaConfig(annotations=named, image_folder=image_folder))
            images = {split: [pair.image for pair in pairs] for split, pairs in source.splits.items()}
            assert images == {split: [str(folder / split / "a.jpg")] for split in ("train", "val")}
            assert source.class_names == ("background", "hair", "skin")


CSV = """filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes
a.jpg,0,"{}",2,0,"{""name"":""polygon"",""all_points_x"":[1,3,3,1],""all_points_y"":[1,1,3,3]}","{""part"":""hair""}"
a.jpg,0,"{}",2,1,"{""name"":""rect"",""x"":4,""y"":0,""width"":2,""height"":1}","{""part"":""skin""}"
b.jpg,0,"{}",0,0,"{}","{}"
"""


@pytest.mark.parametrize("head", ["", "#"])
def test_export_as_csv(folder, head):
    (folder / "images" / "b.jpg").touch()
    (folder / "via.csv").write_text(head + CSV)
    source = read_via(BuildViaConfig(annotations=str(folder / "via.csv"), image_folder=str(folder / "images")))
    assert [pair.name for pair in source.pairs()] == ["a", "b"]
    assert draw(source) == [[0, 0, 0, 0, 2, 2], *[[0, 1, 1, 0, 0, 0]] * 2, [0] * 6] and not np.any(draw(source, "b"))


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("name,class\na.jpg,hair\n", "wrong-format", ""),
        (CSV.replace('"{""part"":""hair""}"', "{part"), "invalid-json", ", line 2"),
        (CSV.replace("[1,1,3,3]", "[1,1,3]"), "invalid-points", ", image 'a.jpg', region 1"),
        ("", "wrong-format", ""),
    ],
)
def test_csv_that_breaks_the_format(folder, text, code, place):
    (folder / "via.csv").write_text(text)
    with raises(code, where=f"{folder / 'via.csv'}{place}"):
        read_via(BuildViaConfig(annotations=str(folder / "via.csv"), image_folder=str(folder / "images")))


# --- Images that were resized -------------------------------------------------------------------------------


def test_shapes_outside_and_another_file_size_are_pointed_out(folder, capsys):
    Image.new("RGB", (12, 8)).save(folder / "images" / "a.jpg")
    large = {"name": "rect", "x": 8, "y": 4, "width": 16, "height": 12}  # on an image of 24x16 pixels
    with raises("shapes-outside", where="annotations"):
        read(folder, export(image(region(large), size=98765)))
    source = read(folder, export(image(region(large), size=98765)), on_outside="cut")
    said = capsys.readouterr().err
    assert "1 image with shapes that reach far outside" in said
    assert "1 of 1 image with another file size than VIA noted" in " ".join(said.split())
    halved = read(folder, export(image(region(large), size=98765)), annotation_scale=0.5)
    assert "outside" not in capsys.readouterr().err
    label = draw(halved, size=(8, 12))
    assert label[2][4] == label[7][11] == 1 and label[1][4] == label[2][3] == 0
    assert draw(source, size=(16, 24))[4][8] == 1


@pytest.mark.parametrize("others, probable", [(4, True), (3, True), (2, False), (1, False), (0, None)])
def test_other_files_than_the_annotated_ones_by_their_number_of_bytes(folder, capsys, others, probable):
    """VIA states no size of images, only that of files: where most differ, other files were annotated."""
    for number in range(4):
        (folder / "images" / f"{number}.jpg").write_bytes(bytes(100))
    entries = [image(region(SQUARE), name=f"{n}.jpg", size=100 + (n < others)) for n in range(4)]
    read(folder, export(*entries))
    said = " ".join(capsys.readouterr().err.split())
    assert (f"{others} of 4 images with another file size" in said) == bool(probable)
    assert (f"warning: {counted(others, 'image')} with another file size" in said) == (probable is False)
    assert ("probably drawn on other files" in said and "annotation_scale" in said) == bool(probable)


# --- Files that are not right -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "code", "place"),
    [
        ("{", "invalid-json", ""),
        ("#filename,file_size,region_count", "invalid-json", ""),
        ([], "wrong-format", ""),
        ({}, "wrong-format", ""),
        ({"images": [], "annotations": []}, "wrong-format", ""),
        ({"project": {}, "metadata": {}, "file": {}}, "wrong-format", ""),
        ({"_via_img_metadata": None}, "wrong-type", ""),
        (export({**image(), "regions": 3}), "wrong-type", ", image 'a.jpg'"),
        (export(image("polygon")), "wrong-type", ", image 'a.jpg', region 1"),
        ({"a": {**image(), "filename": None}}, "wrong-type", ", image 'a'"),
        (export(image(region(None))), "wrong-type", ", image 'a.jpg', region 1"),
        (export(image(region({}))), "missing-key", ", image 'a.jpg', region 1"),
        (export(image(region({"name": "blob"}))), "unknown-shape", ", image 'a.jpg', region 1"),
        (export(image(region(SQUARE, 1.5))), "wrong-type", ", image 'a.jpg', region 1"),
        (export(image(region(SQUARE, ["hair"]))), "wrong-type", ", image 'a.jpg', region 1"),
        (
            export(image({"shape_attributes": SQUARE, "region_attributes": ["x"]})),
            "wrong-type",
            ", image 'a.jpg', region 1",
        ),
    ],
)
def test_files_that_break_the_format(folder, content, code, place):
    with raises(code, where=f"{folder / 'via.json'}{place}") as caught:
        read(folder, content)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("outline", "code"),
    [
        ({**SQUARE, "all_points_x": None}, "wrong-type"),
        ({**SQUARE, "all_points_x": [1, 2, 3]}, "invalid-points"),
        ({**SQUARE, "all_points_x": [1, 2, 3, "4"]}, "wrong-type"),
        ({**SQUARE, "all_points_x": [1, 2, 3, [4]]}, "invalid-points"),
        ({"name": "rect", "x": 0, "y": 0, "width": 6}, "missing-key"),
        ({"name": "circle", "cx": 1, "cy": 1, "r": -1}, "out-of-range"),
        ({"name": "circle", "cx": 1, "cy": 1, "r": 1e12}, "out-of-range"),
        ({"name": "ellipse", "cx": 1, "cy": 1, "rx": 2, "ry": "2"}, "wrong-type"),
    ],
)
def test_regions_that_break_the_format(folder, outline, code):
    with raises(code, where=f"{folder / 'via.json'}, image 'a.jpg', region 2") as caught:
        drawn(folder, region(WHOLE), region(outline))
    assert caught.value.hint


def test_regions_without_an_area_are_left_out(folder, capsys):
    two = {"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]}
    assert drawn(folder, region(two), region(SQUARE)) == drawn(folder, region(SQUARE))
    assert "1 shape without an area left out (1 too small): a\n" in capsys.readouterr().err


def test_lines_have_an_area_if_they_are_closed_or_have_a_width(folder):
    closed = {"name": "polyline", "all_points_x": [1, 3, 3, 1, 1], "all_points_y": [1, 1, 3, 3, 1]}
    assert drawn(folder, region(closed)) == drawn(folder, region(SQUARE))
    line = {"name": "polyline", "all_points_x": [0, 6], "all_points_y": [1, 1]}
    assert drawn(folder, region(line), line_width=2) == [[1] * 6, [1] * 6, [0] * 6, [0] * 6]
