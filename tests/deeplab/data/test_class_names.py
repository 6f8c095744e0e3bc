"""Names of classes: which mean the background, which are nearly equal, and files that list classes."""

import time

import pytest
from support.errors import raises

from deeplab.data.class_names import (
    ListedClass,
    class_numbers,
    frequent_and_rare,
    is_background,
    is_ignored,
    names_in,
    near_equal,
    read_class_file,
    with_background,
)
from deeplab.data.colormaps import read_color_table


def test_names_with_a_meaning():
    assert all(map(is_background, ("background", "Background", "_background_", "BACKGROUND")))
    assert all(map(is_ignored, ("void", "Void", "ignore", "__ignore__", "Neutral", "ignored")))
    assert not any(map(is_ignored, ("avoid", "neutrality", "background"))) and not is_background("back ground")
    assert with_background(["skin", "Void", "Background", "hair", "skin"]) == ("background", "skin", "hair")


@pytest.mark.parametrize(
    ("first", "second"),
    [("Cat", "cat"), ("Cats", "Cat"), ("cel", "cell"), ("traffic light", "traffic_light"), ("bicycle", "bicicle")],
)
def test_nearly_equal_names(first, second):
    assert near_equal(["dog", first, "sky", second]) == [(first, second)]


@pytest.mark.parametrize(
    ("first", "second"),
    [("cat", "car"), ("car", "cart"), ("sky", "ski"), ("class_1", "class_2"), ("mountain", "fountain"), ("a", "as")],
)
def test_names_that_differ(first, second):
    assert near_equal([first, second]) == []


ROBOFLOW = "Pixel Value, Class\n0, background\n1, road\n2, wall\n"
KAGGLE = "name,r,g,b\nbackground,0,0,0\nthing,224,64,64\n"
CVAT = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nthing:224,64,64:a,b:\n"
CAMVID = "64 128 64\tAnimal\n192 0 128\tArchway\n"


def write(folder, text):
    (folder / "classes.txt").write_text(text, encoding="utf-8")
    return folder / "classes.txt"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("ground\nhair\n", ("ground", "hair")),
        ("ground  # all else\n\nC# code\n", ("ground", "C# code")),
        ("a, b\nc\n", ("a, b", "c")),  # not all lines have the same form
        ("name\nground\nhair\n", ("ground", "hair")),
        ("class\n", ("class",)),
        (ROBOFLOW, ("background", "road", "wall")),
        ("id;label\n1;road\n0;ground\n", ("ground", "road")),
        ("0,ground\n1,road\n", ("ground", "road")),
        ("0: ground\n1: road\n", ("ground", "road")),
        ("ground,0\nroad,1\n", ("ground", "road")),
        ("0 ground\n1 road\n", ("ground", "road")),
        ("1,road\n2,wall\n", ("background", "road", "wall")),
        ("0,ground\n1,road\n255,void\n", ("ground", "road")),
        (KAGGLE, ("background", "thing")),
        (CVAT, ("background", "thing")),
        (CAMVID, ("Animal", "Archway")),
        ("Idx\tRatio\tName\n1\t0.5\twall\n2\t0.1\tsky\n", ("background", "wall", "sky")),
    ],
)
def test_names_in_files_of_any_form(tmp_path, text, names):
    assert names_in(write(tmp_path, text)) == names


@pytest.mark.parametrize("text", ["0,ground\n2,road\n", "value,name\n0,a\n0,b\n"])
def test_values_with_gaps_or_twice(tmp_path, text):
    with raises("invalid-class-file", where="classes.txt") as caught:
        names_in(write(tmp_path, text))
    assert "`label_map`" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("background:0,0,0::\ncar:128,0,0,4::\nbus:1,2,3::\n", "car:128,0,0,4::"),
        ("background:0,0,0::\ncar:128,0::\n", "car:128,0::"),
        ("0 0 0 background\n128 0 car\n1 2 3 bus\n", "128 0 car"),
        ("0 0 0 background\n1 2 3 bus\n300 0 0 car\n", "0 0 0 background"),
    ],
)
def test_lines_of_a_palette_that_are_damaged_are_no_names(tmp_path, text, line):
    with raises("invalid-class-file", where="classes.txt") as caught:
        names_in(write(tmp_path, text))
    assert caught.value.value == line


def test_files_without_a_class(tmp_path):
    with raises("missing-class-names", where="classes.txt"):
        read_class_file(write(tmp_path, "# nothing\n"))
    with raises("file-not-found"):
        read_class_file(tmp_path / "nowhere.txt")


def test_values_and_colors(tmp_path):
    assert read_class_file(write(tmp_path, "value,name,r,g,b\n3,hair,1,2,3\n")) == [ListedClass("hair", 3, (1, 2, 3))]
    assert read_class_file(write(tmp_path, "1 2 3\n4 5 6\n")) == [
        ListedClass("", None, (1, 2, 3)),
        ListedClass("", None, (4, 5, 6)),
    ]


