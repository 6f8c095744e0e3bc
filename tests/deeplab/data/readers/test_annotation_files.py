"""Checked JSON, files by split, images by the names that annotations give them, and what is reported at the end."""

import os
import unicodedata

import pytest
from PIL import Image
from support.errors import raises

from deeplab.config.conversion_config import DrawnConfig
from deeplab.data.labels import LabelSpec
from deeplab.data.readers.annotation_files import (
    Collector,
    ImageFinder,
    checked,
    class_name,
    files_by_split,
    image_finders,
    image_size,
    read_color,
    read_json,
    require,
    safe_parts,
    shown_size,
    yes_or_no,
)
from deeplab.data.readers.shapes import polygon, rectangle
from deeplab.data.readers.source import Painter
from deeplab.utils.errors import UserError
from deeplab.utils.paths import list_files

# --- JSON ---------------------------------------------------------------------------------------------------


def test_json_with_byte_order_mark(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"name": "\xc3\xa9\\ud83d\\ude00"}')
    assert read_json(tmp_path / "a.json") == {"name": "é😀"}


@pytest.mark.parametrize(
    ("content", "code", "rule"),
    [
        (b"", "invalid-json", "it is empty"),
        (b'{"a": [1, 2', "invalid-json", "in line 1, column 12"),
        (b'{"a": 1}\n{"b": 2}', "invalid-json", "extra data in line 2, column 1"),
        (b"<annotations/>", "invalid-json", "it begins like XML or HTML"),
        (b'{"a": NaN}', "invalid-json", "NaN is not a number"),
        (b'{"a": -Infinity}', "invalid-json", "-Infinity is not a number"),
        (b'{"a": "\xff"}', "not-utf-8", "byte 7"),
        ('{"a": 1}'.encode("utf-16"), "not-utf-8", ""),
        (b"[" * 100_000, "invalid-json", "nested too deeply"),
        (b'{"name": "\\ud800"}', "invalid-json", "half a character"),
        (b"9" * 5000, "invalid-json", ""),
    ],
)
def test_what_is_not_json(tmp_path, content, code, rule):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with raises(code, where=path) as caught:
        read_json(path)
    assert rule in caught.value.rule and caught.value.hint


def test_json_that_does_not_exist(tmp_path):
    with raises("file-not-found", where=tmp_path / "a.json"):
        read_json(tmp_path / "a.json")
    with raises("not-a-file", where=tmp_path):
        read_json(tmp_path)


@pytest.mark.parametrize(
    ("holder", "kind", "code", "rule"),
    [
        ({}, list, "missing-key", "'key' is missing"),
        ([1], list, "wrong-type", "must be an object with 'key', not a list"),
        (None, list, "wrong-type", "must be an object with 'key', not null"),
        ({"key": None}, list, "wrong-type", "'key' must be a list, not null"),
        ({"key": "1"}, float, "wrong-type", "'key' must be a number, not the text '1'"),
        ({"key": True}, int, "wrong-type", "'key' must be a whole number, not true"),
        ({"key": 1.5}, int, "wrong-type", "'key' must be a whole number, not 1.5"),
        ({"key": 1e300}, float, "out-of-range", "not 1e+300"),
        ({"key": 10**400}, int, "out-of-range", "not one so large"),
        ({"key": 10**400}, str, "wrong-type", "must be text, not a number so large"),
        ({"key": {}}, (list, str), "wrong-type", "'key' must be a list or text, not an object"),
        ({"key": "x" * 99}, dict, "wrong-type", f"not the text '{'x' * 40}' ..."),
    ],
)
def test_values_of_the_wrong_type(holder, kind, code, rule):
    with raises(code, where="a.json, shape 2") as caught:
        require(holder, "key", kind, "a.json, shape 2")
    assert rule in caught.value.rule and caught.value.hint


def test_values_of_the_right_type():
    assert require({"key": 3.0}, "key", int, "") == 3 and isinstance(require({"key": 3.0}, "key", int, ""), int)
    assert require({"key": 3}, "key", float, "") == 3
    assert require({"key": True}, "key", bool, "") is True
    assert require({}, "key", list, "", []) == [] and require({"key": None}, "key", str, "", "x") == "x"
    with raises("wrong-type"):
        require({"key": "text"}, "key", list, "", [])
    assert checked([1], (list, dict), "it", "") == [1]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (1, True),
        ("true", True),
        ("True", True),
        ("0", False),
        (0, False),
        ("false", False),
        (None, False),
    ],
)
def test_true_and_false_in_any_form(value, expected):
    assert yes_or_no({"key": value}, "key", "") is expected


