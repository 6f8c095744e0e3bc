"""One narrow model and its frozen graph, for all tests of exports."""

import pytest
from support.small_exports import make_graph, make_network, make_settings


@pytest.fixture(scope="session")
def live_model():
    """ASPP with one atrous branch and image pooling, and a decoder; 4 classes."""
    return make_network()


@pytest.fixture(scope="session")
def frozen(live_model):
    """Its frozen graph, batch norm folded, crop 65x97."""
    return make_graph(live_model, make_settings())
