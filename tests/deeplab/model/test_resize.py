"""Sizes with aligned corners: the reference's numbers, and ints, arrays and tensors alike."""

import json

import numpy as np
import pytest
import tensorflow as tf

from deeplab.model import resize


@pytest.mark.parametrize(("length", "stride", "fitting"), [(513, 16, 513), (514, 16, 529), (1, 8, 1), (375, 16, 385)])
def test_fitting_length(length, stride, fitting):
    assert resize.fitting_length(length, stride) == fitting
    assert resize.fitting_length(np.array([length, 2]), stride).tolist() == [fitting, stride + 1]
    assert resize.fitting_length(tf.constant([length, 2]), stride).numpy().tolist() == [fitting, stride + 1]
    assert resize.fitting_size((length, 2), stride) == (fitting, stride + 1)


def test_strided_length():
    lengths, expected = [1, 2, 16, 17, 18, 513], [1, 1, 1, 2, 2, 33]
    assert [resize.strided_length(length, 16) for length in lengths] == expected
    assert resize.strided_length(tf.constant(lengths), 16).numpy().tolist() == expected


def test_scaled_length_is_the_references(golden):
    cases = json.loads((golden / "preprocess.json").read_text())["scale_dimension"]
    assert len(cases) > 100
    for length, scale, expected in cases:
        assert resize.scaled_length(length, scale) == expected


def test_scaled_length_is_the_same_for_ints_and_tensors():
    for length, scale in ((97, 1.75 / 16), (513, 0.75), (129, 0.5), (2, 0.5)):
        expected = int((length - 1) * scale + 1)
        assert resize.scaled_length(length, scale) == expected
        assert int(resize.scaled_length(tf.constant(length), scale)) == expected
