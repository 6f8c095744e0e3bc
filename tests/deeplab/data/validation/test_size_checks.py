"""Crops, computed by hand."""

import pytest

from deeplab.data.validation import crop_advice
from deeplab.model.resize import fitting_size


def test_advised_crops():
    advice = crop_advice.advise({(375, 500): 8, (500, 375): 2}, {(500, 375): 1, (333, 500): 1}, 16)
    assert advice.train == (385, 513)  # median 375 x 500
    assert advice.eval == (513, 513)  # 500 high, 500 wide, though no image is both
    assert "375x500" in advice.why
    assert "0.75 times" in advice.why


def test_large_images_get_the_usual_crop():
    advice = crop_advice.advise({(1024, 2048): 5}, {}, 16)
    assert advice.train == (513, 513)
    assert advice.eval == (1025, 2049)
    assert "would cost too much memory" in advice.why


def test_no_images_no_advice():
    assert crop_advice.advise({}, {}, 16) is None


@pytest.mark.parametrize(("stride", "fitting"), [(8, (377, 505)), (16, (385, 513)), (32, (385, 513))])
def test_fitting_crops(stride, fitting):
    assert fitting_size((375, 500), stride) == fitting
    assert fitting_size(fitting, stride) == fitting


def test_median_counts_images():
    assert crop_advice.median_size({(10, 30): 1, (20, 20): 5, (30, 10): 1}) == (20, 20)


def test_coverage():
    assert crop_advice.coverage({(100, 100): 3}, (100, 100), 1, 1) == 1
    assert crop_advice.coverage({(100, 50): 1}, (100, 100), 1, 1) == 0.5
    assert crop_advice.coverage({(100, 100): 1}, (200, 200), 0.5, 0.5) == pytest.approx(1 / 16)
    assert crop_advice.coverage({(100, 100): 1, (50, 100): 1}, (100, 100), 1, 1) == pytest.approx(0.75)
