"""Hints on flags: what they offer exists. Hints in messages: test_command_line.py."""

from __future__ import annotations

import pytest

from deeplab.config import flag_hints
from deeplab.config.command_line import all_settings
from deeplab.config.fields import fields_of
from deeplab.data.readers import FORMATS


def test_every_name_that_is_offered_exists():
    formats = [FORMATS.get(name).config for name in ("folder", "voc", "labelme")]
    names = all_settings() | set(fields_of(formats))
    assert {ours for each in flag_hints._CALLED_ELSEWHERE.values() for ours in each} <= names


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["lr", "=", "3"], "around the equals sign"),
        (["6", "12,"], "with commas"),
        (["True"], "a switch"),
        (["x"], "=value"),
    ],
)
def test_words(words, hint):
    assert hint in flag_hints.on_words(words)