@pytest.mark.parametrize(
    "text", [KAGGLE, CVAT, "0 0 0 background\n224 64 64 thing\n", "background 0 0 0\nthing 224 64 64"]
)
def test_palettes_in_any_form(tmp_path, text):
    table = read_color_table(write(tmp_path, text))
    assert table.names == ("background", "thing")
    assert table.class_colors() == ((0, 0, 0), (224, 64, 64))


def test_palettes_keep_names_as_they_are(tmp_path):
    table = read_color_table(write(tmp_path, 'name,r,g,b\n"skin, face",1,1,1\nC#,2,2,2\n'))
    assert table.names == ("skin, face", "C#")


def test_ignored_colors_and_several_of_one_class(tmp_path):
    table = read_color_table(write(tmp_path, "name,r,g,b\nVoid,0,0,0\nroad,1,1,1\nroad,2,2,2\nsky,3,3,3\n"))
    assert table.names == ("road", "sky") and table.classes == (None, 0, 0, 1)


def test_classes_by_name_and_number():
    names = ("ground", "disc", "square")
    assert class_numbers(("square,0", "square"), names, "exclude_classes") == [0, 2]
    for wrong in ("squares", "3", "-1"):
        with raises("unknown-name", "exclude_classes") as caught:
            class_numbers((wrong,), names, "exclude_classes")
        assert caught.value.value == wrong


@pytest.mark.parametrize(
    ("text", "names", "colors"),
    [
        ('"name","r","g","b"\n"a","1","2","3"\n"b, c","4","5","6"\n', ("a", "b, c"), [(1, 2, 3), (4, 5, 6)]),
        ("background:0,0,0\nperson:128,0,0\n", ("background", "person"), [(0, 0, 0), (128, 0, 0)]),
        ("name,color\na,#ff0000\nb,#00ff00\n", ("a", "b"), [(255, 0, 0), (0, 255, 0)]),
        ("0 0 0 0 background\n1 128 0 0 aero plane\n", ("background", "aero plane"), [(0, 0, 0), (128, 0, 0)]),
        ("name,color\na,#f00\nb,#0f0\n", ("a", "b"), [(255, 0, 0), (0, 255, 0)]),
        ("name, color\na, #ff0000\nb, #00ff00 # remark\n", ("a", "b"), [(255, 0, 0), (0, 255, 0)]),
        ('name,rgb\na,"(255, 0, 0)"\nb,"0 255 0"\n', ("a", "b"), [(255, 0, 0), (0, 255, 0)]),
        ("0 0 0 255 a\n255 0 0 255 b\n", ("a", "b"), [(0, 0, 0), (255, 0, 0)]),
        (
            "GIMP Palette\nName: x\nColumns: 3\n#\n  0  0  0\ta\n  4  5  6\tb c\n",
            ("a", "b c"),
            [(0, 0, 0), (4, 5, 6)],
        ),
        ("0 0 0 2nd floor\n1 2 3 3rd floor\n", ("2nd floor", "3rd floor"), [(0, 0, 0), (1, 2, 3)]),
    ],
)
def test_colors_in_unusual_forms(tmp_path, text, names, colors):
    (tmp_path / "classes.csv").write_text(text)
    listed = read_class_file(tmp_path / "classes.csv")
    assert tuple(entry.name for entry in listed) == names and [entry.color for entry in listed] == colors
    assert names_in(tmp_path / "classes.csv") == names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("person 0\ncar 1\n", ("person", "car")),  # names and places
        ("class 1\nclass 2\n", ("class 1", "class 2")),  # names that end in a number
        ("zone 0\nzone 1\n", ("zone 0", "zone 1")),
        ("Pixel Value, Class\n0, background\n1, road, wet\n", ("background", "road, wet")),
    ],
)
def test_numbers_and_separators_in_names(tmp_path, text, names):
    (tmp_path / "classes.csv").write_text(text)
    assert names_in(tmp_path / "classes.csv") == names


@pytest.mark.parametrize("text", ['name,r,g,b\n"a,1,2,3\nb,4,5,6\n', "value,name\n0,a\n1\n"])
def test_lines_that_the_header_does_not_fit(tmp_path, text):
    (tmp_path / "classes.csv").write_text(text)
    with raises("invalid-class-file", where="classes.csv"):
        read_class_file(tmp_path / "classes.csv")


def test_frequent_and_rare_classes_keep_their_order():
    pixels = [5, 9, 0, 7, 3, 9]
    assert frequent_and_rare(pixels, 4) == [1, 2, 4, 5]
    assert frequent_and_rare(pixels, 40) == [0, 1, 2, 3, 4, 5]


def test_slips_among_thousands_of_names_are_found_at_once():
    names = [f"{letter}{word}" for letter in "abcdefghijklmnopqrstuvwxyz" for word in ("rabbit", "onquil", "eedle")]
    names += [f"thing number {number}" for number in range(3000)]
    start = time.process_time()
    assert near_equal(names) == []
    assert time.process_time() - start < 2  # it took more when all pairs were compared
    names[5:5] = ["Thing-Number 17", "Arabbit"]
    assert near_equal(names) == [("arabbit", "Arabbit"), ("Thing-Number 17", "thing number 17")]
