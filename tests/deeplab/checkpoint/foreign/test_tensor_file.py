"""Shapes that a file tells are checked before anything is allocated."""

import numpy as np
import pytest
from support.errors import raises

from deeplab.checkpoint.foreign.tensor_file import checked_shape, from_bfloat16


@pytest.mark.parametrize("shape", [(), (0,), [3, 3, 64, 32], (2**31,)])
def test_possible_shapes(shape):
    assert checked_shape(shape, "file", "w") == tuple(shape)


@pytest.mark.parametrize("shape", [None, 3, "3", (-1,), (1.0,), (True,), (1,) * 9, (2**20, 2**20), (2**62, 0, 2**62)])
def test_impossible_shapes(shape):
    with raises("damaged-checkpoint", where="file"):
        checked_shape(shape, "file", "w")


def test_bfloat16_is_the_first_half_of_float32():
    values = np.array([0, 1.5, -3, 2.0**100], np.float32)
    np.testing.assert_array_equal(from_bfloat16((values.view(np.uint32) >> 16).astype(np.uint16)), values)