def test_other_words_are_neither_true_nor_false():
    assert yes_or_no({}, "key", "", True) is True
    for value in ("maybe", 2, [], {}):
        with raises("wrong-type", where="a.json"):
            yes_or_no({"key": value}, "key", "a.json")


def test_class_names_and_sizes():
    assert class_name({"label": " hair "}, "label", "") == "hair" and class_name({"label": 7}, "label", "") == "7"
    with raises("empty-name", where="a.json"):
        class_name({"label": " "}, "label", "a.json")
    with raises("control-characters", where="a.json"):
        class_name({"label": "hair\nskin"}, "label", "a.json")
    assert image_size({"h": 3, "w": 4}, "h", "w", "") == (3, 4) and image_size({"h": 3}, "h", "w", "") is None
    with raises("out-of-range", where="a.json") as caught:
        image_size({"h": 3, "w": -4}, "h", "w", "a.json")
    assert caught.value.value == (3, -4)


@pytest.mark.parametrize(
    ("value", "color"),
    [
        ("#ff8000", (255, 128, 0)),
        ("FF8000", (255, 128, 0)),
        ("#ff8000ff", (255, 128, 0)),
        ([1, 2, 3], (1, 2, 3)),
        ([1, 2, 3, 255], (1, 2, 3)),
        ([1, 2, 300], None),
        ("red", None),
        (None, None),
        (7, None),
        ([True, 1, 2], None),
    ],
)
def test_colors_are_only_decoration(value, color):
    assert read_color(value) == color


# --- Which files --------------------------------------------------------------------------------------------


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("instances_train2017.json", "instances_val2017.json"), ["train", "val"]),
        (("Train.json", "my_valid.json"), ["train", "val"]),
        (("trainval.json", "test-1.json"), ["trainval", "test"]),
        (("train_instances.json", "val_instances.json"), ["train", "val"]),
        (("train/a.json", "valid/a.json", "test/a.json"), ["train", "val", "test"]),
        (("instances_train.json",), ["train"]),
        (("train/a.json", "train/b.json"), ["", ""]),  # all of one folder: nothing to keep apart
        (("test_export.json",), [""]),
        (("instances_train2017.json", "more.json"), ["", ""]),
        (("contest.json", "latest.json"), ["", ""]),
        (("trainset/a.json", "values/a.json"), ["", ""]),
    ],
)
def test_splits_are_read_from_the_names_of_files_or_folders_if_all_tell(tmp_path, names, splits):
    touch(tmp_path, *names)
    paths = [str(tmp_path / name) for name in names]
    assert files_by_split(",".join(paths), "annotations", ".json") == list(zip(splits, paths, strict=True))


def test_a_folder_stands_for_its_files(tmp_path):
    touch(tmp_path, "train/_annotations.coco.json", "valid/_annotations.coco.json", "train/a.jpg")
    found = files_by_split(str(tmp_path), "annotations", ".json")
    assert [split for split, _ in found] == ["train", "val"]
    with raises("no-files", where=tmp_path):
        files_by_split(str(tmp_path), "annotations", ".xml")


def test_splits_are_named_before_the_paths(tmp_path):
    touch(tmp_path, "a,b/x.json", "y.json")
    named = f"one:{tmp_path / 'a,b' / 'x.json'}, two:{tmp_path / 'y.json'}"
    assert [split for split, _ in files_by_split(named, "annotations", ".json")] == ["one", "two"]
    with raises("missing-split", field="annotations"):
        files_by_split(f"{named},{tmp_path / 'y.json'}", "annotations", ".json")
    with raises("missing-setting", field="annotations"):
        files_by_split("", "annotations", ".json")


