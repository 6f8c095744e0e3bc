"""Which pruning can be asked for."""

import pytest
from support.errors import raises

from deeplab.config.compression_config import CompressionConfig


@pytest.mark.parametrize(
    ("text", "expected"), [("unstructured", ("", 1, 1)), ("2:4", (":", 2, 4)), ("1x4", ("x", 1, 4))]
)
def test_structures(text, expected):
    assert CompressionConfig(prune_sparsity=0.5, prune_structure=text).structure() == expected


@pytest.mark.parametrize("text", ["4:2", "4:4", "0:4", "0x4", "1x0", "2/4", "", "1x4x4", "٢:4", "99999:999999"])
def test_other_structures_are_refused(text):
    with raises("unknown-name", field="prune_structure"):
        CompressionConfig(prune_structure=text)


def test_groups_have_one_sparsity():
    with raises("conflicting-settings", field="prune_structure") as error:
        CompressionConfig(prune_sparsity=0.6, prune_structure="2:4")
    assert error.value.hint == "`prune_sparsity=0.5`"


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("prune_sparsity", 1.0, "out-of-range"),
        ("prune_sparsity", -0.1, "out-of-range"),
        ("prune_schedule", "linear", "unknown-name"),
        ("prune_end", "0", "wrong-type"),
        ("prune_begin", "soon", "wrong-type"),
        ("prune_every", 0, "out-of-range"),
        ("prune_keep", "(", "wrong-type"),
    ],
)
def test_values_out_of_bounds_are_refused(field, value, code):
    with raises(code, field=field):
        CompressionConfig(**{field: value})
