"""Checked access to JSON and to the values in annotations."""

import pytest
from support.errors import raises

from deeplab.data.readers.annotation_values import (
    checked,
    class_name,
    image_size,
    read_color,
    read_json,
    require,
    yes_or_no,
)


def test_json_with_byte_order_mark(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"name": "\xc3\xa9\\ud83d\\ude00"}')
    assert read_json(tmp_path / "a.json") == {"name": "é😀"}
    (tmp_path / "a.json").write_text('{"name": "é😀"}', "utf-16")
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
        ('{"a": 1}'.encode("utf-16")[:-1], "not-utf-8", ""),
        ('{"a": 1}'.encode("utf-16-le"), "invalid-json", ""),
        (b"[" * 100_000, "invalid-json", "nested too deeply"),
        (b'{"name": "\\ud800"}', "invalid-json", "half a character"),
        (b"9" * 5000, "invalid-json", "a number has thousands of digits"),
        (b'{"a": "b', "invalid-json", "unterminated string starting in line 1, column 7"),
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
