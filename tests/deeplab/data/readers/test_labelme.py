"""labelme's files as they are written, into labels worked out by hand."""

import base64
import io
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from deeplab.data.labels import LabelRule
from deeplab.data.readers.labelme import BuildLabelmeConfig, read_labelme
from deeplab.data.readers.source import UNDIVIDED, Painter, indices_of
from deeplab.utils.errors import UserError


def shape(label, points, kind="polygon", **more):
    """One entry as labelme 5.5 writes it."""
    entry = {"label": label, "points": points, "group_id": None, "description": "", "shape_type": kind, "flags": {}}
    return {**entry, "mask": None, **more}


def annotation(*shapes, **more):
    """A file as labelme 5.5 writes it, of an image of 6x4 pixels."""
    content = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": "a.jpg", "imageData": None}
    return {**content, "imageHeight": 4, "imageWidth": 6, **more}


def encoded(pixels, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.fixture
def folder(tmp_path):
    touch(tmp_path / "a.jpg")
    return tmp_path


def read(folder, **settings):
    return read_labelme(BuildLabelmeConfig(annotation_folder=str(folder), **settings))


def draw(source, name="a", size=(4, 6)):
    (pair,) = [pair for pair in source.pairs() if pair.name == name]
    painter = Painter(indices_of(source.class_names, 255), 255, LabelRule())
    return pickle.loads(pickle.dumps(pair.mask)).draw(painter, *size)


def drawn(folder, *shapes, **settings):
    write(folder / "a.json", annotation(*shapes))
    return draw(read(folder, **settings)).tolist()


SQUARE = [[1.0, 1.0], [3.0, 1.0], [3.0, 3.0], [1.0, 3.0]]


def test_source(folder):
    path = write(folder / "a.json", annotation(shape("skin", SQUARE), shape("hair", SQUARE), shape("skin", SQUARE)))
    source = read(folder)
    assert source.class_names == ("background", "hair", "skin") and source.drawn
    (pair,) = source.splits[UNDIVIDED]
    assert (pair.name, pair.image, pair.mask_file) == ("a", str(folder / "a.jpg"), str(path))
    assert pair.mask.size == (4, 6)


def test_polygons_in_the_order_of_the_file(folder):
    large = shape("hair", [[0, 0], [6, 0], [6, 3], [0, 3]])
    small = shape("skin", SQUARE)
    expected = [[1, 1, 1, 1, 1, 1], [1, 2, 2, 1, 1, 1], [1, 2, 2, 1, 1, 1], [0] * 6]
    assert drawn(folder, large, small) == expected
    assert drawn(folder, small, large)[1] == [1] * 6
    assert drawn(folder, small, large, overlap="area") == expected


def test_rectangle_circle_and_rotated_box(folder):
    assert drawn(folder, shape("a", [[5.0, 3.0], [2.0, 1.0]], "rectangle"))[1:3] == [[0, 0, 1, 1, 1, 0]] * 2
    # Center (3, 2), rim at distance 1.8: centers of pixels at (0.5, 0.5), (0.5, 1.5) and (1.5, 0.5) lie inside.
    circle = [[0, 0, 1, 1, 0, 0], [0, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0]]
    assert drawn(folder, shape("a", [[3, 2], [3, 3.8]], "circle")) == circle
    assert drawn(folder, shape("a", SQUARE, "rotation"))[1] == [0, 1, 1, 0, 0, 0]
    assert drawn(folder, shape("a", SQUARE, "rectangle"))[1] == [0, 1, 1, 0, 0, 0]  # X-AnyLabeling writes all corners


@pytest.mark.parametrize("bright", [1, 255])
def test_mask_lies_in_its_box(folder, bright):
    pixels = encoded(np.array([[1, 0, 1], [1, 1, 0]]) * bright)
    expected = [[0] * 6, [0, 0, 1, 0, 1, 0], [0, 0, 1, 1, 0, 0], [0] * 6]
    assert drawn(folder, shape("a", [[2.0, 1.0], [4.0, 2.0]], "mask", mask=pixels)) == expected
    assert drawn(folder, shape("a", [[2.0, 1.0], [5.0, 3.0]], "mask", mask=pixels)) == expected  # end instead of last


def test_kinds_without_an_area_are_counted(folder, capsys):
    lines = [shape("x", [[0, 0], [3, 3]], kind) for kind in ("line", "linestrip", "point", "points")]
    write(folder / "a.json", annotation(*lines, shape("y", []), shape("hair", SQUARE)))
    assert read(folder).class_names == ("background", "hair")
    said = capsys.readouterr().err
    assert "5 shapes without an area left out (1 line, 1 linestrip, 1 point, 1 points, 1 shape without a point)" in said


def test_names_that_labelme_knows(folder):
    ignored, cleared = shape("__ignore__", [[0, 0], [6, 0], [6, 2], [0, 2]]), shape("_background_", SQUARE)
    assert drawn(folder, shape("hair", SQUARE), ignored, cleared)[1:3] == [[255, 0, 0, 255, 255, 255], [0] * 6]
    assert read(folder).class_names == ("background", "hair")


def test_file_of_version_3(folder):
    entry = {"label": "hair", "line_color": None, "fill_color": None, "points": SQUARE}
    content = {"flags": {}, "shapes": [entry], "lineColor": [0, 255, 0, 128], "fillColor": [255, 0, 0, 128]}
    write(folder / "a.json", {**content, "imagePath": "a.jpg", "imageData": "aGk="})
    source = read(folder)
    assert source.pairs()[0].mask.size is None
    assert draw(source)[1].tolist() == [0, 1, 1, 0, 0, 0]


# --- Images -------------------------------------------------------------------------------------------------


def test_images_in_a_folder_of_their_own(tmp_path):
    for city in ("ulm", "bonn"):
        touch(tmp_path / "images" / city / "1.png")
        path = "..\\..\\images\\" + city + "\\1.png"
        write(tmp_path / "json" / city / "1.json", annotation(shape("hair", SQUARE), imagePath=path))
    with pytest.raises(UserError) as fault:
        read(tmp_path / "json")
    assert fault.value.where == str(tmp_path / "json" / "bonn" / "1.json")
    assert fault.value.hint == f"--image_folder={tmp_path / 'images' / 'bonn'}"
    source = read(tmp_path / "json", image_folder=str(tmp_path / "images"))
    assert [pair.name for pair in source.pairs()] == ["bonn/1", "ulm/1"]
    assert source.pairs()[1].image == str(tmp_path / "images" / "ulm" / "1.png")


def test_renamed_image_is_found_by_the_name_of_its_json(folder, capsys):
    write(folder / "a.json", annotation(shape("hair", SQUARE), imagePath="IMG_0815.JPG"))
    assert read(folder).pairs()[0].image == str(folder / "a.jpg")
    assert "1 images found by the name of their JSON" in capsys.readouterr().err


def test_image_that_is_not_there(tmp_path):
    write(tmp_path / "a.json", annotation(shape("hair", SQUARE)))
    with pytest.raises(UserError, match=r"a\.json: its image 'a\.jpg' is not in .*\n.*give --image_folder"):
        read(tmp_path)


def test_image_inside_the_json(tmp_path):
    data = encoded(np.zeros([4, 6]))
    write(tmp_path / "json" / "sub" / "a.json", annotation(shape("hair", SQUARE), imageData=data))
    with pytest.raises(UserError, match=r"exists only inside the file.*\n.*--extract_images=FOLDER"):
        read(tmp_path / "json")
    for _ in range(2):  # the second time they are there
        source = read(tmp_path / "json", extract_images=str(tmp_path / "out"))
    assert source.pairs()[0].image == str(tmp_path / "out" / "sub" / "a.png")
    assert (tmp_path / "out" / "sub" / "a.png").read_bytes() == base64.b64decode(data)
    (tmp_path / "out" / "sub" / "a.png").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"a\.png: is there already, with other content"):
        read(tmp_path / "json", extract_images=str(tmp_path / "out"))
    assert (tmp_path / "out" / "sub" / "a.png").read_bytes() == b"mine"


