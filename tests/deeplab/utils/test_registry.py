"""Registries: names, lazy imports, and the nearest name for an unknown one."""

import sys
import types

import pytest
from support.errors import raises

from deeplab.utils.registry import Registry


def test_items_by_name():
    shapes = Registry("shape", field="shape")
    assert shapes.register("circle")(max) is max
    shapes.register("circle")(max)  # the same item again is no conflict
    assert shapes.get("circle") is max and "circle" in shapes and list(shapes) == shapes.names() == ["circle"]
    with pytest.raises(ValueError, match="registered already"):
        shapes.register("circle")(min)


def test_an_unknown_name_suggests_the_nearest():
    shapes = Registry("shape", field="shape")
    shapes.register("circle")(max)
    with raises("unknown-name", "shape") as info:
        shapes.get("circel")
    assert info.value.hint == "did you mean 'circle'?" and info.value.value == "circel"


def test_modules_are_imported_at_the_first_use(monkeypatch):
    shapes = Registry("shape")
    shapes.register_lazily("square", "made_up_module", "four sides")
    assert "square" in shapes and shapes.summary("square") == "four sides"
    with pytest.raises(ModuleNotFoundError):
        shapes.get("square")
    monkeypatch.setitem(sys.modules, "made_up_module", types.ModuleType("made_up_module"))
    shapes.register("square")(min)
    assert shapes.get("square") is min
    with pytest.raises(ValueError, match="registered already"):
        shapes.register_lazily("square", "another_module")
