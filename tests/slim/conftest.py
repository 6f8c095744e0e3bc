"""The backbones of a file's tests are gone when the next file begins; the deepest have hundreds of megabytes."""

import pytest
from support import backbone_battery


@pytest.fixture(autouse=True, scope="module")
def backbones_forgotten(memory_given_back):
    """Clears what the battery keeps, before the memory is given back."""
    yield
    backbone_battery.forget()
