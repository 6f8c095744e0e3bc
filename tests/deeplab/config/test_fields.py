"""Fields of configs: every type reads flags, YAML and keyword arguments alike, and refuses what it cannot hold."""

import dataclasses
import datetime
import importlib
import math
import pathlib
import pkgutil

import numpy as np
import pytest
from support.errors import raises

import deeplab.config
from deeplab.config import fields
from deeplab.config.fields import Config, Floats, Ints, Size, Texts, coerce, setting


def every_config() -> list[type]:
    """Every config dataclass of the package."""
    modules = [
        importlib.import_module(f"deeplab.config.{info.name}") for info in pkgutil.iter_modules(deeplab.config.__path__)
    ]
    classes = [value for module in modules for value in vars(module).values() if isinstance(value, type)]
    return sorted(
        {each for each in classes if issubclass(each, Config) and each is not Config}, key=lambda c: c.__name__
    )


FIELDS = [
    pytest.param(field, group, id=f"{group.__name__}.{field.name}")
    for group in every_config()
    for field in dataclasses.fields(group)
    if not field.metadata["retired"]
]
NUMBERS = ("int", "float", "ints", "floats", "size")


@dataclasses.dataclass(frozen=True)
class Example(Config):
    """One field of each type."""

    switch: bool = setting(False, "")
    count: int = setting(1, "", min=0, max=100, because="more is too much")
    rate: float = setting(0.5, "", above=0, max=1)
    word: str = setting("a", "", choices=("a", "b"))
    name: str = setting("", "")
    stride: int = setting(8, "", choices=(8, 16))
    whole: Ints = setting((), "")
    scales: Floats = setting((1.0,), "", above=0)
    names: Texts = setting((), "")
    crop: Size = setting((5, 5), "", min=1)
    limit: int | None = setting(None, "", min=1)

    def validate(self) -> None:
        assert isinstance(self.count, int)  # fields have their types here


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("switch", "true", True),
        ("switch", "False", False),
        ("switch", 1, True),
        ("count", "12", 12),
        ("count", 12.0, 12),
        ("count", "1e1", 10),
        ("count", np.int64(7), 7),
        ("rate", "1e-3", 0.001),
        ("rate", 1, 1.0),
        ("name", 2012, "2012"),
        ("name", pathlib.Path("a/b"), "a/b"),
        ("whole", "6, 12,18", (6, 12, 18)),
        ("whole", ["6", "12,18"], (6, 12, 18)),
        ("whole", [6, 12], (6, 12)),
        ("whole", 6, (6,)),
        ("scales", ["0.5", 1], (0.5, 1.0)),
        ("names", "a,b", ("a,b",)),
        ("names", ["a", 2], ("a", "2")),
        ("crop", "257,385", (257, 385)),
        ("crop", 257, (257, 257)),
        ("limit", None, None),
        ("limit", "3", 3),
    ],
)
def test_values_are_read(name, value, expected):
    read = getattr(Example(**{name: value}), name)
    assert read == expected and type(read) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("switch", "maybe", "wrong-type"),
        ("switch", 2, "wrong-type"),
        ("switch", None, "wrong-type"),
        ("switch", 1.0, "wrong-type"),
        ("count", None, "wrong-type"),
        ("count", True, "wrong-type"),
        ("count", "4.5", "wrong-type"),
        ("count", math.inf, "wrong-type"),
        ("count", "1e999", "wrong-type"),
        ("count", "9" * 5000, "wrong-type"),
        ("count", 10**400, "out-of-range"),
        ("count", -1, "out-of-range"),
        ("count", 101, "out-of-range"),
        ("count", {"a": 1}, "wrong-type"),
        ("count", [1], "wrong-type"),
        ("count", datetime.date(2020, 1, 1), "wrong-type"),
        ("rate", "nan", "wrong-type"),
        ("rate", math.inf, "wrong-type"),
        ("rate", 10**400, "wrong-type"),
        ("rate", False, "wrong-type"),
        ("rate", 0, "out-of-range"),
        ("rate", 25, "out-of-range"),
        ("word", "c", "unknown-name"),
        ("name", True, "wrong-type"),
        ("name", ["a"], "wrong-type"),
        ("name", datetime.date(2020, 1, 1), "wrong-type"),
        ("name", "a\0b", "wrong-type"),
        ("stride", 12, "out-of-range"),
        ("whole", [[1, 2], [3]], "wrong-type"),
        ("whole", [1, None], "wrong-type"),
        ("whole", 10**12, "out-of-range"),
        ("scales", "1,nan", "wrong-type"),
        ("scales", "1,0", "out-of-range"),
        ("names", [["a"]], "wrong-type"),
        ("names", None, "wrong-type"),
        ("crop", "1,2,3", "wrong-type"),
        ("crop", "", "wrong-type"),
        ("crop", "5,0", "out-of-range"),
        ("limit", 0, "out-of-range"),
        ("limit", 10**12, "out-of-range"),
    ],
)
def test_values_that_do_not_fit_are_refused(name, value, code):
    with raises(code, name):
        Example(**{name: value})
    (field,) = [field for field in dataclasses.fields(Example) if field.name == name]
    with raises(code, name):
        coerce(field, Example, value)