def test_every_split_may_have_its_own_folder(tmp_path):
    touch(tmp_path, "one/a.jpg", "two/a.jpg")
    files = [("train", str(tmp_path / "train.json")), ("val", str(tmp_path / "val.json"))]
    finders = image_finders(f"train:{tmp_path / 'one'},val:{tmp_path / 'two'}", files)
    assert [finder.folder for finder in finders] == [str(tmp_path / "one"), str(tmp_path / "two")]
    (same, other) = image_finders(str(tmp_path), files)
    assert same is other
    beside = image_finders("", [("", str(tmp_path / "one" / "a.json")), ("", str(tmp_path / "two" / "a.json"))])
    assert [finder.folder for finder in beside] == [str(tmp_path / "one"), str(tmp_path / "two")]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("train:{0}", "missing-split"),
        ("val:{0},val:{0}", "duplicate-split"),
        ("{0},{0}", "missing-split"),
        ("{0}/nowhere", "folder-not-found"),
    ],
)
def test_folders_that_do_not_fit_the_splits(tmp_path, text, code):
    with raises(code, field="image_folder"):
        image_finders(text.format(tmp_path), [("train", "a.json"), ("val", "b.json")])


# --- Images -------------------------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path):
    for name in ("a.jpg", "b.JPEG", "city/a.jpg", "city/c.png", "sea/d.png", "sky/d.png", "e.jpg", "e.png", ".a.jpg"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).touch()
    (tmp_path / "secret.jpg").touch()
    return ImageFinder(tmp_path / "images")


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        ("a.jpg", "a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("city/a.jpg", "city/a.jpg"),
        ("/home/someone/data/city/a.jpg", "city/a.jpg"),
        ("C:\\Users\\someone\\city\\a.jpg", "city/a.jpg"),
        ("..\\images\\b.JPEG", "b.JPEG"),
        ("https://some.where/city/a.jpg?size=large#top", "city/a.jpg"),
        ("../../a.jpg", "a.jpg"),
        ("c.png", "city/c.png"),
        ("c.tif", "city/c.png"),
        ("b.jpg", "b.JPEG"),
        ("b", "b.JPEG"),
        ("sea/d.bmp", "sea/d.png"),
        ("e.png", "e.png"),
    ],
)
def test_images_are_found(images, stored, found):
    assert images.find(stored, "a.json") == os.path.join(images.folder, found)


def test_images_are_found_beside_the_annotation_first(images):
    assert images.name(images.find("a.jpg", "", beside="city")) == "city/a"
    assert images.name(images.find("d.jpg", "", beside="sky")) == "sky/d"
    assert images.name(images.find("b.jpg", "", beside="city")) == "b"


@pytest.mark.parametrize(
    "stored", ["x.jpg", "../secret.jpg", "/etc/passwd", "", "..", "/", "a\0.jpg", "\\", "://", "city", ".a.jpg"]
)
def test_images_that_do_not_exist(images, stored):
    with raises("image-not-found", where="a.json") as caught:
        images.find(stored, "a.json")
    assert caught.value.value == stored and "`image_folder`" in caught.value.hint


def test_images_that_are_not_clear(images):
    with raises("ambiguous-name", where="a.json") as caught:
        images.find("d.png", "a.json")
    assert "sea/d.png, sky/d.png" in caught.value.rule
    with raises("ambiguous-name") as caught:
        images.find("e.tif", "a.json")
    assert "e.jpg, e.png" in caught.value.rule


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_in_both_unicode_forms_are_the_same(tmp_path, form):
    name = unicodedata.normalize(form, "Straße ü")
    touch(tmp_path, f"{name}/{name}.jpg")
    images = ImageFinder(tmp_path)
    for other in ("NFC", "NFD"):
        found = images.find(unicodedata.normalize(other, "Straße ü/Straße ü.jpg"), "a.json")
        assert found == str(tmp_path / name / f"{name}.jpg") and os.path.isfile(found)
    assert images.name(found) == "Straße ü/Straße ü"
    assert images.unused() == []


def test_names_that_differ_only_in_case(tmp_path):
    touch(tmp_path, "IMG_0.JPG", "b/IMG_1.jpg", "B.png", "b.png")
    images = ImageFinder(tmp_path)
    assert images.name(images.find("img_0.jpg", "")) == "IMG_0"
    assert images.name(images.find("img_1.png", "")) == "b/IMG_1"
    assert images.name(images.find("b.png", "")) == "b"  # that very name first
    assert images.name(images.find("B.PNG", "")) == "B"


