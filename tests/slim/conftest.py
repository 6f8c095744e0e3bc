"""What the battery keeps of a backbone is gone when the next one is tested; the deepest have hundreds of megabytes.

TensorFlow keeps the memory of tensors for further ones, so what counts is how many live at the same time.
"""

import gc

import pytest
from support import backbone_battery


@pytest.fixture(autouse=True, scope="class")
def models_forgotten(request):
    """Drops the models after each class."""
    yield
    if request.cls is not None:  # pytest takes a function that belongs to no class for a class of its own
        backbone_battery.forget_models()
        gc.collect()


@pytest.fixture(autouse=True, scope="module")
def all_forgotten(memory_given_back):
    """Drops models and weights, which several classes share, before the memory is given back."""
    yield
    backbone_battery.forget_models()
    backbone_battery.cached_weight.cache_clear()
