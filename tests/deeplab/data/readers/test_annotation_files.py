"""Guarded JSON, images by the names that annotations call them, pictures inside JSON, and what is told at the end."""

import base64
import io
import os

import numpy as np
import pytest
from PIL import Image

from deeplab.data.readers.annotation_files import (
    ImageFinder,
    Tally,
    checked,
    class_name,
    image_size,
    list_files,
    read_json,
    require,
    require_pairs,
    safe_parts,
)
from deeplab.data.readers.embedded import base64_bytes, png_bitmap
from deeplab.data.readers.source import Pair
from deeplab.utils.errors import UserError

# --- JSON ---------------------------------------------------------------------------------------------------


def test_json_with_byte_order_mark(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"name": "\xc3\xa9\\ud83d\\ude00"}')
    assert read_json(tmp_path / "a.json") == {"name": "é😀"}


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "is not JSON: it is empty"),
        (b'{"a": [1, 2', "is not JSON: .* in line 1, column 12"),
        (b'{"a": 1}\n{"b": 2}', "extra data in line 2, column 1"),
        (b"<annotations/>", "it begins like XML or HTML"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": -Infinity}', "-Infinity is no number"),
        (b'{"a": "\xff"}', "is not UTF-8 at byte 7"),
        ('{"a": 1}'.encode("utf-16"), "is not UTF-8"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"name": "\\ud800"}', "half a character"),
        (b"9" * 5000, "is not JSON"),
    ],
)
def test_what_is_no_json(tmp_path, content, rule):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rule) as fault:
        read_json(path)
    assert fault.value.where == str(path) and fault.value.hint


def test_json_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"a\.json: cannot be read: No such file"):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match="is a folder, not a file"):
        read_json(tmp_path)


@pytest.mark.parametrize(
    ("holder", "kind", "rule"),
    [
        ({}, list, "`key` is missing"),
        ([1], list, "must be an object with `key`, not a list"),
        (None, list, "must be an object with `key`, not null"),
        ({"key": None}, list, "`key` must be a list, not null"),
        ({"key": "1"}, float, "`key` must be a number, not the text '1'"),
        ({"key": True}, int, "`key` must be a whole number, not true"),
        ({"key": 1.5}, int, "`key` must be a whole number, not 1.5"),
        ({"key": 1e300}, float, "not 1e\\+300"),
        ({"key": 10**400}, int, "not one so large"),
        ({"key": 10**400}, str, "must be text, not a number so large"),
        ({"key": {}}, (list, str), "`key` must be a list or text, not an object"),
        ({"key": "x" * 99}, dict, "not the text 'x{40}' \\.\\.\\."),
    ],
)
def test_values_of_the_wrong_type(holder, kind, rule):
    with pytest.raises(UserError, match=rule) as fault:
        require(holder, "key", kind, "a.json, shape 2")
    assert fault.value.where == "a.json, shape 2" and fault.value.hint


def test_values_of_the_right_type():
    assert require({"key": 3.0}, "key", int, "") == 3 and isinstance(require({"key": 3.0}, "key", int, ""), int)
    assert require({"key": 3}, "key", float, "") == 3
    assert require({"key": True}, "key", bool, "") is True
    assert require({}, "key", list, "", []) == [] and require({"key": None}, "key", str, "", "x") == "x"
    with pytest.raises(UserError, match="must be a list"):
        require({"key": "text"}, "key", list, "", [])
    assert checked([1], (list, dict), "it", "") == [1]


def test_class_names_and_sizes():
    assert class_name({"label": " hair "}, "label", "") == "hair" and class_name({"label": 7}, "label", "") == "7"
    with pytest.raises(UserError, match="`label` is empty"):
        class_name({"label": " "}, "label", "a.json")
    with pytest.raises(UserError, match=r"`label` holds control characters: 'hair\\nskin'"):
        class_name({"label": "hair\nskin"}, "label", "a.json")
    assert image_size({"h": 3, "w": 4}, "h", "w", "") == (3, 4) and image_size({"h": 3}, "h", "w", "") is None
    with pytest.raises(UserError, match="`h` and `w` must be above 0, not 3 and -4"):
        image_size({"h": 3, "w": -4}, "h", "w", "a.json")


# --- Pictures inside JSON -----------------------------------------------------------------------------------


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()


BITMAP = np.array([[0, 1, 1], [1, 0, 0]], bool)


