"""Presets and single values, and their page in docs/."""

import dataclasses
import pathlib
import re

import pytest
from support.errors import raises

from deeplab.config.augmentation_config import OPERATIONS, PRESETS, AugmentationConfig, largest_class

PAGE = pathlib.Path(__file__).parents[3] / "docs" / "augmentation.md"


def rows_of(heading):
    """The cells of the table below a heading, by the first one."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "|" in line]
    return {row[0].strip("`-"): row[1:] for row in cells[2:]}


def test_the_page_lists_each_preset_with_its_operations():
    listed = {name: dict(re.findall(r"`(\w+)` ([\d.]+)", text)) for name, (text,) in rows_of("Presets").items()}
    expected = {name: {key: f"{value:g}" for key, value in preset.items()} for name, preset in PRESETS.items()}
    assert listed == expected


def test_the_page_lists_each_operation_with_its_unit():
    fields = {field.name: field for field in dataclasses.fields(AugmentationConfig)}
    listed = rows_of("Operations")
    assert list(listed) == list(OPERATIONS)
    for name, (unit, text) in listed.items():
        assert unit == fields[name].metadata["unit"] and text.split(". RGB")[0] in fields[name].metadata["help"]


def test_single_values_replace_those_of_the_preset():
    assert AugmentationConfig().amounts() == {}
    for name, preset in PRESETS.items():
        assert AugmentationConfig(name).amounts() == preset
    changed = AugmentationConfig("light", contrast=0, rot90=0.5).amounts()
    assert changed == {"rot90": 0.5, "brightness": 0.2, "saturation": 0.2}


def test_presets_are_within_the_limits_of_their_settings():
    for preset in PRESETS.values():
        assert AugmentationConfig(**preset).amounts() == preset


def test_ways_to_cut_crops():
    assert largest_class("uniform") is None and largest_class("class_centered") is None
    assert largest_class("max_one_class_0.75") == 0.75
    assert AugmentationConfig(crop_sampling="max_one_class_.5").crop_sampling == "max_one_class_.5"


@pytest.mark.parametrize("way", ["center", "max_one_class_", "max_one_class_1", "max_one_class_0", "max_one_class_75"])
def test_other_ways_are_refused(way):
    with raises("unknown-name", field="crop_sampling"):
        AugmentationConfig(crop_sampling=way)