def test_messages_name_limit_reason_and_way_out():
    def message(**values):
        with pytest.raises(fields.UserError) as info:
            Example(**values)
        return str(info.value)

    assert message(count=101) == "`count`: must be at least 0 and at most 100 (more is too much), not 101"
    assert message(count=-1) == "`count`: must be at least 0 and at most 100, not -1"
    assert (
        message(rate=25) == "`rate`: must be above 0 and at most 1, not 25.0\n  hint: `rate=0.25` if you mean percent"
    )
    assert message(count=None).endswith(
        "needs a whole number, not an empty value\n  hint: leave it out to get the default"
    )
    assert "put quotes around it" in message(name=datetime.date(2020, 1, 1))
    assert len(message(word="x" * 10_000)) < 150
    assert message(word="c") == "`word`: must be one of a, b, not 'c'"


@pytest.mark.parametrize(("field", "group"), FIELDS)
class TestEveryField:
    def test_explains_itself(self, field, group):
        text = field.metadata["help"]
        assert text.endswith((".", ";")) and text[0].isupper() and "--" not in text

    def test_its_default_is_allowed(self, field, group):
        if not field.metadata["required"]:
            assert coerce(field, group, field.default) == field.default

    def test_it_refuses_what_no_setting_can_be(self, field, group):
        kind = fields.kind_of(field, group)
        others = [] if fields._may_be_none(field, group) else [None]
        for value in (*others, {"a": 1}, [[1], [2]], datetime.date(2020, 1, 1)):
            with raises("wrong-type", field.name):
                coerce(field, group, value)
        if kind in NUMBERS:
            for value in ("inf", "-inf", "nan", "1e999", math.inf, math.nan, True, "many"):
                with raises("wrong-type", field.name):
                    coerce(field, group, value)
        if kind in ("int", "ints", "size"):
            for value in ("1e30", 10**400, -(10**12)):
                with raises("out-of-range", field.name):
                    coerce(field, group, value)

    def test_an_upper_limit_has_a_reason(self, field, group):
        limit = field.metadata["max"]
        assert limit in (None, 1) or field.metadata["because"]


def test_kinds_of_optional_fields():
    (field,) = [field for field in dataclasses.fields(Example) if field.name == "limit"]
    assert fields.kind_of(field, Example) == "int"


def test_a_config_becomes_plain_values():
    plain = fields.as_dict(Example(crop=(2, 3)))
    assert plain["crop"] == [2, 3] and fields.make(Example, plain) == Example(crop=(2, 3))


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("crop", "513x385", "`crop=513,385`"),
        ("crop", "[513, 385]", "`crop=513,385`"),
        ("crop", "513 385", "`crop=513,385`"),
        ("crop", "513px", "`crop=513`"),
        ("crop", "1,2,3", ""),
        ("crop", "large", ""),
        ("whole", "6;12;18", "`whole=6,12,18`"),
        ("whole", ["[6", "12", "18]"], "`whole=6,12,18`"),
        ("whole", "6.5;12", ""),
        ("scales", '"0.5 1.0"', "`scales=0.5,1.0`"),
        ("scales", "0.5m", ""),
        ("count", "10k", "`count=10000`"),
        ("count", "30,000", "`count=30000`"),
        ("count", "'4'", "`count=4`"),
        ("count", "4.5", ""),
        ("count", "5m", ""),
        ("rate", "0,007", "`rate=0.007`"),
        ("rate", "25%", "`rate=0.25`"),
        ("rate", ".007f", "`rate=.007`"),
        ("name", False, "quotes"),
    ],
)
def test_hints_on_values_that_were_written_otherwise(name, value, hint):
    with raises("wrong-type", name) as caught:
        Example(**{name: value})
    assert hint in caught.value.hint and bool(hint) == bool(caught.value.hint)