def test_something_else_inside_the_json(tmp_path):
    for data, rule in (("aGVsbG8=", "neither JPEG, PNG nor BMP"), ("a", "`imageData` is no base64")):
        write(tmp_path / "a.json", annotation(shape("hair", SQUARE), imageData=data))
        with pytest.raises(UserError, match=rule):
            read(tmp_path, extract_images=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_images_without_a_json_are_left_out(folder, capsys):
    write(folder / "a.json", annotation(shape("hair", SQUARE)))
    touch(folder / "b.jpg")
    assert [pair.name for pair in read(folder).pairs()] == ["a"]
    assert "1 images without a JSON file left out: b.jpg" in capsys.readouterr().err


def test_images_without_a_shape(folder, capsys):
    write(folder / "a.json", annotation())
    touch(folder / "b.jpg")
    write(folder / "b.json", annotation(shape("hair", SQUARE), imagePath="b.jpg"))
    source = read(folder)
    assert [pair.name for pair in source.pairs()] == ["a", "b"] and not draw(source).any()
    assert "1 images without a shape: background all over (--skip_empty=true leaves them out): a" in (
        capsys.readouterr().err
    )
    assert [pair.name for pair in read(folder, skip_empty=True).pairs()] == ["b"]
    assert "1 images without a shape: left out: a" in capsys.readouterr().err


def test_two_files_of_one_image(folder):
    for name in ("a.json", "b.json"):
        write(folder / name, annotation(shape("hair", SQUARE)))
    with pytest.raises(UserError, match=r"b\.json: image 'a' was there before, in .*a\.json"):
        read(folder)


# --- Files that are not as they should be -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "rule", "hint"),
    [
        ("{", "is not JSON", "export it again"),
        ([], "must be an object with `shapes`, not a list", "export"),
        ({"images": [], "annotations": []}, "is no file of labelme", "move it out of --annotation_folder"),
        (annotation(shapes=None), "`shapes` must be a list, not null", "export"),
        (annotation("hair"), "shape 1: must be an object", "export"),
        (annotation(shape(None, SQUARE)), "shape 1: `label` must be text", "export"),
        (annotation(shape("", SQUARE)), "shape 1: `label` is empty", "give the shape a class"),
        (annotation(shape("a", None)), "shape 1: `points` must be a list, not null", "export"),
        (annotation(shape("a", SQUARE), shape("a", SQUARE, "blob")), "shape 2: `shape_type` is 'blob'", "known are"),
        (annotation(shape("a", SQUARE, 7)), "`shape_type` must be text, not the number 7", "export"),
        (annotation(imageHeight="4"), "`imageHeight` must be a whole number, not the text '4'", "export"),
        (annotation(imageHeight=0), "must be above 0, not 0 and 6", "take them out"),
        (annotation(imagePath=["a.jpg"]), "`imagePath` must be text, not a list", "export"),
    ],
)
def test_faults_that_show_on_reading(folder, content, rule, hint):
    write(folder / "a.json", content)
    with pytest.raises(UserError) as fault:
        read(folder)
    assert str(folder / "a.json") in str(fault.value)
    assert rule in str(fault.value) and hint in fault.value.hint


