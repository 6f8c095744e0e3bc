"""labelme's files as they are written, into labels worked out by hand."""

import base64
import io
import json
import pickle

import numpy as np
import pytest
from PIL import Image
from support.errors import raises

from deeplab.data.labels import LabelSpec
from deeplab.data.readers.labelme import BuildLabelmeConfig, read_labelme
from deeplab.data.readers.source import UNDIVIDED, Painter
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
    painter = Painter(source.class_names, LabelSpec())
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
    small = [shape("z", [[0, 0], [1, 1]]), shape("z", [[1, 1], [1, 1]], "circle"), shape("z", [[1, 1]], "rectangle")]
    write(folder / "a.json", annotation(*lines, *small, shape("y", []), shape("hair", SQUARE)))
    assert read(folder).class_names == ("background", "hair")
    said = capsys.readouterr().err
    kinds = "1 line, 1 linestrip, 1 point, 1 points, 1 shape without a point, 3 too small"
    assert f"8 shapes without an area left out ({kinds})" in said


def test_lines_have_an_area_if_they_are_closed_or_have_a_width(folder):
    line = shape("hair", [[0, 1], [6, 1]], "line")
    assert drawn(folder, line, line_width=2) == [[1] * 6, [1] * 6, [0] * 6, [0] * 6]
    closed = shape("hair", [*SQUARE, SQUARE[0]], "linestrip")
    assert drawn(folder, closed) == drawn(folder, shape("hair", SQUARE))


def test_subfolders_that_are_called_train_and_val_are_the_splits(folder):
    for name in ("train/a", "val/b"):
        touch(folder / f"{name}.jpg")
        write(folder / f"{name}.json", annotation(shape("hair", SQUARE), imagePath=f"{name[-1]}.jpg"))
    source = read(folder)
    assert {split: [pair.name for pair in pairs] for split, pairs in source.splits.items()} == {
        "train": ["train/a"],
        "val": ["val/b"],
    }
    named = read_labelme(BuildLabelmeConfig(annotation_folder=f"one:{folder / 'train'},two:{folder / 'val'}"))
    assert {split: [pair.name for pair in pairs] for split, pairs in named.splits.items()} == {
        "one": ["a"],
        "two": ["b"],
    }


def test_images_of_another_size_than_stated_are_scaled_on_request(folder):
    write(folder / "a.json", annotation(shape("hair", SQUARE)))
    label = draw(read(folder, scale_annotations=True), size=(8, 12))
    assert np.array_equal(label, np.kron(draw(read(folder)), np.ones((2, 2))))


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
    with raises("image-not-found", where=tmp_path / "json" / "bonn" / "1.json") as caught:
        read(tmp_path / "json")
    assert caught.value.hint == f"`image_folder={tmp_path / 'images' / 'bonn'}`"
    source = read(tmp_path / "json", image_folder=str(tmp_path / "images"))
    assert [pair.name for pair in source.pairs()] == ["bonn/1", "ulm/1"]
    assert source.pairs()[1].image == str(tmp_path / "images" / "ulm" / "1.png")


def test_renamed_image_is_found_by_the_name_of_its_json(folder, capsys):
    write(folder / "a.json", annotation(shape("hair", SQUARE), imagePath="IMG_0815.JPG"))
    assert read(folder).pairs()[0].image == str(folder / "a.jpg")
    assert "1 image found by the name of the JSON file" in capsys.readouterr().err


def test_image_that_does_not_exist(tmp_path):
    write(tmp_path / "a.json", annotation(shape("hair", SQUARE)))
    with raises("image-not-found", where="a.json") as caught:
        read(tmp_path)
    assert caught.value.value == "a.jpg" and "`image_folder`" in caught.value.hint


def test_image_inside_the_json(tmp_path):
    data = encoded(np.zeros([4, 6]))
    write(tmp_path / "json" / "sub" / "a.json", annotation(shape("hair", SQUARE), imageData=data))
    with raises("image-not-found", where="a.json") as caught:
        read(tmp_path / "json")
    assert "`extract_images=FOLDER`" in caught.value.hint
    for _ in range(2):  # the second time they are there
        source = read(tmp_path / "json", extract_images=str(tmp_path / "out"))
    assert source.pairs()[0].image == str(tmp_path / "out" / "sub" / "a.png")
    assert (tmp_path / "out" / "sub" / "a.png").read_bytes() == base64.b64decode(data)
    (tmp_path / "out" / "sub" / "a.png").write_bytes(b"mine")
    with raises("would-overwrite", where="a.png"):
        read(tmp_path / "json", extract_images=str(tmp_path / "out"))
    assert (tmp_path / "out" / "sub" / "a.png").read_bytes() == b"mine"