def test_the_folder_of_an_annotation_file_within_that_of_the_images(tmp_path):
    images = ImageFinder(tmp_path)
    assert images.beside(str(tmp_path / "train" / "a.json")) == "train"
    assert images.beside(str(tmp_path / "a.json")) == images.beside(str(tmp_path.parent / "a.json")) == ""


def test_the_size_of_an_image_as_viewers_show_it(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # turned by 90 degrees
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=exif)
    Image.new("RGB", (6, 4)).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"no image")
    assert [shown_size(str(tmp_path / name)) for name in ("a.jpg", "b.png", "c.png")] == [(6, 4), (4, 6), None]


def test_images_that_were_never_looked_up(images):
    images.find("a.jpg", "")
    assert images.unused() == ["b.JPEG", "city/a.jpg", "city/c.png", "e.jpg", "e.png", "sea/d.png", "sky/d.png"]


def test_folder_that_is_not_there(tmp_path):
    with raises("folder-not-found", field="image_folder"):
        ImageFinder(tmp_path / "images")


def test_a_link_back_up_is_no_trap(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jpg").touch()
    (tmp_path / "sub" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert list(list_files(tmp_path)) == ["sub/a.jpg"]


def test_safe_parts():
    assert safe_parts("a/../../b//./c") == ["b", "c"]
    assert safe_parts("a/..") == []


# --- What is collected and reported -------------------------------------------------------------------------

SQUARE = rectangle("hair", 0, 0, 2, 2)


def test_one_warning_per_kind(capsys):
    collector = Collector(DrawnConfig())
    for number in range(9):
        collector.skipped("line", f"{number // 2}.json")
        collector.add(f"image_{number}", "a.jpg", "a.json", [])
    collector.skipped("point", "9.json")
    collector.report()
    said = capsys.readouterr().err
    assert said.count("warning") == 2
    assert "10 shapes without an area left out (9 line, 1 point): 0.json, 1.json, 2.json, 3.json, 4.json, ...\n" in said
    assert "9 images without a shape: they are background (`skip_empty=true` leaves them out): image_0" in said


def test_an_image_is_listed_once_per_split():
    collector = Collector(DrawnConfig())
    collector.add("a", "a.jpg", "one.json", [SQUARE])
    collector.add("a", "a.jpg", "two.json", [SQUARE], split="val")
    with raises("duplicate-image", where="two.json") as caught:
        collector.add("a", "a.jpg", "two.json", [SQUARE])
    assert "one.json" in caught.value.rule
    collector.require_pairs("x.json")
    with raises("no-pairs", where="x.json"):
        Collector(DrawnConfig()).require_pairs("x.json")


def test_shapes_without_an_area_are_left_out(capsys):
    collector = Collector(DrawnConfig(skip_empty=True))
    empty = [polygon("ear", [[0, 0], [1, 1]]), rectangle("ear", 1, 1, 1, 3), polygon("ear", [])]
    collector.add("a", "a.jpg", "a.json", [*empty, SQUARE])
    collector.add("b", "b.jpg", "a.json", empty)
    collector.report()
    (pair,) = collector.splits[""]
    assert pair.name == "a" and pair.mask.shapes == (SQUARE,)
    assert collector.class_names() == ("background", "hair")
    said = capsys.readouterr().err
    assert "6 shapes without an area left out (6 too small): a, b" in said
    assert "1 images without a shape: left out: b" in said


def collect_outside(tmp_path, outside, inside=0, **settings):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    collector = Collector(DrawnConfig(**settings))
    for number in range(outside):
        collector.add(f"o{number}", str(tmp_path / "a.png"), "a.json", [rectangle("hair", 30, 20, 80, 60)])
    for number in range(inside):
        collector.add(f"i{number}", str(tmp_path / "a.png"), "a.json", [rectangle("hair", -3, -2, 43, 33)])
    collector.add("b", str(tmp_path / "a.png"), "a.json", [rectangle("hair", 30, 20, 80, 60)], size=(60, 80))
    collector.add("c", str(tmp_path / "nothing.png"), "a.json", [rectangle("hair", 30, 20, 80, 60)])
    collector.report()


def test_shapes_far_outside_many_images_are_an_error(tmp_path, capsys):
    with raises("shapes-outside", where="annotations") as caught:
        collect_outside(tmp_path, 2, 3)
    assert caught.value.value == 2 and "2 of 7 images" in caught.value.rule and "o0, o1" in caught.value.rule
    assert "annotation_scale=0.5" in caught.value.hint and "on_outside=cut" in caught.value.hint
    with raises("shapes-outside"):
        collect_outside(tmp_path, 6, 100)
    collect_outside(tmp_path, 2, 3, on_outside="cut")
    assert "warning: 2 images have shapes that reach far outside" in capsys.readouterr().err


def test_shapes_far_outside_a_few_of_many_images_are_pointed_out(tmp_path, capsys):
    collect_outside(tmp_path, 1, 20)
    said = capsys.readouterr().err
    assert said.count("warning") == 1 and "1 images have shapes that reach far outside" in said


def test_shapes_cannot_be_scaled_where_no_size_is_stated():
    collector = Collector(DrawnConfig(scale_annotations=True))
    collector.add("a", "a.jpg", "a.json", [SQUARE])
    with raises("no-stated-size", field="scale_annotations"):
        collector.report()


def test_shapes_are_scaled_by_a_factor():
    collector = Collector(DrawnConfig(annotation_scale=0.5))
    collector.add("a", "a.jpg", "a.json", [rectangle("hair", 0, 0, 4, 2)], size=(8, 8))
    mask = collector.splits[""][0].mask
    assert mask.size is None and mask.shapes[0].bounds() == (0, 0, 2, 1)


def corner(height, width):
    """A shape that depends on the size of the image: its lower right quarter."""
    return [rectangle("hair", width / 2, height / 2, width, height)]


@pytest.mark.parametrize(
    ("settings", "size"), [({"annotation_scale": 0.5}, None), ({"scale_annotations": True}, (8, 12)), ({}, None)]
)
def test_shapes_that_are_drawn_later_are_scaled_too(settings, size):
    sizes = []

    def seen(height, width):
        sizes.append((height, width))
        return corner(height, width)

    collector = Collector(DrawnConfig(**settings))
    collector.add("a", "a.jpg", "a.json", seen, size)
    collector.report()
    mask = collector.splits[""][0].mask
    label = mask.draw(Painter(("background", "hair"), LabelSpec()), 4, 6)
    assert mask.size is None and sizes == [(8, 12) if settings else (4, 6)]
    assert label[2:, 3:].all() and label.sum() == 6


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("annotation_scale", 0, "out-of-range"),
        ("line_width", -1, "out-of-range"),
        ("line_width", float("nan"), "wrong-type"),
    ],
)
def test_settings_out_of_range(field, value, code):
    with raises(code, field=field):
        DrawnConfig(**{field: value})


