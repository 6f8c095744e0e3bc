"""VIA's files as they are written, into labels worked out by hand."""

import json
import math
import pickle

import pytest

from deeplab.data.labels import LabelRule
from deeplab.data.readers.source import UNDIVIDED, Painter, indices_of
from deeplab.data.readers.via import BuildViaConfig, read_via
from deeplab.utils.errors import UserError

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
    painter = Painter(indices_of(source.class_names, 255), 255, LabelRule())
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
    assert "2 shapes without an area left out (1 point, 1 polyline): a.jpg" in capsys.readouterr().err


# --- Which attribute is the class ---------------------------------------------------------------------------


def test_attribute_must_be_clear(folder):
    content = export(image(region(SQUARE, "hair", sure="yes"), region(SQUARE, "skin", sure="no")))
    with pytest.raises(UserError) as fault:
        read(folder, content)
    assert fault.value.where == str(folder / "via.json")
    assert "regions have the attributes 'part', 'sure': which is the class?" in fault.value.rule
    assert fault.value.hint.startswith("--label_attribute=part")
    assert read(folder, content, label_attribute="part").class_names == ("background", "hair", "skin")
    assert read(folder, content, label_attribute="sure").class_names == ("background", "no", "yes")
    with pytest.raises(
        UserError, match=r"--label_attribute: no region has the attribute 'prat'\n.*did you mean 'part'"
    ):
        read(folder, content, label_attribute="prat")


def test_check_boxes(folder):
    assert read(folder, export(image(region(SQUARE, {"hair": True, "skin": False})))).class_names[1:] == ("hair",)
    with pytest.raises(UserError, match=r"image 'a\.jpg', region 1: has several classes: 'hair', 'skin'"):
        read(folder, export(image(region(SQUARE, {"hair": True, "skin": True}))))


@pytest.mark.parametrize("label", ["", "  ", None, {}, {"hair": False}])
def test_regions_without_a_class(folder, label):
    content = export(image(region(WHOLE, "skin"), region(SQUARE, label)))
    with pytest.raises(UserError, match=r"region 2: has no class: `part` is empty\n.*--default_class=NAME"):
        read(folder, content)
    assert draw(read(folder, content, default_class="hair"))[1] == [2, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("attributes", [{}, [], None])
def test_no_attribute_at_all(folder, attributes):
    content = export(image({"shape_attributes": SQUARE, "region_attributes": attributes}))
    with pytest.raises(UserError, match=r"no region has an attribute .*\n.*--default_class=NAME"):
        read(folder, content)
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
    assert "1 images without a shape: background all over" in said
    assert "1 images that the file does not list left out: c.jpg" in said
    assert [pair.name for pair in read(folder, content, skip_empty=True).pairs()] == ["a"]


def test_image_listed_twice(folder):
    content = export(image(region(SQUARE)), image(region(SQUARE), size=99))
    with pytest.raises(UserError, match=r"via\.json, image 'a\.jpg': image 'a' was there before"):
        read(folder, content)


def test_images_that_are_not_there(folder):
    content = export(image(region(SQUARE)), image(name="x.jpg"), image(name="../via.json"))
    with pytest.raises(UserError, match=r"(?s)its image 'x\.jpg' is not in .*and 1 more faults.*'\.\./via\.json'"):
        read(folder, content)


# --- Files that are not as they should be -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "rule", "hint"),
    [
        ("{", "is not JSON", "export it again"),
        ("#filename,file_size,region_count", "is not JSON", "export it again"),
        ([], "must be an object, not a list", "Export Annotations (as JSON)"),
        ({}, "holds no image", "Export Annotations (as JSON)"),
        ({"images": [], "annotations": []}, "'images' is no image of VIA", "Export Annotations (as JSON)"),
        ({"project": {}, "metadata": {}, "file": {}}, "is a project of VIA 3", "VIA 2"),
        ({"_via_img_metadata": None}, "`_via_img_metadata` must be an object, not null", "export"),
        (export({**image(), "regions": 3}), "`regions` must be a list or an object, not the number 3", "export"),
        (export(image("polygon")), "region 1: it must be an object, not the text 'polygon'", "export"),
        ({"a": {**image(), "filename": None}}, "`filename` must be text, not null", "export"),
        (export(image(region(None))), "region 1: `shape_attributes` must be an object, not null", "export"),
        (export(image(region({}))), "region 1: `name` is missing", "export"),
        (export(image(region({"name": "blob"}))), "region 1: its shape is called 'blob'", "polygon, rect, circle"),
        (export(image(region(SQUARE, 1.5))), "`part` must be a whole number, not 1.5", "export"),
        (export(image(region(SQUARE, ["hair"]))), "`part` must be text or a whole number, not a list", "export"),
        (
            export(image({"shape_attributes": SQUARE, "region_attributes": ["x"]})),
            "must be an object, not a list",
            "export",
        ),
    ],
)
def test_faults_of_the_file(folder, content, rule, hint):
    with pytest.raises(UserError) as fault:
        read(folder, content)
    assert str(folder / "via.json") in fault.value.where
    assert rule in str(fault.value) and hint in fault.value.hint


@pytest.mark.parametrize(
    ("outline", "rule"),
    [
        ({**SQUARE, "all_points_x": [1, 2, 3]}, "`all_points_x` has 3 numbers, `all_points_y` 4"),
        ({**SQUARE, "all_points_x": None}, "`all_points_x` must be a list, not null"),
        ({**SQUARE, "all_points_x": [1, 2, 3, "4"]}, "coordinates must be numbers"),
        ({**SQUARE, "all_points_x": [1, 2, 3, [4]]}, "points must be pairs"),
        ({"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]}, "needs 3 points at least, not 2"),
        ({"name": "rect", "x": 0, "y": 0, "width": 6}, "`height` is missing"),
        ({"name": "circle", "cx": 1, "cy": 1, "r": -1}, "a radius must not be negative, as -1 is"),
        ({"name": "circle", "cx": 1, "cy": 1, "r": 1e12}, "coordinates are pixels"),
        ({"name": "ellipse", "cx": 1, "cy": 1, "rx": 2, "ry": "2"}, "`ry` must be a number, not the text '2'"),
    ],
)
def test_faults_of_a_region(folder, outline, rule):
    with pytest.raises(UserError) as fault:
        drawn(folder, region(WHOLE), region(outline))
    assert fault.value.where == f"{folder / 'via.json'}, image 'a.jpg', region 2"
    assert rule in fault.value.rule and fault.value.hint