@pytest.mark.parametrize(
    ("entry", "rule"),
    [
        (shape("a", [[0, 0], [1, 1]]), "a polygon needs 3 points at least, not 2"),
        (shape("a", [[0, 0], [1, 1], [2, "2"]]), "coordinates must be numbers"),
        (shape("a", [[0, 0], [1, 1], [1e30, 2]]), "coordinates are pixels"),
        (shape("a", [[0, 0]], "circle"), "a circle has 2 points, not 1"),
        (shape("a", [[0, 0], [1]], "rectangle"), "must be pairs of x and y"),
        (shape("a", [[0, 0], [1, None]], "rectangle"), "a coordinate must be a number, not null"),
        (shape("a", [[0, 0], [2, 2]], "mask"), "`mask` must be text, not null"),
        (shape("a", [[0, 0], [2, 2]], "mask", mask="%"), "`mask` is no base64"),
        (shape("a", [[0, 0], [2, 2]], "mask", mask="aGk="), "its bitmap cannot be read as PNG"),
        (
            shape("a", [[0, 0], [5, 2]], "mask", mask=encoded(np.ones([3, 3]))),
            "is 3x3 pixels, but its `points` span 6x3",
        ),
        (shape("a", [[0, 0], [6, 6]], "mask", mask=encoded(np.ones([7, 7]))), "is larger than the image, 6x4"),
    ],
)
def test_faults_that_show_on_drawing(folder, entry, rule):
    write(folder / "a.json", annotation(shape("a", SQUARE), entry))
    with pytest.raises(UserError) as fault:
        draw(read(folder))
    assert fault.value.where == f"{folder / 'a.json'}, shape 2"
    assert rule in fault.value.rule and fault.value.hint


def test_several_faults_are_told_together(folder):
    for name in "abc":
        write(folder / f"{name}.json", "[]")
    with pytest.raises(UserError, match=r"(?s)a\.json: .* and 2 more faults:.*b\.json: .*c\.json: "):
        read(folder)


def test_folder_without_json(folder):
    with pytest.raises(UserError, match=r"holds no \.json file, nor does a subfolder\n.*--annotation_folder"):
        read(folder)
    with pytest.raises(UserError, match="--annotation_folder: no such folder"):
        read(folder / "json")


def test_all_left_out(folder):
    write(folder / "a.json", annotation())
    with pytest.raises(UserError, match=r"there is no image with annotations\n.*--skip_empty=false"):
        read(folder, skip_empty=True)


def test_file_that_changes_after_reading(folder):
    path = write(folder / "a.json", annotation(shape("hair", SQUARE)))
    source = read(folder)
    write(path, annotation(shape("beard", SQUARE)))
    with pytest.raises(UserError, match=r"a\.json: 'beard' is no class of this dataset"):
        draw(source)
    path.unlink()
    with pytest.raises(UserError, match=r"a\.json: cannot be read: No such file"):
        draw(source)
