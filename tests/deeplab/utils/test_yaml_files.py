"""YAML files: what is refused before it can do harm."""

import time

import pytest
import yaml
from support.errors import raises

from deeplab.utils.yaml_files import load_mapping

BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

MERGES = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 9)}]}}\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_a_mapping_is_read(tmp_path):
    (tmp_path / "a.yml").write_text("\ufeffa: 1\nb: [x, &y 2.5, *y]\nc: {d: null}\n", encoding="utf-8")
    assert load_mapping(tmp_path / "a.yml") == {"a": 1, "b": ["x", 2.5, 2.5], "c": {"d": None}}


def test_mappings_that_take_over_others_many_times_are_read(tmp_path):
    (tmp_path / "a.yml").write_text(MERGES)
    assert load_mapping(tmp_path / "a.yml")["i"] == {"x": 1}


def test_templates_can_be_left_out(tmp_path):
    (tmp_path / "a.yml").write_text("a: &a {x: 1}\nb: &b {y: 2}\nc: {<<: [*a, *b], x: 3}\n")
    assert load_mapping(tmp_path / "a.yml") == {"a": {"x": 1}, "b": {"y": 2}, "c": {"x": 3, "y": 2}}
    assert load_mapping(tmp_path / "a.yml", templates=False) == {"c": {"x": 3, "y": 2}}


def test_numbers_are_decimal(tmp_path):
    text = "[030, 12:30, 0, -7, 1_000, 0x1f, 1.5, .5, 2., 1.0e-05, 1.0e5, -.inf, 0b1, 1e-3]"
    (tmp_path / "a.yml").write_text(f"a: {text}\nb: .nan\n")
    found = load_mapping(tmp_path / "a.yml")
    expected = ["030", "12:30", 0, -7, 1000, 31, 1.5, 0.5, 2.0, 1e-5, 1e5, float("-inf"), "0b1", "1e-3"]
    assert found["a"] == expected and list(map(type, found["a"])) == list(map(type, expected))
    assert found["b"] != found["b"]


def test_what_yaml_writes_is_read_back(tmp_path):
    values = [1e-05, 4e-05, 0.0001, 1e22, -3, 0, True, None, "030", "12:30", "1e-3", "0x1f", "yes", 1.0, 123456789012]
    (tmp_path / "a.yml").write_text(yaml.safe_dump({"a": values}))
    found = load_mapping(tmp_path / "a.yml")["a"]
    assert found == values and list(map(type, found)) == list(map(type, values))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("- 1", "name: value"),
        ("a: [", "YAML"),
        ("a: !!python/object:os.system x", "YAML"),
        ("a: 1\nb: 2\na: 3", "'a' occurs twice"),
        ("a: 2020-13-45", "YAML"),
        ("a: " + "[" * 30 + "]" * 30, "nested deeper"),
        ("a: " + "[" * 3000, "nested deeper"),
        ("a: &a [*a]", "nested deeper"),
        (BOMB, "more than 200,000 values"),
        ("".join(f"k{number}:\n" for number in range(20_000)) + "k7:\n", "'k7' occurs twice"),
        ("a: " + "x" * 2_000_000, "2,000,003 characters"),
    ],
)
def test_what_is_refused(tmp_path, text, says):
    (tmp_path / "a.yml").write_text(text)
    start = time.monotonic()
    with raises("unreadable-yaml", where=tmp_path / "a.yml") as info:
        load_mapping(tmp_path / "a.yml")
    assert says in info.value.rule and time.monotonic() - start < 10


def test_files_that_are_not_there_or_not_text(tmp_path):
    with raises("file-not-found", where="none.yml"):
        load_mapping(tmp_path / "none.yml")
    (tmp_path / "a.yml").write_bytes(b"a: \xff")
    with raises("not-utf-8", where="a.yml"):
        load_mapping(tmp_path / "a.yml")
