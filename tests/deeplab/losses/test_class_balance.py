"""Class weights, computed by hand, and the one recommendation of all commands."""

import subprocess
import sys

import numpy as np
import pytest

from deeplab.losses import class_balance
from deeplab.losses.class_balance import ClassCounts

# Two images of 100 pixels: the first 80 ground and 20 disc, the second all ground; a third class never occurs.
COUNTS = ClassCounts((180, 20, 0), (2, 1, 0), (200, 100, 0), 2)


def by_hand(one, other):
    """Two weights scaled to mean 1."""
    mean = (one + other) / 2
    return [one / mean, other / mean]


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("inverse", by_hand(1 / 0.9, 1 / 0.1)),
        ("sqrt", by_hand(0.9**-0.5, 0.1**-0.5)),
        # fractions within the images that hold the class: 180 of 200 and 20 of 100; their median is 0.55
        ("median", by_hand(0.55 / 0.9, 0.55 / 0.2)),
        ("enet", by_hand(1 / np.log(1.92), 1 / np.log(1.12))),
        # N = 2, beta = 1/2: (1/2) / (1 - 1/4) = 2/3 for two images, (1/2) / (1/2) = 1 for one
        ("effective", by_hand(2 / 3, 1)),
    ],
)
def test_schemes(scheme, expected):
    assert class_balance.class_weights(scheme, COUNTS) == pytest.approx([*expected, None])


def test_every_scheme_has_mean_one_and_an_explanation():
    weights = class_balance.all_weights(COUNTS)
    assert list(weights) == list(class_balance.SCHEMES) == ["inverse", "sqrt", "median", "enet", "effective"]
    for name, values in weights.items():
        assert np.mean([value for value in values if value is not None]) == pytest.approx(1)
        assert class_balance.SCHEMES[name].explanation


@pytest.mark.parametrize("scheme", [name for name, scheme in class_balance.SCHEMES.items() if scheme.pixels_only])
def test_pixels_suffice_where_a_scheme_says_so(scheme):
    from_pixels = class_balance.class_weights(scheme, ClassCounts(COUNTS.pixels))
    assert from_pixels == class_balance.class_weights(scheme, COUNTS)


def test_no_pixel_no_weights():
    assert class_balance.all_weights(ClassCounts((0, 0), (0, 0), (0, 0), 5)) == {}
    assert class_balance.recommended_weights((0, 0)) == class_balance.recommended_weights(()) == []


def test_the_recommendation_is_never_too_uneven():
    usual, extreme = (9000, 1000, 90, 0), (10**9, 10**5, 3)
    assert class_balance.recommended_scheme(usual) == "sqrt"
    assert class_balance.recommended_weights(usual) == class_balance.class_weights("sqrt", ClassCounts(usual))
    assert class_balance.recommended_scheme(extreme) == "enet"
    assert class_balance.recommended_scheme((2499, 1)) == "sqrt"  # a ratio of just under 50
    assert class_balance.recommended_scheme((2501, 1)) == "enet"
    for pixels in (usual, extreme, (10**12, 1)):
        assert class_balance.ratio(class_balance.recommended_weights(pixels)) <= class_balance.MAX_RATIO


def test_texts():
    assert class_balance.value_text([0.123456, None, 2.0]) == "0.123,1,2"
    assert class_balance.setting_text([0.123456, None, 2.0]) == "`label_weights=0.123,1,2`"
    many = class_balance.setting_text([1.0] * (class_balance.MAX_CLASSES_IN_TEXT + 1))
    assert many.startswith("`label_weights` with the 41 numbers") and "1,1" not in many


def test_ratio():
    assert class_balance.ratio([0.5, None, 2.0]) == 4
    assert class_balance.ratio([0.0, 3.0, 6.0]) == 2
    assert class_balance.ratio([]) == class_balance.ratio([None]) == 1


def test_no_tensorflow_is_needed():
    code = "import deeplab.losses, deeplab.losses.class_balance, sys; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