def test_something_else_inside_the_json(tmp_path):
    for data, code in (("aGVsbG8=", "unreadable-image"), ("a", "invalid-base64")):
        write(tmp_path / "a.json", annotation(shape("hair", SQUARE), imageData=data))
        with raises(code, where="a.json"):
            read(tmp_path, extract_images=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_images_without_a_json_are_left_out(folder, capsys):
    write(folder / "a.json", annotation(shape("hair", SQUARE)))
    touch(folder / "b.jpg")
    assert [pair.name for pair in read(folder).pairs()] == ["a"]
    assert "1 image without a .json file left out: b.jpg" in capsys.readouterr().err


def test_images_without_a_shape(folder, capsys):
    write(folder / "a.json", annotation())
    touch(folder / "b.jpg")
    write(folder / "b.json", annotation(shape("hair", SQUARE), imagePath="b.jpg"))
    source = read(folder)
    assert [pair.name for pair in source.pairs()] == ["a", "b"] and not draw(source).any()
    assert "1 image without a shape: background everywhere (`skip_empty=true` leaves such images out): a" in (
        capsys.readouterr().err
    )
    assert [pair.name for pair in read(folder, skip_empty=True).pairs()] == ["b"]
    assert "1 image without a shape: left out: a" in capsys.readouterr().err


def test_two_files_of_one_image(folder):
    for name in ("a.json", "b.json"):
        write(folder / name, annotation(shape("hair", SQUARE)))
    with raises("duplicate-image", where="b.json") as caught:
        read(folder)
    assert caught.value.value == "a" and "a.json" in caught.value.rule


# --- Files that are not as they should be -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "code", "place"),
    [
        ("{", "invalid-json", ""),
        ([], "wrong-type", ""),
        ({"images": [], "annotations": []}, "wrong-format", ""),
        (annotation(shapes=None), "wrong-type", ""),
        (annotation("hair"), "wrong-type", "shape 1"),
        (annotation(shape(None, SQUARE)), "wrong-type", "shape 1"),
        (annotation(shape("", SQUARE)), "empty-name", "shape 1"),
        (annotation(shape("a", None)), "wrong-type", "shape 1"),
        (annotation(shape("a", SQUARE), shape("a", SQUARE, "blob")), "unknown-shape", "shape 2"),
        (annotation(shape("a", SQUARE, 7)), "wrong-type", "shape 1"),
        (annotation(imageHeight="4"), "wrong-type", ""),
        (annotation(imageHeight=0), "out-of-range", ""),
        (annotation(imagePath=["a.jpg"]), "wrong-type", ""),
    ],
)
def test_files_that_break_the_format(folder, content, code, place):
    write(folder / "a.json", content)
    with raises(code, where=f"{folder / 'a.json'}, {place}" if place else folder / "a.json") as caught:
        read(folder)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (shape("a", [[0, 0], [1, 1], [2, "2"]]), "wrong-type"),
        (shape("a", [[0, 0], [1, 1], [1e30, 2]]), "out-of-range"),
        (shape("a", [[0, 0], [1, 1], [2, 2]], "circle"), "invalid-points"),
        (shape("a", [[0, 0], [1]], "rectangle"), "invalid-points"),
        (shape("a", [[0, 0], [1, None]], "rectangle"), "wrong-type"),
        (shape("a", [[0, 0]], "mask"), "invalid-points"),
        (shape("a", [[0, 0], [2, 2]], "mask"), "wrong-type"),
        (shape("a", [[0, 0], [2, 2]], "mask", mask="%"), "invalid-base64"),
        (shape("a", [[0, 0], [2, 2]], "mask", mask="aGk="), "unreadable-image"),
        (shape("a", [[0, 0], [5, 2]], "mask", mask=encoded(np.ones([3, 3]))), "size-mismatch"),
        (shape("a", [[0, 0], [6, 6]], "mask", mask=encoded(np.ones([7, 7]))), "size-mismatch"),
    ],
)
def test_shapes_that_break_the_format(folder, entry, code):
    write(folder / "a.json", annotation(shape("a", SQUARE), entry))
    with raises(code, where=f"{folder / 'a.json'}, shape 2") as caught:
        read(folder)
    assert caught.value.hint


def test_several_errors_are_reported_together(folder):
    for name in "abc":
        write(folder / f"{name}.json", "[]")
    with pytest.raises(UserError, match=r"(?s)a\.json: .* and 2 more errors:.*b\.json: .*c\.json: "):
        read(folder)


def test_folder_without_json(folder):
    with raises("no-files", where=folder) as caught:
        read(folder)
    assert "`annotation_folder`" in caught.value.hint
    with raises("folder-not-found", field="annotation_folder"):
        read(folder / "json")


def test_all_left_out(folder):
    write(folder / "a.json", annotation())
    with raises("no-pairs") as caught:
        read(folder, skip_empty=True)
    assert "`skip_empty=false`" in caught.value.hint


def test_the_label_does_not_depend_on_the_file_after_reading(folder):
    path = write(folder / "a.json", annotation(shape("hair", SQUARE)))
    source = read(folder)
    expected = draw(source).tolist()
    path.unlink()
    assert draw(source).tolist() == expected
