"""Settings in what is printed are spelled as the library spells them, whichever commands other tests have run."""

import pytest

from deeplab.utils import console


@pytest.fixture(autouse=True)
def settings_between_backquotes():
    console.spell_settings(str)
