"""Which images are shown, by hand, and how their errors are drawn."""

import numpy as np
from support.threshold_predictor import ByRed

from deeplab.data import colormaps
from deeplab.evaluation import examples
from deeplab.evaluation.image_counts import ImageCounts

GOOD, BAD, NONE = np.array([[9, 1], [0, 5]]), np.array([[2, 7], [6, 1]]), np.zeros((2, 2), int)


def counts():
    images = ImageCounts()
    for name, matrix, uncertainty in (("a", BAD, 0.3), ("b", NONE, np.nan), ("c", GOOD, 0.1), ("d", 2 * BAD, 0.2)):
        images.add(name, matrix, uncertainty)
    return images


def test_order():
    images = counts()
    assert examples.best(images) == [2, 0, 3] and examples.worst(images) == [0, 3, 2]
    assert examples.worst(images, 1) == [0] and examples.most_uncertain(images) == [0, 3, 2]


def test_confused_pairs():
    images = counts()
    first, second = examples.confused_pairs(3 * BAD + GOOD, images)
    assert (first.label, first.prediction, first.pixels, first.image) == (0, 1, 22, 3)
    assert (second.label, second.prediction, second.pixels, second.image) == (1, 0, 18, 3)
    assert len(examples.confused_pairs(3 * BAD + GOOD, images, 1)) == 1
    assert examples.confused_pairs(np.diag([3, 4]), images) == []


def test_the_first_of_equal_images_is_taken():
    images = ImageCounts()
    for name in "ab":
        images.add(name, BAD)
    assert examples.confused_pairs(2 * BAD, images)[0].image == 0


def test_error_map():
    image = np.full((1, 3, 3), 100, np.uint8)
    drawn = examples.error_map(image, np.array([[0, 1, 255]]), np.array([[0, 0, 0]]), 255)
    assert drawn[0, 0].tolist() == [200, 200, 200] and drawn[0, 1].tolist() == [214, 40, 40]
    assert tuple(drawn[0, 2]) == colormaps.IGNORED


def test_reading(disc_images, disc_pairs):
    predict = examples.predict_with(ByRed(), disc_images)
    found = dict(examples.read(disc_images, predict, [3, 1, 3]))
    assert list(found) == [1, 3] and found[3].name == "pair_103"
    np.testing.assert_array_equal(found[1].label, disc_pairs["pair_101"][1])
    np.testing.assert_array_equal(found[1].prediction, found[1].label)
