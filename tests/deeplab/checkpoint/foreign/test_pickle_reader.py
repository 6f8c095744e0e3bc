"""Pickles of plain data are read as by `pickle`; everything else is refused or damaged."""

import io
import pickle
from collections import OrderedDict

import pytest
from support.errors import raises

from deeplab.checkpoint.foreign.pickle_reader import Call, Name, read

VALUES = [
    {"a": [1, -300, 2**40, 0.5, None, True, False], "b": ("x", b"y", (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4))},
    [[], {}, "z" * 300, -1, 10**30],
    [{"shared": [1]}] * 2,
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_plain_values(value, protocol):
    if protocol < 3 and "b" in value:
        value = {"a": value["a"]}  # bytes are a call there
    assert read(io.BytesIO(pickle.dumps(value, protocol)), "file") == value


def test_sets_and_ordered_dicts():
    assert read(io.BytesIO(pickle.dumps({1, 2}, 4)), "file") == {1, 2}
    assert read(io.BytesIO(pickle.dumps(OrderedDict(a=1, b=2), 2)), "file") == {"a": 1, "b": 2}


def test_calls_stay_data():
    found = read(io.BytesIO(b"\x80\x02ctorch\nSize\nK\x01\x85\x85R."), "file")
    assert isinstance(found, Call) and isinstance(found.function, Name)
    assert (found.function.module, found.function.name, found.arguments) == ("torch", "Size", ((1,),))


@pytest.mark.parametrize("text", [b"cos\nsystem\n", b"c__builtin__\neval\n", b"\x8c\x02os\x8c\x06system\x93"])
def test_names_of_code_are_refused(text):
    with raises("unsafe-pickle", where="file"):
        read(io.BytesIO(b"\x80\x04" + text + b"\x8c\x02id\x85R."), "file")


@pytest.mark.parametrize(
    "data",
    [b"", b".", b"\x80\x02", b"0.", b"K\x01e.", b"h\x05.", b"\x85.", b"(d", b"}K\x01K\x02u.", b"\xff.", b"]]s."],
)
def test_damage_is_an_error(data):
    with raises("damaged-checkpoint", where="file"):
        read(io.BytesIO(data), "file")
