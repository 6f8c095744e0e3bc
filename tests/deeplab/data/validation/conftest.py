"""The clean dataset that tests break, and settings shown as the library names them."""

import pytest
from support.disc_files import discs_fixture  # noqa: F401

from deeplab.utils import console


@pytest.fixture(autouse=True)
def settings_as_the_library_names_them(monkeypatch):
    """Whatever command ran before in this process has set how settings are shown."""
    monkeypatch.setattr(console, "_spell", str)
