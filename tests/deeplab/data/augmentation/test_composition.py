"""Several operations at once equal them one after the other, where one sampling can be two."""

import numpy as np
import pytest

from deeplab.data import transforms
from deeplab.data.augmentation import AUGMENTATIONS
from deeplab.data.augmentation.composition import Composition

RNG = np.random.default_rng(0)
IMAGE, LABEL = (
    RNG.integers(0, 256, (40, 50, 3), np.uint8),
    np.kron(RNG.integers(0, 5, (5, 5)), np.ones((8, 10))).astype(np.uint8),
)
COLOR = (1.0, 2.0, 3.0)
SEED = (5, 7)


def composed(*operations, crop_size=(30, 36)):
    made = [AUGMENTATIONS.get(name)(amount, 1.0, COLOR, 255) for name, amount in operations]
    return Composition(made, crop_size, COLOR, 255)


def points(mirrored=False, start=(3, 5), count=(30, 36)):
    """Points of a crop of the image at twice its size."""
    rows = transforms.crop_points(start[0], count[0], 40, 80)
    return rows, transforms.crop_points(start[1], count[1], 50, 100, mirrored)


def moved(composition, mirrored=False, **crop):
    matrix, (top, left, height, width) = composition.plan(*points(mirrored, **crop), mirrored, LABEL.shape, SEED)
    part = slice(top, top + height), slice(left, left + width)
    return composition.moved_crop(IMAGE[part], LABEL[part], matrix, SEED)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("count", [(30, 36), (22, 31)])
def test_no_motion_is_the_plain_crop(mirrored, count):
    composition = composed(("rotation", 0.0))
    found, label = moved(composition, mirrored, count=count, start=(80 - count[0], 100 - count[1]))
    rows, columns = points(mirrored, count=count, start=(80 - count[0], 100 - count[1]))
    expected, expected_label = composition.plain_crop(IMAGE, LABEL, rows, columns, mirrored, SEED)
    shown = np.s_[: count[0], -count[1] :] if mirrored else np.s_[: count[0], : count[1]]
    np.testing.assert_allclose(found[shown], expected[shown], atol=0.1)
    assert (label == expected_label)[shown].mean() > 0.99  # halves may be rounded to either side


def test_the_part_of_the_image_suffices():
    """The whole image gives the same crop."""
    composition = composed(("rotation", 30.0), ("perspective", 0.1), ("elastic", 2.0), ("shear", 5.0))
    rows, columns = points()
    matrix, (top, left, height, width) = composition.plan(rows, columns, False, LABEL.shape, SEED)
    assert height < 40 and width < 50
    whole = np.array([[1, 0, left], [0, 1, top], [0, 0, 1]]) @ matrix
    for one, other in zip(moved(composition), composition.moved_crop(IMAGE, LABEL, whole, SEED), strict=True):
        np.testing.assert_allclose(one, other, atol=0.05)


def test_motions_are_multiplied():
    composition = composed(("vertical_flip", 1.0), ("translation", 0.2))
    crop = composed(crop_size=(30, 36)).plain_crop(IMAGE, LABEL, *points(), False, SEED)
    shift = AUGMENTATIONS.get("translation")(0.2, 1.0, COLOR, 255)
    shifted = shift.changed(crop[0][::-1].copy(), crop[1][::-1].copy(), shift.generator(*SEED))
    image, label = moved(composition)
    inside = (shifted[1] != 255) & (label != 255)
    assert inside.mean() > 0.5
    assert np.abs(image - shifted[0])[inside].mean() < 12  # sampled once instead of twice
    assert (label == shifted[1])[inside].mean() > 0.8


def test_colors_are_one_product_and_padding_keeps_its_color():
    operations = [("gamma", 0.5), ("brightness", 0.2), ("contrast", 0.2), ("saturation", 0.3), ("hue", 10.0)]
    composition = composed(*operations)
    expected = middle = IMAGE // 4 + 96  # nothing is cut to 0..255, which a product does once instead of each time
    for operation in composition.operations:
        expected = operation.recolored(expected, operation.generator(*SEED))
    np.testing.assert_allclose(composition.recolored(middle, SEED), expected, atol=1e-2)
    rows, columns = points(count=(20, 20))
    image, label = composition.plain_crop(IMAGE, LABEL, rows, columns, False, SEED)
    assert np.all(label[20:] == 255) and np.all(image[20:] == COLOR)