def test_kinds_of_bitmaps():
    palette = Image.fromarray(BITMAP.astype(np.uint8))
    palette.putpalette([0, 0, 0, 255, 255, 255])
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=0)
    opaque = np.full([2, 3, 4], 90, np.uint8)
    opaque[..., 3] = BITMAP * 255
    for data in (
        png(BITMAP),
        png(BITMAP.astype(np.uint8)),
        png(BITMAP.astype(np.uint8) * 255),
        png(np.stack([BITMAP.astype(np.uint8) * 9] * 3, axis=-1)),
        png(opaque),
        buffer.getvalue(),
    ):
        found = png_bitmap(data, "a.json", 2, 3)
        assert found.dtype == bool
        np.testing.assert_array_equal(found, BITMAP)


def test_bitmaps_that_are_refused():
    with pytest.raises(UserError, match="its bitmap of 3x2 pixels is larger than the image, 3x1"):
        png_bitmap(png(BITMAP), "a.json", 1, 3)
    for data in (b"", b"GIF89a", png(BITMAP)[:50], png(np.zeros([50, 50], np.uint8))[:60]):
        with pytest.raises(UserError, match=r"a\.json: its bitmap cannot be read as PNG"):
            png_bitmap(data, "a.json", 50, 50)


def test_base64():
    text = base64.b64encode(b"pixels").decode()
    assert base64_bytes(text, "`mask`", "") == base64_bytes(f"data:image/png;base64,{text}", "`mask`", "") == b"pixels"
    for broken in (text[:-3], "é", "?" + text):
        with pytest.raises(UserError, match=r"a\.json: `mask` is no base64"):
            base64_bytes(broken, "`mask`", "a.json")


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
def test_images_that_are_not_there(images, stored):
    with pytest.raises(UserError, match=r"a\.json: its image .* is not in .*images\n.*another --image_folder"):
        images.find(stored, "a.json")


def test_images_that_are_not_clear(images):
    with pytest.raises(UserError, match=r"'d\.png' may be any of sea/d\.png, sky/d\.png"):
        images.find("d.png", "a.json")
    with pytest.raises(UserError, match=r"may be any of e\.jpg, e\.png"):
        images.find("e.tif", "a.json")


def test_images_that_nobody_asked_for(images):
    images.find("a.jpg", "")
    assert images.unused() == ["b.JPEG", "city/a.jpg", "city/c.png", "e.jpg", "e.png", "sea/d.png", "sky/d.png"]


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="--image_folder: no such folder"):
        ImageFinder(tmp_path / "images")


def test_a_link_back_up_is_no_trap(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jpg").touch()
    (tmp_path / "sub" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert list(list_files(tmp_path)) == ["sub/a.jpg"]


def test_safe_parts():
    assert safe_parts("a/../../b//./c") == ["b", "c"]
    assert safe_parts("a/..") == []


# --- What is gathered and told ------------------------------------------------------------------------------


def test_one_warning_a_kind(capsys):
    tally = Tally()
    for number in range(9):
        tally.skipped("line", f"{number // 2}.json")
        tally.empty(f"image_{number}")
    tally.skipped("point", "9.json")
    tally.report()
    said = capsys.readouterr().err
    assert said.count("warning") == 2
    assert "10 shapes without an area left out (9 line, 1 point): 0.json, 1.json, 2.json, 3.json, 4.json, ...\n" in said
    assert "9 images without a shape: background all over (--skip_empty=true leaves them out): image_0" in said


def test_an_image_stands_once_in_a_split():
    tally = Tally()
    tally.add(Pair("a", "a.jpg", "a.png"), "one.json")
    tally.add(Pair("a", "a.jpg", "a.png"), "two.json", "val")
    with pytest.raises(UserError, match=r"two\.json: image 'a' was there before, in one\.json"):
        tally.add(Pair("a", "a.jpg", "a.png"), "two.json")
    require_pairs(tally, "x.json")
    with pytest.raises(UserError, match=r"x\.json: there is no image with annotations"):
        require_pairs(Tally(), "x.json")


def collect(number):
    tally = Tally()
    for index in range(number):
        with tally.collecting():
            raise UserError("unclassified", f"rule {index}", f"hint {index}", where=f"{index}.json")
    tally.report()


def test_faults_are_told_together():
    with pytest.raises(UserError) as fault:
        collect(1)
    assert (fault.value.where, fault.value.rule, fault.value.hint) == ("0.json", "rule 0", "hint 0")
    with pytest.raises(
        UserError, match=r"(?s)^0\.json: rule 0\n  and 2 more faults:\n    1\.json: rule 1\n    2\.json"
    ):
        collect(3)
    with pytest.raises(UserError, match=r"(?s)and 9 more faults \(and perhaps more.*9\.json: rule 9\n  hint: hint 0"):
        collect(15)
