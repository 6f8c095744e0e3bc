"""The registry of annotation formats: lazy, complete, and each name with a summary."""

import dataclasses
import subprocess
import sys

import pytest
from support.errors import raises

from deeplab.data.readers import FORMATS

LISTING = """
import sys
from deeplab.data.readers import FORMATS
assert all(FORMATS.summary(name) for name in FORMATS)
print(*(name for name in sys.modules if name.startswith("deeplab.data.readers.")
        or name.split(".")[0] in ("tensorflow", "cv2", "scipy", "numpy", "PIL")))
"""


def test_listing_the_formats_imports_no_reader_and_nothing_heavy():
    found = subprocess.run([sys.executable, "-c", LISTING], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


@pytest.mark.parametrize("name", FORMATS)
def test_every_announced_format_is_registered_by_its_module(name):
    form = FORMATS.get(name)
    assert dataclasses.is_dataclass(form.config) and callable(form.read) and form.num_shards > 0


def test_an_unknown_format_names_the_nearest():
    with raises("unknown-name") as caught:
        FORMATS.get("labelmee")
    assert caught.value.value == "labelmee" and "'labelme'" in caught.value.hint
