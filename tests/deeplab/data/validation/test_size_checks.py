"""Weights and crops, worked by hand."""

import numpy as np
import pytest

from deeplab.data.validation import crop_advice
from deeplab.losses import class_balance

# Two images of 100 pixels: the first 80 ground and 20 disc, the second all ground; a third class never occurs.
PIXELS, IMAGES_WITH, AROUND = (180, 20, 0), (2, 1, 0), (200, 100, 0)


def schemes():
    return class_balance.schemes(PIXELS, IMAGES_WITH, AROUND, 2)


def by_hand(one, other):
    """Two weights scaled to mean 1."""
    mean = (one + other) / 2
    return [one / mean, other / mean]


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        (class_balance.INVERSE, by_hand(1 / 0.9, 1 / 0.1)),
        (class_balance.ROOT, by_hand(0.9**-0.5, 0.1**-0.5)),
        # shares among the images that hold the class: 180 of 200 and 20 of 100; their median is 0.55
        (class_balance.MEDIAN, by_hand(0.55 / 0.9, 0.55 / 0.2)),
        (class_balance.ENET, by_hand(1 / np.log(1.92), 1 / np.log(1.12))),
        # N = 2, beta = 1/2: (1/2) / (1 - 1/4) = 2/3 for two images, (1/2) / (1/2) = 1 for one
        (class_balance.EFFECTIVE, by_hand(2 / 3, 1)),
    ],
)
def test_schemes(scheme, expected):
    assert schemes()[scheme] == pytest.approx([*expected, None])


def test_every_scheme_has_mean_one_and_an_explanation():
    assert set(schemes()) == set(class_balance.EXPLANATIONS)
    for values in schemes().values():
        assert np.mean([value for value in values if value is not None]) == pytest.approx(1)


def test_no_pixel_no_weights():
    assert class_balance.schemes((0, 0), (0, 0), (0, 0), 5) == {}


def test_weights_as_a_flag():
    assert class_balance.as_flag([0.123456, None, 2.0]) == "--label_weights=0.123,1,2"
    assert class_balance.ratio([0.5, None, 2.0]) == 4


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
    assert crop_advice.fitted((375, 500), stride) == fitting
    assert crop_advice.fitted(fitting, stride) == fitting


def test_median_counts_images():
    assert crop_advice.median_size({(10, 30): 1, (20, 20): 5, (30, 10): 1}) == (20, 20)


def test_coverage():
    assert crop_advice.coverage({(100, 100): 3}, (100, 100), 1, 1) == 1
    assert crop_advice.coverage({(100, 50): 1}, (100, 100), 1, 1) == 0.5
    assert crop_advice.coverage({(100, 100): 1}, (200, 200), 0.5, 0.5) == pytest.approx(1 / 16)
    assert crop_advice.coverage({(100, 100): 1, (50, 100): 1}, (100, 100), 1, 1) == pytest.approx(0.75)