def collect(number, code="missing-key", **settings):
    collector = Collector(DrawnConfig(**settings))
    for index in range(number):
        with collector.catching():
            raise UserError(code, f"rule {index}", f"hint {index}", where=f"{index}.json", value=f"{index}.jpg")
    collector.report()


def test_errors_are_reported_together():
    with raises("missing-key", where="0.json") as caught:
        collect(1)
    assert (caught.value.rule, caught.value.hint) == ("rule 0", "hint 0")
    with pytest.raises(
        UserError, match=r"(?s)^0\.json: rule 0\n  and 2 more errors:\n    1\.json: rule 1\n    2\.json"
    ):
        collect(3)
    with pytest.raises(UserError, match=r"(?s)and 9 more errors \(and perhaps more.*9\.json: rule 9\n  hint: hint 0"):
        collect(15)


def test_images_that_do_not_exist_can_be_left_out(capsys):
    with raises("image-not-found"):
        collect(1, "image-not-found")
    collect(15, "image-not-found", on_missing="skip")
    assert "15 images that annotations name do not exist: left out: 0.jpg, 1.jpg" in capsys.readouterr().err
    with raises("missing-key"):
        collect(1, on_missing="skip")


def test_classes_that_mark_ignored_pixels_are_pointed_out(capsys):
    collector = Collector(DrawnConfig())
    collector.add("a", "a.jpg", "a.json", [rectangle(name, 0, 0, 2, 2) for name in ("Void", "hair", "Background")])
    assert collector.class_names() == ("background", "hair")
    assert "class 'Void' marks pixels that do not count" in capsys.readouterr().err
